"""As little built from source as possible, and nothing older for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SHA256, wheel_package
from xinference_venv.errors import UvFailed
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.source_builds import older_in, sources_by_choice
from xinference_venv.uv.search import fewest_builds

NAMES = ["a", "b", "c"]


def sdist(name: str, version: str) -> dict[str, Any]:
    file = {"url": f"https://files.example/{name}-{version}.tar.gz", "hashes": {"sha256": SHA256}}
    return {"name": name, "version": version, "sdist": file}


def world(newest: Mapping[str, str | None], built: Sequence[str]) -> Resolution | UvFailed:
    """The resolution of `NAMES`, of which each has a source of 2.0; `newest` are their wheels."""
    packages = []
    for name in NAMES:
        version = newest[name]
        if name in built:
            packages.append(sdist(name, "2.0"))
        elif version is None:
            return UvFailed(f"No solution found: {name} has no usable wheels")
        else:
            packages.append(wheel_package(name, version))
    return Resolution(packages=tuple(packages), inherited={})


def best(newest: Mapping[str, str | None]) -> tuple[Resolution, list[list[str]]]:
    asked: list[list[str]] = []

    async def building(names: Sequence[str]) -> Resolution | UvFailed:
        asked.append(list(names))
        return world(newest, names)

    found = world(newest, [name for name in NAMES if newest[name] != "2.0"])
    assert isinstance(found, Resolution)
    return asyncio.run(fewest_builds(found, building, asked=NAMES)), asked


def test_nothing_is_asked_where_nothing_is_built() -> None:
    found, asked = best(dict.fromkeys(NAMES, "2.0"))
    assert (asked, found.warnings) == ([], ())


def test_wheels_that_are_newer_are_taken() -> None:
    found, asked = best({"a": "3.0", "b": "2.0", "c": "2.1"})
    assert found.installed == {"a": "3.0", "b": "2.0", "c": "2.1"}
    assert (asked, found.warnings) == ([[]], ())


def test_an_older_wheel_is_not_taken_and_said() -> None:
    found, asked = best({"a": "1.0", "b": "2.0", "c": "2.0"})
    assert found.installed["a"] == "2.0"
    assert asked == [[]]
    assert found.warnings == ("a 2.0 is built from source: the newest wheel that fits is of 1.0",)


def test_only_what_has_no_wheel_is_built_and_no_question_is_asked_twice() -> None:
    found, asked = best({"a": None, "b": "2.5", "c": "3.0"})
    assert found.installed == {"a": "2.0", "b": "2.5", "c": "3.0"}
    assert sources_by_choice(found) == ["a"]
    assert found.warnings == ("a 2.0 is built from source: with wheels alone there is no solution",)
    assert len({tuple(each) for each in asked}) == len(asked)


@given(st.fixed_dictionaries({n: st.sampled_from([None, "1.0", "2.0", "3.0"]) for n in NAMES}))
def test_what_is_built_has_no_wheel_that_is_as_new(newest: Mapping[str, str | None]) -> None:
    found, _ = best(newest)
    assert sources_by_choice(found) == [n for n in NAMES if newest[n] in (None, "1.0")]
    assert (
        older_in(found, than=Resolution(packages=(), inherited=dict.fromkeys(NAMES, "2.0"))) == {}
    )
