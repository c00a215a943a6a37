from __future__ import annotations

from typing import Any

import pytest

from xinference_venv.errors import NotFound, WorkerUnavailable
from xinference_venv.inventory.gathered import check_found, is_whole, silent_workers

SILENT = {"unreachable": [{"worker_address": "10.0.0.1:7000"}], "complete": True}
JUST_STARTED: dict[str, Any] = {"unreachable": [], "complete": False}
WHOLE: dict[str, Any] = {"unreachable": [], "complete": True}


def test_an_answer_is_whole_when_nobody_is_missing_in_it() -> None:
    assert is_whole(WHOLE)
    assert is_whole({"unreachable": []})
    assert not is_whole(SILENT)
    assert not is_whole(JUST_STARTED)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (SILENT, "10.0.0.1:7000"),
        (JUST_STARTED, "those that have not registered with the new supervisor yet"),
    ],
)
def test_nothing_is_said_to_be_absent_while_somebody_is_missing(
    answer: dict[str, Any], named: str
) -> None:
    assert silent_workers(answer) == named
    with pytest.raises(WorkerUnavailable, match=f"has a matching lease; .*{named}"):
        check_found(answer, [], "lease")


def test_what_nobody_has_is_not_found_and_what_somebody_has_is() -> None:
    with pytest.raises(NotFound, match="there is no lease that matches") as caught:
        check_found(WHOLE, [], "lease", hint="look again")
    assert caught.value.hint == "look again"
    for answer in (WHOLE, SILENT, JUST_STARTED):
        check_found(answer, ["found"], "lease")
