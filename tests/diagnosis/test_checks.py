"""Verdicts, and what shows when hosts are compared."""

from __future__ import annotations

from typing import Any

from tests import fakes
from xinference_venv.diagnosis.checks import (
    Diagnosis,
    Verdict,
    cluster_checks,
    failed,
    failed_by,
    ok,
    some,
    warning,
    worst,
)
from xinference_venv.errors import UvNotFound

NOW = 1_800_000_000.0


def diagnosis(address: str, **changes: Any) -> Diagnosis:
    made: dict[str, Any] = {
        "host_name": "a-host",
        "release": "0.1.0",
        "at": NOW,
        "checks": (ok("uv", "uv 0.13.9"), warning("clock", "2 min ahead", "set it")),
        "worker_address": address,
    }
    return Diagnosis(**{**made, **changes})


def test_a_diagnosis_stands_what_every_record_has_to_stand() -> None:
    fakes.check_record(diagnosis("10.0.0.1:1"), may_be_absent=["worker_address"])
    fakes.check_record(failed("home", "full", "free some"), may_be_absent=["hint"])


def test_the_worst_verdict_counts() -> None:
    assert worst([]) is Verdict.OK
    assert worst([ok("a", ""), warning("b", "", None)]) is Verdict.WARNING
    assert worst([failed("a", "", None), ok("b", "")]) is Verdict.FAILED


def test_an_error_says_what_to_do_itself() -> None:
    check = failed_by("uv", UvNotFound("there is no uv", {"hint": "install it"}))
    assert check == failed("uv", "there is no uv", "install it")


def test_hosts_that_are_alike_are_well() -> None:
    checks = cluster_checks([diagnosis("10.0.0.1:1"), diagnosis("10.0.0.2:1", at=NOW + 5)], NOW)
    assert [(each.name, each.verdict) for each in checks] == [
        ("clocks", Verdict.OK),
        ("releases", Verdict.OK),
    ]


def test_a_clock_that_is_off_and_another_release_are_named_with_their_worker() -> None:
    clocks, releases = cluster_checks(
        [
            diagnosis("10.0.0.1:1"),
            diagnosis("10.0.0.2:1", at=NOW - 7200, release="0.2.0"),
            diagnosis("10.0.0.3:1", at=NOW + 90),
        ],
        NOW,
    )
    assert clocks.verdict is Verdict.WARNING
    assert "10.0.0.2:1 is 2 h 0 min behind, 10.0.0.3:1 is 1 min 30 s ahead" in clocks.found
    assert releases.verdict is Verdict.WARNING
    assert releases.found == "0.1.0 on 10.0.0.1:1, 10.0.0.3:1; 0.2.0 on 10.0.0.2:1"


def test_of_many_findings_the_first_are_reported_and_the_others_counted() -> None:
    assert some(["a", "b"]) == "a; b"
    assert some([str(number) for number in range(7)]) == "0; 1; 2; 3; 4; and 2 more"
