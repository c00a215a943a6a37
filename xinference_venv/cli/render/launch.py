"""What people read of a launch: what it gave, or what it would do.

Comes in: nouns, the supervisor's answers. Goes out: lines and tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xinference_venv._util.humanize import counted, duration_text, size_text
from xinference_venv.cli.render.cluster import DIGEST_SHOWN
from xinference_venv.cli.render.documents import (
    Launched,
    LaunchedEnvironment,
    LaunchedOnWorkers,
    LaunchedWorker,
    ModelAddress,
)
from xinference_venv.cli.render.text import NOTHING, Column, Part, Table, warning_lines, where_of
from xinference_venv.cli.render.tree import explanation
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.reports import LaunchPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchOutcome:
    """What a launch gave; `entry` is the listing's, None for the host's own interpreter.

    `elapsed` is in seconds. `address` and `pid` are of the model's process, where one was started.
    """

    model_name: str
    model_engine: str | None
    environment: PreparedEnvironment
    entry: EnvEntry | None
    elapsed: float
    address: str | None = None
    pid: int | None = None

    def document(self) -> Launched:
        """What is printed of it with ``--json``."""
        environment, entry = self.environment, self.entry
        process = None
        if self.pid is not None and self.address is not None:
            process = ModelAddress(address=self.address, pid=self.pid, uid=self.model_name)
        return Launched(
            model_name=self.model_name,
            model_engine=self.model_engine,
            enabled=environment.enabled,
            python=environment.python,
            python_version=None if entry is None else entry.python,
            env_id=environment.env_id,
            path=environment.path,
            real_path=environment.real_path,
            size_bytes=None if entry is None else entry.size_bytes,
            installed=0 if entry is None else entry.installed,
            inherited=0 if entry is None else entry.inherited,
            warnings=environment.warnings,
            uv_calls=environment.uv_calls,
            elapsed_seconds=round(self.elapsed, 3),
            process=process,
        )


def launched(outcome: LaunchOutcome) -> Sequence[Part]:
    """The result of a launch."""
    environment, entry = outcome.environment, outcome.entry
    facts: list[tuple[str, str]] = []
    if environment.path is None:
        heading = f"{outcome.model_name} needs no environment: it runs in the host's interpreter"
    else:
        heading = f"{outcome.model_name} is ready"
        facts += [
            ("environment", environment.path),
            ("real path", environment.real_path or NOTHING),
        ]
    version = "" if entry is None else f" (Python {entry.python})"
    facts.append(("interpreter", f"{environment.python}{version}"))
    if entry is not None:
        packages = f"{entry.installed} installed, {entry.inherited} inherited from the host"
        facts += [("packages", packages), ("size", _size(entry))]
    facts += [("uv calls", str(environment.uv_calls)), ("elapsed", duration_text(outcome.elapsed))]
    if outcome.pid is not None:
        facts += [
            ("address", str(outcome.address)),
            ("pid", str(outcome.pid)),
            ("uid", outcome.model_name),
        ]
    lines = [f"  {name:<13}{value}" for name, value in facts]
    return ["\n".join([heading, *lines]), *warning_lines(environment.warnings)]


def _size(entry: EnvEntry) -> str:
    """The bytes of an environment, and those that it shares."""
    own = size_text(entry.size_bytes)
    return f"{own}, and {size_text(entry.shared_bytes)} shared" if entry.shared_bytes else own


def planned(plan: LaunchPlan, *, workers: bool = False) -> Sequence[Part]:
    """What a launch would do: requirements with their origin, what each of them brings.

    With `workers` the one is named that would do it.
    """
    spec, lock = plan.spec, plan.lock
    if spec is None or lock is None:
        return ["No environment would be built: the model would run in the host's interpreter."]
    requirements = Table(Column("Requirement", prose=True), "Origin")
    for line in spec.requirements:
        requirements.add_row(line.requirement, line.origin.value)
    shown: list[Part] = [
        f"{where_of(plan, workers)}Plan for {spec.key.model_name}, Python {spec.python};"
        " nothing was made",
        requirements,
    ]
    return [*shown, *explanation(lock.distributions), *warning_lines(lock.warnings)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOutcome:
    """What a launch on a cluster gave on each worker; `elapsed` is in seconds."""

    model_name: str
    model_engine: str | None
    replicas: tuple[Replica, ...]
    elapsed: float

    def document(self) -> LaunchedOnWorkers:
        """What is printed of it with ``--json``."""
        return LaunchedOnWorkers(
            model_name=self.model_name,
            model_engine=self.model_engine,
            workers=tuple(map(worker_document, self.replicas)),
            elapsed_seconds=round(self.elapsed, 3),
        )

    @property
    def not_ready(self) -> list[str]:
        """The addresses of the workers that failed."""
        return [each.worker_address for each in self.replicas if each.phase is not Phase.READY]


def worker_document(replica: Replica) -> LaunchedWorker:
    """What is printed with ``--json`` of how one worker fared."""
    return LaunchedWorker(
        worker_address=replica.worker_address,
        state=replica.phase,
        environment=None if replica.result is None else _environment(replica.result),
        error=replica.error,
    )


def _environment(result: PreparedEnvironment) -> LaunchedEnvironment:
    return LaunchedEnvironment(
        enabled=result.enabled,
        python=result.python,
        env_id=result.env_id,
        path=result.path,
        real_path=result.real_path,
        lock_digest=result.lock_digest,
        uv_calls=result.uv_calls,
        warnings=result.warnings,
    )


def launched_on(outcome: ClusterOutcome) -> Sequence[Part]:
    """How each worker fares after a launch."""
    count = len(outcome.replicas)
    ready = count - len(outcome.not_ready)
    took = duration_text(outcome.elapsed)
    heading = f"{outcome.model_name} is ready on {ready} of {counted(count, 'worker')} after {took}"
    table = Table(
        *("Worker", "State"),
        *(Column("Lock", 1), Column("uv calls", 2), Column("Environment", prose=True)),
    )
    warnings: dict[str, list[str]] = {}
    causes: dict[str, list[str]] = {}
    for each in outcome.replicas:
        if each.result is None:
            table.add_row(each.worker_address, each.phase.value, NOTHING, NOTHING, NOTHING)
            causes.setdefault(cause_of(each.error), []).append(each.worker_address)
            continue
        made = each.result
        lock = (made.lock_digest or NOTHING)[:DIGEST_SHOWN]
        where = made.path or f"the host's interpreter, {made.python}"
        table.add_row(each.worker_address, each.phase.value, lock, str(made.uv_calls), where)
        for warning in made.warnings:
            warnings.setdefault(warning, []).append(each.worker_address)
    shown = [f"not ready: {', '.join(on)}: {cause}" for cause, on in causes.items()]
    shown += [f"warning: {warning} ({', '.join(on)})" for warning, on in warnings.items()]
    return [heading, table, *shown]


def cause_of(failure: Failure | None) -> str:
    """Why a worker did not become ready, in a line."""
    if failure is None:
        return NOTHING
    error = failure.error()
    return error.message if error.phase is None else f"{error.phase}: {error.message}"
