"""As little built from source as possible, and nothing older for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SHA256, wheel_package
from xinference_venv.errors import UvFailed
from xinference_venv.planning.pylock import Dependency, Resolution
from xinference_venv.planning.source_builds import older_in, sources_by_choice
from xinference_venv.uv.search import fewest_builds

NAMES = ["a", "b", "c"]
Answer = Callable[[Sequence[str]], Resolution | UvFailed | None]


def sdist(name: str, version: str) -> dict[str, Any]:
    file = {"url": f"https://files.example/{name}-{version}.tar.gz", "hashes": {"sha256": SHA256}}
    return {"name": name, "version": version, "sdist": file}


def resolution(*packages: Mapping[str, Any]) -> Resolution:
    """A resolution in which the package ``parent`` holds each of `NAMES` back."""
    held = tuple(Dependency(name=name, ranges="<9") for name in NAMES)
    parent = wheel_package("parent", "2.0")
    return Resolution(packages=(*packages, parent), inherited={}, requires={"parent": held})


def world(newest: Mapping[str, str | None]) -> Answer:
    """Each of `NAMES` has a source of 2.0; `newest` are their wheels, None where there is none."""

    def answer(wheels: Sequence[str]) -> Resolution | UvFailed:
        packages = []
        for name in NAMES:
            version = newest[name]
            if name not in wheels and version != "2.0":
                packages.append(sdist(name, "2.0"))
            elif version in (None, "1.0"):
                return UvFailed(f"No solution found: {name}>=2.0 has no usable wheels")
            else:
                packages.append(wheel_package(name, version))
        return resolution(*packages)

    return answer


def best(answer: Answer, asked: Sequence[str] = ()) -> tuple[Resolution, list[list[str]]]:
    questions: list[list[str]] = []

    async def with_wheels(names: Sequence[str]) -> Resolution | UvFailed | None:
        questions.append(list(names))
        return answer(names)

    found = answer(())
    assert isinstance(found, Resolution)
    return asyncio.run(fewest_builds(found, with_wheels, asked=asked)), questions


def test_nothing_is_asked_where_nothing_is_built() -> None:
    found, questions = best(world(dict.fromkeys(NAMES, "2.0")))
    assert (questions, found.warnings) == ([], ())


def test_nothing_is_asked_where_nothing_that_could_move_holds_a_source_back() -> None:
    found, questions = best(world({"a": None, "b": "2.0", "c": "2.0"}), asked=["parent"])
    assert questions == []
    assert sources_by_choice(found) == ["a"]


def test_wheels_that_are_newer_are_taken() -> None:
    found, questions = best(world({"a": "3.0", "b": "2.0", "c": "2.1"}))
    assert {name: found.installed[name] for name in NAMES} == {"a": "3.0", "b": "2.0", "c": "2.1"}
    assert (questions, found.warnings) == ([["a", "c"]], ())


def test_what_has_no_wheel_as_new_is_built_and_reported() -> None:
    found, questions = best(world({"a": "1.0", "b": "2.0", "c": "2.0"}))
    assert found.installed["a"] == "2.0"
    assert questions == [["a"]]
    assert found.warnings == (
        "a 2.0 is built from source: no index that is asked has a wheel of this version that fits",
    )


def test_only_what_has_no_wheel_is_built() -> None:
    found, questions = best(world({"a": None, "b": "2.5", "c": "3.0"}))
    assert {name: found.installed[name] for name in NAMES} == {"a": "2.0", "b": "2.5", "c": "3.0"}
    assert sources_by_choice(found) == ["a"]
    assert questions == [["a", "b", "c"], ["b", "c"]]


def test_a_search_that_takes_too_long_leaves_what_was_found() -> None:
    known = world({"a": "3.0", "b": "2.0", "c": "2.0"})
    found, questions = best(lambda wheels: None if wheels else known(()))
    assert sources_by_choice(found) == ["a"]
    assert questions == [["a"]]


@given(st.fixed_dictionaries({n: st.sampled_from([None, "1.0", "2.0", "3.0"]) for n in NAMES}))
def test_two_questions_are_enough_and_nothing_is_older(newest: Mapping[str, str | None]) -> None:
    found, questions = best(world(newest))
    assert len(questions) <= 2
    before = Resolution(packages=(), inherited=dict.fromkeys(NAMES, "2.0"))
    assert older_in(found, than=before) == {}
