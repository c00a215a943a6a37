"""What packages and joined trees are called, whom they fit, and by what they are imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SHA256, check_record, wheel_package
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.package import (
    DataFile,
    EntryKind,
    EntryPoint,
    HostPart,
    JoinedRecord,
    JoinMember,
    JoinPlan,
    LooksFor,
    PackageKey,
    PackageRecord,
    SharedPath,
    TopLevelName,
    Way,
    unfit_for,
)

KEY = PackageKey(name="lamp", version="1.0", digest=SHA256)
RECORD = PackageRecord(
    key=KEY,
    metadata="lamp-1.0.dist-info",
    top_level=(TopLevelName(name="lamp", kind=EntryKind.NAMESPACE, entries=("wick",)),),
    data_files=(DataFile(path="bin/lamp", executable=True, python_script=True),),
    entry_points=(EntryPoint(name="lamp", module="lamp.run", attribute="main", gui=True),),
    looks_for=(LooksFor(name="oil", way=Way.RUN_PATH, path="lamp/wick.so"),),
    requires=("oil",),
    requires_python=">=3.10",
    files=3,
    size_bytes=1000,
    record_sha256=SHA256,
    compiled=True,
    libraries=("liblamp.so",),
    needed_libraries=("liboil.so",),
    linked_libraries=("liboil.so", "libwax.so"),
    notes=("its RECORD lacked a file",),
)
PART = HostPart(name="torch", location="/srv/site", files=("torch/lib/a.so",), identity="1")
PLAN = JoinPlan(members=(JoinMember(tree="lamp-1.0-0123"), JoinMember(host=PART)))


def test_records_of_packages_and_of_joined_trees_are_read_whole_or_refused() -> None:
    needed = {"key", "metadata", "top_level", "files", "size_bytes", "record_sha256"}
    check_record(RECORD, may_be_absent=RECORD.to_dict().keys() - needed)
    joined = JoinedRecord(
        plan=PLAN,
        top_level=RECORD.top_level,
        shared_paths=(SharedPath(path="lamp/a.py", winner="lamp", losers=("oil",)),),
        files=2,
        size_bytes=7,
        linked_files=("torch/lib/a.so",),
    )
    needed = {"plan", "top_level", "files", "size_bytes"}
    check_record(joined, may_be_absent=joined.to_dict().keys() - needed)


@pytest.mark.parametrize(
    ("name", "kind", "imported"),
    [
        ("lamp", EntryKind.PACKAGE, "lamp"),
        ("nvidia", EntryKind.NAMESPACE, "nvidia"),
        ("numpy.libs", EntryKind.NAMESPACE, None),
        ("lamp-data", EntryKind.PACKAGE, None),
        ("lamp.py", EntryKind.MODULE, "lamp"),
        ("_lamp.abi3.so", EntryKind.EXTENSION, "_lamp"),
        ("lamp-1.0.dist-info", EntryKind.METADATA, None),
        ("lamp.pth", EntryKind.PTH, None),
        ("README", EntryKind.FILE, None),
    ],
)
def test_an_entry_is_imported_by_its_name_without_suffixes_if_that_is_one(
    name: str, kind: EntryKind, imported: str | None
) -> None:
    assert TopLevelName(name=name, kind=kind).import_name == imported


@pytest.mark.parametrize(
    ("version", "folder"),
    [
        ("1.0", "lamp-1.0-"),
        ("2!1.0+cu128", "lamp-2!1.0+cu128-"),
        ("1.0/../x y", "lamp-1.0_.._x_y-"),
    ],
)
def test_the_folder_of_a_package_tells_people_what_it_is_whatever_its_version(
    version: str, folder: str
) -> None:
    key = replace(KEY, version=version)
    assert key.folder == f"{folder}{SHA256[:32]}"
    assert PackageKey.from_dict(key.to_dict()) == key


@given(version=st.text(min_size=1), digest=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_the_folder_of_a_package_is_one_name_whatever_its_version(
    version: str, digest: str
) -> None:
    folder = PackageKey(name="lamp", version=version, digest=digest).folder
    assert "/" not in folder
    assert folder.isprintable()
    assert folder.startswith("lamp-")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../lamp"},
        {"name": ""},
        {"name": "-lamp"},
        {"name": "lamp/x"},
        {"digest": SHA256[:-1]},
        {"digest": SHA256.upper()},
        {"digest": f"{SHA256}/../x"},
    ],
)
def test_a_key_that_names_no_folder_is_refused_by_what_it_would_name(
    changes: Mapping[str, str],
) -> None:
    named = PackageKey(**{"name": "lamp", "version": "1.0", "digest": SHA256, **changes})
    with pytest.raises(InvalidRecord) as caught:
        PackageKey.from_dict(named.to_dict())
    assert f"key of a package: {named.folder!r} names no folder" in caught.value.message


def test_a_name_of_any_length_is_shown_by_its_beginning() -> None:
    with pytest.raises(InvalidRecord) as caught:
        PackageKey.from_dict({**KEY.to_dict(), "name": "/" + "x" * 1000})
    assert f"'/{'x' * 99}' names no folder" in caught.value.message


def archive(url: str, **hashes: str) -> dict[str, Any]:
    return {"name": "lamp", "version": "1.0", "archive": {"url": url, "hashes": hashes}}


def test_a_package_is_known_by_the_sha256_of_its_one_wheel_in_whatever_spelling_of_its_name() -> (
    None
):
    assert PackageKey.of(wheel_package("Deep_Speed", "1.0")) == PackageKey(
        name="deep-speed", version="1.0", digest=SHA256
    )
    package = wheel_package("lamp")
    assert PackageKey.of({**package, "wheels": tuple(package["wheels"])}) == KEY


def without(package: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: each for key, each in package.items() if key != name}


@pytest.mark.parametrize(
    "package",
    [
        without(wheel_package("lamp"), "name"),
        without(wheel_package("lamp"), "version"),
        without(wheel_package("lamp"), "wheels"),
        {**wheel_package("lamp"), "wheels": []},
        {**wheel_package("lamp"), "wheels": wheel_package("lamp")["wheels"] * 2},
        {**wheel_package("lamp"), "wheels": ["text"]},
        {**wheel_package("lamp"), "wheels": [{}]},
        {**wheel_package("lamp"), "wheels": [{"hashes": {}}]},
        {**wheel_package("lamp"), "wheels": [{"hashes": {"sha512": SHA256 * 2}}]},
        wheel_package("lamp", sha256="../../etc"),
        {**wheel_package("lamp"), "wheels": [{"hashes": {"sha256": 3}}]},
        {"name": "lamp", "version": "1.0", "vcs": {"commit-id": "a"}},
        archive("https://files.example/lamp.whl"),
    ],
)
def test_what_no_single_sha256_tells_is_known_only_once_it_is_installed(
    package: Mapping[str, Any],
) -> None:
    assert PackageKey.of(package) is None


def test_a_package_that_came_by_its_url_is_another_one_for_each_place() -> None:
    """Installers note the place in it (PEP 610); a credential is no part of that."""
    url = "https://files.example/lamp-1.0-py3-none-any.whl"
    one = PackageKey.of(archive(url, sha256=SHA256))
    assert one is not None
    assert one == PackageKey.of(
        archive(url.replace("//", "//ada:secret@") + "?sig=1", sha256=SHA256)
    )
    others = [
        archive(url, sha256=SHA256[::-1]),
        archive("https://other.example/lamp-1.0-py3-none-any.whl", sha256=SHA256),
        wheel_package("lamp"),
    ]
    assert one not in map(PackageKey.of, others)
    # Another digest would unpack every such package again.
    assert one.folder == "lamp-1.0-e0c39796b7843b16102d9f3048c0182a"


@pytest.mark.parametrize("python", ["3.8.0", "3.12.0", "3.14.0rc1"])
@pytest.mark.parametrize(
    ("requires", "unfit"),
    [
        (None, ()),
        ("", ()),
        ("not a range", ()),
        (">=3.10", ("3.8.0",)),
        (">=3.8,<3.12", ("3.12.0", "3.14.0rc1")),
    ],
)
def test_a_package_is_fit_for_a_python_by_both_its_bounds_or_says_them(
    requires: str | None, unfit: tuple[str, ...], python: str
) -> None:
    package = replace(RECORD, requires_python=requires)
    assert package.allows_python(python) is (python not in unfit)
    said = {("lamp", "1.0"): requires} if python in unfit else {}
    assert unfit_for(python, [package]) == said


def test_equal_combinations_share_a_joined_tree_and_all_that_decides_what_is_in_it_counts() -> None:
    def of(*members: JoinMember) -> str:
        return JoinPlan(members=members).folder

    one, two = JoinMember(tree="one"), JoinMember(tree="two")
    parts = [
        PART,
        replace(PART, name="jax"),
        replace(PART, location="/srv/other"),
        replace(PART, identity="2"),
        replace(PART, files=()),
    ]
    assert of(one, two) == of(one, two)
    folders = {of(one), of(two), of(one, two), of(two, one)}
    folders |= {of(one, JoinMember(host=part)) for part in parts}
    assert len(folders) == 9
    # Another one would join every combination again.
    assert PLAN.folder == "dd233e1fbc8873500e84d5dd8c05b5ae"


@pytest.mark.parametrize("member", [JoinMember(), JoinMember(tree="lamp-1.0-0123", host=PART)])
def test_a_member_of_a_joined_tree_is_of_the_store_or_of_the_host(member: JoinMember) -> None:
    with pytest.raises(InvalidRecord, match=r"^member of a joined tree: .* store or of the host$"):
        JoinPlan.from_dict(JoinPlan(members=(member,)).to_dict())


def test_the_members_of_a_joined_tree_are_those_of_the_store_and_of_the_host() -> None:
    assert PLAN.trees == ("lamp-1.0-0123",)
    assert [each.label for each in PLAN.members] == ["lamp-1.0-0123", "torch of the host"]
