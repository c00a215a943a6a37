"""What a look costs: processor time and peak memory of each command that only looks.

usage: python -m benchmarks.cli [--rounds N] [--home DIR] [--supervisor HOST:PORT]

In turns with what people know: `uv pip list`, `pip list`, and `docker ps` where a daemon answers.
A command that fails where it should not is named with its exit code; `doctor` asks an index that is
a folder, so no network, and uv and interpreters count, which it runs. Of each the round that took
least counts: whatever else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_PROGRAM = (sys.executable, "-m", "xinference_venv")
_LOOKS = (
    ("--version",),
    ("list",),
    ("leases",),
    ("models",),
    ("jobs",),
    ("doctor",),
)
_OF_A_MODEL = (("packages",), ("show",), ("explain",), ("logs",))
_OVER_A_CLUSTER = (("list",), ("leases",), ("jobs",), ("workers",))
_BARE = "python -c pass"
_MEBIBYTE = 1024
"""Peak memory is in kibibytes (getrusage(2) of Linux)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A command, and what it is called in the table; `fails` where its exit code says so."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(kw_only=True, slots=True)
class Cost:
    """The least processor time of a command, in seconds, its peak memory, its exit code."""

    seconds: float = float("inf")
    kibibytes: int = 0
    code: int = 0


def measure(look: Look) -> Cost:
    """Run a command once."""
    process = subprocess.Popen(
        look.command,
        env={**os.environ, **look.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        seconds=used.ru_utime + used.ru_stime,
        kibibytes=used.ru_maxrss,
        code=process.returncode,
    )


def completion(model: str) -> dict[str, str]:
    """The variables with which a shell asks for the models that begin like that."""
    return {
        "_XINFERENCE_VENV_COMPLETE": "bash_complete",
        "COMP_WORDS": f"xinference-venv packages {model}",
        "COMP_CWORD": "2",
    }


def looks(home: str, model: str | None, supervisor: str | None) -> list[Look]:
    """What takes turns."""
    # The doctor asks no network: its index is a folder.
    here = {
        "XINFERENCE_HOME": home,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": Path(home).resolve().as_uri(),
    }
    ours = [*_LOOKS, *((*words, model) for words in _OF_A_MODEL if model)]
    found = [Look(name=_BARE, command=(sys.executable, "-c", "pass"), variables={})]
    found += [
        Look(name=f"xinference-venv {' '.join(words)}", command=(*_PROGRAM, *words), variables=here)
        for words in ours
    ]
    found.append(
        Look(
            name="xinference-venv, completion of a model",
            command=_PROGRAM,
            variables={**here, **completion(model or "q")},
        )
    )
    if supervisor is not None:
        found += [
            Look(
                name=f"xinference-venv {' '.join(words)} --supervisor",
                command=(*_PROGRAM, *words, "--supervisor", supervisor),
                variables=here,
            )
            for words in _OVER_A_CLUSTER
        ]
    peers: list[tuple[str, tuple[str, ...]]] = [
        ("uv pip list", ("uv", "pip", "list", "--python", sys.executable))
    ]
    peers += [("pip list", (sys.executable, "-m", "pip", "list")), ("docker ps", ("docker", "ps"))]
    return found + [
        Look(name=name, command=command, variables={})
        for name, command in peers
        if shutil.which(command[0])
    ]


def table(costs: Mapping[str, Cost]) -> list[str]:
    """The rows of what came out, in Markdown."""
    rows = ["| command | processor time | peak memory |", "|---|---|---|"]
    for name, cost in costs.items():
        if cost.code:
            rows.append(f"| `{name}` | failed here, exit code {cost.code} | |")
        else:
            rows.append(
                f"| `{name}` | {cost.seconds:.2f} s | {cost.kibibytes / _MEBIBYTE:.0f} MB |"
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--home", metavar="DIR", help="by default an empty one")
    parser.add_argument("--model", help="a model that has an environment in the home")
    parser.add_argument("--supervisor", metavar="HOST:PORT")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as empty:
        contestants = looks(options.home or empty, options.model, options.supervisor)
        costs = {each.name: Cost() for each in contestants}
        for _ in range(options.rounds):
            for each in contestants:
                found, best = measure(each), costs[each.name]
                best.seconds = min(best.seconds, found.seconds)
                best.kibibytes = max(best.kibibytes, found.kibibytes)
                best.code = found.code
    torch = "with torch" if find_spec("torch") else "without torch"
    print(f"Python {platform.python_version()} {torch}, {options.rounds} rounds, the least of each")
    print("\n".join(["", *table(costs)]))


if __name__ == "__main__":
    main()
