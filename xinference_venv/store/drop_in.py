"""Whether the drop-in is on in an Xinference of this host: its processes, and its service.

Each process of Xinference that has loaded our extension holds a lock (flock(2)) of its home until
it ends. Comes out: for each Xinference that runs whether it has the drop-in on, and for each unit
of systemd that ``xinference service install`` wrote whether it would.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xinference_venv.store.atomic import Disk
from xinference_venv.store.process_scan import all_pids, command_of
from xinference_venv.store.use_lock import holders, take_use_lock
from xinference_venv.store.visit import read_text

if TYPE_CHECKING:
    import psutil

EXTENSIONS_VARIABLE = "XINFERENCE_EXTENSIONS"
EXTENSION = "xinference_venv.xinference:extension"
UNIT_NAME = "xinference.service"
_FOLDER = "drop-in"
# A script of its own, what a service of it runs by ``python -I -u -c``, or a module.
_COMMAND = re.compile(
    r"(?:^|/)(?P<script>xinference-(?:local|supervisor|worker))$"
    r"|^from xinference\.deploy\.cmdline import (?P<called>local|supervisor|worker); "
    r"|^xinference\.deploy\.(?P<module>local|supervisor|worker)$"
)
_WORDS = 6
_ASSIGNED = re.compile(rf"^\s*Environment=.*\b{EXTENSIONS_VARIABLE}=\S*{EXTENSION}", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningXinference:
    """A command of Xinference that runs, with the home that it has, and whether ours is on."""

    pid: int
    command: str
    home: str
    is_on: bool


def hold_drop_in(disk: Disk, root: Path) -> int:
    """Show that this process has the drop-in on, as long as the returned descriptor is open.

    `root` is the ``virtualenv`` directory of its home. Raises `StoreError`.
    """
    return take_use_lock(disk, _folder(root))


def running_xinference(user_home: str) -> list[RunningXinference]:
    """The commands of Xinference that run here, as far as the system shows them."""
    found = []
    on: dict[str, frozenset[int]] = {}
    for pid in all_pids():
        name = _command_in(command_of(pid))
        if name is None:
            continue
        # What tells more of a process is not imported where none is asked about.
        import psutil

        try:
            process = psutil.Process(pid)
            # One that another one has started is a part of that.
            if _is_child(process):
                continue
            home = process.environ().get("XINFERENCE_HOME") or f"{user_home}/.xinference"
        except psutil.Error:
            continue
        if home not in on:
            on[home] = _pids_with_drop_in(Path(home) / "virtualenv")
        # Few have it on: to look for all children would be a look at every process of the host.
        is_on = any(pid in _with_parents(each) for each in on[home])
        found.append(RunningXinference(pid=pid, command=name, home=home, is_on=is_on))
    return sorted(found, key=lambda each: each.pid)


def service_units(user_home: str, environ: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """The units by which systemd starts Xinference, each with whether the drop-in is on there."""
    configuration = environ.get("XDG_CONFIG_HOME") or f"{user_home}/.config"
    for folder in (Path("/etc/systemd/system"), Path(configuration) / "systemd" / "user"):
        unit = folder / UNIT_NAME
        # Of a home directory that is another user's, `Path.is_file` raises.
        if not os.path.isfile(unit):
            continue
        texts = (unit, *sorted((folder / f"{UNIT_NAME}.d").glob("*.conf")))
        yield unit, any(_ASSIGNED.search(_text_of(each)) for each in texts)


def _text_of(unit: Path) -> str:
    """The text of a file of systemd; empty where this user may not read it."""
    with suppress(OSError):
        return read_text(unit, errors="replace")
    return ""


def _pids_with_drop_in(root: Path) -> frozenset[int]:
    held = holders({"on": _folder(root)}, Path("/proc/locks"))
    return frozenset(pid for pid in held if pid)


def _with_parents(pid: int) -> frozenset[int]:
    """A process and those that it descends from, as far as they can be looked at."""
    import psutil

    try:
        return frozenset({pid, *(each.pid for each in psutil.Process(pid).parents())})
    except psutil.Error:
        return frozenset({pid})


def _folder(root: Path) -> Path:
    return root / "store" / _FOLDER


def _is_child(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and _command_in(parent.cmdline()) is not None


def _command_in(words: Sequence[str]) -> str | None:
    """The command of Xinference that a command line runs, by the name of its script."""
    for word in words[:_WORDS]:
        if found := _COMMAND.search(word):
            return found["script"] or f"xinference-{found['called'] or found['module']}"
    return None
