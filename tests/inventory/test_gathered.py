from __future__ import annotations

import pytest

from xinference_venv.errors import NotFound, StoreError, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerState, WorkerStatus
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker, check_found

_WORKER = WorkerStatus(
    worker_address="10.0.0.1:7000",
    state=WorkerState.GONE,
    host_name="a-host",
    release="0.1.0",
    incarnation="first",
    snapshot=None,
    snapshot_age=None,
)
_UNREACHABLE = UnreachableWorker(status=_WORKER, error=Failure.of(StoreError("full")))
SILENT: Gathered[str] = Gathered(list=(), unreachable=(_UNREACHABLE,))
JUST_STARTED: Gathered[str] = Gathered(list=(), complete=False)
WHOLE: Gathered[str] = Gathered(list=())


def test_an_answer_is_whole_when_no_one_is_missing_in_it() -> None:
    assert WHOLE.is_whole
    assert Gathered[str].from_dict({"list": []}).is_whole
    assert not SILENT.is_whole
    assert not JUST_STARTED.is_whole


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (SILENT, "10.0.0.1:7000"),
        (JUST_STARTED, "those that have not registered with the new supervisor yet"),
    ],
)
def test_nothing_is_called_absent_while_someone_is_missing(
    answer: Gathered[str], named: str
) -> None:
    assert answer.missing == named
    with pytest.raises(WorkerUnavailable, match=f"has a matching lease; .*{named}"):
        check_found(answer, [], "lease")


def test_what_no_one_has_is_not_found_and_what_someone_has_is() -> None:
    with pytest.raises(NotFound, match="there is no lease that matches") as caught:
        check_found(WHOLE, [], "lease", hint="look again")
    assert caught.value.hint == "look again"
    for answer in (WHOLE, SILENT, JUST_STARTED):
        check_found(answer, ["found"], "lease")


def test_an_answer_of_other_things_is_as_whole_as_the_one_that_it_is_made_of() -> None:
    answer = Gathered(list=("a", "b"), unreachable=(_UNREACHABLE,), complete=False, gone=(_WORKER,))
    assert answer.of(map(len, answer.list)) == Gathered(
        list=(1, 1), unreachable=(_UNREACHABLE,), complete=False, gone=(_WORKER,)
    )


def test_those_that_miss_an_answer_are_named_in_the_error_with_their_reasons() -> None:
    with pytest.raises(WorkerUnavailable) as caught:
        check_found(SILENT, [], "lease")
    assert caught.value.details["unreachable"] == [_UNREACHABLE.to_dict()]
    with pytest.raises(NotFound) as absent:
        check_found(WHOLE, [], "lease")
    assert "hint" not in absent.value.details
