"""What is wrong with a host or a cluster: checks, each with a verdict and what to do.

Comes in: what `host_checks` and `index_checks` make of the facts of a host. Comes out: a
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
from xinference_venv.sentences import joined, sentence

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
        sentence("{where} is {time} ahead", where=where, time=duration_text(offset))
        if offset > 0
        else sentence("{where} is {time} behind", where=where, time=duration_text(-offset))
        for where, offset in sorted(off.items())
    ]
    return [
        warning(
            "clocks",
            sentence(
                "compared with the supervisor's host {differences}",
                differences=joined(differences, ", "),
            ),
            sentence("set the clocks (NTP): ages and times of different hosts can't be compared"),
        )
        if differences
        else ok(
            "clocks",
            sentence(
                "{offsets} within a minute of the supervisor's",
                offsets=counted(len(offsets), "host"),
            ),
        ),
        warning(
            "releases",
            joined(
                sentence("{release} on {workers}", release=release, workers=", ".join(on))
                for release, on in sorted(releases.items())
            ),
            sentence("they work together, each as far as it can; upgrade the others when you can"),
        )
        if len(releases) > 1
        else ok(
            "releases", sentence("{releases} everywhere", releases=", ".join(releases) or "none")
        ),
    ]


def worst(checks: Iterable[Check]) -> Verdict:
    """The gravest verdict of all; `OK` of none."""
    order = list(Verdict)
    return max((each.verdict for each in checks), key=order.index, default=Verdict.OK)


def some(sentences: Sequence[str]) -> str:
    """The first of many sentences, and how many more there are."""
    more = len(sentences) - _SHOWN
    shown = joined(sentences[:_SHOWN])
    return sentence("{shown}; and {count} more", shown=shown, count=more) if more > 0 else shown
