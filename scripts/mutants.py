"""The survivors of `scripts/mutants` that nobody has explained.

Comes in: what mutmut left in ``mutants/``, and ``scripts/equivalent_mutants.toml``. Comes out: each
survivor as function, line before and line after; the exit status is 1 when there is one.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

EXPLAINED = Path(__file__).with_name("equivalent_mutants.toml")


def run_mutmut(*arguments: str) -> list[str]:
    """The lines that a command of mutmut prints."""
    command = ["mutmut", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def survivors() -> list[str]:
    """The names of the mutants that no test noticed."""
    rows = [row.strip().rpartition(": ") for row in run_mutmut("results")]
    return [name for name, _, status in rows if status == "survived"]


def changed_lines(mutant: str) -> tuple[str, str]:
    """The first line that a mutant changes: as it was, and as it is then."""
    rows = [row for row in run_mutmut("show", mutant) if not row.startswith(("---", "+++"))]
    before = [row[1:].strip() for row in rows if row.startswith("-")]
    after = [row[1:].strip() for row in rows if row.startswith("+")]
    return "".join(before[:1]), "".join(after[:1])


def main() -> int:
    """Print what is not explained."""
    listed = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["equivalent"]
    explained = {(each["before"], each["after"]) for each in listed}
    found = 0
    for mutant in survivors():
        before, after = changed_lines(mutant)
        if (before, after) not in explained:
            found += 1
            print(f"{mutant}\n  - {before}\n  + {after}")
    print(f"{found} survivors that nobody has explained")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
