"""Pages as a reader follows them: their commands, typed one after another into one shell.

Comes in: a page of ``docs/`` or README. Comes out: its steps, and a `Reader` who takes them. A file
that the page gives is written under the name that stands before it or in its first line; a command
that stays gets a terminal of its own; addresses and ids that the page shows stand for those that
were seen.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 300.0
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.M | re.S)
_COMMANDS = ("console", "sh")
_ENDINGS = {"python": ".py", "json": ".json", "ini": ".conf", "toml": ".toml"}
# A file's name at the end of the paragraph before it, or as a comment in its first line.
_NAMED_BEFORE = re.compile(r"`([\w./~-]+\.\w+)`[^`]*:\s*\Z")
_NAMED_INSIDE = re.compile(r"\A# (\S+\.conf)\n")
_STAYS = re.compile(
    r"xinference-venv (supervisor|worker|web|watch)\b|xinference-venv launch .*--run"
)
_STARTED = re.compile(r"(supervisor|worker|web) at |  uid  |.* supervisor: answers")
# What a page shows of a run stands for what this run says.
_LEARNED = (
    re.compile(r"(?:supervisor|worker) at (\S+)"),
    re.compile(r"  address +(\S+)"),
    re.compile(r'"job_id":"([^"]+)"'),
)
_END = "-- ended with "
_SHELL = f"""
set -m
while IFS= read -r -d "" -u 3 command; do
    eval "(exit ${{status:-0}})
$command"
    status=$?
    printf '\\n{_END}%s\\n' "$status"
done
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A command of a page, and what the page shows of its output."""

    page: str
    line: int
    command: str
    shown: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the page says that it does: by an error, or by findings."""
        return any(re.match(r"error: |  cause: |[1-9]\d* failure", each) for each in self.shown)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.command}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenFile:
    """A file whose content a page gives."""

    name: str
    text: str


def steps_of(page: str) -> list[Step | GivenFile]:
    """What a page has its reader do, in its order."""
    text = (ROOT / page).read_text("utf-8")
    found: list[Step | GivenFile] = []
    for block in _BLOCK.finditer(text):
        content = re.sub(f"^{block['indent']}", "", block["text"], flags=re.M)
        if block["kind"] in _COMMANDS:
            line = text.count("\n", 0, block.start("text")) + 1
            found += _commands_in(page, line, content)
        elif (ending := _ENDINGS.get(block["kind"])) is not None:
            name = _NAMED_INSIDE.search(content) or _NAMED_BEFORE.search(text[: block.start()])
            if name is not None and name[1].endswith(ending):
                found.append(GivenFile(name=name[1], text=content))
    return found


def _commands_in(page: str, line: int, content: str) -> Iterator[Step]:
    """The commands of a block: behind ``$``, or where there is none each line that says one."""
    lines = content.splitlines()
    prompted = any(each.startswith("$ ") for each in lines)
    at: int | None = None
    command, shown = "", list[str]()
    for number, each in enumerate(lines):
        if at is not None and command.endswith("\\"):
            command = command[:-1].rstrip() + " " + each.strip()
        elif at is not None and _is_open(command):
            command = f"{command}\n{each}"
        elif each.startswith("$ ") or (not prompted and each.strip()):
            if at is not None:
                yield Step(page=page, line=line + at, command=command, shown=tuple(shown))
            at, command, shown = number, each.removeprefix("$ "), []
        else:
            shown.append(each)
    if at is not None:
        yield Step(page=page, line=line + at, command=command, shown=tuple(shown))


def _is_open(command: str) -> bool:
    """Whether a quotation goes on in the next line."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


@dataclass(kw_only=True, eq=False)
class Reader:
    """Who follows pages in `folder`, in one shell with these variables.

    `meanings` are patterns of what pages write, with what this reader writes instead.
    """

    folder: Path
    environ: Mapping[str, str]
    meanings: dict[str, str] = field(default_factory=dict)
    _terminals: list[tuple[int, threading.Thread]] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        read_end, self._to = os.pipe()
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", f"exec 3<&{read_end}; {_SHELL}"],
            cwd=self.folder,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[read_end],
            start_new_session=True,
        )
        os.close(read_end)
        assert self._shell.stdout is not None
        self._lines: queue.Queue[str] = queue.Queue()
        self._stdout = self._shell.stdout
        self._hearing = threading.Thread(target=lambda: [*map(self._lines.put, self._stdout)])
        self._hearing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_terminals()
        os.close(self._to)
        self._shell.wait(PATIENCE_SECONDS)
        self._hearing.join(PATIENCE_SECONDS)
        self._stdout.close()

    def close_terminals(self) -> None:
        """Ctrl-C in each terminal, the newest first, and wait until what ran there has ended."""
        while self._terminals:
            group, heard = self._terminals.pop()
            # What did not start has ended already.
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGINT)
            heard.join(PATIENCE_SECONDS)
            assert not heard.is_alive(), "it does not end by Ctrl-C"

    def follow(self, step: Step | GivenFile) -> None:
        """Take a step; an AssertionError says what was otherwise than the page has it."""
        if isinstance(step, GivenFile):
            # The reader's home, never that of who runs the tests: it has a pip.conf of its own.
            name = re.sub(r"\A~(?=/)", lambda _: self.environ["HOME"], self.meant(step.name))
            path = self.folder / name
            assert path.is_relative_to(self.folder.parent), f"not the reader's to write: {path}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.meant(step.text))
            return
        if _STAYS.search(step.command) and not step.fails:
            self.stay(step.command, step.shown)
            return
        status, said = self.type(step.command)
        why = f"{step}\nended with {status}:\n" + "\n".join(said)
        assert (status != 0) == step.fails, why
        self._learn(step.shown, said)
        for each in step.shown:
            if each.startswith("error: "):
                assert any(_alike(each, line) for line in said), f"{why}\nnot said: {each}"
            elif re.fullmatch(r"\d+", each) and step.command == "echo $?":
                assert each in said, why

    def type(self, command: str) -> tuple[int, list[str]]:
        """Run a command; returns its exit code and what it said, errors included."""
        os.write(self._to, self.meant(command).encode() + b"\0")
        said: list[str] = []
        while True:
            line = self._lines.get(timeout=PATIENCE_SECONDS).rstrip("\n")
            if line.startswith(_END):
                return int(line.removeprefix(_END)), [each for each in said if each]
            said.append(line)

    def stay(self, command: str, shown: tuple[str, ...] = ()) -> None:
        """Run a command that stays in a terminal of its own, and wait until it is up."""
        host = re.search(r"worker .*--host (\S+)", self.meant(command))
        if host is not None:
            # A worker with an address is one on a machine of its own.
            folder = f"{self.environ['HOME']}/{host[1]}"
            command = f"UV_CACHE_DIR={folder}/uv XINFERENCE_HOME={folder} {command}"
        # Whoever opens the other end of a pipe of ours waits for us, and no file is left.
        read_end, write_end = os.pipe()
        pipe = f"/proc/{os.getpid()}/fd/{write_end}"
        status, said = self.type(
            f'exec 4>{pipe}; {{ {command}\n}} >&4 2>&1 3<&- & echo "$!"; exec 4>&-'
        )
        os.close(write_end)
        assert status == 0
        heard: queue.Queue[str | None] = queue.Queue()

        def hear() -> None:
            with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    heard.put(line.rstrip("\n"))
            heard.put(None)

        listening = threading.Thread(target=hear)
        listening.start()
        self._terminals.append((int(said[-1]), listening))
        said = []
        while True:
            line = heard.get(timeout=PATIENCE_SECONDS)
            said.append(line or "")
            assert line is not None, f"{command}\nended:\n" + "\n".join(said)
            if _STARTED.match(line):
                break
        self._learn(shown, said)

    def meant(self, text: str) -> str:
        """What a page writes, as this reader writes it."""
        for pattern, instead in self.meanings.items():
            text = re.sub(pattern, lambda _, instead=instead: instead, text)  # type: ignore[misc]
        return text

    def _learn(self, shown: tuple[str, ...], said: list[str]) -> None:
        for pattern in _LEARNED:
            wanted = pattern.search("\n".join(shown))
            found = pattern.search("\n".join(said))
            if wanted is not None and found is not None:
                self.meanings[re.escape(self.meant(wanted[1]))] = found[1]


def _alike(shown: str, said: str) -> bool:
    """Whether an error is the one that a page shows, numbers and names of this run aside."""

    def words(line: str) -> list[str]:
        return re.sub(r"\S*[\d/]\S*", "#", line).split()[:5]

    return words(shown) == words(said)
