"""Environments of the real uv taken apart into trees of packages."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.conftest import make_venv
from tests.store.packages.conftest import Unpack, finish, split_and_finish
from tests.wheels import build_wheel, corrupt, fake_distribution
from xinference_venv.errors import InstallFailed, VerificationFailed
from xinference_venv.planning.package import DataFile, EntryKind, EntryPoint, LooksFor, Way
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.packages.record_file import read_record
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv


def rewrite(wheel: Path, change: Callable[[dict[str, bytes], dict[str, int]], None]) -> None:
    """Change the members of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    modes: dict[str, int] = {}
    change(members, modes)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = modes.get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)


def spoil(wheel: Path, change: Callable[[str], str]) -> None:
    """Change the text of a wheel's RECORD."""

    def respell(members: dict[str, bytes], modes: dict[str, int]) -> None:
        [record] = [name for name in members if name.endswith("/RECORD")]
        members[record] = change(members[record].decode()).encode()

    rewrite(wheel, respell)


def tree_of(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def test_each_package_gets_what_its_record_names_and_nothing_else(
    unpack: Unpack, wheels: Path
) -> None:
    build_wheel(
        wheels, "lamp", "1.0", modules={"lamp/__init__.py": "", "lamp/bulb/a.py": "x = 1\n"}
    )
    build_wheel(
        wheels, "wick", "2.0", modules={"wick.py": "y = 2\n"}, requires=["lamp>=1", "Foo.Bar"]
    )
    records = unpack.add(*wheels.iterdir())
    lamp, wick = records["lamp"], records["wick"]
    assert tree_of(unpack.site(lamp)) == {
        "lamp/__init__.py",
        "lamp/bulb/a.py",
        *(f"lamp-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL")),
        "lamp-1.0.dist-info/direct_url.json",
    }
    assert wick.requires == ("foo-bar", "lamp")
    assert [(each.name, each.kind) for each in lamp.top_level] == [
        ("lamp", EntryKind.PACKAGE),
        ("lamp-1.0.dist-info", EntryKind.METADATA),
    ]
    files = [path for path in unpack.site(lamp).rglob("*") if path.is_file()]
    assert lamp.files == len(files)
    assert lamp.size_bytes == sum(path.stat().st_size for path in files)
    record = unpack.site(lamp) / lamp.metadata / "RECORD"
    assert lamp.record_sha256 == hashlib.sha256(record.read_bytes()).hexdigest()
    assert {row.path for row in read_record(record.parent)} == tree_of(unpack.site(lamp))


def test_what_several_share_is_taken_apart_file_by_file(unpack: Unpack, wheels: Path) -> None:
    build_wheel(wheels, "one", "1.0", modules={"space/one/__init__.py": "", "space/x.py": ""})
    build_wheel(wheels, "two", "1.0", modules={"space/two/deep/a.py": "", "space/y.py": ""})
    records = unpack.add(*wheels.iterdir())
    [space] = [each for each in records["one"].top_level if each.kind is EntryKind.NAMESPACE]
    assert (space.name, space.entries) == ("space", ("one", "x.py"))
    for name, own in (
        ("one", {"space/one/__init__.py", "space/x.py"}),
        ("two", {"space/two/deep/a.py", "space/y.py"}),
    ):
        found = tree_of(unpack.site(records[name]))
        assert {path for path in found if path.startswith("space/")} == own


def test_two_owners_of_one_path_are_reported_and_left(unpack: Unpack, wheels: Path) -> None:
    build_wheel(wheels, "one", "1.0", modules={"one.py": "", "tests/__init__.py": "# one\n"})
    build_wheel(wheels, "two", "1.0", modules={"two.py": "", "tests/__init__.py": ""})
    build_wheel(wheels, "six", "1.0")
    split = unpack.split(*wheels.iterdir())
    assert split.contested == ("one", "two")
    assert list(split.trees) == ["six"]


def test_programs_scripts_and_data_lie_apart_with_their_bits(unpack: Unpack, wheels: Path) -> None:
    script = b"#!python\n'''Doc.'''\nfrom __future__ import annotations\n"
    build_wheel(
        wheels,
        "tool",
        "1.0",
        entry_points={"tool-run": "tool:main", "tool-odd": "tool.inner:Main.go [extra]"},
        data={
            "tool-1.0.data/scripts/tool-python": script,
            "tool-1.0.data/scripts/tool-shell": b"#!/bin/sh\necho hi\n",
            "tool-1.0.data/data/share/tool/data.txt": b"data\n",
        },
    )
    tool = unpack.add(*wheels.iterdir())["tool"]
    assert tool.entry_points == (
        EntryPoint(name="tool-run", module="tool", attribute="main"),
        EntryPoint(name="tool-odd", module="tool.inner", attribute="Main.go"),
    )
    assert tool.data_files == (
        DataFile(path="bin/tool-python", executable=True, python_script=True),
        DataFile(path="bin/tool-shell", executable=True),
        DataFile(path="share/tool/data.txt"),
    )
    data = unpack.site(tool).parent / "data"
    assert (data / "bin" / "tool-python").read_text().startswith("#!python\n'''Doc.'''\nfrom")
    paths = {row.path for row in read_record(unpack.site(tool) / tool.metadata)}
    assert {
        "../../../bin/tool-run",
        "../../../bin/tool-python",
        "../../../share/tool/data.txt",
    } <= paths
    assert tool.notes == ()


def test_directories_are_closed_and_files_only_where_no_one_else_has_them(
    unpack: Unpack, wheels: Path
) -> None:
    build_wheel(wheels, "lamp", "1.0", modules={"lamp/__init__.py": "", "lamp/data/x.txt": ""})
    site = unpack.site(unpack.add(*wheels.iterdir())["lamp"])

    def mode(path: str) -> int:
        return stat.S_IMODE((site / path).lstat().st_mode)

    assert mode(".") == mode("lamp") == mode("lamp/data") == 0o555
    assert mode("lamp/__pycache__") == 0o755
    assert not (site / "lamp" / "data" / "__pycache__").exists()
    for path in site.rglob("*"):
        if path.is_file():
            alone = path.stat().st_nlink == 1
            assert bool(stat.S_IMODE(path.stat().st_mode) & 0o222) is not alone


def test_a_record_that_is_wrong_where_uv_does_not_mind_is_corrected_and_noted(
    unpack: Unpack, wheels: Path
) -> None:
    wheel = build_wheel(
        wheels, "odd", "1.0", modules={"odd.py": "x = 1\n", "more.py": ""}, unlisted=["more.py"]
    )
    spoil(wheel, lambda text: text.replace(",6\n", ",7\n") + "gone.txt,,\nodd/,,\n")
    odd = unpack.add(wheel)["odd"]
    assert "RECORD has 7 bytes for odd.py, not 6" in odd.notes
    rows = {row.path: row for row in read_record(unpack.site(odd) / odd.metadata)}
    assert rows["odd.py"].size == 6
    assert rows["more.py"].digest.startswith("sha256=")
    assert "gone.txt" not in rows
    assert not unpack.store.packages.verify(odd.key.folder, hashes=True).faults


def test_a_file_with_other_content_than_its_record_says_is_not_taken(
    unpack: Unpack, wheels: Path
) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    corrupt(wheel)
    with pytest.raises(VerificationFailed, match=r"lamp has other content .*: lamp.py"):
        unpack.split(wheel)


def test_a_record_with_digests_of_other_contents_is_corrected_where_the_wheel_has_just_come(
    unpack: Unpack, wheels: Path
) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    corrupt(wheel)
    split = replace(unpack.fill(wheel), fetched_now=True).split()
    [lamp] = unpack.store.packages.add(finish(split).trees.values())
    assert lamp.notes == ("RECORD has the digest of another content for lamp.py",)
    assert not unpack.store.packages.verify(lamp.key.folder, hashes=True).faults


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sitecustomize.py", "Python would run it at every start"),
        ("usercustomize/__init__.py", "Python would run it at every start"),
        ("/".join(["d" * 100] * 11) + "/x.py", "paths have at most 1000 characters"),
    ],
)
def test_what_could_act_where_it_must_not_is_refused_by_name(
    unpack: Unpack, wheels: Path, path: str, reason: str
) -> None:
    wheel = build_wheel(wheels, "evil", "1.0", modules={path: "x = 1\n"})
    with pytest.raises(InstallFailed, match=f"evil is refused: .*{reason}"):
        unpack.split(wheel)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside.py", "../.."])
def test_a_link_that_leads_out_of_the_package_is_refused(
    store: Store, tmp_path: Path, target: str
) -> None:
    site = make_venv(tmp_path / "env")
    fake_distribution(site, "evil", "1.0", files={"evil/__init__.py": ""})
    (site / "evil" / "link.py").symlink_to(target)
    with pytest.raises(InstallFailed, match="it is a link that leads out of the package"):
        split_and_finish(tmp_path / "env", site, {"evil": None}, tmp_path / "trees")


def test_a_link_that_stays_inside_is_kept(store: Store, tmp_path: Path) -> None:
    site = make_venv(tmp_path / "env")
    fake_distribution(site, "good", "1.0", files={"good/__init__.py": "", "good/a/x.so.1": "x"})
    (site / "good" / "x.so").symlink_to("a/x.so.1")
    split = split_and_finish(tmp_path / "env", site, {"good": None}, tmp_path / "trees")
    [record] = store.packages.add(split.trees.values())
    link = store.layout.package(record.key.folder) / "site" / "good" / "x.so"
    assert os.readlink(link) == "a/x.so.1"
    assert store.packages.verify(record.key.folder) == TreeCheck()


def test_without_a_hash_of_an_index_the_content_is_the_key(unpack: Unpack, wheels: Path) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    first = unpack.split(wheel).trees["lamp"].record.key
    assert first == unpack.split(wheel).trees["lamp"].record.key
    other = build_wheel(wheels, "lamp", "1.0", modules={"lamp.py": "z = 3\n"})
    assert first != unpack.split(other).trees["lamp"].record.key
    assert first.folder.startswith("lamp-1.0-")


def test_bytecode_that_a_wheel_brings_is_left_out(unpack: Unpack, wheels: Path) -> None:
    name = f"__pycache__/lamp.{sys.implementation.cache_tag}.pyc"
    wheel = build_wheel(wheels, "lamp", "1.0", modules={"lamp.py": ""}, data={name: b"other code"})
    site = unpack.site(unpack.add(wheel)["lamp"])
    assert os.listdir(site / "__pycache__") == []


def test_who_looks_for_a_neighbour_says_so(unpack: Unpack, wheels: Path) -> None:
    code = (
        "from pathlib import Path\nW = Path(__file__).resolve().parents[1] / 'weights' / 'w.bin'\n"
    )
    wheel = build_wheel(wheels, "finder", "1.0", modules={"finder/__init__.py": code})
    assert unpack.add(wheel)["finder"].looks_for == (
        LooksFor(name="weights", way=Way.RESOLVE, path="finder/__init__.py"),
    )
