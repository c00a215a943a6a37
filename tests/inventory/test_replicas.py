from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, through_json
from xinference_venv.errors import (
    BuildFailed,
    JobCancelled,
    ResolutionFailed,
    StoreError,
    VirtualEnvError,
)
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.replicas import (
    LockSource,
    Replica,
    SurveyAnswer,
    assign_sources,
    error_of,
    groups_without_lock,
    is_lost,
    phase_of,
)

ENDED = (Phase.READY, Phase.FAILED, Phase.CANCELLED)
phases = st.lists(st.sampled_from(Phase), min_size=1, max_size=6)


def replicas_in(*phases: Phase) -> list[Replica]:
    return [
        Replica(worker_address=f"10.0.0.{number}:7000", incarnation="first", phase=phase)
        for number, phase in enumerate(phases)
    ]


def failed(*errors: VirtualEnvError) -> list[Replica]:
    return [
        Replica(
            worker_address=f"10.0.0.{number}:7000",
            incarnation="first",
            phase=Phase.FAILED,
            error=Failure.of(error),
        )
        for number, error in enumerate(errors)
    ]


def test_replicas_and_lock_sources_come_back_from_json_and_are_read_whole_or_refused() -> None:
    replica = failed(StoreError("full", {"hint": "make room"}))[0]
    source = LockSource(address="10.0.0.1:7000", incarnation="first", job_id=None)
    assert Replica.from_dict(through_json(replica.to_dict())) == replica
    assert LockSource.from_dict(through_json(source.to_dict())) == source
    check_record(replica, may_be_absent=("phase", "result", "error"))
    check_record(source, may_be_absent=("job_id",))


@given(phases, st.integers(1, 6))
def test_a_launch_is_ready_if_and_only_if_all_have_ended_and_enough_are_ready(
    given_phases: list[Phase], require: int
) -> None:
    require = min(require, len(given_phases))
    replicas = replicas_in(*given_phases)
    phase = phase_of(replicas, require)
    all_ended = all(each in ENDED for each in given_phases)
    assert phase.is_last is all_ended
    assert (phase is Phase.READY) is (all_ended and given_phases.count(Phase.READY) >= require)
    if all_ended and is_lost(replicas, require):
        assert phase is (Phase.FAILED if Phase.FAILED in given_phases else Phase.CANCELLED)


@given(phases, st.integers(1, 6))
def test_a_launch_is_lost_once_no_end_of_those_that_run_could_save_it(
    given_phases: list[Phase], require: int
) -> None:
    require = min(require, len(given_phases))
    best = [phase if phase in ENDED else Phase.READY for phase in given_phases]
    saved = phase_of(replicas_in(*best), require) is Phase.READY
    assert is_lost(replicas_in(*given_phases), require) is not saved


def test_a_launch_of_which_as_many_are_left_as_it_requires_is_not_lost() -> None:
    replicas = replicas_in(Phase.READY, Phase.FAILED, Phase.INSTALLING)
    assert not is_lost(replicas, 2)
    assert is_lost(replicas, 3)


def test_a_launch_that_runs_is_as_far_as_its_slowest_replica() -> None:
    replicas = replicas_in(Phase.READY, Phase.INSTALLING, Phase.RESOLVING)
    assert phase_of(replicas, 3) is Phase.RESOLVING


def test_one_failure_is_raised_as_what_it_is_with_its_worker() -> None:
    error = error_of(failed(ResolutionFailed("no solution", {"hint": "other versions"})))
    assert type(error) is ResolutionFailed
    assert (error.message, error.hint) == ("no solution", "other versions")
    assert error.details["worker_address"] == "10.0.0.0:7000"


def test_several_failures_name_every_worker_and_keep_their_class_if_it_is_one() -> None:
    alike = error_of(failed(StoreError("full"), StoreError("read-only")))
    assert type(alike) is StoreError
    assert "10.0.0.0:7000: full; 10.0.0.1:7000: read-only" in alike.message
    mixed = error_of(failed(StoreError("full"), ResolutionFailed("no solution")))
    assert type(mixed) is BuildFailed
    assert [each["error"]["code"] for each in mixed.details["workers"]] == [
        "store_error",
        "resolution_failed",
    ]


def test_several_failures_have_the_details_of_the_first_and_each_worker_with_its_error() -> None:
    error = error_of(failed(StoreError("full", {"hint": "make room"}), StoreError("read-only")))
    assert error.hint == "make room"
    assert [
        (each["worker_address"], each["error"]["message"]) for each in error.details["workers"]
    ] == [
        ("10.0.0.0:7000", "full"),
        ("10.0.0.1:7000", "read-only"),
    ]


def test_that_others_were_cancelled_is_a_consequence_and_no_reason() -> None:
    error = error_of(failed(JobCancelled("given back"), StoreError("full")))
    assert type(error) is StoreError
    assert type(error_of(failed(JobCancelled("stopped")))) is JobCancelled


def surveyed(address: str, group: str | None = "g", *, ready: bool = False) -> SurveyAnswer:
    return SurveyAnswer(address=address, incarnation="first", group=group, ready=ready)


def asked(
    chosen: Sequence[SurveyAnswer], others: Sequence[SurveyAnswer] = (), *, refresh: bool = False
) -> dict[str, list[tuple[str, str | None]]]:
    sources = assign_sources("job", chosen, others, refresh=refresh)
    return {
        address: [(each.address, each.job_id) for each in found]
        for address, found in sources.items()
    }


def test_the_first_of_a_group_resolves_and_the_others_ask_those_before_them() -> None:
    assert asked([surveyed(each) for each in "abc"]) == {
        "a": [],
        "b": [("a", "job")],
        "c": [("a", "job"), ("b", "job")],
    }


def test_groups_of_unequal_hosts_ask_among_themselves() -> None:
    found = asked([surveyed("a", "g"), surveyed("b", "h"), surveyed("c", "g"), surveyed("d", None)])
    assert found == {"a": [], "b": [], "c": [("a", "job")], "d": []}


def test_where_the_model_stands_is_asked_first_unless_all_is_resolved_again() -> None:
    chosen = [surveyed("a"), surveyed("b", ready=True)]
    others = [surveyed("c", ready=True), surveyed("d", "h", ready=True)]
    assert asked(chosen, others) == {
        "a": [("b", None), ("c", None)],
        "b": [("c", None), ("a", "job")],
    }
    assert asked(chosen, others, refresh=True) == {"a": [], "b": [("a", "job")]}


def test_of_many_workers_only_a_few_are_asked() -> None:
    found = asked([surveyed(f"w{number:04}", ready=True) for number in range(1000)])
    assert max(map(len, found.values())) <= 6
    assert all(address not in dict(sources) for address, sources in found.items())


def test_a_worker_without_environment_does_not_keep_those_after_it_from_asking() -> None:
    found = asked([surveyed("a", None), surveyed("b"), surveyed("c")])
    assert found == {"a": [], "b": [], "c": [("b", "job")]}


def test_a_worker_asks_three_others_even_where_it_is_itself_among_the_first() -> None:
    workers = [surveyed(each, ready=True) for each in "abcde"]
    found = asked(workers)
    assert [address for address, job in found["a"] if job is None] == ["b", "c", "d"]
    assert [address for address, job in found["e"] if job is None] == ["a", "b", "c"]


def test_the_incarnation_of_who_is_asked_is_known() -> None:
    found = assign_sources("job", [surveyed("a", ready=True), surveyed("b")], [], refresh=False)
    assert {each.incarnation for sources in found.values() for each in sources} == {"first"}
    found = assign_sources("job", [surveyed("a"), surveyed("b")], [], refresh=False)
    assert [each.incarnation for each in found["b"]] == ["first"]


def test_a_group_has_a_lock_as_soon_as_one_of_its_hosts_is_ready() -> None:
    def answered(address: str, group: str | None, *, ready: bool = False) -> SurveyAnswer:
        return SurveyAnswer(address=address, incarnation="first", group=group, ready=ready)

    surveyed = [answered("a:1", "one"), answered("b:1", "two"), answered("c:1", None)]
    assert groups_without_lock(surveyed) == {"one", "two"}
    assert groups_without_lock([*surveyed, answered("d:1", "one", ready=True)]) == {"two"}
    assert groups_without_lock([answered("d:1", "one", ready=True)]) == set()
