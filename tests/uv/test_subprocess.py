"""The door to subprocesses, with real ones: what ends, what is said, what is hidden."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from packaging.specifiers import SpecifierSet
from uv import find_uv_bin

from tests.clock import LoopClock
from tests.index import dead_port
from tests.tls import self_signed, serving
from tests.uv.conftest import Bench
from xinference_venv.errors import DeadlineExceeded, NoProgress, StoreError, UvFailed, UvNotFound
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import Spread
from xinference_venv.store.process_identity import process_start
from xinference_venv.uv import subprocess as process_module
from xinference_venv.uv.argv import UvCommand
from xinference_venv.uv.subprocess import TAIL_LINES, Priority, ProcessRunner, Uv

# Says the pids of a family of three on stderr, one of them a grandchild; none minds SIGTERM
# but the head, if it is told to.
FAMILY = """
import os, signal, sys, time

def stay(head):
    if not head or sys.argv[1] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(2, f"{os.getpid()}\\n".encode())
    while True:
        time.sleep(1000)

if os.fork() == 0:
    os.fork()
    stay(head=False)
stay(head=True)
"""


def python(script: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", script, *arguments)


class Ears:
    """Hears lines, and sets `full` when there are as many as expected."""

    def __init__(self, expected: int) -> None:
        self.lines: list[str] = []
        self.full = asyncio.Event()
        self._expected = expected

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) == self._expected:
            self.full.set()

    def living(self) -> list[int]:
        return [int(line) for line in self.lines if process_start(int(line)) is not None]


@pytest.fixture
def door() -> ProcessRunner:
    return ProcessRunner(environment={"PATH": os.environ["PATH"]}, slots=2)


async def test_output_exit_status_and_tail_are_returned(door: ProcessRunner) -> None:
    script = "import sys; print('out'); print('one\\ntwo', file=sys.stderr); sys.exit(3)"
    finished = await door.run(python(script), deadline=30)
    assert (finished.exit_status, finished.output, finished.tail) == (3, "out\n", ("one", "two"))


# Two families at once: who ignores SIGTERM gets SIGKILL after some seconds.


async def test_a_deadline_kills_the_whole_family(
    door: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LoopClock(monkeypatch)
    families = [Ears(3), Ears(3)]
    running = [
        asyncio.create_task(door.run(python(FAMILY, head), deadline=600, on_line=ears))
        for head, ears in zip(("polite", "stubborn"), families, strict=True)
    ]
    for ears in families:
        await ears.full.wait()
    await clock.advance(600.0)
    for ears, task in zip(families, running, strict=True):
        with pytest.raises(DeadlineExceeded, match="took longer than 600 s and") as caught:
            await task
        assert ears.living() == []
        assert caught.value.details["output"].split("\n") == ears.lines


async def test_a_cancelled_call_returns_when_the_whole_family_is_dead(door: ProcessRunner) -> None:
    families = [Ears(3), Ears(3)]
    running = [
        asyncio.create_task(door.run(python(FAMILY, head), deadline=60, on_line=ears))
        for head, ears in zip(("polite", "stubborn"), families, strict=True)
    ]
    for ears, task in zip(families, running, strict=True):
        await ears.full.wait()
        task.cancel()
    for ears, task in zip(families, running, strict=True):
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ears.living() == []


async def test_cancelling_again_and_again_does_not_let_the_family_live(door: ProcessRunner) -> None:
    ears = Ears(3)
    running = asyncio.create_task(door.run(python(FAMILY, "stubborn"), deadline=60, on_line=ears))
    await ears.full.wait()
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=0.01)
    assert running.cancelled()
    assert ears.living() == []


async def test_what_a_process_leaves_behind_in_its_group_is_killed_at_its_end(
    door: ProcessRunner,
) -> None:
    script = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(2, f"{os.getpid()}\\n".encode())
    os.close(1), os.close(2)
    time.sleep(1000)
"""
    ears = Ears(1)
    finished = await door.run(python(script), deadline=30, on_line=ears)
    assert finished.exit_status == 0
    assert len(ears.lines) == 1
    assert ears.living() == []


async def test_so_many_run_at_once_as_there_are_slots(door: ProcessRunner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    script = "import os, sys; os.write(2, b'here\\n'); open(sys.argv[1]).read()"
    started: list[int] = []
    ended: list[int] = []
    most = 0

    def start(pid: int) -> None:
        nonlocal most
        started.append(pid)
        most = max(most, len(started) - len(ended))

    door = ProcessRunner(environment={}, slots=2, started=start, ended=ended.append)
    ears = Ears(2)
    running = [
        asyncio.create_task(
            door.run(python(script, str(tmp_path / "gate")), deadline=60, on_line=ears)
        )
        for _ in range(5)
    ]
    await ears.full.wait()
    # Two are here, and block. Were there a slot more, its process would have started as well.
    assert len(started) == 2
    assert measured(door)[metrics.WAITING.name, "slot"] == 3
    assert measured(door)[metrics.SUBPROCESSES.name,] == 2
    opener = threading.Thread(target=_keep_opening, args=(tmp_path / "gate", running))
    opener.start()
    await asyncio.gather(*running)
    opener.join()
    assert (len(started), most) == (5, 2)
    assert sorted(ended) == sorted(started)
    after = measured(door)
    assert after[metrics.WAITING.name, "slot"] == after[metrics.SUBPROCESSES.name,] == 0
    assert after[metrics.WAIT_SECONDS.name, "slot"] == 5


async def test_runs_of_uv_are_measured_by_command_and_those_that_fail_count(
    tmp_path: Path,
) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\n[ $1 = venv ] || exit 7\n")
    program.chmod(0o755)
    door = ProcessRunner(environment={}, slots=1)
    uv = Uv(program=str(program), door=door).of_job("glow", lambda *_: None)
    await uv(UvCommand(arguments=("venv", "/a/folder")), deadline=30)
    for words in (("pip", "install", "a-package"), ("--version",)):
        with pytest.raises(UvFailed):
            await uv(UvCommand(arguments=words), deadline=30)
    found = measured(door)
    ran = [labels for name, *labels in found if name == metrics.UV_SECONDS.name]
    assert ran == [["venv"], ["pip install"], ["version"]]
    failed = [labels for name, *labels in found if name == metrics.UV_FAILURES.name]
    assert failed == [["pip install"], ["version"]]


def measured(door: ProcessRunner) -> dict[tuple[str, ...], float]:
    """The numbers of a door by name and labels; of a histogram, how many values it has."""
    return {
        (each.metric.name, *each.labels): sum(each.value.counts)
        if isinstance(each.value, Spread)
        else each.value
        for each in door.measures.samples()
    }


def _keep_opening(gate: Path, running: list[asyncio.Task[object]]) -> None:
    """Open the gate for whoever comes, until all are through."""
    while not all(task.done() for task in running):
        with suppress(OSError):
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))


async def test_a_caller_who_is_cancelled_in_the_queue_starts_nothing() -> None:
    started: list[int] = []
    door = ProcessRunner(environment={}, slots=1, started=started.append)
    ears = Ears(1)
    script = "import os, time; os.write(2, b'here\\n'); time.sleep(1000)"
    first = asyncio.create_task(door.run(python(script), deadline=60, on_line=ears))
    await ears.full.wait()
    second = asyncio.create_task(door.run(python(script), deadline=60))
    await asyncio.sleep(0)
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(started) == 1
    # The slot is free again.
    assert (await door.run(python("pass"), deadline=60)).exit_status == 0


async def test_started_and_ended_hear_of_every_end(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, int]] = []
    clock = LoopClock(monkeypatch)
    door = ProcessRunner(
        environment={},
        slots=1,
        started=lambda pid: heard.append(("started", pid)),
        ended=lambda pid: heard.append(("ended", pid)),
    )
    await door.run(python("pass"), deadline=600)
    late_ears = Ears(3)
    late = asyncio.create_task(door.run(python(FAMILY, "polite"), deadline=600, on_line=late_ears))
    await late_ears.full.wait()
    await clock.advance(600.0)
    with pytest.raises(DeadlineExceeded):
        await late
    ears = Ears(3)
    cancelled = asyncio.create_task(door.run(python(FAMILY, "polite"), deadline=600, on_line=ears))
    await ears.full.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    pids = [pid for what, pid in heard if what == "started"]
    assert heard == [(what, pid) for pid in pids for what in ("started", "ended")]
    assert len(pids) == 3


async def test_a_process_that_can_not_be_noted_is_ended_at_once() -> None:
    pids: list[int] = []

    def note(pid: int) -> None:
        pids.append(pid)
        raise StoreError("the disk is full")

    door = ProcessRunner(environment={}, slots=1, started=note)
    with pytest.raises(StoreError, match="the disk is full"):
        await door.run(python("import time; time.sleep(1000)"), deadline=60)
    assert [process_start(pid) for pid in pids] == [None]


async def test_a_process_is_ended_when_no_one_can_hear_its_lines(door: ProcessRunner) -> None:
    pids: list[int] = []

    def deaf(line: str) -> None:
        pids.append(int(line))
        raise StoreError("the disk is full")

    script = "import os, time; os.write(2, f'{os.getpid()}\\n'.encode()); time.sleep(1000)"
    with pytest.raises(StoreError, match="the disk is full"):
        await door.run(python(script), deadline=60, on_line=deaf)
    assert [process_start(pid) for pid in pids] == [None]


async def test_secrets_are_in_no_line_no_tail_and_no_command_of_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = """
import sys, time
sys.stderr.write("asking https://me:hunter22@index.example/simple/ and https://h/x?token=12345678\\n")
sys.stderr.write("with hunter22 and %68unter22 alone\\n")
sys.stderr.flush()
time.sleep(1000)
"""
    door = ProcessRunner(environment={}, slots=1)
    ears = Ears(2)
    clock = LoopClock(monkeypatch)
    running = asyncio.create_task(
        door.run(
            python(script, "https://me:hunter22@index.example/", "--password=hunter22"),
            deadline=600.0,
            on_line=ears,
            secrets=frozenset({"hunter22"}),
        )
    )
    await ears.full.wait()
    await clock.advance(600.0)
    with pytest.raises(DeadlineExceeded) as caught:
        await running
    assert ears.lines == [
        "asking https://****@index.example/simple/ and https://h/x?token=****",
        "with **** and **** alone",
    ]
    assert "index.example" in str(caught.value.details["command"])
    assert "hunter22" not in repr(caught.value) + repr(caught.value.to_dict())


async def test_what_the_variables_of_a_process_keep_secret_is_in_no_line() -> None:
    environment = {
        "UV_GITHUB_TOKEN": "ghp_1234567890",
        "HF_TOKEN": "hf_1234567890",
        "DB_PASSWORD": "short",
        "DEPLOY_PRIVATE_KEY": "-----BEGIN KEY-----\nMIIBOgIBAAJ\n",
        "UV_CREDENTIALS_DIR": "/etc/uv/credentials",
    }
    door = ProcessRunner(environment=environment, slots=1)
    script = "import os, sys; print(*sorted(os.environ.items()), sep='\\n', file=sys.stderr)"
    ears = Ears(len(environment))
    finished = await door.run(python(script), deadline=60, on_line=ears)
    shown = "\n".join((*ears.lines, *finished.tail))
    assert "('HF_TOKEN', '****')" in ears.lines
    assert "('UV_GITHUB_TOKEN', '****')" in ears.lines
    assert "('DB_PASSWORD', 'short')" in ears.lines
    assert "('UV_CREDENTIALS_DIR', '/etc/uv/credentials')" in ears.lines
    assert not any(each in shown for each in ("1234567890", "MIIBOgIBAAJ"))


async def test_a_very_long_line_is_left_out_whole_and_the_others_are_heard(
    door: ProcessRunner,
) -> None:
    script = """
import os, sys
limit = int(sys.argv[1])
write = sys.stderr.buffer.write
write(b"before\\n" + b"x" * limit + b"\\n")
write(b"https://user:" + b"y" * 3 * limit + b"hunter22@host/\\n")
write(b"after\\nlast without an end")
"""
    limit = process_module._LINE_LIMIT
    ears = Ears(5)
    finished = await door.run(python(script, str(limit)), deadline=30, on_line=ears)
    assert [line if len(line) < 100 else len(line) for line in ears.lines] == [
        "before",
        limit,
        f"(a line of more than {limit} bytes is left out)",
        "after",
        "last without an end",
    ]
    assert list(finished.tail) == ears.lines


async def test_bytes_that_are_no_text_are_heard_all_the_same(door: ProcessRunner) -> None:
    script = r"""
import sys
sys.stderr.buffer.write(b"caf\xe9 \xff\xfe\0 \xf0\x9f\x98\r\nnext\n")
sys.stdout.buffer.write(b"\xff{}")
"""
    ears = Ears(2)
    finished = await door.run(python(script), deadline=30, on_line=ears)
    assert ears.lines == ["caf\ufffd \ufffd\ufffd\0 \ufffd", "next"]
    assert finished.output == "\ufffd{}"


async def test_the_tail_is_the_last_lines_alone(door: ProcessRunner) -> None:
    script = "import sys\nfor n in range(200): print(n, file=sys.stderr)"
    finished = await door.run(python(script), deadline=30)
    assert list(finished.tail) == [str(n) for n in range(200 - TAIL_LINES, 200)]


async def test_much_output_on_both_pipes_blocks_no_one(door: ProcessRunner) -> None:
    script = """
import sys
for _ in range(200):
    sys.stdout.write("o" * 9999 + "\\n")
    sys.stderr.write("e" * 9999 + "\\n")
"""
    finished = await door.run(python(script), deadline=30)
    assert len(finished.output) == 2_000_000


async def test_the_working_directory_is_the_root_unless_another_is_given(
    door: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import os; print(os.getcwd())"
    assert (await door.run(python(script), deadline=30)).output == "/\n"
    there = await door.run(python(script), deadline=30, working_directory=str(tmp_path))
    assert there.output == f"{tmp_path}\n"


async def test_the_environment_is_the_given_one_and_nothing_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OF_OUR_OWN", "secret")
    door = ProcessRunner(environment={"ONE": "1", "TWO": "2"}, slots=1)
    # The interpreter sets that one.
    script = "import os; print(sorted((k, v) for k, v in os.environ.items() if k != 'LC_CTYPE'))"
    finished = await door.run(python(script), deadline=30, more_environment={"TWO": "two"})
    assert finished.output == "[('ONE', '1'), ('TWO', 'two')]\n"


async def test_no_one_can_ask_a_question_on_a_terminal(door: ProcessRunner) -> None:
    finished = await door.run(python("import sys; print(repr(sys.stdin.read()))"), deadline=30)
    assert finished.output == "''\n"


@pytest.fixture
def uv(uv_cache: Path) -> Iterator[Uv]:
    environment = {
        "PATH": os.environ["PATH"],
        "UV_CACHE_DIR": str(uv_cache),
        "UV_HTTP_RETRIES": "0",
        "NO_COLOR": "1",
    }
    yield Uv(program=find_uv_bin(), door=ProcessRunner(environment=environment, slots=1))


async def test_a_uv_that_may_not_write_its_files_has_a_hint_of_the_limit(tmp_path: Path) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\nkill -XFSZ $$\n")
    program.chmod(0o755)
    uv = Uv(program=str(program), door=ProcessRunner(environment={}, slots=1))
    with pytest.raises(UvFailed, match=r"signal 25 \(File size limit exceeded\)") as caught:
        await uv(UvCommand(arguments=("venv", "/a/folder")), deadline=30)
    assert caught.value.hint is not None
    assert "`ulimit -f`" in caught.value.hint


@pytest.mark.uv
async def test_a_failing_uv_is_quoted_without_the_secrets_it_was_given(
    uv: Uv, tmp_path: Path
) -> None:
    index = f"http://me:hunter22@127.0.0.1:{dead_port()}/simple/"
    command = UvCommand(
        arguments=(
            *("pip", "install", "--no-config", "--target", str(tmp_path / "target")),
            *("--python", sys.executable, "--default-index", index, "some-package"),
        ),
        secrets=frozenset({"hunter22"}),
    )
    with pytest.raises(UvFailed) as caught:
        await uv(command, deadline=60)
    error = caught.value
    assert "some-package" in error.message
    assert "Connection refused" in error.message
    assert error.hint is not None
    assert "xinference-venv doctor" in error.hint
    assert error.details["exit_status"] in (1, 2)
    assert error.message in error.details["output"]
    assert error.details["command"][1:3] == ["pip", "install"]
    assert "hunter22" not in repr(error.to_dict())
    assert uv.calls == 1


@pytest.mark.uv
async def test_a_certificate_that_uv_does_not_know_can_be_named(uv: Uv, tmp_path: Path) -> None:
    with serving(self_signed(tmp_path)) as port:
        index = f"https://127.0.0.1:{port}/simple/"
        command = UvCommand(
            arguments=(
                *("pip", "install", "--no-config", "--target", str(tmp_path / "target")),
                *("--python", sys.executable, "--default-index", index, "some-package"),
            )
        )
        with pytest.raises(UvFailed) as caught:
            await uv(command, deadline=60)
    assert caught.value.hint is not None
    assert "SSL_CERT_FILE" in caught.value.hint


async def test_runs_that_meet_an_unknown_authority_at_once_all_try_the_systems_store(
    tmp_path: Path,
) -> None:
    # Both have begun before either of them fails.
    program = tmp_path / "uv"
    program.write_text(
        f"""#!/bin/sh
[ -n "$UV_SYSTEM_CERTS" ] && exit 0
touch {tmp_path}/began-$$
while [ "$(ls {tmp_path} | grep -c began)" -lt 2 ]; do sleep 0.01; done
echo 'error: invalid peer certificate: UnknownIssuer' >&2
exit 2
"""
    )
    program.chmod(0o755)
    door = ProcessRunner(environment={"PATH": os.environ["PATH"]}, slots=4)
    uv = Uv(program=str(program), door=door)
    command = UvCommand(arguments=("pip", "compile"))
    done = await asyncio.gather(*(uv(command, deadline=60) for _ in range(2)))
    assert [each.exit_status for each in done] == [0, 0]
    assert uv.calls == 4


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("uv 0.12.9 (0123abc 2026-01-01)", "uv 0.12.9 at .* is not supported: uv>=0.13 is needed"),
        ("pip 26.0 from nowhere", "is not uv: asked for its version, it printed 'pip 26.0"),
        ("uv 0.13.0", None),
        ("uv 0.14.0rc1", None),
    ],
)
async def test_a_uv_that_is_named_is_refused_by_its_version(
    tmp_path: Path, said: str, refused: str | None
) -> None:
    program = tmp_path / "uv"
    program.write_text(f'#!/bin/sh\n[ "$*" = --version ] && echo "{said}" || echo worked\n')
    program.chmod(0o755)
    door = ProcessRunner(environment={"PATH": os.environ["PATH"]}, slots=1)
    uv = Uv(program=str(program), door=door, needed=SpecifierSet(">=0.13"))
    command = UvCommand(arguments=("pip", "compile"))
    if refused is None:
        assert (await uv(command, deadline=60)).output == "worked\n"
        return
    for _ in range(2):
        with pytest.raises(UvNotFound, match=refused) as caught:
            await uv(command, deadline=60)
        assert "XOSCAR_UV_PATH" in (caught.value.hint or "")
    assert uv.calls == 1


async def test_who_may_open_no_more_files_is_not_sent_to_another_uv(door: ProcessRunner) -> None:
    uv = Uv(program=sys.executable, door=door)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(
            UvFailed, match=r"could not be started: .*: Too many open files"
        ) as none:
            await uv(UvCommand(arguments=("pip", "compile")), deadline=60)
    assert "ulimit -n" in (none.value.hint or "")


async def test_a_process_for_which_one_pipe_is_too_many_leaves_none(
    door: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.run(python("pass"), deadline=60)
    before = psutil.Process().num_fds()
    pipes = [os.pipe()]

    def pipe() -> tuple[int, int]:
        if not pipes:
            raise OSError(errno.EMFILE, "Too many open files")
        return pipes.pop()

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many open files"):
        await door.run(python("pass"), deadline=60)
    assert psutil.Process().num_fds() == before


@pytest.mark.uv
async def test_uv_reads_all_of_a_configuration_that_is_larger_than_a_pipe_is_by_itself(
    uv: Uv, tmp_path: Path
) -> None:
    place = str(tmp_path / "cache")
    configuration = "# an index of hundreds\n" * 10_000 + f"cache-dir = {json.dumps(place)}\n"
    assert len(configuration) > 200 << 10
    door = ProcessRunner(environment={}, slots=1)
    finished = await door.run(
        (uv.program, "--no-config", "cache", "dir"), deadline=60, configuration=configuration
    )
    assert finished.output.strip() == place


@pytest.mark.uv
async def test_a_configuration_that_no_pipe_holds_leaves_none_open(door: ProcessRunner) -> None:
    async def refused() -> None:
        with pytest.raises(BlockingIOError):
            await door.run(
                ("uv", "--no-config"), deadline=60, configuration="# too long\n" * (1 << 17)
            )

    await refused()
    before = set(os.listdir("/proc/self/fd"))
    await refused()
    assert set(os.listdir("/proc/self/fd")) == before


async def test_uv_says_what_it_does_not_understand(uv: Uv) -> None:
    with pytest.raises(UvFailed, match=r"^unrecognized subcommand 'dance'"):
        await uv(UvCommand(arguments=("dance",)), deadline=60)


async def test_a_uv_that_fails_silently_is_still_an_error_with_words(tmp_path: Path) -> None:
    silent = tmp_path / "uv"
    silent.write_text("#!/bin/sh\nexit 7\n")
    silent.chmod(0o755)
    uv = Uv(program=str(silent), door=ProcessRunner(environment={}, slots=1))
    with pytest.raises(UvFailed, match="uv ended with exit status 7 and without output"):
        await uv(UvCommand(arguments=()), deadline=30)


async def test_a_uv_that_is_killed_is_an_error_that_tells_the_signal(tmp_path: Path) -> None:
    dying = tmp_path / "uv"
    dying.write_text("#!/bin/sh\nkill -9 $$\n")
    dying.chmod(0o755)
    uv = Uv(program=str(dying), door=ProcessRunner(environment={}, slots=1))
    with pytest.raises(UvFailed, match=r"uv was ended by signal 9 \(Killed\)") as caught:
        await uv(UvCommand(arguments=()), deadline=30)
    assert caught.value.details["exit_status"] == -9


@pytest.mark.uv
async def test_pruning_leaves_what_can_be_found(bench: Bench, uv_cache: Path) -> None:
    dangling = uv_cache / "archive-v0" / "nobody-links-here"
    dangling.mkdir(parents=True)
    await bench.uv.prune_cache(deadline=60)
    assert not dangling.exists()


async def test_a_process_that_has_ended_does_not_wait_for_pipes_that_others_keep(
    door: ProcessRunner, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    script = "import os, sys; os.write(2, b'%d\\n' % os.getpid()); open(sys.argv[1]).read()"
    held: list[int] = []

    def hold(line: str) -> None:
        held.extend(os.open(f"/proc/{line}/fd/{number}", os.O_WRONLY) for number in (1, 2))
        os.close(os.open(tmp_path / "gate", os.O_WRONLY))

    try:
        async with asyncio.timeout(60):
            ran = await door.run(python(script, str(tmp_path / "gate")), deadline=60, on_line=hold)
    finally:
        for each in held:
            os.close(each)
    assert (ran.exit_status, len(held)) == (0, 2)


async def test_a_process_that_makes_no_progress_is_ended_and_the_reason_given() -> None:
    door = ProcessRunner(environment={}, slots=1, patience=0.4)
    # It wakes up and looks, as one does that gets a byte now and then.
    script = "import time\nwhile True: time.sleep(0.1)"
    with pytest.raises(NoProgress, match=r"no progress for 0\.4 s while resolving") as caught:
        await door.run(python(script), deadline=60, doing="resolving", resolving=True)
    assert "PATIENCE" in str(caught.value.hint)


async def test_a_process_that_says_something_or_computes_may_go_on() -> None:
    door = ProcessRunner(environment={}, slots=2, patience=3.0)
    talks = "import os, time\nfor _ in range(50): os.write(2, b'.'); time.sleep(0.1)"
    computes = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass"
    both = (door.run(python(script), deadline=60) for script in (talks, computes))
    assert [each.exit_status for each in await asyncio.gather(*both)] == [0, 0]


async def test_one_that_installs_may_wait_for_another_that_goes_on() -> None:
    door = ProcessRunner(environment={}, slots=2, patience=3.0)
    talks = "import os, time\nfor _ in range(60): os.write(2, b'.'); time.sleep(0.1)"
    waits = "import time; time.sleep(5)"
    both = (door.run(python(script), deadline=60) for script in (talks, waits))
    assert [each.exit_status for each in await asyncio.gather(*both)] == [0, 0]


async def test_a_job_hears_what_it_waits_for_and_gets_its_place(door: ProcessRunner) -> None:
    heard: list[tuple[bool, str]] = []
    ears = Ears(1)
    slow = door.of_job("glow", lambda *_: None)
    other = door.of_job("lamp", lambda *said: heard.append(said))
    script = "import os, time; os.write(2, b'here\\n'); time.sleep(1000)"
    first = asyncio.create_task(
        slow.run(python(script), deadline=60, on_line=ears, doing="resolving", resolving=True)
    )
    await ears.full.wait()
    second = asyncio.create_task(
        other.run(python("pass"), deadline=60, doing="resolving", resolving=True)
    )
    # Installing goes on meanwhile.
    assert (await other.run(python("pass"), deadline=60)).exit_status == 0
    assert not second.done()
    assert heard == [(True, "waiting for one of 2 places for processes; taken by glow (resolving)")]
    first.cancel()
    assert (await second).exit_status == 0
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.skipif(shutil.which("nice") is None, reason="nice(1) is not here")
async def test_a_process_of_the_background_gets_little_of_the_processor() -> None:
    door = ProcessRunner(environment={"PATH": os.environ["PATH"]}, slots=1)
    priority = Priority(background=True)
    ahead = door.of_job("ahead", lambda *_: None, priority)
    question = (sys.executable, "-c", "import os; print(os.nice(0))")
    assert int((await ahead.run(question, deadline=60.0)).output) == min(19, os.nice(0) + 15)
    door.hurry("ahead", priority)
    assert int((await ahead.run(question, deadline=60.0)).output) == os.nice(0)
