"""What is wrong with a host or a cluster: checks, each with a verdict and what to do.

Comes in: what `host_checks` and `index_answers` make of the facts of a host. Comes out: a
`Diagnosis` of each host, and what only shows when hosts are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from xinference_venv._util.humanize import counted, duration_text
from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.gathered import Gathered

CLOCK_SECONDS = 60.0
"""A clock that is further off than this gets a warning."""

# So many findings of one kind are listed one by one.
_SHOWN = 5


class Verdict(StrEnum):
    """`WARNING`: launches work, but not as well as they could, or not all of them."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check(Record, name="check"):
    """One thing that was looked at; `hint` says what to do, None when all is well."""

    name: str
    verdict: Verdict
    found: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis(Record, name="diagnosis"):
    """What was found of one host; `at` is the time on its clock when it began to look.

    `at` is in seconds since the epoch. `worker_address` is None for a host that was examined
    without any worker.
    """

    worker_address: str | None = None
    host_name: str
    release: str
    at: float
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnoses(Gathered[Diagnosis], name="diagnoses"):
    """What is wrong with each host; `cluster` are the checks that compare them."""

    cluster: tuple[Check, ...] = ()


def ok(name: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(name=name, verdict=Verdict.OK, found=found)


def warning(name: str, found: str, hint: str | None) -> Check:
    """A check that found what should be better."""
    return Check(name=name, verdict=Verdict.WARNING, found=found, hint=hint)


def failed(name: str, found: str, hint: str | None) -> Check:
    """A check that found what launches fail of."""
    return Check(name=name, verdict=Verdict.FAILED, found=found, hint=hint)


def failed_by(name: str, error: VirtualEnvError) -> Check:
    """A check that ended with an error, which says what to do itself."""
    return failed(name, error.message, error.hint)


def cluster_checks(diagnoses: Sequence[Diagnosis], sent: float) -> list[Check]:
    """What only shows when hosts are compared: their clocks, with when they were asked
    (``sent``, in seconds since the epoch on the clock of who asks), and releases.
    """
    offsets = {str(each.worker_address): each.at - sent for each in diagnoses}
    releases: dict[str, list[str]] = defaultdict(list)
    for each in diagnoses:
        releases[each.release].append(str(each.worker_address))
    off = {where: offset for where, offset in offsets.items() if abs(offset) > CLOCK_SECONDS}
    differences = [
        f"{where} is {duration_text(abs(offset))} {'ahead' if offset > 0 else 'behind'}"
        for where, offset in sorted(off.items())
    ]
    return [
        warning(
            "clocks",
            f"compared with the supervisor's host {', '.join(differences)}",
            "set the clocks (NTP): ages and times of different hosts can't be compared",
        )
        if differences
        else ok("clocks", f"{counted(len(offsets), 'host')} within a minute of the supervisor's"),
        warning(
            "releases",
            "; ".join(f"{release} on {', '.join(on)}" for release, on in sorted(releases.items())),
            "they work together, each as far as it can; upgrade the others when you can",
        )
        if len(releases) > 1
        else ok("releases", f"{', '.join(releases) or 'none'} everywhere"),
    ]


def worst(checks: Iterable[Check]) -> Verdict:
    """The gravest verdict of all; `OK` of none."""
    order = list(Verdict)
    return max((each.verdict for each in checks), key=order.index, default=Verdict.OK)


def some(sentences: Sequence[str]) -> str:
    """The first of many sentences, and how many more there are."""
    more = len(sentences) - _SHOWN
    return "; ".join(sentences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
