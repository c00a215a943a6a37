"""The only door to subprocesses: bounded, with deadlines, killed with all they started, redacted.

What goes in is an argument vector, what comes out is the output of the process. Who starts a
process here owns it: its end, cancelling the call, or a deadline, ends all that it started before
the call returns; see `reaper`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from types import MappingProxyType
from typing import Any

import psutil
from packaging.specifiers import SpecifierSet

from xinference_venv._util.humanize import quoted
from xinference_venv._util.redact import redact_text, secrets_in_variables
from xinference_venv._util.tasks import cancel, ignore
from xinference_venv.errors import DeadlineExceeded, NoProgress, UvFailed, UvNotFound
from xinference_venv.inventory.slots import Ask, SlotState
from xinference_venv.inventory.stalls import Done, StallWatch
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.observability.waiting import counted_waiting
from xinference_venv.planning.uv_files import IndexSettings
from xinference_venv.sentences import sentence
from xinference_venv.uv.argv import UvCommand, prune_cache
from xinference_venv.uv.argv import version as version_command
from xinference_venv.uv.messages import (
    FILE_SIZE_HINT,
    error_in,
    hint_for,
    is_log,
    is_unknown_issuer,
)
from xinference_venv.uv.program import version_in
from xinference_venv.uv.reaped_process import CONFIGURATION_PATH, ReapedProcess
from xinference_venv.uv.received_bytes import ReceivedBytes

TAIL_LINES = 60
_LINE_LIMIT = 1 << 20
# A process is refused for lack of these, and no fault of its program.
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
_NO_MORE_HINT = sentence(
    "raise what this process may have: open files (ulimit -n, LimitNOFILE= of systemd), processes"
    " (ulimit -u, TasksMax=, --pids-limit of a container) or memory"
)
_OUTPUT_LIMIT = 32 << 20
_TERMINATE_SECONDS = 3.0
_SYSTEM_CERTIFICATES = "UV_SYSTEM_CERTS"
_VERSION_SECONDS = 60.0
# So long what is still in the pipes of a process that has ended is read. Processes of others may
# hold them open for ever.
_PIPE_SECONDS = 1.0
# What a pipe holds by itself.
_PIPE_BYTES = 1 << 16
_COUNT_SECONDS = 1.0
# Of processes for what is not needed yet.
_NICE = "15"
_DOING = {
    "pip compile": sentence("resolving"),
    "pip install": sentence("installing"),
    "venv": sentence("making an empty environment"),
    "python install": sentence("installing an interpreter"),
}
_OTHER_JOB = "the worker itself"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What an ended process left: its exit status, standard output, and the tail of stderr.

    `seconds` is how long it ran.
    """

    exit_status: int
    seconds: float
    output: str
    tail: tuple[str, ...]

    @property
    def ending(self) -> str:
        """How it ended, as a noun: an exit status or a signal."""
        if self.exit_status < 0:
            number = -self.exit_status
            return f"signal {number} ({signal.strsignal(number)})"
        return f"exit status {self.exit_status}"


class _StalledError(Exception):
    """A process made no progress."""


def _ignore_wait(resolving: bool, reason: str) -> None:
    """Nothing follows what is waited for."""


@dataclass(kw_only=True)
class ProcessPlaces:
    """The places of one worker for processes; see `SlotState` for who comes first."""

    state: SlotState
    watches: list[StallWatch] = field(default_factory=list)
    """Of the processes that run and resolve nothing: one may wait for what another one does."""
    _tickets: Iterable[int] = field(default_factory=count)
    _waiting: dict[int, tuple[asyncio.Future[None], Callable[[str], None]]] = field(
        default_factory=dict
    )

    @asynccontextmanager
    async def place(self, ask: Ask, on_wait: Callable[[str], None]) -> AsyncIterator[None]:
        """Take a place; `on_wait` hears what it waits for, and again when that changes."""
        ticket = next(iter(self._tickets))
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = (free, _when_new(on_wait))
        try:
            self._go_on(self.state.asked(ticket, ask))
            await free
            yield
        finally:
            self._waiting.pop(ticket, None)
            self._go_on(self.state.left(ticket))

    def hurry(self, job: str) -> None:
        """Let what a job of the background waits for come in its turn."""
        self._go_on(self.state.hurried(job))

    def _go_on(self, granted: Sequence[int]) -> None:
        for ticket in granted:
            free, _ = self._waiting.pop(ticket)
            if not free.done():
                free.set_result(None)
        for ticket, (_, on_wait) in list(self._waiting.items()):
            if (reason := self.state.reason(ticket)) is not None:
                on_wait(reason)


@asynccontextmanager
async def _counting(pid: int, on_received: Callable[[int], None] | None) -> AsyncIterator[None]:
    """Meanwhile let `on_received` hear how many bytes a process has received."""
    if on_received is None:
        yield
        return
    counted = ReceivedBytes(pid=pid)

    async def count() -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            received = await asyncio.to_thread(counted.now)
            if received is None:
                return
            on_received(received)

    counting = asyncio.create_task(count())
    try:
        yield
    finally:
        await cancel(counting)


def _when_new(on_wait: Callable[[str], None]) -> Callable[[str], None]:
    """The same, of a reason that is not the last one."""
    last = ""

    def hear(reason: str) -> None:
        nonlocal last
        if reason != last:
            last = reason
            on_wait(reason)

    return hear


@dataclass(kw_only=True, slots=True)
class Priority:
    """Of the processes of a job: those of the `background` come after others, and get little of
    the processor.
    """

    background: bool = False


@dataclass(kw_only=True)
class ProcessRunner:
    """Runs subprocesses, at most `slots` at a time, in the given environment.

    `started` and `ended` hear of each process by pid: the owner journals them, so that what a
    crash left behind can be swept. `measures` counts them. A process that makes no progress for
    `patience` seconds is ended.
    """

    environment: Mapping[str, str]
    slots: int
    started: Callable[[int], None] = ignore
    ended: Callable[[int], None] = ignore
    measures: MetricRegistry = field(default_factory=MetricRegistry)
    patience: float = 120.0
    job: str = _OTHER_JOB
    on_wait: Callable[[bool, str], None] = _ignore_wait
    priority: Priority = field(default_factory=Priority)
    places: ProcessPlaces | None = None

    def __post_init__(self) -> None:
        if self.places is None:
            self.places = ProcessPlaces(state=SlotState(places=self.slots))

    def of_job(
        self, job: str, on_wait: Callable[[bool, str], None], priority: Priority | None = None
    ) -> ProcessRunner:
        """The same runner, with the same places, for the processes of a job.

        `on_wait` hears whether one that resolves waits, and what for.
        """
        return replace(self, job=job, on_wait=on_wait, priority=priority or Priority())

    def hurry(self, job: str, priority: Priority) -> None:
        """Let a job be in the background no more; a process of it that runs stays as it is."""
        assert self.places is not None
        priority.background = False
        self.places.hurry(job)

    async def run(
        self,
        command: Sequence[str],
        *,
        deadline: float,
        on_line: Callable[[str], None] = ignore,
        on_received: Callable[[int], None] | None = None,
        more_environment: Mapping[str, str] = MappingProxyType({}),
        secrets: frozenset[str] = frozenset(),
        working_directory: str = "/",
        configuration: str = "",
        doing: str = "inspecting an interpreter",
        resolving: bool = False,
    ) -> Finished:
        """Run a command to its end; `deadline` is in seconds from when it is to start.

        Every line of stderr goes to `on_line`, redacted; `on_received` hears each second how many
        bytes the process has received over the network, where the system tells. Raises
        `DeadlineExceeded` and `NoProgress`; a failing exit status is the caller's to judge. The
        working directory is the root by default, so that no file of the caller's folder is picked
        up. `doing` says in a few words what for, to whoever waits for the place. A `configuration`
        is what the argument ``--no-config`` is exchanged for: a file that can be read once.
        """
        assert self.places is not None
        background = self.priority.background
        ask = Ask(job=self.job, doing=doing, resolving=resolving, background=background)
        place = self.places.place(ask, lambda reason: self.on_wait(resolving, reason))
        async with counted_waiting(self.measures, "slot", place):
            began = time.monotonic()
            nice = shutil.which("nice") if self.priority.background else None
            process = self._ask_for(
                command if nice is None else (nice, "-n", _NICE, *command),
                configuration,
                {**self.environment, **more_environment},
                working_directory,
            )
            # A build, which is foreign code, has all variables, and may print them.
            secrets |= secrets_in_variables(self.environment)
            output = _Output(secrets=secrets, on_line=on_line)
            self.measures.add(metrics.SUBPROCESSES)
            name = os.path.basename(command[0])
            try:
                async with asyncio.timeout(deadline):
                    await process.started()
                    self.started(process.pid)
                    async with _counting(process.pid, on_received):
                        await self._until_ended(process, output, resolving=resolving)
            except TimeoutError:
                raise DeadlineExceeded(
                    sentence(
                        "{name} took longer than {deadline} s and was ended",
                        name=name,
                        deadline=f"{deadline:g}",
                    ),
                    output.details(command),
                ) from None
            except _StalledError:
                raise NoProgress(
                    sentence(
                        "{name} made no progress for {patience} s while {doing}, and was ended",
                        name=name,
                        patience=f"{self.patience:g}",
                        doing=doing,
                    ),
                    {
                        **output.details(command),
                        "hint": sentence(
                            "`xinference-venv doctor` says whether the index answers, and how fast;"
                            " XINFERENCE_VIRTUAL_ENV_PATIENCE sets how many seconds are waited"
                        ),
                    },
                ) from None
            finally:
                try:
                    await process.end()
                finally:
                    self.measures.add(metrics.SUBPROCESSES, by=-1.0)
                    if process.pid:
                        self.ended(process.pid)
            assert process.exit_status is not None
            return Finished(
                exit_status=process.exit_status,
                seconds=time.monotonic() - began,
                output=output.stdout.decode("utf-8", "replace"),
                tail=tuple(output.tail),
            )

    def _ask_for(
        self,
        command: Sequence[str],
        configuration: str,
        environment: Mapping[str, str],
        working_directory: str,
    ) -> ReapedProcess:
        reading: int | None = None
        try:
            if configuration:
                # What the process starts inherits the pipe, but not what was read from it.
                reading, writing = os.pipe()
                content = configuration.encode()
                with os.fdopen(writing, "wb") as stream:
                    os.set_blocking(writing, False)
                    if len(content) > _PIPE_BYTES and sys.platform == "linux":
                        # Up to /proc/sys/fs/pipe-max-size, a mebibyte; see pipe(7).
                        with suppress(OSError):
                            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, len(content))
                    stream.write(content)
                at = command.index("--no-config")
                command = [*command[:at], "--config-file", CONFIGURATION_PATH, *command[at + 1 :]]
            return ReapedProcess.ask_for(
                command,
                environment=environment,
                working_directory=working_directory,
                configuration=reading,
                kill_after=_TERMINATE_SECONDS,
            )
        finally:
            if reading is not None:
                os.close(reading)

    async def _until_ended(
        self, process: ReapedProcess, output: _Output, *, resolving: bool
    ) -> None:
        """Read what a process says until it has ended; raises `_StalledError`.

        Its pipes are read to their ends, but no longer than `_PIPE_SECONDS` after its own: what the
        reaper could not end may have them.
        """
        assert self.places is not None
        reading = asyncio.gather(
            output.read_output(process.output), output.read_lines(process.errors)
        )
        ending = asyncio.ensure_future(process.ended())
        watch = StallWatch(since=time.monotonic())
        if not resolving:
            self.places.watches.append(watch)
        look_at = watch.since + self.patience / 4
        waited: list[asyncio.Future[Any]] = [ending, reading]
        try:
            while not ending.done():
                if reading.done():
                    # Raises what a listener did.
                    reading.result()
                    waited = [ending]
                timeout = max(0.0, look_at - time.monotonic())
                await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if (now := time.monotonic()) < look_at:
                    continue
                look_at = now + self.patience / 4
                done = await asyncio.to_thread(_done_by, process.pid, output.size)
                if watch.looked(done, now) >= self.patience and not self._others_go_on(watch, now):
                    raise _StalledError
            await asyncio.wait([reading], timeout=_PIPE_SECONDS)
            if reading.done():
                reading.result()
        finally:
            if not resolving:
                self.places.watches.remove(watch)
            await cancel(ending, reading)

    def _others_go_on(self, watch: StallWatch, now: float) -> bool:
        """Whether what installs may wait for another one: uv locks what it puts into its cache."""
        assert self.places is not None
        watches = self.places.watches
        return any(each is watch for each in watches) and any(
            now - each.since < self.patience for each in watches if each is not watch
        )


@lru_cache(maxsize=8)
def _versions_of(program: str, changed_ns: int, size: int) -> list[str]:
    """Where what a program says its version is is kept; empty until it was asked."""
    return []


def _state_of(program: str) -> tuple[int, int]:
    try:
        found = os.stat(program)
    except OSError:
        # To start it says what is wrong.
        return 0, 0
    return found.st_mtime_ns, found.st_size


@dataclass(kw_only=True)
class Uv:
    """uv behind the door: the program, the words of its failures, and a count of its calls."""

    program: str
    door: ProcessRunner
    needed: SpecifierSet | None = None
    """The versions that do, where the program may be any; see `_check_version`."""
    index_settings: IndexSettings = field(default_factory=dict)
    """Settings of single indexes, which count wherever these are asked."""
    calls: int = 0
    trust: dict[str, str] = field(default_factory=dict)
    """What uv is to trust since its own store did not suffice; shared by all jobs."""

    def of_job(
        self, job: str, on_wait: Callable[[bool, str], None], priority: Priority | None = None
    ) -> Uv:
        """The same uv for one job, with a count of its own; see `ProcessRunner.of_job`."""
        return replace(self, calls=0, door=self.door.of_job(job, on_wait, priority))

    async def version(self) -> str:
        """What uv says its version is; each program is asked once by a process."""
        known = _versions_of(self.program, *_state_of(self.program))
        if not known:
            finished = await self._run(version_command(), _VERSION_SECONDS, ignore, "/")
            known.append(finished.output.strip())
        return known[0]

    async def _check_version(self) -> None:
        """Raise `UvNotFound` for a uv that XOSCAR_UV_PATH names and that is too old, or is none.

        Its own words would be of arguments that it does not know.
        """
        if self.needed is None:
            return
        output = await self.version()
        found = version_in(output)
        if found is None:
            raise UvNotFound(
                sentence(
                    "{program} is not uv: asked for its version, it printed {output}",
                    program=self.program,
                    output=quoted(output),
                ),
                {
                    "hint": sentence(
                        "correct XOSCAR_UV_PATH, or unset it to use the uv package's own"
                    )
                },
            )
        if not self.needed.contains(found, prereleases=True):
            raise UvNotFound(
                sentence(
                    "uv {found} at {program} is not supported: uv{needed} is needed",
                    found=found,
                    program=self.program,
                    needed=self.needed,
                ),
                {"hint": sentence("install such a uv there, or unset XOSCAR_UV_PATH")},
            )

    async def prune_cache(self, *, deadline: float) -> None:
        """Delete from the cache what nothing refers to any more; raises `UvFailed`.

        uv waits until no other uv uses the cache, at most `deadline` seconds.
        """
        await self(prune_cache(), deadline=deadline)

    async def __call__(
        self,
        command: UvCommand,
        *,
        deadline: float,
        on_line: Callable[[str], None] = ignore,
        on_received: Callable[[int], None] | None = None,
        working_directory: str = "/",
    ) -> Finished:
        """Run uv; raises `UvFailed` with uv's own words when it ends with an error."""
        await self._check_version()
        trusted = dict(self.trust)
        try:
            return await self._run(command, deadline, on_line, working_directory, on_received)
        except UvFailed as error:
            if not _is_of_unknown_issuer(error):
                raise
            # Another run may have begun to trust the system's since this one began.
            if _SYSTEM_CERTIFICATES in self.door.environment or trusted:
                raise
            on_line("the certificate is not known to uv: trying with those of the system")
            # pip trusts the system's store, uv its own unless set otherwise; a company's
            # authority is mostly in the first alone: https://github.com/astral-sh/uv/issues/11728
            self.trust[_SYSTEM_CERTIFICATES] = "1"
            try:
                return await self._run(command, deadline, on_line, working_directory, on_received)
            except UvFailed as again:
                if _is_of_unknown_issuer(again):
                    self.trust.clear()
                raise

    async def _run(
        self,
        command: UvCommand,
        deadline: float,
        on_line: Callable[[str], None],
        working_directory: str,
        on_received: Callable[[int], None] | None = None,
    ) -> Finished:
        command_line = (self.program, *command.arguments)
        self.calls += 1
        try:
            finished = await self.door.run(
                command_line,
                deadline=deadline,
                on_line=on_line,
                on_received=on_received,
                more_environment={**self.trust, **command.environment},
                secrets=command.secrets,
                working_directory=working_directory,
                configuration=command.configuration(self.index_settings),
                doing=_DOING.get(command.name, f"running uv {command.name}"),
                resolving=command.name == "pip compile",
            )
        except NoProgress:
            self.door.measures.add(metrics.UV_FAILURES, command.name)
            raise
        except DeadlineExceeded as error:
            self.door.measures.add(metrics.UV_FAILURES, command.name)
            raise error.with_details(
                hint=sentence(
                    "see whether the index answers; XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT sets"
                    " how many seconds one process of uv may take"
                )
            ) from None
        except OSError as error:
            message = sentence(
                "uv could not be started: {program}: {error}",
                program=self.program,
                error=error.strerror or error,
            )
            if error.errno in _NO_MORE:
                raise UvFailed(message, {"hint": _NO_MORE_HINT}) from error
            raise UvNotFound(
                message, {"hint": sentence("reinstall the uv package, or set XOSCAR_UV_PATH")}
            ) from error
        self.door.measures.observe(metrics.UV_SECONDS, command.name, value=finished.seconds)
        if finished.exit_status != 0:
            self.door.measures.add(metrics.UV_FAILURES, command.name)
            words, hint = _words(finished), _hint(finished)
            raise UvFailed(
                words,
                {
                    **({} if hint is None else {"hint": hint}),
                    "command": _redacted_command(command_line, command.secrets),
                    "exit_status": finished.exit_status,
                    "output": "\n".join(finished.tail),
                },
            )
        return finished


def _is_of_unknown_issuer(error: UvFailed) -> bool:
    return is_unknown_issuer(error.details.get("output", ""))


def _words(finished: Finished) -> str:
    """What uv says of its error, or how it ended."""
    if finished.exit_status < 0:
        return f"uv was ended by {finished.ending}"
    return error_in(finished.tail) or f"uv ended with {finished.ending} and without output"


def _hint(finished: Finished) -> str | None:
    """What to do about an error that is the host's, not of the packages."""
    if finished.exit_status == -signal.SIGKILL:
        return sentence("launch again; the system may have run out of memory (see its log)")
    if finished.exit_status == -signal.SIGXFSZ:
        return FILE_SIZE_HINT
    return hint_for(finished.tail)


def _redacted_command(argv: Sequence[str], secrets: frozenset[str]) -> list[str]:
    return [redact_text(each, secrets) for each in argv]


@dataclass(kw_only=True)
class _Output:
    """The output of a process up to now; every line of stderr goes to `on_line`, redacted."""

    secrets: frozenset[str]
    on_line: Callable[[str], None]
    stdout: bytearray = field(default_factory=bytearray)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    size: int = 0

    def details(self, command: Sequence[str]) -> dict[str, object]:
        """What an error says of a process."""
        return {
            "command": _redacted_command(command, self.secrets),
            "output": "\n".join(self.tail),
        }

    async def read_output(self, stream: asyncio.StreamReader) -> None:
        """Keep what comes, up to a bound."""
        while chunk := await stream.read(1 << 16):
            self.size += len(chunk)
            if len(self.stdout) < _OUTPUT_LIMIT:
                self.stdout += chunk

    async def read_lines(self, stream: asyncio.StreamReader) -> None:
        """Hear every line that comes."""
        rest, skipping = b"", False
        try:
            while chunk := await stream.read(1 << 16):
                self.size += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not skipping:
                        self._hear(line)
                    skipping = False
                if len(rest) > _LINE_LIMIT or skipping:
                    # Half of it could be half of a credential, which redaction would not recognize.
                    if not skipping:
                        self._hear(b"(a line of more than %d bytes is left out)" % _LINE_LIMIT)
                    rest, skipping = b"", True
        finally:
            # The last line may have no end, or its end may never come.
            if rest:
                self._hear(rest)

    def _hear(self, line: bytes) -> None:
        shown = redact_text(line.decode("utf-8", "replace").rstrip("\r"), self.secrets)
        # What uv logs of its resolver explains no failure, and would push out what does.
        if not is_log(shown):
            self.tail.append(shown)
        self.on_line(shown)


def _done_by(pid: int, heard: int) -> Done:
    """What a process and its descendants have done, as far as the system tells."""
    written, cpu = 0, 0.0
    with suppress(psutil.Error):
        head = psutil.Process(pid)
        for process in (head, *head.children(recursive=True)):
            with suppress(psutil.Error, AttributeError):
                cpu += sum(process.cpu_times()[:4])
                written += process.io_counters().write_chars
    return Done(heard=heard, written=written, cpu=cpu)
