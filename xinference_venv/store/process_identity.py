"""Which process this is and which others live, as the system tells it."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

from xinference_venv._util.records import digest_of
from xinference_venv.inventory.lease import ProcessIdentity

# Of the machine itself; a container has another one (PROC_PID_INIT_INO of Linux).
_PIDS_OF_THE_MACHINE = 0xEFFFFFFC
# The same of its clocks (PROC_TIME_INIT_INO).
_TIME_OF_THE_MACHINE = 0xEFFFFFFA
# And of its host name (PROC_UTS_INIT_INO).
_NAME_OF_THE_MACHINE = 0xEFFFFFFE
# Images for many machines have an empty one or "uninitialized", until the first boot of each.
_MACHINE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


@cache
def boot() -> str:
    """A name for this boot of the system, so that pids of earlier ones differ."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        import psutil

        return str(int(psutil.boot_time()))


@cache
def _namespace() -> str | None:
    """What the pids that this process sees are counted in; None where the system does not tell."""
    try:
        inode = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
    if inode == _PIDS_OF_THE_MACHINE and _has_name_of_machine() and (machine := _machine_id()):
        # It shall not be shown as it is: see machine-id(5).
        return digest_of(["xinference-venv", machine])[:32]
    # A container has its machine-id, if any, from an image that many may be made of; so has one
    # that sees the pids of its machine (hostPID of Kubernetes). Only the boot tells such ones of
    # one host name apart.
    return f"{boot()}:{inode}"


def _has_name_of_machine() -> bool:
    """Whether the host name is the machine's; a container mostly has one of its own."""
    try:
        return os.stat("/proc/self/ns/uts").st_ino == _NAME_OF_THE_MACHINE
    except OSError:
        return False


@cache
def _clock() -> str:
    """What tells starts of this time namespace from those of others; empty in the machine's own."""
    try:
        inode = os.stat("/proc/self/ns/time").st_ino
    except OSError:
        return ""
    return "" if inode == _TIME_OF_THE_MACHINE else f"@{boot()}:{inode}"


def _machine_id() -> str:
    try:
        found = Path("/etc/machine-id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if _MACHINE_ID.fullmatch(found) else ""


def process_start(pid: int) -> str | None:
    """When the process with this pid started, empty when that is hidden, None when there is none.

    In clock ticks since boot where the system tells them (Linux), since setting the clock does
    not change these. A process that ended and was not reaped yet counts as none.
    """
    shown = str(pid)
    if _proc_counts_otherwise():
        if pid != os.getpid():
            return "" if _answers(pid) else None
        shown = "self"
    try:
        text = Path(f"/proc/{shown}/stat").read_text("utf-8", "replace")
    except PermissionError:
        return ""
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            # Mounted with hidepid, /proc does not show the processes of others.
            return "" if _answers(pid) else None
        return _start_by_psutil(pid)
    state, *fields = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else f"{fields[18]}{_clock()}"


def _proc_counts_otherwise() -> bool:
    """Whether /proc is of another pid namespace, as where `unshare --pid` mounts none of its own.

    What it shows under a pid of ours is another process then.
    """
    try:
        return os.readlink("/proc/self") != str(os.getpid())
    except OSError:
        return os.path.lexists("/proc/self")


def _answers(pid: int) -> bool:
    """Whether a process can be sent signals, or would refuse ours; none is sent."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_by_psutil(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return repr(process.create_time())
    except psutil.AccessDenied:
        return ""
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return None


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process of this host, or None when there is none."""
    start = process_start(pid)
    if start is None:
        return None
    return ProcessIdentity(
        host=platform.node(),
        boot=boot(),
        pid=pid,
        start=start,
        namespace=_namespace(),
    )


def this_process() -> ProcessIdentity:
    """The identity of the running process."""
    return _this(os.getpid())


@cache
def _this(pid: int) -> ProcessIdentity:
    identity = identify(pid)
    assert identity is not None
    return identity
