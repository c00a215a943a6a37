from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.pylock import Pylock

from tests.fakes import SHA256, TAGS, check_record, lock, locked, through_json, wheel_package
from xinference_venv.errors import InvalidRecord, ResolutionFailed
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role, locked_distributions
from xinference_venv.planning.pylock import (
    REQUEST,
    Dependency,
    Resolution,
    read_resolution,
    strip_credentials,
)
from xinference_venv.settings import InheritMode

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


def test_a_resolution_says_why_each_distribution_is_in_it() -> None:
    found = locked_distributions(
        read(UVS_LOCK), {"numpy": "model: numpy", "docopt": "launch: docopt"}
    )
    assert found == sorted(found, key=lambda each: each.name)
    by = {each.name: each for each in found}
    assert by["numpy"] == LockedDistribution(
        name="numpy", role=Role.INHERITED, version="2.4.6", why="model: numpy"
    )
    assert by["docopt"] == LockedDistribution(
        name="docopt", role=Role.INSTALLED, version="0.6.2", why="launch: docopt", size=25901
    )
    assert by["markupsafe"].why == "required by another package"
    assert by["markupsafe"].size == 22961
    assert by["from-git"].size is None
    [unexplained] = locked_distributions(Resolution(packages=(), inherited={"six": "1.17"}), {})
    assert unexplained.why == "required by another package"


def test_a_resolution_says_why_each_distribution_has_its_version_where_that_is_known() -> None:
    found = locked_distributions(
        Resolution(
            packages=(wheel_package("lamp"), wheel_package("wick")),
            inherited={"six": "1.17", "numpy": "2.0"},
            reasons={"lamp": "the newest that fits", "six": "kept from the host"},
        ),
        {},
    )
    assert {each.name: each.why_version for each in found} == {
        "lamp": "the newest that fits",
        "wick": "",
        "six": "kept from the host",
        "numpy": "",
    }


def test_the_size_of_an_archive_is_known_where_the_lock_file_says_it() -> None:
    archive = {"url": "https://a.example/a.zip", "size": 7, "hashes": {"sha256": SHA256}}
    [sized] = locked_distributions(
        Resolution(packages=({"name": "a", "archive": archive},), inherited={}), {}
    )
    assert sized.size == 7


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


names = st.sampled_from(["numpy", "torch", "my-pkg", "six"])
versions = st.sampled_from(["1.0", "2.8.0+cu128", "3.0rc1"])
hashes = st.sampled_from([SHA256, OTHER_SHA256])


@st.composite
def packages(draw: st.DrawFn, name: str) -> dict[str, Any]:
    version, digest = draw(versions), {"sha256": draw(hashes)}
    place = draw(st.sampled_from(["https://a.example/", "file:///b/"]))
    file = f"{name.replace('-', '_')}-{version}"
    return draw(
        st.sampled_from(
            [
                wheel_package(name, version, digest["sha256"]),
                {
                    "name": name,
                    "version": version,
                    "sdist": {"url": f"{place}{file}.tar.gz", "hashes": digest},
                },
                {"name": name, "archive": {"url": f"{place}main.zip", "hashes": digest}},
                {"name": name, "vcs": {"type": "git", "url": place, "commit-id": "0123abcd"}},
            ]
        )
    )


@st.composite
def locks(draw: st.DrawFn) -> EnvLock:
    chosen = draw(st.lists(names, unique=True))
    tables = [draw(packages(name)) for name in chosen]
    roles = st.sampled_from([Role.INHERITED, Role.SHADOWED, Role.HIDDEN])
    others = draw(st.lists(st.tuples(st.text(max_size=3), roles), unique=True, max_size=3))
    made = lock(
        *tables,
        inherit=draw(st.sampled_from(InheritMode)),
        host_digest=draw(st.none() | st.text(max_size=3)),
        warnings=tuple(draw(st.lists(st.text(max_size=3), max_size=2))),
    )
    more = [locked(name, role, size=draw(st.none() | st.integers(0))) for name, role in others]
    return replace(made, distributions=(*made.distributions, *more))


@given(locks())
def test_a_lock_comes_back_from_json_the_same(made: EnvLock) -> None:
    found = EnvLock.from_dict(through_json(made.to_dict()))
    assert found == made
    assert found.digest == made.digest


FULL = replace(
    lock(
        wheel_package("numpy"),
        {"name": "src", "sdist": {"url": "https://a/src-1.tar.gz", "hashes": {"sha256": SHA256}}},
        {
            "name": "from-git",
            "vcs": {
                "type": "git",
                "url": "https://git.example/a",
                "commit-id": "0123",
                "subdirectory": "a",
            },
        },
        {
            "name": "direct",
            "archive": {
                "url": "https://a/b.zip",
                "hashes": {"sha256": SHA256},
                "subdirectory": "a",
            },
        },
    ),
    distributions=(locked("numpy", size=10), locked("torch", Role.INHERITED)),
)


def test_the_records_of_a_lock_are_read_whole_or_refused() -> None:
    check_record(FULL, may_be_absent=("version", "host_digest", "warnings"))
    numpy = locked("numpy", size=10, asked=True, requires=("libblas",))
    check_record(numpy, may_be_absent=("version", "size", "asked", "requires", "why_version"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("packages", [3]),
        ("packages", ["numpy"]),
        ("packages", [["name", "numpy"]]),
        ("packages", [{"name": "mine", "directory": {"path": "/mine"}}]),
        ("packages", [{"name": "numpy", "version": "1.0"}]),
        ("distributions", [locked("numpy").to_dict(), locked("numpy", version=None).to_dict()]),
        ("inherit", "all"),
    ],
)
def test_a_lock_that_could_not_be_installed_is_refused(part: str, value: object) -> None:
    with pytest.raises(InvalidRecord, match="environment lock"):
        EnvLock.from_dict({**FULL.to_dict(), part: value})


def with_package(place: int, **changes: Any) -> EnvLock:
    tables = [dict(each) for each in FULL.packages]
    tables[place] = {**tables[place], **changes}
    return replace(FULL, packages=tuple(tables))


@pytest.mark.parametrize(
    "other",
    [
        with_package(0, wheels=wheel_package("numpy", sha256=OTHER_SHA256)["wheels"]),
        with_package(0, version="1.0.0"),
        with_package(0, name="numpy2"),
        with_package(1, sdist={**FULL.packages[1]["sdist"], "hashes": {"sha256": OTHER_SHA256}}),
        with_package(2, vcs={**FULL.packages[2]["vcs"], "commit-id": "0124"}),
        with_package(2, vcs={**FULL.packages[2]["vcs"], "subdirectory": "b"}),
        with_package(3, archive={**FULL.packages[3]["archive"], "subdirectory": "b"}),
        with_package(3, archive={**FULL.packages[3]["archive"], "hashes": {"sha256": "ff"}}),
        replace(FULL, packages=FULL.packages[:-1]),
        replace(FULL, distributions=FULL.distributions[:-1]),
        replace(FULL, distributions=(*FULL.distributions, locked("six", Role.HIDDEN))),
        replace(FULL, python_version="3.11.8"),
        replace(FULL, platform_digest="another"),
        replace(FULL, inherit=InheritMode.EXACT),
        replace(FULL, host_digest="another"),
        replace(FULL, host_digest=None),
    ],
)
def test_what_makes_another_environment_makes_another_digest(other: EnvLock) -> None:
    assert other.digest != FULL.digest
    assert other.env_id != FULL.env_id


@pytest.mark.parametrize(
    "other",
    [
        with_package(0, index="https://mirror.example/simple"),
        with_package(
            0,
            wheels=[
                {"url": "file:///wheels/numpy-1.0-py3-none-any.whl", "hashes": {"sha256": SHA256}}
            ],
        ),
        with_package(1, sdist={"path": "/src-1.tar.gz", "hashes": {"sha256": SHA256}}),
        with_package(2, vcs={**FULL.packages[2]["vcs"], "url": "ssh://mirror.example/a"}),
        with_package(3, archive={**FULL.packages[3]["archive"], "url": "https://mirror/b.zip"}),
        replace(FULL, spec_digest="another"),
        replace(FULL, uv_version="uv 1.0"),
        replace(FULL, warnings=("a warning",)),
        replace(FULL, distributions=FULL.distributions[::-1]),
        replace(
            FULL,
            distributions=tuple(replace(d, why="another", size=None) for d in FULL.distributions),
        ),
    ],
)
def test_where_a_file_lies_and_who_asked_for_it_is_no_part_of_the_digest(other: EnvLock) -> None:
    assert other.digest == FULL.digest


def test_a_digest_is_the_same_in_every_process_and_version() -> None:
    # Another one would rebuild every environment that there is.
    assert lock(wheel_package("numpy")).env_id == "ae5bf28a1d04fa4ced5f55986bab2cfa"


def test_an_environments_name_is_a_directorys() -> None:
    assert FULL.digest.startswith(FULL.env_id)
    assert len(FULL.env_id) == 32
    assert set(FULL.env_id) <= set("0123456789abcdef")


def test_distributions_are_listed_by_role_and_name() -> None:
    made = replace(
        lock(),
        distributions=(
            locked("torch", size=5),
            locked("numpy", size=None, version=None),
            locked("numpy", Role.SHADOWED),
            locked("six", Role.INHERITED, size=7),
        ),
    )
    assert [each.name for each in made.with_role(Role.INSTALLED)] == ["numpy", "torch"]
    assert made.installed == {"numpy": None, "torch": "1.0"}
    assert made.sizes == {"torch": 5}
