"""Which processes use a directory that has no leases, as the system tells it.

Comes in: directories. Comes out: for each the processes that hold its lock, run from it, have
files of it in their memory, work in it, or were started with variables that lead to it. The
program that a process runs says nothing: that of an environment is a link to the base
interpreter. Neither do open files, which outlive whatever is done with their names.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from xinference_venv._util.humanize import printable
from xinference_venv._util.redact import HIDDEN, redact_text
from xinference_venv.inventory.inventory import DirectoryUser
from xinference_venv.store.use_lock import holders

PROC = Path("/proc")
# Paths of libraries and programs, and the program that a shell was to start ("_").
VARIABLES = ("VIRTUAL_ENV", "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "_")
_LOCK = "lock of the environment"
_SHOWN_LENGTH = 200
_MOST_LINKS = 40
_MOST_PATH_BYTES = 4096
_SECRET_OPTION = re.compile(r"--?[\w-]*(?:key|token|secret|password)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """The users of each directory that has any, and the pids of the processes that can't be judged.

    Of these the system shows at most the command line, which leads to none of the directories.
    """

    users: Mapping[Path, tuple[DirectoryUser, ...]]
    unknown: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """What may be read of a process; None is what may not."""

    pid: int
    command: tuple[str, ...] | None = None
    directory: str | None = None
    variables: Mapping[str, str] | None = None
    mapped: frozenset[str] | None = None

    @property
    def judged(self) -> bool:
        # The kernel's own threads have no command line, and use no directory.
        return self.command == () or self.mapped is not None


def users_of(
    directories: Collection[Path], proc: Path = PROC, *, with_locks: bool = True
) -> Survey:
    """Ask every process once, for all the directories; takes some ten milliseconds.

    On a system without `proc` nothing is known of memory maps. `with_locks` is false for who
    keeps others from the locks.
    """
    # Several may be the same one, by links, or lie in each other.
    real = {each: os.path.realpath(each) for each in directories}
    places = frozenset(real.values())
    users: dict[str, list[DirectoryUser]] = defaultdict(list)
    unknown = []
    held = holders({each: Path(each) for each in places}, proc / "locks") if with_locks else {}
    resolve = cache(os.path.realpath)
    for process in _processes(proc, places) if places else ():
        evidence: dict[str, list[str]] = defaultdict(list)
        for place in held.pop(process.pid, ()):
            evidence[place].append(_LOCK)
        for how, paths in _evidence(process, resolve):
            for place in {place for path in paths for place in _containing(path, places)}:
                evidence[place].append(how)
        for place, ways in evidence.items():
            shown = _printable_command(process.command or ())
            users[place].append(DirectoryUser(pid=process.pid, command=shown, seen_in=tuple(ways)))
        if not evidence and not process.judged:
            unknown.append(process.pid)
    # Whoever took the lock may have ended, and have left it to what it had forked.
    for place in set[str]().union(*held.values()):
        if not users[place]:
            users[place].append(DirectoryUser(pid=0, command="", seen_in=(_LOCK,)))
    return Survey(
        users={each: tuple(users[place]) for each, place in real.items() if place in users},
        unknown=tuple(unknown),
    )


def _evidence(
    process: _Process, resolve: Callable[[str], str]
) -> Iterator[tuple[str, Iterator[str]]]:
    """The paths that a process has to do with, by what tells of them."""
    command, variables = process.command or (), process.variables or {}
    if process.pid == os.getpid():
        # To be asked about a directory, or by a shell that has activated it, is not to use it.
        command, variables = (sys.executable,), {}
    from_here = partial(_stations, process.directory, resolve=resolve)
    yield (
        "command line",
        (station for each in command for path in _paths_in(each) for station in from_here(path)),
    )
    for name in VARIABLES:
        value = variables.get(name, "")
        yield (
            f"variable {name}",
            (station for path in value.split(":") if path for station in from_here(path)),
        )
    yield "working directory", iter([process.directory] if process.directory else [])
    yield "memory map", iter(process.mapped or ())


def _paths_in(argument: str) -> Iterator[str]:
    """What of an argument may be a path: a name alone is searched for, not opened."""
    for path in {argument, argument.partition("=")[2]}:
        # What lies under these would be looked up among our own open files, not among its.
        if path.startswith(("/dev/fd/", "/proc/self/", "/proc/thread-self/")):
            continue
        if "/" in path and len(path) <= _MOST_PATH_BYTES:
            yield path


def _stations(directory: str | None, path: str, *, resolve: Callable[[str], str]) -> Iterator[str]:
    """Where a path leads, link by link: an environment's interpreter is a link out of it."""
    if not path.startswith("/"):
        if directory is None:
            return
        path = f"{directory}/{path}"
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            yield resolve(path)
            return
        folder = resolve(folder)
        yield (path := os.path.join(folder, name))
        try:
            path = os.path.join(folder, os.readlink(path))
        except OSError:
            return


def _containing(path: str, places: Collection[str]) -> Iterator[str]:
    """The directories, by their real paths, that a path is or lies in."""
    while path not in ("", "/"):
        if path in places:
            yield path
        path = os.path.dirname(path)


def all_pids() -> list[int]:
    """The processes that this one sees."""
    if (PROC / "self").exists():
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    import psutil

    return psutil.pids()


def command_of(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty for one that is gone or can't be looked at."""
    try:
        # Of hundreds of processes: no objects that one does not need.
        with open(f"{PROC}/{pid}/cmdline", "rb", buffering=0) as file:
            return _words(file.readall())
    except OSError:
        pass
    import psutil

    try:
        return tuple(psutil.Process(pid).cmdline())
    except (psutil.Error, OSError):
        return ()


def _processes(proc: Path, places: Collection[str]) -> Iterator[_Process]:
    if not (proc / "self").exists():
        yield from _processes_by_psutil()
        return
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                yield _read_process(proc / name, places)
            except (FileNotFoundError, ProcessLookupError):
                # It has ended meanwhile.
                continue


def _read_process(folder: Path, places: Collection[str]) -> _Process:
    process = _Process(pid=int(folder.name))
    try:
        process = replace(process, command=_words((folder / "cmdline").read_bytes()))
        # The kernel lets all of these be read, or none.
        maps = os.fsdecode((folder / "maps").read_bytes())
        variables = _words((folder / "environ").read_bytes())
        directory = os.readlink(folder / "cwd")
    except PermissionError:
        return process
    return replace(
        process,
        directory=directory.removesuffix(" (deleted)"),
        variables={name: value for name, _, value in (each.partition("=") for each in variables)},
        mapped=_mapped(maps, places),
    )


def _mapped(maps: str, places: Collection[str]) -> frozenset[str]:
    """The files of some directories in a process's memory; see proc_pid_maps(5)."""
    if not any(f"{each}/" in maps for each in map(_escaped, places)):
        return frozenset()
    paths = (line[start:] for line in maps.splitlines() if (start := line.find("/")) >= 0)
    return frozenset(path.replace(r"\012", "\n") for path in paths)


def _escaped(path: str) -> str:
    return path.replace("\n", r"\012")


def _words(content: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(each) for each in content.split(b"\0") if each)


def _processes_by_psutil() -> Iterator[_Process]:
    import psutil

    for process in psutil.process_iter():
        try:
            facts = process.as_dict(["cmdline", "cwd", "environ"], ad_value=None)
        except psutil.NoSuchProcess:
            continue
        yield _Process(
            pid=process.pid,
            command=None if facts["cmdline"] is None else tuple(facts["cmdline"]),
            directory=facts["cwd"],
            variables=facts["environ"],
            mapped=None if facts["environ"] is None else frozenset(),
        )


def _printable_command(command: tuple[str, ...]) -> str:
    """A command line as people may see it: on one line, without credentials, not its whole length.

    The value of an option that is called a key, token, secret or password is hidden.
    """
    shown = []
    hide_next = False
    for argument in command:
        option, equals, _ = argument.partition("=")
        secret = _SECRET_OPTION.fullmatch(option) is not None
        if hide_next and not argument.startswith("-"):
            argument = HIDDEN
        elif secret and equals:
            argument = f"{option}={HIDDEN}"
        hide_next = secret and not equals
        shown.append(argument)
    text = printable(" ".join(redact_text(" ".join(shown)).split()))
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 3]}..."
