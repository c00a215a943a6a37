from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.cli.render.test_environments import printed
from tests.plain import of_json
from xinference_venv.cli.render.cluster import (
    differing,
    unreachable,
    unreachable_error,
    workers_of,
)
from xinference_venv.cli.render.launch import ClusterOutcome, launched_on
from xinference_venv.errors import ResolutionFailed, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.environments import Environments
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica

LOCK = "0123456789abcdef" * 4


def ready(address: str, **more: Any) -> Replica:
    made = PreparedEnvironment(
        **{"enabled": True, "python": "/envs/e1/bin/python", "path": "/v3/toy/3.11", **more},
        env_id="e1",
        lease_id="l1",
        lock_digest=LOCK,
    )
    return Replica(worker_address=address, incarnation="i", phase=Phase.READY, result=made)


FAILED = Replica(
    worker_address="b:2",
    incarnation="i",
    phase=Phase.FAILED,
    error=Failure.of(ResolutionFailed("no solution", {"phase": "resolving"})),
)


def outcome(*replicas: Replica) -> ClusterOutcome:
    return ClusterOutcome(model_name="toy", model_engine=None, replicas=replicas, elapsed=2.0)


def status(**more: Any) -> WorkerStatus:
    told = {"worker_address": "b:2", "host_name": "box", "release": "0.1.0", "incarnation": "i"}
    given: WorkerStatus = of_json(WorkerStatus, {**told, "state": "alive", **more})
    return given


def silent(reason: str = "no answer", **more: Any) -> Gathered[str]:
    error = Failure.of(WorkerUnavailable(reason))
    return Gathered(list=(), unreachable=(UnreachableWorker(status=status(**more), error=error),))


def test_a_launch_shows_each_worker_ready_or_failed_with_phase_and_cause() -> None:
    replicas = (ready("a:1", warnings=("beware",)), FAILED, ready("c:3", warnings=("beware",)))
    lines = printed(launched_on(outcome(*replicas))).splitlines()
    assert lines[0] == "toy is ready on 2 of 3 workers after 2.0 s"
    assert lines[2].split() == ["a:1", "ready", LOCK[:12], "0", "/v3/toy/3.11"]
    assert lines[3].split() == ["b:2", "failed", "-", "-", "-"]
    assert lines[5] == "not ready: b:2: resolving: no solution"
    assert lines[-1] == "warning: beware (a:1, c:3)"


def test_one_cause_of_several_workers_is_shown_once() -> None:
    replicas = (FAILED, ready("a:1"), replace(FAILED, worker_address="c:3"))
    lines = printed(launched_on(outcome(*replicas))).splitlines()
    assert [line for line in lines if "no solution" in line] == [
        "not ready: b:2, c:3: resolving: no solution"
    ]


def test_a_launch_without_environment_names_the_hosts_interpreter() -> None:
    shown = printed(launched_on(outcome(ready("a:1", enabled=False, path=None))))
    assert "the host's interpreter, /envs/e1/bin/python" in shown


def test_the_document_of_a_launch_has_no_lease_for_none_is_left() -> None:
    described: dict[str, Any] = outcome(ready("a:1"), FAILED).document().to_dict()
    first, second = described["workers"]
    assert first["environment"]["lock_digest"] == LOCK
    assert "lease_id" not in first["environment"]
    assert (second["state"], second["environment"]) == ("failed", None)
    assert second["error"]["code"] == "resolution_failed"
    assert outcome(ready("a:1"), FAILED).not_ready == ["b:2"]


def test_the_workers_are_shown_with_what_they_last_reported() -> None:
    snapshot = {"jobs": 2, "free_bytes": 2048}
    told = status(worker_address="a:1", state="suspect", snapshot=snapshot, snapshot_age=7.25)
    new = status(state="suspect", worker_id="w2")
    lines = printed(workers_of([told, new])).splitlines()
    assert lines[1].split() == [
        "a:1",
        "box",
        "-",
        "suspect",
        "0.1.0",
        "2",
        "2.00",
        "KiB",
        "7.2",
        "s",
        "ago",
    ]
    assert lines[2].split() == ["b:2", "box", "w2", "suspect", "0.1.0", "-", "-", "-"]
    assert printed(workers_of([])) == "No worker is registered."


def test_a_worker_that_is_alive_and_drained_is_shown_as_drained() -> None:
    states = [("alive", False), ("alive", True), ("gone", True)]
    listed = [status(state=state, draining=draining) for state, draining in states]
    lines = printed(workers_of(listed)).splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["alive", "drained", "gone"]


def test_who_did_not_answer_is_named_with_its_state_and_the_age_of_its_snapshot() -> None:
    shown = printed(unreachable(silent(state="gone", snapshot_age=90.0)))
    assert shown == "unreachable: b:2 (gone, last snapshot 1 min 30 s old): no answer"
    shown = printed(unreachable(silent(state="alive", snapshot_age=None)))
    assert shown == "unreachable: b:2 (alive, no snapshot yet): no answer"


def test_the_reason_names_no_worker_a_second_time() -> None:
    reason = "the worker at b:2 did not answer within 1 s"
    shown = printed(unreachable(silent(reason, state="suspect", snapshot_age=8.1)))
    assert shown.endswith("old): it did not answer within 1 s")


def test_an_unreachable_worker_is_an_error_for_what_everyone_has_to_do() -> None:
    assert unreachable_error(Gathered(list=())) is None
    error = unreachable_error(silent())
    assert error is not None
    assert (error.exit_code, "on b:2" in error.message) == (8, True)


def test_replicas_that_differ_are_named_with_their_workers() -> None:
    key = {"model_name": "toy", "model_engine": "vllm", "python_version": "3.11"}
    locks = {LOCK: ["a:1", "c:3"], "f" * 64: ["b:2"]}
    shown = printed(
        differing(of_json(Environments, {"list": [], "differing": [{**key, "locks": locks}]}))
    )
    assert shown == (
        "replicas differ: toy (Python 3.11, engine vllm):"
        " lock 0123456789ab on a:1, c:3; lock ffffffffffff on b:2"
    )
