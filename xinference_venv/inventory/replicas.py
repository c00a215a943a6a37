"""One launch on several workers: how each of them fares, and what that means for the whole.

Comes in: what the workers say of their jobs. Comes out: the phase of the launch, whose leases go
back, and the error that names every worker that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xinference_venv._util.records import Record
from xinference_venv.errors import BuildFailed, JobCancelled, VirtualEnvError
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import PHASE_ORDER, Phase, PreparedEnvironment
from xinference_venv.sentences import sentence

_SOURCES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LockSource(Record, name="lock source"):
    """A worker that has, or will have, the lock of a launch, as the job of that name.

    Without a job it is asked for the lock of the environment that its key refers to already.
    """

    address: str
    incarnation: str
    job_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica(Record, name="replica"):
    """One worker's part in a launch."""

    worker_address: str
    incarnation: str
    phase: Phase = Phase.QUEUED
    result: PreparedEnvironment | None = None
    error: Failure | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it can't become ready any more."""
        return self.phase in (Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyAnswer:
    """A worker that was asked which group of equal hosts it belongs to for a request.

    `group` is None where no environment is wanted; `ready`: its environment is built.
    """

    address: str
    incarnation: str
    group: str | None
    ready: bool


def groups_without_lock(surveyed: Iterable[SurveyAnswer]) -> set[str]:
    """The groups of equal hosts in which a worker would resolve, since none of them is ready."""
    surveyed = list(surveyed)
    ready = {each.group for each in surveyed if each.ready}
    return {each.group for each in surveyed if each.group is not None} - ready


def assign_sources(
    job_id: str, chosen: Iterable[SurveyAnswer], others: Iterable[SurveyAnswer], *, refresh: bool
) -> dict[str, tuple[LockSource, ...]]:
    """Whom each chosen worker asks for the lock, in this order, before it resolves itself.

    First those of its group where the environment is ready, unless all is to be resolved again;
    then those of its group that were chosen before it. The first one of a group thus resolves,
    and the next takes its place should it die. A few are enough, however many there are.
    """
    chosen = list(chosen)
    running: dict[str | None, list[LockSource]] = {}
    earlier: dict[str, list[LockSource]] = {}
    for each in (*chosen, *others):
        there = running.setdefault(each.group, [])
        if each.ready and not refresh and len(there) <= _SOURCES:
            there.append(
                LockSource(address=each.address, incarnation=each.incarnation, job_id=None)
            )
    sources: dict[str, tuple[LockSource, ...]] = {}
    for each in chosen:
        if each.group is None:
            sources[each.address] = ()
            continue
        equal = [source for source in running[each.group] if source.address != each.address]
        before = earlier.setdefault(each.group, [])
        sources[each.address] = (*equal[:_SOURCES], *before)
        if len(before) < _SOURCES:
            before.append(
                LockSource(address=each.address, incarnation=each.incarnation, job_id=job_id)
            )
    return sources


def is_lost(replicas: Sequence[Replica], require: int) -> bool:
    """Whether a launch can't have as many ready replicas any more as it requires."""
    return len(replicas) - sum(each.has_failed for each in replicas) < require


def phase_of(replicas: Sequence[Replica], require: int) -> Phase:
    """The phase of the launch: that of the slowest replica until all have ended."""
    running = [each.phase for each in replicas if not each.phase.is_last]
    if running:
        return min(running, key=PHASE_ORDER.__getitem__)
    if not is_lost(replicas, require):
        return Phase.READY
    cancelled = all(each.phase is not Phase.FAILED for each in replicas)
    return Phase.CANCELLED if cancelled else Phase.FAILED


def taken_back(address: str) -> JobCancelled:
    """The error of a worker's job that was ready, in a launch that failed or was cancelled."""
    return JobCancelled(
        sentence(
            "ready on {address}, released again: the launch failed elsewhere or was cancelled",
            address=address,
        )
    )


def error_of(replicas: Iterable[Replica]) -> VirtualEnvError:
    """The error of a launch that failed: each worker with its own, of their class if it is one."""
    named = [
        (each.worker_address, each.error.error()) for each in replicas if each.error is not None
    ]
    # That the others were cancelled is a consequence, no reason.
    reasons = [pair for pair in named if not isinstance(pair[1], JobCancelled)] or named
    if len(reasons) == 1:
        address, error = reasons[0]
        return error.with_details(worker_address=address)
    # What ails all of them is one error, however many they are.
    by_message: dict[str, list[str]] = {}
    for address, error in reasons:
        by_message.setdefault(error.message, []).append(address)
    kinds = {type(error) for _, error in reasons}
    kind = kinds.pop() if len(kinds) == 1 else BuildFailed
    first = reasons[0][1]
    return kind(
        f"{len(reasons)} workers failed: "
        + "; ".join(
            f"{', '.join(addresses)}: {message}" for message, addresses in by_message.items()
        ),
        {
            **first.details,
            "workers": [
                {"worker_address": address, "error": error.to_dict()} for address, error in named
            ],
        },
    )
