"""The only door to subprocesses: bounded, with deadlines, killed with all they started, redacted.

What goes in is an argument vector, what comes out is the output of the process. Who starts a
process here owns it: cancelling the call, or a deadline, ends the whole process group before
the call returns, and what escaped from it where the system tells of that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType

import psutil

from xinference_venv._util.redact import redact_text
from xinference_venv._util.tasks import finish, ignore
from xinference_venv.errors import DeadlineExceeded, NoProgress, UvFailed, UvNotFound
from xinference_venv.inventory.slots import Ask, SlotState
from xinference_venv.inventory.stalls import Done, StallWatch
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.observability.waiting import counted_waiting
from xinference_venv.uv.argv import UvCommand, prune_cache
from xinference_venv.uv.argv import version as version_command

TAIL_LINES = 60
_LINE_LIMIT = 1 << 20
_OUTPUT_LIMIT = 32 << 20
_TERMINATE_SECONDS = 3.0
_POLL_SECONDS = 0.005
_SYSTEM_CERTIFICATES = "UV_SYSTEM_CERTS"
_VERSION_SECONDS = 60.0
# So long what is still in the pipes of a process that has ended is read. Children of it may hold
# them open for ever.
_PIPE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_DOING = {
    "pip compile": "resolving",
    "pip install": "installing",
    "venv": "making an empty environment",
    "python install": "installing an interpreter",
}
_OTHER_JOB = "the worker itself"
# Names each run to what it starts, whatever session or group that makes for itself.
_RUN_VARIABLE = "XINFERENCE_VENV_RUN"


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
class Places:
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

    def _go_on(self, granted: Sequence[int]) -> None:
        for ticket in granted:
            free, _ = self._waiting.pop(ticket)
            if not free.done():
                free.set_result(None)
        for ticket, (_, on_wait) in list(self._waiting.items()):
            if (reason := self.state.reason(ticket)) is not None:
                on_wait(reason)


def _when_new(on_wait: Callable[[str], None]) -> Callable[[str], None]:
    heard: list[str] = []

    def hear(reason: str) -> None:
        if heard[-1:] != [reason]:
            heard.append(reason)
            on_wait(reason)

    return hear


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
    places: Places | None = None

    def __post_init__(self) -> None:
        if self.places is None:
            self.places = Places(state=SlotState(places=self.slots))

    def of_job(self, job: str, on_wait: Callable[[bool, str], None]) -> ProcessRunner:
        """The same runner, with the same places, for the processes of a job.

        `on_wait` hears whether one that resolves waits, and what for.
        """
        return replace(self, job=job, on_wait=on_wait)

    async def run(
        self,
        command: Sequence[str],
        *,
        deadline: float,
        on_line: Callable[[str], None] = ignore,
        more_environment: Mapping[str, str] = MappingProxyType({}),
        secrets: frozenset[str] = frozenset(),
        working_directory: str = "/",
        configuration: str = "",
        doing: str = "looking at an interpreter",
        resolving: bool = False,
    ) -> Finished:
        """Run a command to its end; `deadline` is in seconds from when it starts.

        Every line of stderr goes to `on_line`, redacted. Raises `DeadlineExceeded` and
        `NoProgress`; a failing exit status is the caller's to judge. The working directory is the
        root by default, so that no file of the caller's folder is picked up. `doing` says in a
        few words what for, to whoever waits for the place. A `configuration` is what the
        argument ``--no-config`` is exchanged for: a file that can be read once.
        """
        assert self.places is not None
        ask = Ask(job=self.job, doing=doing, resolving=resolving)
        place = self.places.place(ask, lambda reason: self.on_wait(resolving, reason))
        async with counted_waiting(self.measures, "slot", place):
            began = time.monotonic()
            mark = uuid.uuid4().hex
            process = await self._start(
                command,
                configuration,
                {**self.environment, **more_environment, _RUN_VARIABLE: mark},
                working_directory,
            )
            said = _Output(secrets=secrets, on_line=on_line)
            self.measures.add(metrics.SUBPROCESSES)
            name = os.path.basename(command[0])
            try:
                self.started(process.pid)
                async with asyncio.timeout(deadline):
                    await self._until_ended(process, said, resolving=resolving)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{name} took longer than {deadline:g} s and was ended",
                    said.details(command),
                ) from None
            except _StalledError:
                raise NoProgress(
                    f"{name} made no progress for {self.patience:g} s while {doing}, and was ended",
                    {
                        **said.details(command),
                        "hint": "`xinference-venv doctor` says whether the index answers, and how"
                        " fast; XINFERENCE_VIRTUAL_ENV_PATIENCE sets how many seconds are waited",
                    },
                ) from None
            finally:
                try:
                    await _end_group(process, mark)
                finally:
                    self.measures.add(metrics.SUBPROCESSES, by=-1.0)
                    self.ended(process.pid)
            assert process.returncode is not None
            return Finished(
                exit_status=process.returncode,
                seconds=time.monotonic() - began,
                output=said.output.decode("utf-8", "replace"),
                tail=tuple(said.tail),
            )

    async def _start(
        self,
        command: Sequence[str],
        configuration: str,
        environment: Mapping[str, str],
        working_directory: str,
    ) -> asyncio.subprocess.Process:
        reading: list[int] = []
        if configuration:
            # What the process starts inherits the pipe, but not what was read from it.
            end, writing = os.pipe()
            reading.append(end)
            with os.fdopen(writing, "wb") as stream:
                os.set_blocking(writing, False)
                stream.write(configuration.encode())
            exchanged = ["--config-file", f"/dev/fd/{end}"]
            at = command.index("--no-config")
            command = [*command[:at], *exchanged, *command[at + 1 :]]
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=working_directory,
                start_new_session=True,
                pass_fds=reading,
            )
        finally:
            for each in reading:
                os.close(each)

    async def _until_ended(
        self, process: asyncio.subprocess.Process, said: _Output, *, resolving: bool
    ) -> None:
        """Read what a process says until it has ended; raises `_StalledError`.

        Its pipes are read to their ends, but no longer than `_PIPE_SECONDS` after its own: children
        that outlive it may have them.
        """
        assert process.stdout is not None and process.stderr is not None
        assert self.places is not None
        reading = asyncio.gather(said.read_output(process.stdout), said.read_lines(process.stderr))
        watch = StallWatch(since=time.monotonic())
        if not resolving:
            self.places.watches.append(watch)
        look_at = watch.since + self.patience / 4
        try:
            while process.returncode is None and not reading.done():
                await asyncio.wait([reading], timeout=_LOOK_SECONDS)
                if (now := time.monotonic()) < look_at:
                    continue
                look_at = now + self.patience / 4
                done = await asyncio.to_thread(_done_by, process.pid, said.size)
                if watch.looked(done, now) >= self.patience and not self._others_go_on(watch, now):
                    raise _StalledError
            if not reading.done():
                await asyncio.wait([reading], timeout=_PIPE_SECONDS)
            else:
                reading.result()
                await process.wait()
            if reading.done():
                # Raises what a listener did.
                reading.result()
        finally:
            if not resolving:
                self.places.watches.remove(watch)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                # It is raised above, or by the deadline.
                reading.exception()

    def _others_go_on(self, watch: StallWatch, now: float) -> bool:
        """Whether what installs may wait for another one: uv locks what it puts into its cache."""
        assert self.places is not None
        watches = self.places.watches
        return any(each is watch for each in watches) and any(
            now - each.since < self.patience for each in watches if each is not watch
        )


@dataclass(kw_only=True)
class Uv:
    """uv behind the door: the program, the words of its failures, and a count of its calls."""

    program: str
    door: ProcessRunner
    calls: int = 0
    trust: dict[str, str] = field(default_factory=dict)
    """What uv is to trust since its own store did not suffice; shared by all jobs."""
    _versions: list[str] = field(default_factory=list)

    def of_job(self, job: str, on_wait: Callable[[bool, str], None]) -> Uv:
        """The same uv for one job, with a count of its own; see `ProcessRunner.of_job`."""
        return replace(self, calls=0, door=self.door.of_job(job, on_wait))

    async def version(self) -> str:
        """What uv says its version is; asked once."""
        if not self._versions:
            finished = await self(version_command(), deadline=_VERSION_SECONDS)
            self._versions.append(finished.output.strip())
        return self._versions[0]

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
        working_directory: str = "/",
    ) -> Finished:
        """Run uv; raises `UvFailed` with uv's own words when it ends with an error."""
        try:
            return await self._run(command, deadline, on_line, working_directory)
        except UvFailed as error:
            if "invalid peer certificate" not in error.details.get("output", ""):
                raise
            if _SYSTEM_CERTIFICATES in self.door.environment or self.trust:
                raise
            on_line("the certificate is not known to uv: trying with those of the system")
            # pip trusts the system's store, uv its own unless set otherwise; a company's
            # authority is mostly in the first alone (astral-sh/uv, "TLS certificates").
            self.trust[_SYSTEM_CERTIFICATES] = "1"
            try:
                return await self._run(command, deadline, on_line, working_directory)
            except UvFailed:
                self.trust.clear()
                raise

    async def _run(
        self,
        command: UvCommand,
        deadline: float,
        on_line: Callable[[str], None],
        working_directory: str,
    ) -> Finished:
        command_line = (self.program, *command.arguments)
        self.calls += 1
        try:
            finished = await self.door.run(
                command_line,
                deadline=deadline,
                on_line=on_line,
                more_environment={**self.trust, **command.environment},
                secrets=command.secrets,
                working_directory=working_directory,
                configuration=command.configuration,
                doing=_DOING.get(command.name, f"running uv {command.name}"),
                resolving=command.name == "pip compile",
            )
        except NoProgress:
            self.door.measures.add(metrics.UV_FAILURES, command.name)
            raise
        except DeadlineExceeded as error:
            self.door.measures.add(metrics.UV_FAILURES, command.name)
            raise error.with_details(
                hint="see whether the index answers; XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT sets"
                " how many seconds a build may take"
            ) from None
        except OSError as error:
            raise UvNotFound(
                f"uv could not be started: {self.program}: {error.strerror or error}",
                {"hint": "reinstall the uv package, or set XOSCAR_UV_PATH"},
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


def _words(finished: Finished) -> str:
    """What uv says of its error: all from the first line that marks it."""
    if finished.exit_status < 0:
        return f"uv was ended by {finished.ending}"
    tail = finished.tail
    for start, line in enumerate(tail):
        if line.lstrip().startswith(("error:", "×")):
            return "\n".join(tail[start:]).strip().removeprefix("error: ")
    words = "\n".join(tail).strip()
    return words or f"uv ended with {finished.ending} and without output"


def _hint(finished: Finished) -> str | None:
    """What to do about an error that is the host's, not of the packages."""
    if finished.exit_status == -signal.SIGKILL:
        return "launch again; the system may have had too little memory, its log tells"
    if any("No space left on device" in line for line in finished.tail):
        return (
            "free some space, or some inodes, on the file systems of the home and of uv's cache:"
            " `xinference-venv doctor` says which of them is missing"
        )
    if any("Disk quota exceeded" in line for line in finished.tail):
        return (
            "the quota of this user or folder is used up: have it raised, or free some space;"
            " `xinference-venv gc` deletes what is not needed"
        )
    if any("invalid peer certificate" in line for line in finished.tail):
        return (
            "name the file of your authority's certificate with SSL_CERT_FILE, or trust those of"
            " the system with UV_SYSTEM_CERTS=1"
        )
    if any("error sending request" in line for line in finished.tail):
        return "`xinference-venv doctor` says of every index whether it can be reached"
    return None


def _redacted_command(argv: Sequence[str], secrets: frozenset[str]) -> list[str]:
    return [redact_text(each, secrets) for each in argv]


@dataclass(kw_only=True)
class _Output:
    """The output of a process up to now; every line of stderr goes to `on_line`, redacted."""

    secrets: frozenset[str]
    on_line: Callable[[str], None]
    output: bytearray = field(default_factory=bytearray)
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
            if len(self.output) < _OUTPUT_LIMIT:
                self.output += chunk

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
        if not shown.lstrip().startswith("DEBUG "):
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


async def _end_group(process: asyncio.subprocess.Process, mark: str) -> None:
    """End what is left of the process's group, first politely; returns when all of it is dead.

    What has the `mark` of the run among its variables is ended, too, wherever it went.

    It runs when the caller is being cancelled, and goes on to its end however often that is.
    """
    ending = asyncio.ensure_future(_end(process, mark))
    await finish(ending)
    ending.result()


async def _end(process: asyncio.subprocess.Process, mark: str) -> None:
    # `process.wait()` would wait for whoever holds the pipes, be it outside of the group.
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        await _until(lambda: process.returncode is not None)
    _signal_group(process.pid, signal.SIGKILL)
    await _until(lambda: process.returncode is not None and not _group_lives(process.pid))
    await asyncio.to_thread(_end_escaped, process.pid, mark)
    # asyncio has no public way to close pipes that another process may hold open.
    process._transport.close()  # type: ignore[attr-defined]


def _end_escaped(head: int, mark: str) -> None:
    """End what left the group and session of a run, like the server of a compiler cache.

    It has the run's variable, unless it took that away. We do not adopt it by
    ``PR_SET_CHILD_SUBREAPER``: the orphans of model processes would be adopted as well, and nothing
    could tell or reap them.
    """
    while found := [each for each in _younger(head) if _variable(each) == mark]:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_TERMINATE_SECONDS)


def _younger(head: int) -> list[psutil.Process]:
    """The processes with greater pids: to look at all would take as long as a run of uv.

    Where pids begin again at the lowest one meanwhile, some are missed.
    """
    found = []
    for pid in psutil.pids():
        if pid > head:
            with suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return found


def _variable(process: psutil.Process) -> str | None:
    """The mark of the run that a living process belongs to, as far as the system tells."""
    try:
        return None if _ended(process) else process.environ().get(_RUN_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _ended(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)


async def _until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened, for `_TERMINATE_SECONDS` at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_TERMINATE_SECONDS):
            while not happened():  # noqa: ASYNC110 (there is no event for the end of another process's child)
                await asyncio.sleep(_POLL_SECONDS)


def _signal_group(group: int, ending: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, ending)


def _group_lives(group: int) -> bool:
    """Whether any process of the group can still act; what awaits its reaper can't."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
