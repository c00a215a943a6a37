"""Host distributions as hosts really have them, and what is noticed when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import interpreter
from tests.wheels import fake_distribution
from xinference_venv.host import HostDistribution, Interpreter
from xinference_venv.store.scan import scan_distributions, stamp_all, unchanged


def scan(*sites: Path) -> tuple[dict[str, HostDistribution], tuple[str, ...]]:
    found, skipped = scan_distributions([str(site) for site in sites])
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}, skipped


def metadata(site: Path, folder: str, content: bytes, file: str = "METADATA") -> Path:
    (site / folder).mkdir(parents=True)
    (site / folder / file).write_bytes(content)
    return site / folder


# What is there


def test_a_distribution_is_read_in_normal_form(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "My.Lib_x", "v1.0-RC1", requires=["Numpy (>=1.20)", "six"])
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found == {
        "my-lib-x": HostDistribution(
            name="my-lib-x",
            version="1.0rc1",
            requires=("Numpy>=1.20", "six"),
            location=str(tmp_path),
            metadata="my_lib_x-v1.0-RC1.dist-info",
        )
    }


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("1.0-1", "1.0.post1"),
        ("1.0+ABC-1", "1.0+abc.1"),
        ("2020.01.02", "2020.1.2"),
        ("2.8.0a0+34c6371d24.nv25.8", "2.8.0a0+34c6371d24.nv25.8"),
        ("1!2.0", "1!2.0"),
    ],
)
def test_odd_versions_get_their_normal_form(tmp_path: Path, written: str, normal: str) -> None:
    fake_distribution(tmp_path, "lib", written)
    assert scan(tmp_path)[0]["lib"].version == normal


def test_eggs_are_read_as_folders_and_as_files(tmp_path: Path) -> None:
    content = b"Metadata-Version: 1.2\nName: in-folder\nVersion: 1.0\n"
    folder = metadata(tmp_path, "in_folder-1.0-py3.11.egg-info", content, "PKG-INFO")
    (folder / "requires.txt").write_text("six>=1\n\n[extra]\nnumpy\n\n[:sys_platform == 'x']\na\n")
    file = tmp_path / "in_file-2.0.egg-info"
    file.write_text("Metadata-Version: 1.1\nName: in_file\nVersion: 2.0\n")
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found["in-folder"].requires == (
        "six>=1",
        'numpy; extra == "extra"',
        'a; sys_platform == "x"',
    )
    assert found["in-file"].version == "2.0"
    assert found["in-file"].metadata == "in_file-2.0.egg-info"


def test_the_first_of_a_name_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fake_distribution(first, "lib", "1.0")
    fake_distribution(second, "Lib", "2.0")
    fake_distribution(second, "other", "1.0")
    assert {name: each.version for name, each in scan(first, second)[0].items()} == {
        "lib": "1.0",
        "other": "1.0",
    }
    assert scan(second, first)[0]["lib"].version == "2.0"


def test_a_url_requirement_becomes_a_name(tmp_path: Path) -> None:
    fake_distribution(
        tmp_path,
        "lib",
        "1.0",
        requires=[
            "direct @ https://user:secret@example.com/direct-1.0.tar.gz",
            'marked[extra] @ git+https://example.com/x.git@main ; python_version > "3"',
        ],
    )
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found["lib"].requires == ("direct", 'marked[extra]; python_version > "3"')


def test_a_requirement_that_is_none_is_left_out_with_the_reason(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "lib", "1.0", requires=["six", "numpy >= old", "../path", ""])
    found, skipped = scan(tmp_path)
    assert found["lib"].requires[0] == "six"
    assert not any("numpy" in each or "path" in each for each in found["lib"].requires)
    assert any(str(tmp_path) in each and "'numpy >= old'" in each for each in skipped)


@pytest.mark.parametrize("version", ["0.1.43ubuntu1", "None", "", "1.0 beta", "1.0.*"])
def test_a_legacy_version_is_skipped_with_the_reason(tmp_path: Path, version: str) -> None:
    fake_distribution(tmp_path, "good", "1.0")
    content = f"Metadata-Version: 2.1\nName: lib\nVersion: {version}\n".encode()
    place = metadata(tmp_path, "lib-x.dist-info", content)
    found, skipped = scan(tmp_path)
    assert list(found) == ["good"]
    assert skipped == (f"{place}: no valid name and version",)


@pytest.mark.parametrize("name", ["", " ", "-", "a b", "../../etc/passwd", "a/b", "é", "a\tb"])
def test_a_name_that_is_none_is_skipped_with_the_reason(tmp_path: Path, name: str) -> None:
    content = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    place = metadata(tmp_path, "lib-1.0.dist-info", content)
    found, skipped = scan(tmp_path)
    assert found == {}
    assert skipped == (f"{place}: no valid name and version",)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"Name: lib\n", b"Version: 1.0\n", b"\n\nName: x\nVersion: 1\n"]
)
def test_broken_metadata_is_skipped_with_the_reason(tmp_path: Path, content: bytes) -> None:
    fake_distribution(tmp_path, "good", "1.0")
    place = metadata(tmp_path, "lib-1.0.dist-info", content)
    found, skipped = scan(tmp_path)
    assert list(found) == ["good"]
    assert skipped == (f"{place}: no valid name and version",)


def test_metadata_that_is_no_text_is_skipped_with_the_reason(tmp_path: Path) -> None:
    place = metadata(tmp_path, "lib-1.0.dist-info", b"Name: lib\nVersion: 1.0\n\ncaf\xe9")
    found, [skipped] = scan(tmp_path)
    assert found == {}
    assert skipped.startswith(f"{place}: 'utf-8' codec can't decode")


def test_metadata_folders_that_are_empty_or_links_to_nowhere_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty-1.0.dist-info").mkdir()
    (tmp_path / "gone-1.0.dist-info").symlink_to("/nowhere")
    (tmp_path / "~ib-1.0.dist-info").mkdir()  # what pip leaves of an uninstall that failed
    found, skipped = scan(tmp_path)
    assert found == {}
    assert len(skipped) == 3


def test_places_that_are_gone_have_no_distributions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert scan(tmp_path / "gone", tmp_path / "file") == ({}, ())


# What changed


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = tmp_path / "host" / "lib" / "python3.11" / "site-packages"
    fake_distribution(place, "lib", "1.0", requires=["six"], files={"lib.py": ""})
    egg = b"Name: egg\nVersion: 1.0\n"
    metadata(place, "egg-1.0.egg-info", egg, "PKG-INFO")
    (place / "egg-1.0.egg-info" / "requires.txt").write_text("six\n")
    (place / "single-1.0.egg-info").write_bytes(egg.replace(b"egg", b"single"))
    (place / "paths.pth").write_text("/one\n")
    python = tmp_path / "host" / "bin" / "python"
    python.parent.mkdir()
    python.write_text("one")
    (tmp_path / "host" / "pyvenv.cfg").write_text("one")
    return place


def interpreter_over(site: Path) -> Interpreter:
    python = str(site.parents[2] / "bin" / "python")
    return interpreter(executable=python, base_executable=python, search_path=(str(site),))


def edit(path: str) -> Callable[[Path], None]:
    """Exchange a byte in place; size and times of the file stay as they were."""

    def change(site: Path) -> None:
        before = (site / path).stat()
        content = (site / path).read_bytes()
        with (site / path).open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        os.utime(site / path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def append(path: str) -> Callable[[Path], None]:
    def change(site: Path) -> None:
        with (site / path).open("a") as file:
            file.write("/two\n")

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "METADATA edited in place": edit("lib-1.0.dist-info/METADATA"),
    "PKG-INFO edited in place": edit("egg-1.0.egg-info/PKG-INFO"),
    "requires.txt edited in place": edit("egg-1.0.egg-info/requires.txt"),
    "a single egg file edited in place": edit("single-1.0.egg-info"),
    ".pth appended to": append("paths.pth"),
    ".pth edited in place": edit("paths.pth"),
    ".pth added": lambda site: (site / "more.pth").write_text(""),
    ".pth removed": lambda site: (site / "paths.pth").unlink(),
    "distribution added": lambda site: fake_distribution(site, "new", "1.0"),
    "distribution removed": lambda site: (site / "lib-1.0.dist-info").rename(site.parent / "x"),
    "distribution upgraded": lambda site: (site / "lib-1.0.dist-info").rename(
        site / "lib-2.0.dist-info"
    ),
    "sitecustomize added": lambda site: (site / "sitecustomize.py").write_text(""),
    "usercustomize added": lambda site: (site / "usercustomize.py").write_text(""),
    "interpreter replaced in place": edit("../../../bin/python"),
    "interpreter removed": lambda site: (site / "../../../bin/python").unlink(),
    "pyvenv.cfg edited in place": edit("../../../pyvenv.cfg"),
    "the site removed": lambda site: site.rename(site.parent / "moved"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_host_is_noticed(site: Path, change: str) -> None:
    stamps = stamp_all(interpreter_over(site))
    assert unchanged(stamps)
    CHANGES[change](site)
    assert not unchanged(stamps)
    assert unchanged(stamp_all(interpreter_over(site)))


def test_what_decides_nothing_may_change(site: Path) -> None:
    stamps = stamp_all(interpreter_over(site))
    (site / "lib.py").write_text("changed = True\n")
    (site / "lib-1.0.dist-info" / "REQUESTED").write_text("")
    assert unchanged(stamps)


def test_a_file_that_comes_or_goes_is_noticed_if_it_was_asked_for(
    site: Path, tmp_path: Path
) -> None:
    device = tmp_path / "device"
    stamps = stamp_all(interpreter_over(site), [str(device)])
    assert unchanged(stamps)
    device.write_text("")
    assert not unchanged(stamps)


def test_no_stamps_mean_no_change() -> None:
    assert unchanged({})
