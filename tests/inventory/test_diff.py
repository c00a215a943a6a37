"""How environments are named, and what differs between two."""

from __future__ import annotations

from typing import Any

import pytest

from tests import fakes
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.diff import (
    PackageChange,
    check_one,
    difference,
    is_meant,
    name_in,
    parse_name,
)
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import LockedDistribution, Role


def listed(
    model: str = "a-model",
    engine: str | None = "vllm",
    python: str = "3.11",
    worker: str = "10.0.0.1:4000",
    **changes: Any,
) -> Environment:
    entry = fakes.entry(fakes.key(model, engine, python), **{"env_id": "an-env", **changes})
    return Environment.at(worker, entry)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("qwen", Selection(model_name="qwen")),
        ("qwen/vLLM", Selection(model_name="qwen", model_engine="vllm")),
        ("qwen/-", Selection(model_name="qwen", model_engine="")),
        ("qwen//3.11", Selection(model_name="qwen", python_version="3.11")),
        ("qwen///10.0.0.1:4", Selection(model_name="qwen", worker="10.0.0.1:4")),
        ("a@b:c,d=e [f]", Selection(model_name="a@b:c,d=e [f]")),
        (
            "-/vllm/3.11.7/10.0.0.1",
            Selection(
                model_name="-", model_engine="vllm", python_version="3.11.7", worker="10.0.0.1"
            ),
        ),
    ],
)
def test_a_name_has_a_model_and_as_many_parts_as_it_takes(text: str, expected: Selection) -> None:
    assert parse_name(text) == expected


@pytest.mark.parametrize("text", ["", "/vllm", "..", "qwen//three", "qwen/./3.11", "a/b/3.1/c/d"])
def test_what_names_no_environment_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_name(text)


def test_a_name_of_too_many_parts_is_answered_with_its_form() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_name("a/b/3.11/c/d")
    assert caught.value.message == "'a/b/3.11/c/d' names no environment"
    assert "MODEL[/ENGINE[/PYTHON[/WORKER]]]" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a-model", True),
        ("a-model/vllm/3.11/10.0.0.1", True),
        ("a-model/vllm/3.11/10.0.0.1:4000", True),
        ("another", False),
        ("a-model/sglang", False),
        ("a-model/-", False),
        ("a-model//3.12", False),
        ("a-model///10.0.0.2", False),
        ("a-model///10.0.0.1:4001", False),
    ],
)
def test_a_name_means_what_has_all_of_its_parts(text: str, meant: bool) -> None:
    assert is_meant(parse_name(text), listed()) is meant


def test_no_engine_means_what_was_launched_without_any() -> None:
    assert is_meant(parse_name("a-model/-"), listed(engine=None))


@pytest.mark.parametrize("engine", [None, "vllm"])
def test_the_name_that_is_shown_means_its_environment_alone(engine: str | None) -> None:
    entry = listed(engine=engine)
    for worker in (False, True):
        assert is_meant(parse_name(name_in(entry, worker=worker)), entry)


def test_a_name_that_means_several_names_the_candidates() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_one("a-model", [listed(), listed(engine=None)], workers=False)
    assert caught.value.message == "'a-model' matches 2 environments"
    assert caught.value.hint == "name one of: a-model/-/3.11, a-model/vllm/3.11"
    replicas = [listed(), listed(worker="10.0.0.2:4000")]
    with pytest.raises(InvalidInput) as caught:
        check_one("a-model", replicas, workers=True)
    assert "a-model/vllm/3.11/10.0.0.2:4000" in str(caught.value.hint)


def test_what_has_no_known_packages_is_refused() -> None:
    entry = listed(state=EnvState.UNMANAGED, env_id=None)
    words = "^nothing is known of the packages of 'a-model': it is unmanaged$"
    with pytest.raises(InvalidInput, match=words):
        check_one("a-model", [entry], workers=False)


def package(name: str, version: str | None, role: Role = Role.INSTALLED) -> LockedDistribution:
    return fakes.locked(name, role, version=version)


def test_packages_are_added_removed_changed_or_from_elsewhere() -> None:
    found = difference(
        [
            package("alike", "1"),
            package("gone", "1"),
            package("newer", "1"),
            package("moved", "1"),
            package("both", "1"),
            package("unseen", "1", Role.HIDDEN),
        ],
        [
            package("alike", "1"),
            package("new", None),
            package("newer", "2"),
            package("moved", "1", Role.INHERITED),
            package("both", "2", Role.INHERITED),
            package("newer", "1", Role.SHADOWED),
        ],
    )
    assert {each.name: each.change for each in found.changes} == {
        "both": PackageChange.VERSION,
        "gone": PackageChange.REMOVED,
        "moved": PackageChange.ORIGIN,
        "new": PackageChange.ADDED,
        "newer": PackageChange.VERSION,
    }
    assert found.same == 1
    assert found.changes[0].to_dict() == {
        "name": "both",
        "change": "version",
        "a": {"version": "1", "role": "installed"},
        "b": {"version": "2", "role": "inherited"},
    }


def test_an_environment_does_not_differ_from_itself() -> None:
    packages = [package("one", "1"), package("two", None, Role.INHERITED)]
    found = difference(packages, packages)
    assert (found.changes, found.same) == ((), 2)
