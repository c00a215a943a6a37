from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SHA256, check_record, lock, locked, through_json, wheel_package
from tests.planning.test_pylock import OTHER_SHA256, UVS_LOCK, read
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role, locked_distributions
from xinference_venv.planning.pylock import Resolution
from xinference_venv.settings import InheritMode


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


def test_a_refusal_of_a_lock_says_which_package_lacks_what() -> None:
    with pytest.raises(InvalidRecord, match=r"environment lock: .*'packages\[0\]'"):
        replace(FULL, packages=({"name": "numpy", "version": "1.0"},)).check_record()


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
