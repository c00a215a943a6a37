"""What lies in an environment's own folder of packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from xinference_venv.store.envs.contents import InstalledDistribution, installed_in


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    return folder


def add(site_packages: Path, metadata: str, record: str | bytes | None) -> None:
    folder = site_packages / metadata
    folder.mkdir()
    if record is not None:
        text = record if isinstance(record, bytes) else record.encode()
        (folder / "RECORD").write_bytes(text)


def test_each_distribution_has_its_normalized_name_its_version_and_its_bytes(
    tmp_path: Path, site_packages: Path
) -> None:
    add(
        site_packages,
        "Toy_Model-1.0.dist-info",
        'toy/__init__.py,sha256=abc,120\n"toy/a,b.py",sha256=abc,30\nToy_Model-1.0.dist-info/RECORD,,\n',
    )
    add(site_packages, "lamp-2.0+cpu.dist-info", "lamp.py,sha256=abc,7\n")
    assert installed_in(tmp_path) == [
        InstalledDistribution(name="lamp", version="2.0+cpu", size_bytes=7),
        InstalledDistribution(name="toy-model", version="1.0", size_bytes=150),
    ]


@pytest.mark.parametrize("record", [None, b"\xff\xfe", "lamp.py,sha256=abc,many\n"])
def test_a_record_that_can_not_be_read_has_no_bytes_to_tell(
    tmp_path: Path, site_packages: Path, record: str | bytes | None
) -> None:
    add(site_packages, "lamp-2.0.dist-info", record)
    [found] = installed_in(tmp_path)
    assert (found.version, found.size_bytes) == ("2.0", None)


def test_where_there_is_no_folder_of_packages_there_is_nothing(tmp_path: Path) -> None:
    assert installed_in(tmp_path) == []
    assert installed_in(tmp_path / "nowhere") == []
