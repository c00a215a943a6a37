from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index import Index, uv_pip
from tests.wheels import build_sdist, build_wheel, corrupt, fake_distribution


def _distribution(site: Path, name: str) -> importlib.metadata.Distribution:
    [found] = importlib.metadata.distributions(name=name, path=[str(site)])
    return found


def _assert_files_match_record(distribution: importlib.metadata.Distribution) -> None:
    assert distribution.files
    for each in distribution.files:
        assert Path(str(each.locate())).is_file()
        if each.size is not None:
            assert Path(str(each.locate())).stat().st_size == each.size


@pytest.mark.uv
def test_a_wheel_installs_with_all_that_was_described(tmp_path: Path) -> None:
    build_wheel(tmp_path, "extra-only", "1.0")
    wheel = build_wheel(
        tmp_path,
        "Some.Package",
        "2.0+local.1",
        requires=["other>=1; sys_platform == 'nowhere'"],
        modules={"some_package/__init__.py": "def main():\n    return 0\n"},
        extras={"more": ["extra-only>=1; python_version >= '3'"]},
        entry_points={"some-script": "some_package:main"},
        data={"some_package/weights.bin": b"\0\1"},
        requires_python=">=3.8",
    )
    site = tmp_path / "site"
    ended = uv_pip(
        *("install", "--no-index", "--find-links", tmp_path, "--target", site),
        f"{wheel}[more]",
        cache=tmp_path / "cache",
    )
    assert ended.returncode == 0, ended.stderr
    distribution = _distribution(site, "some-package")
    assert distribution.version == "2.0+local.1"
    assert distribution.metadata["Requires-Python"] == ">=3.8"
    assert (site / "some_package" / "weights.bin").read_bytes() == b"\0\1"
    assert (site / "bin" / "some-script").is_file()
    assert _distribution(site, "extra-only").version == "1.0"
    _assert_files_match_record(distribution)


@pytest.mark.parametrize("build", [build_wheel, build_sdist])
def test_the_same_description_gives_the_same_bytes(
    tmp_path: Path, build: Callable[[Path, str, str], Path]
) -> None:
    (tmp_path / "again").mkdir()
    first = build(tmp_path, "alpha", "1.0")
    second = build(tmp_path / "again", "alpha", "1.0")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_without_modules_has_one_that_knows_its_version(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path, "Alpha-Beta", "1.0")) as archive:
        assert archive.read("alpha_beta.py") == b'__version__ = "1.0"\n'


def test_a_compressed_tag_is_written_out_in_the_wheel_file(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "alpha", "1.0", tag="cp311.cp312-abi3-linux_x86_64")
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read("alpha-1.0.dist-info/WHEEL").decode().splitlines()
    assert lines[2:] == [
        "Root-Is-Purelib: false",
        "Tag: cp311-abi3-linux_x86_64",
        "Tag: cp312-abi3-linux_x86_64",
    ]


def test_a_corrupt_wheel_keeps_its_size_and_is_still_an_archive(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "alpha", "1.0")
    before = wheel.read_bytes()
    corrupt(wheel)
    assert wheel.stat().st_size == len(before)
    assert wheel.read_bytes() != before
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None


@pytest.mark.uv
def test_a_corrupt_wheel_is_refused_when_hashes_are_required(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "alpha", "1.0")
    with Index(tmp_path) as index:
        pins = tmp_path / "requirements.txt"
        compiled = uv_pip(
            *("compile", "-", "--generate-hashes", "--default-index", index.url),
            cache=tmp_path / "cache",
            stdin="alpha",
        )
        pins.write_text(compiled.stdout)
        install = ("install", "--require-hashes", "-r", pins, "--default-index", index.url)
        sound = uv_pip(*install, "--target", tmp_path / "sound", cache=tmp_path / "cache")
        assert sound.returncode == 0, sound.stderr
        corrupt(wheel)
        damaged = uv_pip(*install, "--target", tmp_path / "damaged", cache=tmp_path / "other")
    assert damaged.returncode != 0
    assert "Hash mismatch for `alpha==1.0`" in damaged.stderr
    assert not (tmp_path / "damaged" / "alpha.py").exists()


@pytest.mark.uv
def test_an_sdist_builds_without_network(tmp_path: Path) -> None:
    build_wheel(tmp_path, "dependency", "1.0")
    build_sdist(tmp_path, "from-source", "1.5", requires=["dependency"])
    site = tmp_path / "site"
    ended = uv_pip(
        *("install", "--no-index", "--find-links", tmp_path, "--target", site, "from-source"),
        cache=tmp_path / "cache",
    )
    assert ended.returncode == 0, ended.stderr
    assert _distribution(site, "from-source").version == "1.5"
    assert _distribution(site, "dependency").version == "1.0"


def test_a_fake_distribution_looks_installed(tmp_path: Path) -> None:
    dist_info = fake_distribution(
        tmp_path,
        "Odd_Name",
        "0.1.43ubuntu1",
        requires=["numpy<2", "not a requirement"],
        files={"odd_name/__init__.py": "", "odd_name/core.py": "x = 1\n"},
        entry_points={"odd": "odd_name:main"},
    )
    distribution = _distribution(tmp_path, "odd-name")
    assert dist_info.parent == tmp_path
    assert distribution.version == "0.1.43ubuntu1"
    assert distribution.requires == ["numpy<2", "not a requirement"]
    assert distribution.read_text("INSTALLER") == "uv\n"
    assert [each.value for each in distribution.entry_points] == ["odd_name:main"]
    assert len(distribution.files or []) == 7
    _assert_files_match_record(distribution)


@pytest.mark.uv
def test_uv_lists_a_fake_distribution(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "torch", "2.8.0a0+34c6371d24.nv25.8", files={"torch.py": ""})
    ended = uv_pip("freeze", "--target", tmp_path, cache=tmp_path / "cache")
    assert ended.stdout == "torch==2.8.0a0+34c6371d24.nv25.8\n"
