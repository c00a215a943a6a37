"""Bounds of versions as uv's resolver prints them, and the files of PEP 751 entries."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.pylock import Pylock

from tests.fakes import SHA256, wheel_package
from xinference_venv.planning.pylock import (
    ANY_LATER,
    Dependency,
    Resolution,
    file_name_of,
    identity_of,
    pylock_of,
    size_of,
)


@pytest.mark.parametrize(
    ("ranges", "version", "allowed"),
    [
        ("*", "1.0", True),
        (">=1.0", "1.0", True),
        (">=1.0", "0.9", False),
        ("<=1.0", "1.0", True),
        ("<=1.0", "1.1", False),
        (">1.0", "1.0", False),
        (">1.0", "1.0.1", True),
        ("<1.0", "1.0", False),
        ("<1.0", "0.9", True),
        ("==1.0", "1.0.0", True),
        ("==1.0", "1.1", False),
        (">=1.0, <1.5 | >=2", "0.9", False),
        (">=1.0, <1.5 | >=2", "1.5", False),
        (">=1.0, <1.5 | >=2", "1.4", True),
        (">=1.0, <1.5 | >=2", "2", True),
        (">=1.0, <1.0+", "1.0+cpu", True),
        (">=1.0, <1.0+", "1.1", False),
        ("<1.5 | >=1.5+", "1.5+cpu", False),
        ("<1.5 | >=1.5+", "1.5.1", True),
        (">=1.0, <2.dev0", "2.0rc1", False),
        # All local versions of 2.0 lie before "2.0+".
        (">2.0+", "2.0+cu128", False),
        (">2.0+", "2.0.1", True),
        ("<2.0+", "2.0+cu128", True),
        ("<2.0+", "2.0.1", False),
        (">=1.0", ANY_LATER, True),
        ("<999", ANY_LATER, False),
        ("what a later uv prints", "1.0", True),
    ],
)
def test_a_version_is_in_the_ranges_that_uv_prints(
    ranges: str, version: str, allowed: bool
) -> None:
    assert Dependency(name="lamp", ranges=ranges).allows(version) is allowed


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ({"name": "lamp-1.0.tar.gz", "url": "https://h/other"}, "lamp-1.0.tar.gz"),
        ({"path": "/w/lamp-1.0.zip", "url": "https://h/other"}, "lamp-1.0.zip"),
        ({"url": "https://h/a/lamp-1.0%2Bcpu.whl?sig=1#x"}, "lamp-1.0+cpu.whl"),
        ({}, ""),
    ],
)
def test_a_file_is_called_what_it_says_else_what_its_place_ends_with(
    file: dict[str, Any], name: str
) -> None:
    assert file_name_of(file) == name


def test_the_size_of_a_package_is_that_of_the_first_file_that_tells_it() -> None:
    assert size_of({"wheels": [{}, {"size": 5}], "sdist": {"size": 9}}) == 5
    assert size_of({"sdist": {"size": 9}}) == 9
    assert size_of({"archive": {"size": 7}}) == 7
    assert size_of({"vcs": {}}) is None


def test_two_entries_are_the_same_by_name_version_and_content_wherever_they_lie() -> None:
    def entry(**changes: Any) -> dict[str, Any]:
        file = {"url": "https://one/x", "hashes": {"sha256": SHA256}}
        return {"name": "lamp", "version": "1.0", "wheels": [file], **changes}

    elsewhere = {"url": "https://two/x", "hashes": {"sha256": SHA256}}
    assert identity_of(entry()) == identity_of(entry(wheels=[elsewhere], index="https://i"))
    others = [
        entry(name="wick"),
        entry(version="2.0"),
        entry(wheels=[{"hashes": {"sha256": SHA256[::-1]}}]),
        entry(sdist=elsewhere),
        entry(archive={**elsewhere, "subdirectory": "sub"}),
        entry(archive={"hashes": {"sha256": SHA256[::-1]}, "subdirectory": "sub"}),
        entry(vcs={"type": "git", "commit-id": "a"}),
        entry(vcs={"type": "git", "commit-id": "b"}),
        entry(vcs={"type": "git", "commit-id": "a", "subdirectory": "sub"}),
    ]
    identities = {str(identity_of(each)) for each in (entry(), *others)}
    assert len(identities) == 10


def test_a_document_of_packages_says_who_wrote_it() -> None:
    document = Pylock.from_dict(pylock_of([wheel_package("lamp"), wheel_package("wick")]))
    assert document.created_by == "xinference_venv"
    assert [each.name for each in document.packages] == ["lamp", "wick"]


def test_nothing_requires_itself_and_what_is_not_in_the_resolution_has_no_requirers() -> None:
    needs = (Dependency(name="lamp", ranges="*"), Dependency(name="absent", ranges="*"))
    found = Resolution(packages=({"name": "lamp"},), inherited={}, requires={"lamp": needs})
    assert found.requirers == {"lamp": ()}
    assert found.installed == {"lamp": None}
    assert found.sizes == {}
