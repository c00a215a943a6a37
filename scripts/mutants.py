"""Mutation testing of the pure folders, module by module: the survivors that nobody has explained.

Comes in: names of modules, else all of `FOLDERS`, and ``scripts/equivalent_mutants.toml``. Comes
out: a row for each module, and below it each survivor as function, line before and line after; the
exit status is 1 when there is one. Left out are mutants that change only the wording of a message,
which readers judge and no test.

A module's tests are those of its own name: ``tests/planning/test_overlay.py``, and next to it
``test_overlay_machine.py`` where there is one.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "xinference_venv"
FOLDERS = ("planning", "inventory")
EXPLAINED = Path(__file__).with_name("equivalent_mutants.toml")

_LITERAL = re.compile(r"""("|').*?(?<!\\)\1""")
_LEFT = ("survived", "no tests")
_SHOW = """
import sys
from mutmut.__main__ import cli
for mutant in sys.argv[1:]:
    print()
    cli(["show", mutant], standalone_mode=False)
"""
_NO_BYTECODE = shutil.ignore_patterns("__pycache__")


def every_module() -> list[str]:
    """The modules that have tests of their own."""
    files = (file for folder in FOLDERS for file in sorted((ROOT / PACKAGE / folder).glob("*.py")))
    names = (f"{file.parent.name}/{file.stem}" for file in files)
    return [name for name in names if tests_of(name)]


def every_line() -> set[str]:
    """The lines of the pure folders."""
    files = (file for folder in FOLDERS for file in (ROOT / PACKAGE / folder).glob("*.py"))
    return {line.strip() for file in files for line in file.read_text("utf-8").splitlines()}


def tests_of(module: str) -> list[str]:
    """The files with the tests of a module."""
    folder, _, name = module.partition("/")
    files = (f"tests/{folder}/test_{name}{suffix}.py" for suffix in ("", "_machine"))
    return [file for file in files if (ROOT / file).exists()]


def run(workplace: Path, *command: str) -> list[str]:
    """The lines that a command prints."""
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stdout[-3000:]}{done.stderr}")
    return done.stdout.splitlines()


def narrow_to(module: str, workplace: Path) -> None:
    """Make a copy of the project in which mutmut changes one module and runs its tests.

    mutmut chooses among mutants by name, but makes those of all modules and runs all tests before.
    """
    for folder in (PACKAGE, "tests"):
        shutil.copytree(ROOT / folder, workplace / folder, ignore=_NO_BYTECODE)
    shutil.copy(ROOT / "pyproject.toml", workplace)
    settings = configparser.RawConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    settings["mutmut"]["only_mutate"] = f"\n{PACKAGE}/{module}.py"
    settings["mutmut"]["pytest_add_cli_args_test_selection"] = "\n" + "\n".join(tests_of(module))
    with (workplace / "setup.cfg").open("w", encoding="utf-8") as file:
        settings.write(file)


def changed_lines(workplace: Path, mutants: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Mutants, each with the first line that it changes: as it was, and as it is then."""
    # One process for all: each would take longer to start than to answer.
    shown = run(workplace, sys.executable, "-c", _SHOW, *mutants)
    for text in "\n".join(shown).split("\n# ")[1:]:
        heading, *rows = text.splitlines()
        rows = [row for row in rows if not row.startswith(("---", "+++"))]
        before = [row[1:].strip() for row in rows if row.startswith("-")]
        after = [row[1:].strip() for row in rows if row.startswith("+")]
        yield heading.partition(": ")[0], "".join(before[:1]), "".join(after[:1])


def without_wording(line: str) -> str:
    """A line in which the messages are as mutmut changes them: case ignored, without its ``XX``.

    A message is a string literal with a space, so that keys and identifiers count.
    """

    def fold(literal: re.Match[str]) -> str:
        return literal[0].lower().replace("xx", "") if " " in literal[0] else literal[0]

    return _LITERAL.sub(fold, line)


def judge(module: str, explained: Iterable[tuple[str, str]]) -> int:
    """Print what became of the mutants of a module; how many survivors are not explained."""
    wording = equivalent = 0
    unexplained: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        workplace = Path(folder)
        narrow_to(module, workplace)
        run(workplace, "mutmut", "run", "--max-children", "2")
        results = run(workplace, "mutmut", "results", "--all", "true")
        rows = [row.strip().rpartition(": ") for row in results]
        states = {name: state for name, _, state in rows if name}
        left = [name for name, state in states.items() if state in _LEFT]
        for mutant, before, after in changed_lines(workplace, left):
            if without_wording(before) == without_wording(after):
                wording += 1
            elif (before, after) in explained:
                equivalent += 1
            else:
                unexplained.append(f"{mutant}\n  - {before}\n  + {after}")
    killed = len(states) - wording - equivalent - len(unexplained)
    print(
        f"{module}: {len(states)} mutants, {killed} killed, {wording} of the wording,"
        f" {equivalent} equivalent, {len(unexplained)} not explained",
        *unexplained,
        sep="\n",
        flush=True,
    )
    return len(unexplained)


def main(modules: list[str]) -> int:
    """Print a row for each module, and what is not explained."""
    for module in modules:
        if not tests_of(module):
            sys.exit(f"{module} has no tests of its own; there are: {', '.join(every_module())}")
    listed = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["equivalent"]
    explained = {(each["before"], each["after"]) for each in listed}
    left = sum([judge(module, explained) for module in modules or every_module()])
    stale = {before for before, _ in explained} - every_line()
    for line in sorted(stale):
        print(f"listed as equivalent, but in no module: {line}")
    print(f"{left} survivors that nobody has explained")
    return 1 if left or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
