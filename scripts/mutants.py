"""The survivors of `scripts/mutants` that nobody has explained.

Comes in: what mutmut left in ``mutants/``, and ``scripts/equivalent_mutants.toml``. Comes out: each
survivor as function, line before and line after; the exit status is 1 when there is one. Left out
are mutants that change only the wording of a message, which readers judge and no test.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

EXPLAINED = Path(__file__).with_name("equivalent_mutants.toml")

_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')


def run_mutmut(*arguments: str) -> list[str]:
    """The lines that a command of mutmut prints."""
    command = ["mutmut", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def survivors() -> list[str]:
    """The names of the mutants that no test noticed."""
    rows = [row.strip().rpartition(": ") for row in run_mutmut("results")]
    return [name for name, _, status in rows if status in ("survived", "no tests")]


def changed_lines(mutant: str) -> tuple[str, str]:
    """The first line that a mutant changes: as it was, and as it is then."""
    rows = [row for row in run_mutmut("show", mutant) if not row.startswith(("---", "+++"))]
    before = [row[1:].strip() for row in rows if row.startswith("-")]
    after = [row[1:].strip() for row in rows if row.startswith("+")]
    return "".join(before[:1]), "".join(after[:1])


def without_wording(line: str) -> str:
    """A line in which the messages are as mutmut changes them: case ignored, without its ``XX``.

    A message is a string literal with a space, so that keys and identifiers count.
    """

    def fold(literal: re.Match[str]) -> str:
        return literal[0].lower().replace("xx", "") if " " in literal[0] else literal[0]

    return _LITERAL.sub(fold, line)


def main() -> int:
    """Print what is not explained."""
    listed = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["equivalent"]
    explained = {(each["before"], each["after"]) for each in listed}
    found = 0
    for mutant in survivors():
        before, after = changed_lines(mutant)
        if without_wording(before) == without_wording(after):
            continue
        if (before, after) not in explained:
            found += 1
            print(f"{mutant}\n  - {before}\n  + {after}")
    print(f"{found} survivors that nobody has explained")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
