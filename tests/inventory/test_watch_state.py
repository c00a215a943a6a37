"""What changes from one look to the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests import fakes
from tests.plain import of_json
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment, Environments
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import JobSummary
from xinference_venv.inventory.watch_state import Change, Event, Kind, Snapshot, WatchState

FIRST, SECOND = "10.0.0.1:4000", "10.0.0.2:4000"


def worker(address: str = FIRST, state: str = "alive", age: float = 0.1) -> dict[str, Any]:
    return {
        "worker_address": address,
        "state": state,
        "host_name": "a-host",
        "release": "0.1.0",
        "incarnation": "first",
        "snapshot": None,
        "snapshot_age": age,
    }


def job(phase: str, address: str = FIRST, **changes: Any) -> dict[str, Any]:
    made = {
        "job_id": "abc",
        "worker_address": address,
        "model_name": "a-model",
        "model_engine": "vllm",
        "phase": phase,
        "message": f"it is {phase}",
        "started": None,
        "changed": None,
        "error": None,
    }
    return {**made, **changes}


def environment(address: str = FIRST, *leases: Any, **changes: Any) -> dict[str, Any]:
    entry = fakes.entry(None, *leases, **changes)
    return {**entry.to_dict(), "actor_ip_address": address, "worker_address": address}


def look(
    *workers: dict[str, Any],
    jobs: tuple[dict[str, Any], ...] = (),
    environments: tuple[dict[str, Any], ...] = (),
    silent: tuple[str, ...] = (),
    complete: bool = True,
) -> Snapshot:
    gone = [
        {**worker(each, "gone"), "error": {"code": "error", "message": "no answer"}}
        for each in silent
    ]
    whole = {"unreachable": gone, "complete": complete}
    return Snapshot(
        workers=of_json(tuple[WorkerStatus, ...], workers or (worker(),)),
        jobs=of_json(Gathered[JobSummary], {"list": list(jobs), **whole}),
        environments=of_json(Environments, {"list": list(environments), **whole}),
    )


def told(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(each.thing.kind.value, each.event.value, each.thing.state) for each in changes]


def test_the_first_look_tells_all_but_jobs_that_ended_before() -> None:
    watching = WatchState()
    old = job("failed", job_id="old")
    first = look(jobs=(job("resolving"), old), environments=(environment(),))
    assert told(watching.saw(first)) == [
        ("supervisor", "appeared", "answers"),
        ("worker", "appeared", "alive"),
        ("job", "appeared", "resolving"),
        ("environment", "appeared", "ready"),
    ]


def test_what_stays_as_it_is_is_no_news_and_what_changes_is() -> None:
    watching = WatchState()
    watching.saw(look(jobs=(job("resolving"),), environments=(environment(),)))
    again = look(worker(age=3.0), jobs=(job("resolving"),), environments=(environment(),))
    assert watching.saw(again) == []
    used = environment(FIRST, fakes.lease(model_uid="glow"))
    changes = watching.saw(
        look(worker(state="suspect"), jobs=(job("ready"),), environments=(used,))
    )
    assert told(changes) == [
        ("worker", "changed", "suspect"),
        ("job", "changed", "ready"),
        ("environment", "changed", "ready"),
    ]
    assert "in use by glow" in str(changes[-1])
    assert str(changes[1]) == f"{FIRST}: job a-model (vllm): ready, it is ready"


def test_an_environment_that_breaks_or_is_built_again_changes_and_one_that_goes_is_gone() -> None:
    watching = WatchState()
    watching.saw(look(environments=(environment(),)))
    broken = watching.saw(look(environments=(environment(state=EnvState.BROKEN),)))
    assert told(broken) == [("environment", "changed", "broken")]
    [gone] = watching.saw(look())
    assert (gone.event, str(gone).endswith(": gone")) == (Event.GONE, True)


def test_that_a_job_is_forgotten_after_its_end_is_no_news_but_before_it_is() -> None:
    watching = WatchState()
    watching.saw(look(jobs=(job("resolving"), job("queued", job_id="other"))))
    watching.saw(look(jobs=(job("ready"), job("queued", job_id="other"))))
    changes = watching.saw(look())
    assert [each.thing.name for each in changes] == ["other"]


def test_only_jobs_of_the_model_are_reported() -> None:
    watching = WatchState(model="other")
    changes = watching.saw(look(jobs=(job("queued"), job("queued", model_name="other"))))
    assert [each.thing.label for each in changes if each.thing.kind is Kind.JOB] == ["other (vllm)"]


def test_what_is_of_an_unreachable_worker_stays_and_that_is_reported_once() -> None:
    watching = WatchState()
    both = (worker(), worker(SECOND))
    watching.saw(look(*both, environments=(environment(), environment(SECOND))))
    silent = look(*both, environments=(environment(),), silent=(SECOND,))
    [change] = watching.saw(silent)
    assert (change.thing.kind, change.thing.worker_address) == (Kind.WORKER, SECOND)
    assert change.thing.text == "no answer"
    assert watching.saw(silent) == []
    back = watching.saw(look(*both, environments=(environment(), environment(SECOND))))
    assert told(back) == [("worker", "changed", "alive")]


def test_a_worker_that_lists_its_jobs_and_not_its_environments_is_followed_in_its_jobs() -> None:
    watching = WatchState()
    watching.saw(look(jobs=(job("resolving"),), environments=(environment(),)))
    jobs = look(jobs=(job("installing"), job("queued", job_id="new"))).jobs
    silent = look(silent=(FIRST,))
    half = Snapshot(workers=silent.workers, jobs=jobs, environments=silent.environments)
    assert told(watching.saw(half)) == [
        ("worker", "changed", "alive"),
        ("job", "changed", "installing"),
        ("job", "appeared", "queued"),
    ]
    ended = replace(half, jobs=look(jobs=(job("ready"),)).jobs)
    assert told(watching.saw(ended)) == [("job", "changed", "ready"), ("job", "gone", "queued")]


def test_a_supervisor_that_goes_and_returns_is_reported_and_nothing_else() -> None:
    watching = WatchState()
    before = look(jobs=(job("resolving"),), environments=(environment(),))
    watching.saw(before)
    assert told(watching.missed("no answer")) == [("supervisor", "changed", "does not answer")]
    assert watching.why_unreachable == "no answer"
    assert watching.missed("no answer") == []
    # The new one does not know its worker yet.
    for complete, news in ((True, [("supervisor", "changed", "answers")]), (False, [])):
        nothing = look(complete=complete)
        early = Snapshot(workers=(), jobs=nothing.jobs, environments=nothing.environments)
        assert told(watching.saw(early)) == news
    assert watching.saw(before) == []


def test_once_it_answers_again_nothing_is_reported_missing() -> None:
    watching = WatchState()
    watching.missed("no answer")
    watching.saw(look())
    assert watching.why_unreachable is None


def test_a_supervisor_that_never_answered_is_reported() -> None:
    watching = WatchState()
    assert told(watching.missed("refused")) == [("supervisor", "appeared", "does not answer")]
    assert watching.look is None


def test_a_worker_that_goes_is_gone_with_all_that_was_on_it() -> None:
    watching = WatchState()
    both = look(worker(), worker(SECOND), environments=(environment(), environment(SECOND)))
    watching.saw(both)
    watching.missed("no answer")
    watching.saw(both)
    gone = watching.saw(look(environments=(environment(),)))
    assert [(each.thing.kind, each.thing.worker_address, each.event) for each in gone] == [
        (Kind.WORKER, SECOND, Event.GONE),
        (Kind.ENVIRONMENT, SECOND, Event.GONE),
    ]


def test_a_cluster_that_never_had_a_worker_is_no_supervisor_that_was_restarted() -> None:
    watching = WatchState()
    empty = look()
    watching.saw(Snapshot(workers=(), jobs=empty.jobs, environments=empty.environments))
    watching.saw(look(worker(), worker(SECOND)))
    assert told(watching.saw(look())) == [("worker", "gone", "alive")]


def test_a_change_is_reported_with_all_that_the_actors_say() -> None:
    watching = WatchState()
    changes = watching.saw(look(jobs=(job("queued"),), environments=(environment(),)))
    assert [each.to_dict() for each in changes] == [
        {
            "kind": "supervisor",
            "event": "appeared",
            "worker_address": None,
            "name": "",
            "label": "",
            "state": "answers",
            "text": "",
            "value": {},
        },
        {
            "kind": "worker",
            "event": "appeared",
            "worker_address": FIRST,
            "name": FIRST,
            "label": "a-host",
            "state": "alive",
            "text": "",
            "value": of_json(WorkerStatus, worker()).to_dict(),
        },
        {
            "kind": "job",
            "event": "appeared",
            "worker_address": FIRST,
            "name": "abc",
            "label": "a-model (vllm)",
            "state": "queued",
            "text": "it is queued",
            "value": of_json(JobSummary, job("queued")).to_dict(),
        },
        {
            "kind": "environment",
            "event": "appeared",
            "worker_address": FIRST,
            "name": "/home/v4/a-model/vllm/3.11",
            "label": f"{fakes.key()} [an-env]",
            "state": "ready",
            "text": fakes.entry().use,
            "value": of_json(Environment, environment()).to_dict(),
        },
    ]


def test_people_read_each_change_in_a_line() -> None:
    watching = WatchState()
    first = look(
        jobs=(job("queued", model_engine=None, message=""),),
        environments=(environment(env_id="0123456789abcdef"), environment(SECOND, env_id=None)),
    )
    assert [str(each) for each in watching.saw(first)] == [
        "supervisor: answers",
        f"{FIRST}: worker a-host: alive",
        f"{FIRST}: job a-model: queued",
        f"{FIRST}: environment {fakes.key()} [0123456789ab]: ready",
        f"{SECOND}: environment {fakes.key()}: ready",
    ]
    assert [str(each) for each in watching.missed("no answer")] == [
        "supervisor: does not answer, no answer"
    ]
