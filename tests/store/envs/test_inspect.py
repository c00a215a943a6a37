"""What the disk of an environment says against the records of its packages."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wheels import fake_distribution
from xinference_venv.store.envs.inspect import Inspection, inspect_env, site_packages_of
from xinference_venv.store.paths import LAYER_NAME


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site-packages of an environment with one package, whose records are right."""
    place = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    fake_distribution(
        place,
        "My-Lib",
        "1.0",
        files={"my_lib/__init__.py": "x = 1\n", "my_lib/a b.py": "", "../../../bin/my": "#!"},
    )
    return place


def env_of(site: Path) -> Path:
    return site.parents[2]


def inspect(site: Path, *, hashes: bool = False) -> Inspection:
    return inspect_env(env_of(site), site_packages_of(env_of(site)), hashes=hashes)


def record_of(site: Path) -> Path:
    return site / "my_lib-1.0.dist-info" / "RECORD"


def test_an_environment_that_agrees_with_its_records_has_no_faults(site: Path) -> None:
    (site / "added.py").write_text("12345")
    found = inspect(site)
    assert found.faults == ()
    assert found.installed == {"my-lib": "1.0"}
    files = [path for path in env_of(site).rglob("*") if path.is_file()]
    assert found.files == len(files)
    assert found.size_bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("my_lib/__init__.py", "lib/python3.11/site-packages/my_lib/__init__.py"),
        ("../../../bin/my", "bin/my"),
    ],
)
def test_a_file_that_is_missing_is_named(site: Path, file: str, shown: str) -> None:
    (site / file).unlink()
    assert inspect(site).faults == (f"{shown} is missing",)


def test_a_file_whose_size_changed_is_named(site: Path) -> None:
    (site / "my_lib" / "__init__.py").write_text("x = 12\n")
    assert inspect(site).faults == (
        "lib/python3.11/site-packages/my_lib/__init__.py has 7 bytes, its RECORD says 6",
    )


def test_a_file_that_became_a_link_or_a_folder_is_missing(site: Path) -> None:
    for file in ("my_lib/__init__.py", "my_lib/a b.py"):
        (site / file).unlink()
    (site / "my_lib" / "__init__.py").symlink_to(site / "my_lib-1.0.dist-info" / "METADATA")
    (site / "my_lib" / "a, b.py").mkdir()
    assert len(inspect(site).faults) == 2


def test_a_distribution_more_is_listed(site: Path) -> None:
    fake_distribution(site, "extra", "2.0")
    assert inspect(site).installed == {"my-lib": "1.0", "extra": "2.0"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_a_record_that_can_not_be_read_is_a_fault(site: Path, content: bytes | None) -> None:
    record_of(site).unlink()
    if content is not None:
        record_of(site).write_bytes(content)
    [fault] = inspect(site).faults
    assert fault.startswith("my_lib-1.0.dist-info: RECORD can't be read: ")


@pytest.mark.parametrize(
    "more",
    ["\n", "\n\n\r\n", "my_lib/__init__.py\n", "my_lib/__init__.py,,\n", '"my_lib/a b.py",,0\n'],
)
def test_a_record_may_have_blank_lines_and_files_without_a_size(site: Path, more: str) -> None:
    with record_of(site).open("a") as file:
        file.write(more)
    assert inspect(site).faults == ()


@pytest.mark.parametrize("size", ["many", "-6", "6.0", "0x6", "6" * 5000])
def test_a_size_that_is_none_says_nothing(site: Path, size: str) -> None:
    record_of(site).write_text(f"my_lib/__init__.py,sha256=x,{size}\n")
    assert inspect(site).faults == ()
    [fault] = inspect(site, hashes=True).faults
    assert "my_lib/__init__.py has other content than its RECORD says" in fault


def test_a_wheel_with_a_wrong_size_and_the_right_digest_is_as_good_as_any(site: Path) -> None:
    text = record_of(site).read_text()
    assert ",6\n" in text
    record_of(site).write_text(text.replace(",6\n", ",7\n"))
    assert inspect(site).faults == ()
    assert inspect(site, hashes=True).faults == ()


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../../../../etc/passwd", ".."])
def test_a_record_of_files_elsewhere_is_a_fault(site: Path, path: str) -> None:
    record_of(site).write_text(f'"{path}",sha256=x,10\n')
    [fault] = inspect(site).faults
    assert fault.endswith("is missing")


def test_the_layer_is_not_entered(site: Path, tmp_path: Path) -> None:
    before = inspect(site)
    host = tmp_path / "host"
    fake_distribution(host, "of-the-host", "1.0", files={"big.py": "x" * 10_000})
    layer = env_of(site) / LAYER_NAME / "0"
    layer.mkdir(parents=True)
    for entry in host.iterdir():
        (layer / entry.name).symlink_to(entry)
    os.symlink(host, env_of(site) / "lib64")
    assert inspect(site) == before


def test_an_environment_without_packages_is_empty(tmp_path: Path) -> None:
    place = tmp_path / "lib" / "python3.11" / "site-packages"
    place.mkdir(parents=True)
    found = inspect_env(tmp_path, site_packages_of(tmp_path))
    assert found == Inspection(size_bytes=0, files=0, installed={}, own_files={}, faults=())


def test_the_files_that_no_package_brought_are_reported_with_their_sizes(site: Path) -> None:
    (env_of(site) / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (env_of(site) / "bin" / "activate").write_text("")
    (site / "zzzz.pth").write_text("import site\n")
    found = inspect(site)
    assert found.own_files == {
        "pyvenv.cfg": 16,
        "bin/activate": 0,
        "lib/python3.11/site-packages/zzzz.pth": 12,
    }


# Contents


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("file", ["my_lib/__init__.py", "../../../bin/my"])
def test_another_content_of_the_same_size_is_found_by_its_digest_alone(
    site: Path, file: str
) -> None:
    assert inspect(site, hashes=True).faults == ()
    flip(site / file)
    assert inspect(site).faults == ()
    [fault] = inspect(site, hashes=True).faults
    shown = os.path.relpath(os.path.normpath(site / file), env_of(site))
    assert fault == f"{shown} has other content than its RECORD says"


def test_a_file_of_another_size_is_one_fault_and_not_two(site: Path) -> None:
    (site / "my_lib" / "__init__.py").write_text("x = 12\n")
    assert len(inspect(site, hashes=True).faults) == 1


@pytest.mark.parametrize("digest", ["sha256", "sha0=x", "=", "x", "blake3=abc"])
def test_a_digest_that_is_none_or_can_not_be_compared_is_as_good_as_none(
    site: Path, digest: str
) -> None:
    record_of(site).write_text(f"my_lib/__init__.py,{digest},6\n")
    assert inspect(site, hashes=True).faults == ()


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@given(content=st.binary(max_size=64))
def test_every_digest_that_wheels_may_have_is_compared(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "lib", "python3.11", "site-packages")
        (place / "a-1.0.dist-info").mkdir(parents=True)
        (place / "a.py").write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.new(name, content).digest()).rstrip(b"=")
        line = f"a.py,{name}={digest.decode()},{len(content)}\n"
        (place / "a-1.0.dist-info" / "RECORD").write_text(line)
        assert inspect(place, hashes=True).faults == ()
        if content:
            flip(place / "a.py")
            assert len(inspect(place, hashes=True).faults) == 1


def test_an_inspection_can_be_ended_in_the_middle_of_a_file(site: Path) -> None:
    def enough() -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        inspect_env(env_of(site), site, hashes=True, pause=enough)
