"""The only door to subprocesses: bounded, with a deadline, killed as a group, redacted.

What goes in is an argument vector, what comes out is the output of the process. Who starts a
process here owns it: cancelling the call, or its deadline, ends the whole process group before
the call returns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import psutil

from xinference_venv._util.redact import redact_text
from xinference_venv._util.tasks import finish, ignore
from xinference_venv.errors import DeadlineExceeded, UvFailed, UvNotFound
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
_VERSION_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What an ended process left: its exit status, standard output, and the tail of stderr.

    `seconds` is how long it ran.
    """

    exit_status: int
    seconds: float
    output: str
    tail: tuple[str, ...]


@dataclass(kw_only=True)
class ProcessRunner:
    """Runs subprocesses, at most `slots` at a time, in the given environment.

    `started` and `ended` hear of each process by pid: the owner journals them, so that what a
    crash left behind can be swept. `measures` counts them.
    """

    environment: Mapping[str, str]
    slots: int
    started: Callable[[int], None] = ignore
    ended: Callable[[int], None] = ignore
    measures: MetricRegistry = field(default_factory=MetricRegistry)
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.slots)

    async def run(
        self,
        command: Sequence[str],
        *,
        deadline: float,
        on_line: Callable[[str], None] = ignore,
        more_environment: Mapping[str, str] = MappingProxyType({}),
        secrets: frozenset[str] = frozenset(),
        working_directory: str = "/",
    ) -> Finished:
        """Run a command to its end; `deadline` is in seconds from when it starts.

        Every line of stderr goes to `on_line`, redacted. Raises `DeadlineExceeded`; a failing
        exit status is the caller's to judge. The working directory is the root by default, so
        that no file of the caller's folder is picked up.
        """
        async with counted_waiting(self.measures, "slot", self._gate):
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self.environment, **more_environment},
                cwd=working_directory,
                start_new_session=True,
            )
            tail: deque[str] = deque(maxlen=TAIL_LINES)

            def hear(line: str) -> None:
                shown = redact_text(line, secrets)
                tail.append(shown)
                on_line(shown)

            assert process.stdout is not None and process.stderr is not None
            self.measures.add(metrics.SUBPROCESSES)
            try:
                self.started(process.pid)
                async with asyncio.timeout(deadline):
                    output, _, status = await asyncio.gather(
                        _read_all(process.stdout), _read_lines(process.stderr, hear), process.wait()
                    )
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{os.path.basename(command[0])} took longer than {deadline:g} s and was ended",
                    {"command": _redacted_command(command, secrets), "output": "\n".join(tail)},
                ) from None
            finally:
                try:
                    await _end_group(process)
                finally:
                    self.measures.add(metrics.SUBPROCESSES, by=-1.0)
                    self.ended(process.pid)
            return Finished(
                exit_status=status,
                seconds=time.monotonic() - began,
                output=output,
                tail=tuple(tail),
            )


@dataclass(kw_only=True)
class Uv:
    """uv behind the door: the program, the words of its failures, and a count of its calls."""

    program: str
    door: ProcessRunner
    calls: int = 0
    _versions: list[str] = field(default_factory=list)

    def counting(self) -> Uv:
        """The same uv with a count of its own."""
        return replace(self, calls=0)

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
        command_line = (self.program, *command.arguments)
        self.calls += 1
        try:
            finished = await self.door.run(
                command_line,
                deadline=deadline,
                on_line=on_line,
                more_environment=command.environment,
                secrets=command.secrets,
                working_directory=working_directory,
            )
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
        number = -finished.exit_status
        return f"uv was ended by signal {number} ({signal.strsignal(number)})"
    tail = finished.tail
    for start, line in enumerate(tail):
        if line.lstrip().startswith(("error:", "×")):
            return "\n".join(tail[start:]).strip().removeprefix("error: ")
    words = "\n".join(tail).strip()
    return words or f"uv ended with exit status {finished.exit_status} and without output"


def _hint(finished: Finished) -> str | None:
    """What to do about an error that is the host's, not of the packages."""
    if finished.exit_status == -signal.SIGKILL:
        return "launch again; the system may have had too little memory, its log tells"
    if any("No space left on device" in line for line in finished.tail):
        return "free some space on the file systems of the home and of uv's cache"
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


async def _read_all(stream: asyncio.StreamReader) -> str:
    content = bytearray()
    while chunk := await stream.read(1 << 16):
        if len(content) < _OUTPUT_LIMIT:
            content += chunk
    return content.decode("utf-8", "replace")


async def _read_lines(stream: asyncio.StreamReader, hear: Callable[[str], None]) -> None:
    rest, skipping = b"", False
    while chunk := await stream.read(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not skipping:
                hear(line.decode("utf-8", "replace").rstrip("\r"))
            skipping = False
        if len(rest) > _LINE_LIMIT or skipping:
            # Half of it could be half of a credential, which redaction would not recognize.
            if not skipping:
                hear(f"(a line of more than {_LINE_LIMIT} bytes is left out)")
            rest, skipping = b"", True
    if rest:
        hear(rest.decode("utf-8", "replace").rstrip("\r"))


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End what is left of the process's group, first politely; returns when all of it is dead.

    It runs when the caller is being cancelled, and goes on to its end however often that is.
    """
    ending = asyncio.ensure_future(_end(process))
    await finish(ending)
    ending.result()


async def _end(process: asyncio.subprocess.Process) -> None:
    # `process.wait()` would wait for whoever holds the pipes, be it outside of the group.
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        await _until(lambda: process.returncode is not None)
    _signal_group(process.pid, signal.SIGKILL)
    await _until(lambda: process.returncode is not None and not _group_lives(process.pid))
    # asyncio has no public way to close pipes that another process may hold open.
    process._transport.close()  # type: ignore[attr-defined]


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
