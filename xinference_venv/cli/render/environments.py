"""What people read: results, tables, plans, errors.

Comes in: nouns, the supervisor's answers, the time. Goes out: text and tables of rich, which
the commands print.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.control import Control
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from xinference_venv._util.humanize import (
    age_text,
    duration_text,
    printable,
    printable_lines,
    size_text,
)
from xinference_venv.cli.render.documents import Launched, ModelAddress
from xinference_venv.cli.render.tree import explanation
from xinference_venv.cli.render.view import drawing_of, places_text
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.lease import Holder, JudgedLease
from xinference_venv.inventory.reports import (
    Environment,
    EnvironmentPackages,
    LaunchPlan,
    Package,
    RemovalReport,
)
from xinference_venv.planning.catalog import ListedModel

# Nothing that goes to a file or a pipe is folded or cut.
_UNBOUNDED = 100_000
_NONE = "-"


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


@dataclass(frozen=True, slots=True)
class _Printable:
    """What it holds, with all text printable; rich's own control codes stay."""

    held: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.held, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


class _OnlyPrintable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [each if isinstance(each, Control) else _Printable(each) for each in renderables]


def open_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no emoji, no folding in files and pipes.

    What of it would move the cursor, colour the terminal or change its title is shown as escapes:
    names, logs and errors come from packages, indexes and other hosts.
    """
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    console.push_render_hook(_OnlyPrintable())
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def launched(outcome: LaunchOutcome) -> list[RenderableType]:
    """The result of a launch."""
    environment, entry = outcome.environment, outcome.entry
    facts: list[tuple[str, str]] = []
    if environment.path is None:
        heading = f"{outcome.model_name} needs no environment: it runs in the host's interpreter"
    else:
        heading = f"{outcome.model_name} is ready"
        facts += [("environment", environment.path), ("real path", environment.real_path or _NONE)]
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
    return [Text("\n".join([heading, *lines])), *_warnings(environment.warnings)]


def _size(entry: EnvEntry) -> str:
    """The bytes of an environment, and those that it shares."""
    own = size_text(entry.size_bytes)
    return f"{own}, and {size_text(entry.shared_bytes)} shared" if entry.shared_bytes else own


def planned(plan: LaunchPlan, *, workers: bool = False) -> list[RenderableType]:
    """What a launch would do: requirements with their origin, what each of them brings.

    With `workers` the one is named that would do it.
    """
    spec, lock = plan.spec, plan.lock
    if spec is None or lock is None:
        return [
            Text("No environment would be built: the model would run in the host's interpreter.")
        ]
    requirements = new_table("Requirement", "Origin")
    for line in spec.requirements:
        requirements.add_row(line.requirement, line.origin.value)
    shown: list[RenderableType] = [
        Text(
            f"{where_of(plan, workers)}Plan for {spec.key.model_name}, Python"
            f" {spec.python}; nothing was made"
        ),
        requirements,
    ]
    return [*shown, *explanation(lock.distributions), *_warnings(lock.warnings)]


def listed(
    answer: Gathered[Environment], now: float, *, workers: bool = False
) -> list[RenderableType]:
    """The environments of a listing, each with its worker if `workers` is set."""
    entries = [each.entry for each in answer.list]
    if not entries and answer.unreachable:
        return [Text("No worker that answered has such an environment.")]
    if not entries:
        return [Text("No environment found. Make one: xinference-venv launch MODEL")]
    table = new_table(
        *(["Worker"] if workers else []),
        *("Model", "Engine", "Python", "State", "Own", "Shared", "Total", "Packages"),
        *("In use by", "Last used"),
    )
    for entry, where in zip(entries, _where(answer.list, workers), strict=True):
        users = [
            *map(_holder, entry.leases),
            *(f"pid {user.pid}" for user in entry.users),
        ]
        table.add_row(
            *([where.removesuffix(": ")] if workers else []),
            printable(entry.key.model_name),
            printable(entry.key.model_engine or _NONE),
            entry.python or printable(entry.key.python_version),
            ", ".join(filter(None, (entry.state.value, entry.layout))),
            *map(size_text, (entry.size_bytes, entry.shared_bytes, entry.total_bytes)),
            f"{entry.installed} own, {entry.inherited} host",
            "; ".join(users) or _NONE,
            age_text(entry.last_used, now),
        )
    broken = [
        Text(f"{where}{entry.key} is broken: {entry.reason}")
        for entry, where in zip(entries, _where(answer.list, workers), strict=True)
        if entry.state is EnvState.BROKEN
    ]
    changed = [
        Text(
            f"{where}{entry.key} inherits what the host has otherwise since it was made"
            f" ({', '.join(entry.changed_on_host)}): launch it again"
        )
        for entry, where in zip(entries, _where(answer.list, workers), strict=True)
        if entry.changed_on_host
    ]
    return [table, *broken, *changed, *_unmanaged(entries)]


def _unmanaged(entries: Iterable[EnvEntry]) -> list[Text]:
    """The directories that older versions left, and how many processes can't be looked at."""
    left = [entry for entry in entries if entry.state is EnvState.UNMANAGED]
    unknown = max((entry.unknown_users for entry in left), default=0)
    shown = [f"unmanaged: {printable(entry.path)}{_linked(entry)}" for entry in left]
    if unknown:
        shown.append(f"processes that can't be looked at, and may use them: {unknown}")
    return list(map(Text, shown))


def _linked(entry: EnvEntry) -> str:
    return "" if entry.reason is None else f", {printable(entry.reason)}"


def packages_of(
    answer: Gathered[EnvironmentPackages], *, workers: bool = False
) -> list[RenderableType]:
    """The packages of each environment, named with its worker if `workers` is set."""
    shown: list[RenderableType] = []
    for each in answer.list:
        shown += [_heading(each.environment, workers), _packages(each.packages)]
    return shown


def drawn(answer: Gathered[EnvironmentPackages], *, workers: bool = False) -> list[RenderableType]:
    """Each environment as a drawing: its view, the trees that it leads to, who shares them."""
    shown: list[RenderableType] = []
    for each in answer.list:
        shown += [_heading(each.environment, workers), *drawing_of(each)]
    return shown


def explained(
    answer: Gathered[EnvironmentPackages], *, workers: bool = False
) -> list[RenderableType]:
    """Of each environment what brought its packages, and what of the host it does not show."""
    shown: list[RenderableType] = []
    for each in answer.list:
        entry = each.environment.entry
        shown.append(_heading(each.environment, workers))
        if entry.state is EnvState.READY:
            shown += explanation(sorted(each.distributions))
        else:
            shown.append(Text(f"nothing is known of its packages: it is {entry.state}"))
    return shown


def _heading(environment: Environment, workers: bool) -> Text:
    entry = environment.entry
    return Text(f"{where_of(environment, workers)}{entry.key}: {entry.path}")


def removed(answer: Gathered[RemovalReport], *, workers: bool = False) -> list[RenderableType]:
    """What a removal did, or with a dry run would do; what was refused is an error, not here."""
    shown: list[str] = []
    refused = False
    for report in answer.list:
        plan, dry_run = report.plan, report.dry_run
        where, would = where_of(report, workers), "would be " if dry_run else ""
        unlinked = {each.path for each in plan.unlink}
        done = (each.entry for each in report.done)
        for entry in (*plan.remove, *plan.unlink) if dry_run else done:
            if entry.path in unlinked:
                shown.append(
                    f"{where}{would}unlinked: {entry.key}; its files stay until the last holder"
                    f" is gone: {entry.hindrance}"
                )
            else:
                size = size_text(entry.size_bytes)
                shown.append(f"{where}{would}removed: {entry.key}, {size}")
        for entry in plan.refuse:
            refused = True
            if dry_run:
                shown.append(
                    f"{where}would be refused: {entry.key}, {entry.hindrance or entry.reason}"
                )
    if not shown and not refused:
        shown.append("There is nothing to remove.")
    return list(map(Text, shown))


def models(entries: Iterable[ListedModel]) -> list[RenderableType]:
    """The models of the catalogue."""
    table = new_table("Model", "Type", "Engines", "Formats", "Packages", "Origin", "Description")
    for each in entries:
        table.add_row(
            each.model_name,
            each.model_type or _NONE,
            ", ".join(each.engines) or _NONE,
            ", ".join(each.formats) or _NONE,
            ", ".join(each.packages),
            each.origin,
            each.description or "",
        )
    return [table]


def failed(error: VirtualEnvError) -> list[RenderableType]:
    """An error: what happened, in which phase, the output of a tool, what to do."""
    # uv's own words, where they are the message, begin the same way.
    shown = [f"error: {error.message.removeprefix('error: ')}"]
    if error.phase is not None:
        shown.append(f"phase: {error.phase}")
    output = str(error.details.get("output") or "").strip()
    if output and output not in error.message and error.message not in output:
        shown.append(output)
    if error.hint is not None:
        shown.append(f"hint: {error.hint}")
    return [Text(line) for line in shown]


class OfWorker(Protocol):
    """A report of one worker."""

    @property
    def worker_address(self) -> str: ...


def where_of(report: OfWorker, workers: bool) -> str:
    """What a line begins with that is of one worker's report: its address if `workers` is set."""
    return f"{printable(report.worker_address)}: " if workers else ""


def _where(reports: Iterable[OfWorker], workers: bool) -> list[str]:
    return [where_of(each, workers) for each in reports]


def _holder(lease: JudgedLease) -> str:
    judged = " (unknown)" if lease.holder is Holder.UNKNOWN else ""
    return f"{lease.model_uid or lease.model_name}, pid {lease.process.pid}{judged}"


def _packages(packages: Iterable[Package]) -> Table:
    table = new_table("Package", "Version", "Role", "Size", "Why", "Where")
    for package in sorted(packages, key=lambda package: package.distribution):
        each = package.distribution
        table.add_row(
            each.name,
            each.version or "as built",
            each.role.value,
            size_text(each.size),
            each.why,
            places_text(package),
        )
    return table


def _warnings(warnings: Iterable[str]) -> list[Text]:
    return [Text(f"warning: {each}") for each in warnings]


def new_table(*titles: str) -> Table:
    """A table without lines, whose columns have these titles."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
