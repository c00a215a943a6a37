"""What changes in a cluster from one look at it to the next, as far as its actors tell.

Comes in: the supervisor's answers, or that there was none. Comes out: a `Change` for each thing
that appeared, changed or went. A state object, without loop, clock or wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.environments import Environment, Environments
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker
from xinference_venv.inventory.jobs import Phase, with_phase
from xinference_venv.inventory.reports import JobSummary


class Kind(StrEnum):
    """What is watched."""

    SUPERVISOR = "supervisor"
    WORKER = "worker"
    JOB = "job"
    ENVIRONMENT = "environment"


class Event(StrEnum):
    """What happened to it."""

    APPEARED = "appeared"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing(Record, name="watched thing"):
    """Something as it was last seen; `name` tells it from others of its kind on its worker.

    People see its `label`, its `state`, and the `text` that says more of that; `value` is all
    that the actors say of it.
    """

    kind: Kind
    worker_address: str | None = None
    name: str
    label: str
    state: str
    text: str = ""
    value: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def identity(self) -> tuple[Kind, str | None, str]:
        """What stays the same while it changes."""
        return (self.kind, self.worker_address, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change(Record, name="change"):
    """Something that happened to a thing, which is as it is now, or was at last."""

    event: Event
    thing: Thing = field(metadata=inline())

    def __str__(self) -> str:
        where = "" if self.thing.worker_address is None else f"{self.thing.worker_address}: "
        what = f"{where}{self.thing.kind} {self.thing.label}".rstrip()
        if self.event is Event.GONE:
            return f"{what}: gone"
        state, text = self.thing.state, self.thing.text
        return f"{what}: {with_phase(state, text, ', ') if text else state}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The answers of one look: of `list_workers`, `list_jobs` and `list_virtual_envs`."""

    workers: tuple[WorkerStatus, ...]
    jobs: Gathered[JobSummary]
    environments: Environments


@dataclass(kw_only=True)
class WatchState:
    """What is known; jobs that had ended before the first look are not reported."""

    model: str | None = None
    things: dict[tuple[Kind, str | None, str], Thing] = field(default_factory=dict)
    look: Snapshot | None = None
    """The last one that was answered."""
    _old_jobs: set[str] = field(default_factory=set)
    _returned: bool = False
    """Whether the supervisor may be a new one, which no worker has registered with yet."""

    def saw(self, look: Snapshot) -> list[Change]:
        """What a look tells; what workers were asked and did not answer stays as it was."""
        jobs = [each for each in look.jobs.list if self.model in (None, each.model_name)]
        if self.look is None:
            self._old_jobs = {each.job_id for each in jobs if each.phase.is_last}
        self.look = look
        self._returned = self._returned and not look.workers
        unreachable = {
            Kind.JOB: _errors(look.jobs.unreachable),
            Kind.ENVIRONMENT: _errors(look.environments.unreachable),
        }
        errors = {**unreachable[Kind.JOB], **unreachable[Kind.ENVIRONMENT]}
        now = [
            _supervisor("answers", ""),
            *(_worker(each, errors) for each in look.workers),
            *(_job(each) for each in jobs if each.job_id not in self._old_jobs),
            *map(_environment, look.environments.list),
        ]
        there = {each.worker_address for each in look.workers}
        whole = look.environments.complete and not self._returned
        kept = [
            each
            for each in self.things.values()
            if each.worker_address is not None
            # With a supervisor that was restarted, workers may not have registered yet.
            and (
                not whole
                if each.worker_address not in there
                else each.worker_address in unreachable.get(each.kind, {})
            )
        ]
        return self._become([*now, *kept])

    def missed(self, why: str) -> list[Change]:
        """An event that there was no answer: all else stays as it was."""
        self._returned = True
        others = [each for each in self.things.values() if each.kind is not Kind.SUPERVISOR]
        return self._become([_supervisor("does not answer", why), *others])

    @property
    def why_unreachable(self) -> str | None:
        """Why the supervisor does not answer, None while it does."""
        there = self.things.get((Kind.SUPERVISOR, None, ""))
        return there.text if there is not None and there.state != "answers" else None

    def _become(self, things: Iterable[Thing]) -> list[Change]:
        before, self.things = self.things, {each.identity: each for each in things}
        changes = []
        for identity, thing in self.things.items():
            if identity not in before:
                changes.append(Change(event=Event.APPEARED, thing=thing))
            elif before[identity] != thing:
                changes.append(Change(event=Event.CHANGED, thing=thing))
        gone = [thing for identity, thing in before.items() if identity not in self.things]
        # A worker forgets a job some time after its end, which is no news.
        return changes + [
            Change(event=Event.GONE, thing=thing)
            for thing in gone
            if not (thing.kind is Kind.JOB and Phase(thing.state).is_last)
        ]


def _errors(unreachable: Iterable[UnreachableWorker]) -> dict[str, str]:
    """Why workers did not answer a question, by address."""
    return {each.status.worker_address: each.error.message for each in unreachable}


def _supervisor(state: str, why: str) -> Thing:
    return Thing(kind=Kind.SUPERVISOR, name="", label="", state=state, text=why)


def _worker(listed: WorkerStatus, errors: Mapping[str, str]) -> Thing:
    return Thing(
        kind=Kind.WORKER,
        name=listed.worker_address,
        label=listed.host_name,
        state=listed.state.value,
        text=errors.get(listed.worker_address, ""),
        worker_address=listed.worker_address,
        value=listed.to_dict(),
    )


def _job(listed: JobSummary) -> Thing:
    engine = listed.model_engine
    return Thing(
        kind=Kind.JOB,
        name=listed.job_id,
        label=listed.model_name if engine is None else f"{listed.model_name} ({engine})",
        state=listed.phase.value,
        text=listed.message,
        worker_address=listed.worker_address,
        value=listed.to_dict(),
    )


def _environment(listed: Environment) -> Thing:
    entry = listed.entry
    made = "" if entry.env_id is None else f" [{entry.env_id[:12]}]"
    return Thing(
        kind=Kind.ENVIRONMENT,
        name=entry.path,
        label=f"{entry.key}{made}",
        state=entry.state.value,
        text=entry.use,
        worker_address=listed.worker_address,
        value=listed.to_dict(),
    )
