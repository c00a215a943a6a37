"""Who uses a directory: told by a made-up system, and by the real one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.store.conftest import make_venv
from xinference_venv.inventory.inventory import DirectoryUser
from xinference_venv.store.process_scan import Survey, users_of
from xinference_venv.store.use_lock import USE_NAME

BASE = "/usr/bin/python3.11"
WAITING = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory like that of an environment, as far as its paths are concerned."""
    old = tmp_path / "home" / "v3" / "old model" / "3.11"
    (old / "bin").mkdir(parents=True)
    (old / "bin" / "python").symlink_to(BASE)
    return old


class System:
    """A folder that looks like /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "self").mkdir(parents=True)
        (folder / "uptime").write_text("1 1")

    def add(
        self,
        *command: str,
        variables: Sequence[str] = (),
        maps: Sequence[str] = (),
        cwd: str | Path = "/",
        pid: int = 100,
    ) -> None:
        folder = self.folder / str(pid)
        folder.mkdir()
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(each) + b"\0" for each in command))
        (folder / "environ").write_bytes(b"".join(os.fsencode(each) + b"\0" for each in variables))
        (folder / "maps").write_text(
            "".join(f"7f00-7f01 r-xp 0 fe:00 1  {each}\n" for each in maps)
        )
        (folder / "cwd").symlink_to(cwd)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path / "proc")


def told(system: System, old: Path) -> list[tuple[str, ...]]:
    """What told of each user of one directory."""
    return [each.seen_in for each in users_of([old], system.folder).users.get(old, ())]


def test_a_process_that_has_nothing_to_do_with_a_directory_does_not_use_it(
    system: System, old: Path
) -> None:
    system.add(
        *("python", "-m", "http.server", "--directory", f"{old}-other", str(old.parent)),
        variables=[f"PATH=/usr/bin:{old}-other", "HOME=/root", "EMPTY", "VIRTUAL_ENV="],
        maps=["/usr/lib/libc.so.6", f"{old}-other/lib.so", "[heap]", ""],
        cwd=old.parent,
    )
    assert users_of([old], system.folder) == Survey(users={}, unknown=())


@pytest.mark.parametrize(
    "command",
    [
        ["{old}/bin/python", "-c", "1"],
        ["{old}/bin/../bin/python"],
        ["/usr/bin/tool", "--program={old}/bin/tool"],
        ["/usr/bin/tool", "{old}"],
        ["/usr/bin/tool", "{old}/"],
        ["/usr/bin/tool", "{old}/bin/.."],
        ["./3.11/bin/python"],
        ["3.11/bin/python"],
        ["{links}/python"],
        ["{links}/again"],
        ["{links}/env/bin/python"],
    ],
)
def test_a_command_line_tells_however_it_leads_there(
    system: System, old: Path, tmp_path: Path, command: list[str]
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "python").symlink_to(old / "bin" / "python")
    (links / "again").symlink_to("python")
    (links / "env").symlink_to(old)
    system.add(*(each.format(old=old, links=links) for each in command), cwd=old.parent)
    assert told(system, old) == [("command line",)]


@pytest.mark.parametrize(
    "command",
    [
        ["python"],
        ["3.11"],
        ["/usr/bin/tool", "{old}/.."],
        ["/usr/bin/tool", "{old}/bin/../../other/bin/python"],
        ["/usr/bin/tool", "{loop}"],
        ["/usr/bin/tool", "x" * 5000 + "/{old}"],
        ["https://host/{old}"],
        [""],
    ],
)
def test_a_command_line_that_leads_elsewhere_does_not_tell(
    system: System, old: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (old.parent / "other").mkdir()
    system.add(*(each.format(old=old, loop=tmp_path / "loop") for each in command), cwd=old.parent)
    assert told(system, old) == []


def test_variables_tell_by_any_of_their_paths(system: System, old: Path) -> None:
    for pid, variable in enumerate(
        (
            f"VIRTUAL_ENV={old}",
            f"PATH=/usr/bin:{old}/bin:/bin",
            f"PYTHONPATH={old}/lib",
            f"_={old}/bin/python",
        )
    ):
        system.add("python", variables=[variable], pid=100 + pid)
    system.add("bash", variables=[f"OLDPWD={old}", f"NAME={old}"], pid=200)
    assert sorted(told(system, old)) == [
        ("variable PATH",),
        ("variable PYTHONPATH",),
        ("variable VIRTUAL_ENV",),
        ("variable _",),
    ]


def test_memory_and_working_directory_tell(system: System, old: Path) -> None:
    system.add("vllm::worker", maps=["/lib/libc.so.6", f"{old}/lib/a.so"], cwd=old / "bin")
    system.add("gone", maps=[f"{old}/lib/a.so (deleted)"], pid=101)
    system.add("gone", cwd=f"{old} (deleted)", pid=102)
    assert sorted(told(system, old)) == [
        ("memory map",),
        ("working directory",),
        ("working directory", "memory map"),
    ]


def test_a_name_with_a_line_break_is_found_in_the_memory(system: System, tmp_path: Path) -> None:
    strange = tmp_path / "a\nb"
    strange.mkdir()
    system.add("python", maps=[str(strange / "a.so").replace("\n", r"\012")])
    assert told(system, strange) == [("memory map",)]


def test_a_directory_that_is_given_by_a_link_is_meant_where_it_lies(
    system: System, old: Path, tmp_path: Path
) -> None:
    given = tmp_path / "elsewhere" / "home"
    given.parent.mkdir()
    given.symlink_to(tmp_path / "home")
    place = given / "v3" / "old model" / "3.11"
    system.add("python", maps=[f"{old}/a.so"])
    system.add(f"{place}/bin/python", pid=101)
    assert sorted(told(system, place)) == [("command line",), ("memory map",)]


def test_each_directory_has_its_own_users(system: System, old: Path, tmp_path: Path) -> None:
    other = tmp_path / "home" / "v3" / "other" / "3.11"
    other.mkdir(parents=True)
    system.add(f"{old}/bin/python", cwd=other)
    system.add("python", cwd=other, pid=101)
    found = users_of([old, other], system.folder).users
    # In the order of /proc, which sorts; the folder of a file system need not.
    assert {place: {each.pid for each in users} for place, users in found.items()} == {
        old: {100},
        other: {100, 101},
    }


def test_directories_that_are_the_same_or_lie_in_each_other_all_have_the_user(
    system: System, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(old)
    system.add("python", maps=[f"{old}/bin/a.so"])
    places = {old, tmp_path / "link", old / "bin"}
    assert users_of(places, system.folder).users.keys() == places


def test_a_process_of_someone_else_counts_only_by_its_command_line(
    system: System, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.add(f"{old}/bin/python", maps=[f"{old}/a.so"], pid=100)
    system.add("postgres", maps=[f"{old}/a.so"], pid=101)
    system.add(maps=[], pid=102)  # a thread of the kernel's own
    system.add("hidden", pid=103)
    allowed = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "maps" or path.parent.name == "103":
            raise PermissionError
        return allowed(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    survey = users_of([old], system.folder)
    assert [(each.pid, each.seen_in) for each in survey.users[old]] == [(100, ("command line",))]
    assert sorted(survey.unknown) == [101, 103]


def test_a_process_that_ends_meanwhile_uses_nothing(
    system: System, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid, error in ((100, FileNotFoundError), (101, ProcessLookupError)):
        system.add(f"{old}/bin/python", pid=pid)
        allowed = Path.read_bytes

        def read_bytes(
            path: Path,
            pid: int = pid,
            error: type[OSError] = error,
            allowed: Callable[[Path], bytes] = allowed,
        ) -> bytes:
            if path.parent.name == str(pid):
                raise error
            return allowed(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert users_of([old], system.folder) == Survey(users={}, unknown=())


def test_a_command_is_shown_on_one_line_without_secrets_and_not_whole(
    system: System, old: Path
) -> None:
    system.add(
        *(f"{old}/bin/python", "-c", "one\n  two\x1b[31m", "--api-key", "sk-1", "--hf-token=hf-2"),
        *("--port", "1", "--password", "--flag", "https://me:pass@host/x", "\udcff", "z" * 500),
    )
    [user] = users_of([old], system.folder).users[old]
    assert "one two" in user.command
    assert "--api-key **** --hf-token=**** --port 1 --password --flag https://****@" in (
        user.command
    )
    assert user.command.isprintable()
    assert len(user.command) == 200
    assert str(user) == f"process 100 ({user.command}), seen in its command line"
    user.command.encode()


def test_no_one_is_asked_for_no_directory(tmp_path: Path) -> None:
    assert users_of([], tmp_path / "absent") == Survey(users={}, unknown=())


# The real system


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts processes that wait until they are told to end; says their pid once they wait."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, program: str = "", **options: object) -> int:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [*command, "-c", f"{program}\n{WAITING}"],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {}, **options},
        )
        started.append(process)
        assert process.stdout.readline()
        return int(process.pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.uv
@pytest.mark.parametrize("system_tells", ["proc", "psutil"])
def test_real_processes_are_distinguished(
    tmp_path: Path, running: Callable[..., int], system_tells: str
) -> None:
    env = tmp_path / "old env"
    make_venv(env)
    mapped = env / "numbers.npy"
    mapped.write_bytes(b"\0" * 4096)
    absolute = running(f"{env}/bin/python")
    relative = running("./bin/python", cwd=env)
    variable = running(sys.executable, env={"VIRTUAL_ENV": str(env)})
    inside = running(sys.executable, cwd=env / "bin")
    mapping = running(
        sys.executable,
        program="import mmap, os; file = open('numbers.npy', 'rb');"
        " memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); os.chdir('/')",
        cwd=env,
    )
    running(sys.executable)
    proc = Path("/proc") if system_tells == "proc" else tmp_path / "absent"
    survey = users_of([env], proc)
    found = {each.pid: each.seen_in for each in survey.users[env]}
    expected = {
        absolute: ("command line",),
        relative: ("command line", "working directory"),
        variable: ("variable VIRTUAL_ENV",),
        inside: ("working directory",),
    }
    assert found == expected | ({mapping: ("memory map",)} if system_tells == "proc" else {})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_this_process_counts_when_it_is_inside_and_not_when_it_only_names_a_directory(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(old))
    monkeypatch.setattr(sys, "argv", ["remove", str(old)])
    assert users_of([old]).users == {}
    monkeypatch.setattr(sys, "executable", str(old / "bin" / "python"))
    [user] = users_of([old]).users[old]
    assert (user.pid, user.seen_in) == (os.getpid(), ("command line",))
    monkeypatch.undo()
    monkeypatch.chdir(old)
    assert users_of([old]).users[old] == (
        DirectoryUser(pid=os.getpid(), command=user.command, seen_in=("working directory",)),
    )


def test_what_lies_among_the_open_files_of_a_process_is_not_sought_among_ours(
    system: System, old: Path
) -> None:
    (old / "library").touch()
    with open(old / "library") as ours:
        system.add("bash", f"/dev/fd/{ours.fileno()}", f"/proc/self/fd/{ours.fileno()}")
        assert told(system, old) == []


@pytest.mark.parametrize(
    ("kind", "mode", "seen"),
    [("FLOCK", "READ", True), ("FLOCK", "WRITE", False), ("POSIX", "READ", False)],
)
def test_a_process_that_holds_the_lock_of_a_directory_uses_it(
    system: System, old: Path, kind: str, mode: str, seen: bool
) -> None:
    (old / USE_NAME).touch()
    system.add("setproctitle has wiped this")
    inode = (old / USE_NAME).stat().st_ino
    (system.folder / "locks").write_text(
        f"1: {kind}  ADVISORY  {mode} 100 00:2a:{inode} 0 EOF\n"
        f"1: -> {kind}  ADVISORY  {mode} 101 00:2a:{inode} 0 EOF\nwhat else is there\n"
    )
    assert told(system, old) == ([("lock of the environment",)] if seen else [])


def test_a_lock_that_the_system_does_not_show_has_a_user_without_a_number(
    system: System, old: Path
) -> None:
    with open(old / USE_NAME, "w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        [user] = users_of([old], system.folder).users[old]
    assert str(user) == (
        "a process whose number is not known here, seen by its lock of the environment"
    )
    assert told(system, old) == []
