"""What people read of a diagnosis: each check with its verdict, and what to do.

Comes in: the answer of whoever examined hosts. Goes out: text and tables of rich.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from xinference_venv._util.humanize import counted, printable
from xinference_venv.cli.render.environments import new_table
from xinference_venv.diagnosis.checks import Check, Diagnoses, Verdict

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def diagnosed(answer: Diagnoses) -> list[RenderableType]:
    """Each host with its checks, then what shows when they are compared, then the sum."""
    shown: list[RenderableType] = []
    every: list[Check] = []
    for each in answer.list:
        where = "" if each.worker_address is None else f"{printable(each.worker_address)}: "
        shown += [Text(f"{where}{printable(each.host_name)}, release {printable(each.release)}")]
        shown += [_table(each.checks), Text()]
        every += each.checks
    compared = answer.cluster
    if compared:
        shown += [Text("all hosts, compared"), _table(compared), Text()]
    return [*shown, Text(_sum([*every, *compared]))]


def _table(checks: Iterable[Check]) -> RenderableType:
    table = new_table("", "", "")
    table.show_header = False
    for each in checks:
        table.add_row(
            Text(f"  {each.verdict.value:<7}", style=_STYLES[each.verdict]),
            Text(each.name),
            Text(printable(each.found)),
        )
        if each.hint is not None:
            table.add_row("", "", Text(f"-> {each.hint}"))
    return table


def _sum(checks: Iterable[Check]) -> str:
    verdicts = [each.verdict for each in checks]
    wrong = verdicts.count(Verdict.FAILED)
    warned = verdicts.count(Verdict.WARNING)
    if not wrong and not warned:
        return "Nothing is wrong."
    return f"{counted(wrong, 'failure')}, {counted(warned, 'warning')}"
