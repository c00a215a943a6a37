"""Which process is which, asked of real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.store.conftest import ended_process, identity_of
from xinference_venv.inventory.lease import Holder, judge
from xinference_venv.store import process_identity
from xinference_venv.store.process_identity import identify, process_start, this_process


def test_this_process_is_the_same_whenever_it_is_asked() -> None:
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert this_process() == identify(os.getpid())


def test_a_child_is_distinguished_from_its_parent(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    found = identify(children().pid)
    assert found is not None
    assert found != this_process()
    assert (found.host, found.boot) == (this_process().host, this_process().boot)


def test_a_process_that_ended_is_none() -> None:
    assert identify(ended_process().pid) is None


def test_a_process_that_was_killed_and_not_reaped_is_none(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    child = children()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists()
    assert process_start(child.pid) is None


def test_a_process_that_was_stopped_still_lives(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    child = children()
    start = process_start(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert process_start(child.pid) == start is not None


def test_the_name_of_a_program_can_not_forge_its_start(tmp_path: Path) -> None:
    hostile = tmp_path / ") Z 0 0 (x"
    hostile.symlink_to("/bin/cat")
    child = subprocess.Popen([hostile], stdin=subprocess.PIPE)
    try:
        found, own = process_start(child.pid), process_start(os.getpid())
        assert found is not None
        assert own is not None
        assert int(found) >= int(own)
    finally:
        child.communicate()


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**40, 10**400])
def test_a_pid_that_no_one_has_is_none(pid: int) -> None:
    assert identify(pid) is None


class Hidden(type(Path())):  # type: ignore[misc]
    """Paths in a /proc that hides the processes of others, or refuses to show them."""

    error: type[OSError] = FileNotFoundError

    def read_text(self, *arguments: str) -> str:
        if str(self).startswith("/proc/") and "self" not in str(self):
            raise self.error
        return str(super().read_text(*arguments))


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
@pytest.mark.parametrize("refuses", [True, False])
def test_a_process_that_the_system_hides_is_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
    children: Callable[[], subprocess.Popen[bytes]],
    error: type[OSError],
    refuses: bool,
) -> None:
    """As /proc mounted with hidepid does."""
    living = identity_of(child := children())
    monkeypatch.setattr(Hidden, "error", error)
    monkeypatch.setattr(process_identity, "Path", Hidden)
    kill = os.kill

    def refuse(pid: int, number: int) -> None:
        kill(pid, number)
        if not number:
            raise PermissionError

    if refuses:
        monkeypatch.setattr(os, "kill", refuse)
    assert process_start(child.pid) == ""
    hidden = identify(child.pid)
    assert hidden == replace(living, start="")
    assert judge(living, this_process(), process_start) is Holder.UNKNOWN
    assert judge(hidden, this_process(), process_start) is Holder.UNKNOWN
    if error is FileNotFoundError:
        assert process_start(ended_process_of(monkeypatch)) is None


def ended_process_of(monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(process_identity, "Path", Path)
        return ended_process().pid


IN_A_NAMESPACE = (
    "from xinference_venv.store.process_identity import this_process as t; print(t().namespace)"
)


def namespace_in(*command: str) -> str:
    return subprocess.run(
        [*command, sys.executable, "-c", IN_A_NAMESPACE], check=True, capture_output=True, text=True
    ).stdout.strip()


# Says of a process with a pid that is a child's, and of one that is none's, what they are judged.
OF_CHILDREN = """
import subprocess, sys
from xinference_venv.inventory.lease import judge
from xinference_venv.store.process_identity import identify, process_start, this_process

sleeping = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(100)"]
children = [subprocess.Popen(sleeping) for _ in range(40)]
found = [identify(each.pid) for each in children]
judged = {judge(each, this_process(), process_start).value for each in found}
for each in children:
    each.kill()
    each.wait()
after = {judge(each, this_process(), process_start).value for each in found}
print(*sorted(judged), *sorted(after))
"""


def test_where_proc_shows_the_pids_of_another_namespace_no_living_process_is_gone() -> None:
    """As `unshare --pid` without a /proc of its own: its pid 7 is another process there."""
    unshare = ("unshare", "--pid", "--fork")
    mounting = [*unshare, "--mount-proc", "true"]
    if shutil.which("unshare") is None or subprocess.run(mounting).returncode:
        pytest.skip("this system lets us make no namespace of pids")
    command = [sys.executable, "-c", OF_CHILDREN]
    runs = [[*unshare, "--mount-proc", *command], [*unshare, *command]]
    said = [
        subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
        for run in runs
    ]
    assert said == ["alive gone", "unknown gone"]


def test_all_processes_of_a_machine_count_their_pids_alike() -> None:
    assert this_process().namespace == namespace_in()


def test_a_container_counts_its_pids_apart() -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"]).returncode:
        pytest.skip("this system lets us make no namespace of pids")
    one, other = namespace_in(*unshare), namespace_in(*unshare)
    assert this_process().namespace not in (one, other)
    assert one.startswith(f"{this_process().boot}:")


MACHINE_ID = "0123456789abcdef0123456789abcdef"
OF_THE_MACHINE = {"pid": 0xEFFFFFFC, "uts": 0xEFFFFFFE}


@pytest.mark.parametrize(
    ("machine_id", "namespaces", "expected"),
    [
        (f"{MACHINE_ID}\n", {}, "63c5318071cb712f7c54739c4365563c"),
        # A container, whose machine-id is that of an image.
        (f"{MACHINE_ID}\n", {"pid": 4026532201}, ":4026532201"),
        # One that sees the machine's pids, under a name of its own.
        (f"{MACHINE_ID}\n", {"uts": 4026532200}, ":4026531836"),
        (f"{MACHINE_ID}\n", {"uts": None}, ":4026531836"),
        # A machine without any, as its image was made.
        ("", {}, ":4026531836"),
        (None, {}, ":4026531836"),
        ("\xff", {}, ":4026531836"),
        ("uninitialized\n", {}, ":4026531836"),
        (f"{'0' * 32}\n", {}, ":4026531836"),
    ],
)
def test_a_machine_is_recognized_by_its_id_and_a_container_by_its_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine_id: str | None,
    namespaces: dict[str, int | None],
    expected: str,
) -> None:
    place = tmp_path / "machine-id"
    if machine_id is not None:
        place.write_bytes(machine_id.encode("latin-1"))
    monkeypatch.setattr(
        process_identity, "Path", lambda path: place if path == "/etc/machine-id" else Path(path)
    )

    def stat(path: str) -> SimpleNamespace:
        inode = {**OF_THE_MACHINE, **namespaces}[path.rpartition("/")[2]]
        if inode is None:
            raise FileNotFoundError
        return SimpleNamespace(st_ino=inode)

    monkeypatch.setattr(process_identity, "os", SimpleNamespace(stat=stat))
    namespace = process_identity._namespace.__wrapped__()
    assert namespace is not None
    assert expected in namespace
    assert MACHINE_ID not in namespace


def test_a_system_without_namespaces_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(process_identity, "os", SimpleNamespace(stat=absent))
    assert process_identity._namespace.__wrapped__() is None


def test_without_proc_the_same_processes_live(
    monkeypatch: pytest.MonkeyPatch, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    living, gone = children().pid, ended_process().pid
    monkeypatch.setattr(process_identity, "Path", lambda *parts: Path("/nowhere", *parts[1:]))
    start = process_start(living)
    assert start is not None
    assert process_start(living) == start
    assert process_start(gone) is None


def test_threads_of_a_process_are_the_same_process() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(this_process()))
    thread.start()
    thread.join()
    assert found == [this_process()]


def test_a_forked_child_is_another_process() -> None:
    script = (
        "import os; from xinference_venv.store.process_identity import this_process\n"
        "parent = this_process()\n"
        "if os.fork() == 0: os._exit(int(this_process() == parent))\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert output == "0\n"


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="it takes root to make a namespace"
)
def test_a_process_that_lives_is_not_gone_for_one_of_another_time_namespace() -> None:
    here = this_process()
    code = (
        "import json, sys; from xinference_venv.inventory.lease import *;"
        "from xinference_venv.store.process_identity import *;"
        "holder = ProcessIdentity.from_dict(json.loads(sys.argv[1]));"
        "print(judge(holder, this_process(), process_start))"
    )
    command = ["unshare", "--time", "--boottime", "100000", "--fork", sys.executable, "-c", code]
    ran = subprocess.run(
        [*command, json.dumps(here.to_dict())], capture_output=True, text=True, check=False
    )
    if ran.returncode and "unshare" in ran.stderr:
        pytest.skip(f"no time namespaces here: {ran.stderr.strip()}")
    assert ran.stdout.strip() == "unknown"
    # Who reads the same clock still tells a dead one.
    assert judge(replace(here, start="1"), here, process_start) is Holder.GONE
