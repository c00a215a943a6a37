"""uv's lock file taken apart; bounds of versions as its resolver prints them; files of entries."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.pylock import Pylock

from tests.fakes import SHA256, TAGS, lock, wheel_package
from xinference_venv.errors import InvalidRecord, ResolutionFailed
from xinference_venv.planning.pylock import (
    ANY_LATER,
    REQUEST,
    Dependency,
    Resolution,
    file_name_of,
    identity_of,
    pylock_of,
    read_resolution,
    size_of,
    strip_credentials,
)

STUB_BUILD_TAG = "99999999"
OTHER_SHA256 = SHA256[::-1]
INDEX = "https://index.example/simple"

# As uv 0.13.9 writes it, hashes shortened, with a file for every kind of source.
UVS_LOCK = f"""\
lock-version = "1.0"
created-by = "uv"
requires-python = ">=3.11.7"

[[packages]]
name = "markupsafe"
version = "3.0.4"
sdist = {{ url = "https://files.example/38/markupsafe-3.0.4.tar.gz", \
upload-time = 2026-10-02T23:07:22Z, size = 153777, hashes = {{ sha256 = "{OTHER_SHA256}" }} }}
wheels = [
    {{ url = "https://files.example/02/markupsafe-3.0.4-py3-none-any.whl", \
upload-time = 2026-10-02T23:04:41Z, size = 100, hashes = {{ sha256 = "{OTHER_SHA256}" }} }},
    {{ url = "https://files.example/81/markupsafe-3.0.4-cp311-cp311-\
manylinux2014_x86_64.manylinux_2_17_x86_64.whl", \
upload-time = 2026-10-02T23:04:41Z, size = 22961, hashes = {{ sha256 = "{SHA256}" }} }},
]

[[packages]]
name = "numpy"
version = "2.4.6"
archive = {{ path = "/stubs/numpy-2.4.6-99999999-cp311-cp311-manylinux_2_36_x86_64.whl", \
hashes = {{ sha256 = "{OTHER_SHA256}" }} }}

[[packages]]
name = "docopt"
version = "0.6.2"
marker = "sys_platform == 'linux'"
sdist = {{ url = "https://index.example/a2/docopt-0.6.2.tar.gz", \
upload-time = 2014-06-16T11:18:57Z, size = 25901, hashes = {{ sha256 = "{SHA256}" }} }}

[[packages]]
name = "direct"
version = "1.0"
archive = {{ url = "https://user:secretpw@files.example/\
direct-1.0-py3-none-any.whl?sig=abcdefghij", \
hashes = {{ sha256 = "{SHA256}" }} }}

[[packages]]
name = "local"
version = "1.0"
archive = {{ path = "/wheels/local-1.0-py3-none-any.whl", hashes = {{ sha256 = "{SHA256}" }} }}

[[packages]]
name = "linked"
version = "1.0"
wheels = [{{ url = "file:///wheels/linked-1.0-py3-none-any.whl", \
hashes = {{ sha256 = "{SHA256}" }} }}]

[[packages]]
name = "from-git"
version = "3"
vcs = {{ type = "git", url = "https://user:secretpw@git.example/repo.git", \
requested-revision = "main", commit-id = "83b3b166ac031b7b2679381cfe23bac99d3d51e4", \
subdirectory = "sub" }}
"""


def read(
    text: str, tags: tuple[str, ...] = TAGS, indexes: tuple[str, ...] = (INDEX,)
) -> Resolution:
    return read_resolution(
        tomllib.loads(text), stub_build_tag=STUB_BUILD_TAG, tags=tags, indexes=indexes
    )


def read_wheels(*files: str, tags: tuple[str, ...] = TAGS, **more: Any) -> dict[str, Any]:
    """What is kept of a package ``pkg`` with these wheels."""
    wheels = [
        {"url": f"https://files.example/{file}", "hashes": {"sha256": SHA256}} for file in files
    ]
    package = {"name": "pkg", "version": "1.0", "wheels": wheels, **more}
    document = {"lock-version": "1.0", "created-by": "uv", "packages": [package]}
    [kept] = read_resolution(
        document, stub_build_tag=STUB_BUILD_TAG, tags=tags, indexes=()
    ).packages
    return dict(kept)


@pytest.mark.parametrize("file", ["pkg-1.0.tar.bz2", "pkg-1.0.tgz"])
def test_a_source_in_a_format_of_old_is_left_out_where_there_is_a_wheel(file: str) -> None:
    source = {"url": f"https://files.example/{file}", "hashes": {"sha256": SHA256}}
    kept = read_wheels("pkg-1.0-py3-none-any.whl", sdist=source)
    assert [each["url"][-12:] for each in kept["wheels"]] == ["none-any.whl"]
    assert "sdist" not in kept
    with pytest.raises(InvalidRecord, match="sdist"):
        read_wheels(sdist=source)


def by_name(resolution: Resolution) -> dict[str, Any]:
    return {package["name"]: package for package in resolution.packages}


def test_every_kind_of_package_is_kept_as_it_is_to_be_installed() -> None:
    assert by_name(read(UVS_LOCK)) == {
        "markupsafe": {
            "name": "markupsafe",
            "version": "3.0.4",
            "wheels": [
                {
                    "url": "https://files.example/81/markupsafe-3.0.4-cp311-cp311-"
                    "manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                    "size": 22961,
                    "hashes": {"sha256": SHA256},
                }
            ],
            "index": INDEX,
        },
        "docopt": {
            "name": "docopt",
            "version": "0.6.2",
            "sdist": {
                "url": "https://index.example/a2/docopt-0.6.2.tar.gz",
                "size": 25901,
                "hashes": {"sha256": SHA256},
            },
            "index": INDEX,
        },
        "direct": {
            "name": "direct",
            "version": "1.0",
            "archive": {
                "url": "https://files.example/direct-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA256},
            },
        },
        "local": {
            "name": "local",
            "version": "1.0",
            "archive": {
                "path": "/wheels/local-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA256},
            },
        },
        "linked": {
            "name": "linked",
            "version": "1.0",
            "wheels": [
                {
                    "url": "file:///wheels/linked-1.0-py3-none-any.whl",
                    "hashes": {"sha256": SHA256},
                }
            ],
        },
        "from-git": {
            "name": "from-git",
            "version": "3",
            "vcs": {
                "type": "git",
                "url": "https://git.example/repo.git",
                "requested-revision": "main",
                "commit-id": "83b3b166ac031b7b2679381cfe23bac99d3d51e4",
                "subdirectory": "sub",
            },
        },
    }


def test_what_is_kept_is_a_lock_file_of_plain_values_without_credentials_and_stubs() -> None:
    resolution = read(UVS_LOCK)
    document = lock(*resolution.packages).pylock()
    Pylock.from_dict(document)
    shown = json.dumps(document)
    assert not [secret for secret in ("secretpw", "user", "abcdefghij") if secret in shown]
    assert STUB_BUILD_TAG not in shown


def test_a_package_is_inherited_if_a_stub_is_its_archive() -> None:
    resolution = read(UVS_LOCK)
    assert resolution.inherited == {"numpy": "2.4.6"}
    assert "numpy" not in resolution.installed
    assert resolution.installed["docopt"] == "0.6.2"


def test_a_number_like_the_stubs_elsewhere_in_the_name_inherits_nothing() -> None:
    assert read_wheels("pkg-1.0-py3-none-any.whl")["name"] == "pkg"
    assert read_wheels(f"pkg-1.0-{STUB_BUILD_TAG}0-py3-none-any.whl")["name"] == "pkg"
    text = UVS_LOCK.replace("2.4.6-99999999", "2.4.6").replace("2.4.6", "99999999")
    assert read(text).inherited == {}


def test_a_stub_is_known_by_the_name_of_its_file_however_it_is_given() -> None:
    for place in (
        {"path": "../stubs/numpy-2.4.6-99999999-py3-none-any.whl"},
        {"name": "numpy-2.4.6-99999999-py3-none-any.whl", "url": "file:///stubs/0123abcd"},
        {"url": "file:///s/numpy-2.4.6%2Blocal-99999999-py3-none-any.whl"},
    ):
        version = "2.4.6+local" if "local" in str(place) else "2.4.6"
        stub = {**place, "hashes": {"sha256": SHA256}}
        document = {
            "lock-version": "1.0",
            "created-by": "uv",
            "packages": [{"name": "numpy", "version": version, "archive": stub}],
        }
        found = read_resolution(document, stub_build_tag=STUB_BUILD_TAG, tags=TAGS, indexes=())
        assert found == Resolution(packages=(), inherited={"numpy": version})


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (
            ["pkg-1.0-py3-none-any.whl", "pkg-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"],
            "pkg-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (
            ["pkg-1.0-cp311-cp311-win_amd64.whl", "pkg-1.0-py3-none-any.whl"],
            "pkg-1.0-py3-none-any.whl",
        ),
        (
            [
                "pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
                "pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
            ],
            "pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        ),
        (
            ["pkg-1.0-py2.py3-none-any.whl", "pkg-1.0-cp311-abi3-manylinux_2_17_x86_64.whl"],
            "pkg-1.0-cp311-abi3-manylinux_2_17_x86_64.whl",
        ),
    ],
)
def test_of_several_wheels_the_best_by_the_interpreters_tags_is_kept(
    files: list[str], best: str
) -> None:
    for order in (files, files[::-1]):
        kept = read_wheels(*order)
        assert [wheel["url"].rpartition("/")[2] for wheel in kept["wheels"]] == [best]


@given(st.lists(st.sampled_from(TAGS), min_size=1, unique=True), st.permutations(TAGS))
def test_the_kept_wheel_has_no_better_one_next_to_it(there: list[str], tags: list[str]) -> None:
    kept = read_wheels(*(f"pkg-1.0-{tag}.whl" for tag in there), tags=tuple(tags))
    best = min(there, key=tags.index)
    assert kept["wheels"][0]["url"].endswith(f"pkg-1.0-{best}.whl")


def test_a_resolution_knows_the_bytes_and_the_first_upload_of_what_its_lock_file_tells() -> None:
    resolution = read(UVS_LOCK)
    assert resolution.sizes == {"markupsafe": 22961, "docopt": 25901}
    assert resolution.uploaded == {
        "markupsafe": datetime(2026, 10, 2, 23, 4, 41, tzinfo=UTC),
        "docopt": datetime(2014, 6, 16, 11, 18, 57, tzinfo=UTC),
    }


def test_who_requires_a_distribution_are_the_others_of_the_resolution_and_the_request() -> None:
    def needs(*names: str) -> tuple[Dependency, ...]:
        return tuple(Dependency(name=name, ranges="*") for name in names)

    resolution = Resolution(
        packages=(wheel_package("web"), wheel_package("app")),
        inherited={"core": "1.0"},
        requires={
            "web": needs("core", "web"),
            "app": needs("core", "web", "core", "absent"),
            REQUEST: needs("app", "web"),
        },
    )
    assert resolution.requirers == {
        "app": (REQUEST,),
        "core": ("app", "web"),
        "web": (REQUEST, "app"),
    }


def test_a_local_directory_is_refused_with_the_way_out() -> None:
    text = UVS_LOCK + '\n[[packages]]\nname = "mine"\ndirectory = { path = "mine" }\n'
    with pytest.raises(ResolutionFailed, match="mine is a local directory") as caught:
        read(text)
    assert "wheel" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("file", "index"),
    [
        ("https://second.example/files/", "https://second.example/simple"),
        ("https://first.example/files/", "https://first.example/simple"),
        ("http://second.example/files/", "https://second.example/simple"),
        ("https://files.elsewhere/", "https://default.example/simple"),
        ("file:///wheels/", None),
    ],
)
def test_a_package_gets_the_index_on_its_own_host_or_else_the_default_one(
    file: str, index: str | None
) -> None:
    indexes = (
        "https://first.example/simple",
        "https://user:secretpw@second.example/simple",
        "https://default.example/simple",
    )
    text = UVS_LOCK.replace("https://files.example/81/", file).replace(
        "https://files.example/02/markupsafe", f"{file}markupsafe"
    )
    assert by_name(read(text, indexes=indexes))["markupsafe"].get("index") == index


def test_without_an_index_none_is_named() -> None:
    assert not [p for p in read(UVS_LOCK, indexes=()).packages if "index" in p]


@pytest.mark.parametrize("packages", ["text", ["text"], [{"wheels": ["text"]}]])
def test_packages_that_are_no_tables_are_refused(packages: object) -> None:
    document = {"lock-version": "1.0", "created-by": "uv", "packages": packages}
    with pytest.raises(InvalidRecord, match=r"uv's lock file: .*packages"):
        read_resolution(document, stub_build_tag=STUB_BUILD_TAG, tags=TAGS, indexes=())


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ('lock-version = "1.0"', 'lock-version = "2.0"'),
        ('created-by = "uv"', ""),
        ('name = "docopt"', 'name = "Doc_Opt"'),
        (f'hashes = {{ sha256 = "{SHA256}" }}', "hashes = {}"),
        ('version = "3.0.4"', 'version = "3.0.5"'),
    ],
)
def test_what_is_no_lock_file_of_pep_751_is_refused(change: str, to: str) -> None:
    with pytest.raises(InvalidRecord, match="uv's lock file"):
        read(UVS_LOCK.replace(change, to))


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        (
            "https://user:pw@host.example:8443/a/b.whl?sig=x#egg=b",
            "https://host.example:8443/a/b.whl#egg=b",
        ),
        ("https://token@host.example/simple", "https://host.example/simple"),
        ("https://u:p@ss@host.example/simple", "https://host.example/simple"),
        ("git+ssh://git@host.example/repo@v1", "git+ssh://host.example/repo@v1"),
        ("file:///wheels/a%2Bb.whl", "file:///wheels/a%2Bb.whl"),
        ("/wheels", "/wheels"),
        ("https://host.example/simple/", "https://host.example/simple/"),
    ],
)
def test_credentials_are_stripped_and_the_rest_stays(url: str, stripped: str) -> None:
    assert strip_credentials(url) == stripped
    assert strip_credentials(stripped) == stripped


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
    ("ranges", "specifier"),
    [
        (">=0.6.3, <0.6.3+", "==0.6.3"),
        ("<1.5 | >=1.5+", "!=1.5"),
        (">=1.0, <1.5 | >=1.5+, <2", ">=1.0, !=1.5, <2"),
        ("<2.0+", "<=2.0"),
        (">2.0+", ">2.0"),
        (">=2.0+", ">2.0"),
        (">=1.0, <1.5 | >=2", ">=1.0, <1.5 | >=2"),
        ("==2.0+cu128", "==2.0+cu128"),
        (">=2.0+cu128, <2.0+cu129", ">=2.0+cu128, <2.0+cu129"),
        ("*", "*"),
    ],
)
def test_the_ranges_that_uv_prints_are_shown_as_specifiers(ranges: str, specifier: str) -> None:
    assert Dependency(name="lamp", ranges=ranges).specifier == specifier


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
    source = {"name": "lamp", "version": "1.0", "sdist": elsewhere}
    assert identity_of(source) == ["lamp", "1.0", [{"sha256": SHA256}], None, None]
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
