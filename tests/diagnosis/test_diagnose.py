"""Looks of an examination that do not end, or fail."""

from __future__ import annotations

import threading

from xinference_venv._util.disk_threads import in_abandonable_thread
from xinference_venv.diagnosis.checks import Check, Verdict
from xinference_venv.diagnosis.diagnose import checks_of


async def test_a_look_that_does_not_end_is_a_failure_and_the_others_go_on() -> None:
    answers = threading.Event()

    def look() -> list[Check]:
        answers.wait()
        return []

    [check] = await checks_of("home", in_abandonable_thread(look), 0.0)
    answers.set()
    assert (check.name, check.verdict) == ("home", Verdict.FAILED)
    assert "no answer within 0.0 s" in check.found


async def test_a_look_with_a_defect_is_a_failure_that_names_it() -> None:
    def look() -> list[Check]:
        raise KeyError("size")

    [check] = await checks_of("quota", in_abandonable_thread(look))
    assert (check.name, check.verdict) == ("quota", Verdict.FAILED)
    assert check.found == "KeyError: 'size'"
