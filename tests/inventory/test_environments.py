"""Which replicas of a listing differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests import fakes
from xinference_venv.inventory.environments import Environment, differing


def entry(worker: str, digest: str | None, state: str = "ready", **other: Any) -> Environment:
    told = {
        "model_name": "m",
        "model_engine": None,
        "python_version": "3.11",
        "state": state,
        "lock_digest": digest,
        "worker_address": worker,
        "path": "/p",
        "real_path": "/p",
        "actor_ip_address": worker,
        **other,
    }
    return Environment.from_dict(told)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry("a", "1")],
        [entry("a", "1"), entry("b", "1")],
        [entry("a", "1"), entry("b", "2", state="broken")],
        [entry("a", "1"), entry("b", None, state="unmanaged")],
        [entry("a", "1"), entry("b", "2", model_name="other")],
        [entry("a", "1"), entry("b", "2", python_version="3.12")],
    ],
)
def test_replicas_of_one_lock_do_not_differ(entries: Sequence[Environment]) -> None:
    assert differing(entries) == ()


def test_an_environment_is_at_the_address_of_its_worker_by_both_names() -> None:
    at = Environment.at("10.0.0.1:7000", fakes.entry())
    assert at.entry == fakes.entry()
    assert (at.worker_address, at.actor_ip_address) == ("10.0.0.1:7000", "10.0.0.1:7000")


def test_replicas_of_several_locks_are_named_with_their_workers() -> None:
    [found] = differing([entry("a", "1"), entry("b", "2"), entry("c", "1")])
    assert found.key.model_name == "m"
    assert found.locks == {"1": ("a", "c"), "2": ("b",)}


def test_an_environment_that_is_not_ready_does_not_keep_those_after_it_from_being_compared() -> (
    None
):
    [found] = differing([entry("z", "3", state="broken"), entry("a", "1"), entry("b", "2")])
    assert found.to_dict() == {
        "model_name": "m",
        "model_engine": None,
        "python_version": "3.11",
        "locks": {"1": ["a"], "2": ["b"]},
    }
