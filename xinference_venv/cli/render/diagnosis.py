"""What people read of a diagnosis: each check with its verdict, and what to do.

Comes in: the answer of whoever examined hosts. Goes out: lines and tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xinference_venv._util.humanize import counted, printable
from xinference_venv.cli.render.text import Colour, Coloured, Part, Table
from xinference_venv.diagnosis.checks import Check, Diagnoses, Verdict

_COLOURS = {
    Verdict.OK: Colour.GREEN,
    Verdict.WARNING: Colour.YELLOW,
    Verdict.FAILED: Colour.RED,
}


def diagnosed(answer: Diagnoses) -> Sequence[Part]:
    """Each host with its checks, then what shows when they are compared, then the sum."""
    shown: list[Part] = []
    every: list[Check] = []
    for each in answer.list:
        where = "" if each.worker_address is None else f"{printable(each.worker_address)}: "
        shown += [f"{where}{printable(each.host_name)}, release {printable(each.release)}"]
        shown += [_table(each.checks), ""]
        every += each.checks
    compared = answer.cluster
    if compared:
        shown += ["all hosts, compared", _table(compared), ""]
    return [*shown, _sum([*every, *compared])]


def _table(checks: Iterable[Check]) -> Table:
    table = Table("", "", "", header=False)
    for each in checks:
        table.add_row(
            Coloured(f"  {each.verdict.value:<7}", _COLOURS[each.verdict]),
            each.name,
            each.found,
        )
        if each.hint is not None:
            table.add_row("", "", f"-> {each.hint}")
    return table


def _sum(checks: Iterable[Check]) -> str:
    verdicts = [each.verdict for each in checks]
    wrong = verdicts.count(Verdict.FAILED)
    warned = verdicts.count(Verdict.WARNING)
    if not wrong and not warned:
        return "Nothing is wrong."
    return f"{counted(wrong, 'failure')}, {counted(warned, 'warning')}"
