"""The host's facts for a worker: asked once, kept on disk, known to be unchanged by stamps."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.transfer import Transfer
from xinference_venv.planning.host import Accelerator, HostFacts, Interpreter
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.sentences import sentence
from xinference_venv.service.host_answers import (
    answer_path,
    host_question,
    load_answer,
    save_answer,
)
from xinference_venv.service.phases import ReportProgress, ignore_progress
from xinference_venv.service.pip_files import pip_config_of
from xinference_venv.service.places import user_home
from xinference_venv.settings import Settings
from xinference_venv.store.host.scan import renew_all, scan_distributions, stamp_all
from xinference_venv.store.stamp import Stamp
from xinference_venv.store.store import Store
from xinference_venv.uv.interpreters import find_python, probe_accelerator, probe_interpreter
from xinference_venv.uv.messages import interpreter_size
from xinference_venv.uv.subprocess import Uv

# Their presence says whether an accelerator was added or its driver replaced.
_ACCELERATOR_FILES = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/davinci_manager")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """An answer with the stamps that it depends on; what is not `lasting` another process asks
    again.
    """

    answer: Any
    stamps: dict[str, Stamp]
    lasting: bool = True


@dataclass(kw_only=True)
class HostFactsReader:
    """Facts of the host interpreter and of others that were asked for."""

    store: Store
    uv: Uv
    settings: Settings
    environ: Mapping[str, str]
    kept: dict[str, tuple[dict[str, Stamp], Any]] = field(default_factory=dict)
    """The answers in memory, which readers of one store may share, whatever their loops."""
    _locks: dict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock), init=False
    )

    async def facts(self) -> HostFacts:
        """The facts of the host as it is now."""
        python = self.settings.host_python or sys.executable

        async def ask() -> _Found:
            interpreter = await probe_interpreter(self.uv.door, python)
            others = (*_ACCELERATOR_FILES, self._user_site(interpreter))
            stamps = await asyncio.to_thread(stamp_all, interpreter, others)
            scanned = await asyncio.to_thread(scan_distributions, interpreter)
            accelerator, unknown = await probe_accelerator(self.uv.door, interpreter)
            for each in unknown:
                _log.warning("%s; models are launched as on a host without them", each)
            facts = _assemble(interpreter, scanned, accelerator, unknown)
            await asyncio.to_thread(self.store.save_host, facts)
            return _Found(facts, stamps, lasting=not unknown)

        what = host_question(python)
        async with self._locks[what]:
            facts: HostFacts = await self._remembered(what, HostFacts, ask)
        return facts

    async def search_path(self) -> Sequence[str]:
        """Where the host interpreter looks for modules; it is asked only where it is not ours."""
        if self.settings.host_python is None:
            return tuple(sys.path)
        return (await self.facts()).interpreter.search_path

    async def interpreter(
        self,
        wanted: str | None,
        host: Interpreter,
        *,
        download: bool,
        say: ReportProgress = ignore_progress,
    ) -> Interpreter:
        """The interpreter of the wanted version, else the `host`'s; raises `PythonNotFound`.

        With `download`, one that is not there is downloaded if the settings allow it; `say` hears
        how that goes.
        """
        if wanted is None or host.version == wanted or host.version.startswith(f"{wanted}."):
            return host

        what = f"python {wanted}"
        download_of = _Download(say=say)
        on_line = download_of.on_line
        uv = self.uv.of_job(f"a search for Python {wanted}", lambda _, reason: on_line(reason))

        async def ask() -> _Found:
            path = await find_python(
                uv,
                wanted,
                allow_download=download and self.settings.python_downloads,
                on_line=on_line,
                on_received=download_of.on_received,
            )
            interpreter = await probe_interpreter(uv.door, path)
            return _Found(interpreter, await asyncio.to_thread(stamp_all, interpreter))

        # A download takes minutes: it holds up neither a launch that needs another version nor who
        # only wants to know.
        lock = self._locks[f"download of {what}" if download else what]
        if lock.locked():
            say(
                Phase.PROBING,
                sentence(
                    "waiting for another launch that looks for Python {wanted}", wanted=wanted
                ),
            )
        async with lock:
            found: Interpreter = await self._remembered(what, Interpreter, ask)
        return found

    def pip(self) -> PipConfig:
        """Pip's configuration as it is now; blocks on the disk."""
        return pip_config_of(self.environ)

    def _user_site(self, interpreter: Interpreter) -> str:
        """Where ``pip install --user`` puts packages; on the search path once it is there."""
        home = user_home(self.environ)
        base = self.environ.get("PYTHONUSERBASE") or os.path.join(home, ".local")
        return os.path.join(base, "lib", f"python{interpreter.minor_version}", "site-packages")

    async def _remembered(self, what: str, kind: Any, ask: Callable[[], Awaitable[_Found]]) -> Any:
        """The answer in memory, else on disk, while its stamps hold; else asked again."""
        path = answer_path(self.store.layout, what)
        if what not in self.kept:
            self.kept[what] = await asyncio.to_thread(load_answer, self.store.disk, path, kind)
        stamps, answer = self.kept[what]
        renewed = None if answer is None else await asyncio.to_thread(renew_all, stamps)
        if renewed is not None:
            # What was read to see that it is the same is not read again.
            self.kept[what] = (renewed, answer)
        else:
            found = await ask()
            answer, stamps = found.answer, found.stamps
            self.kept[what] = (stamps, answer)
            if found.lasting:
                await asyncio.to_thread(save_answer, self.store.disk, path, stamps, answer)
        return answer


@dataclass(kw_only=True)
class _Download:
    """The download of an interpreter, if there is one, as uv says it and as its bytes arrive."""

    say: ReportProgress
    _message: str = ""
    _total: int | None = None
    _transfer: Transfer = field(default_factory=Transfer)

    def on_line(self, line: str) -> None:
        """A line of uv, or what is waited for."""
        self._message = line.strip()
        self._total = interpreter_size(line) or self._total
        self.say(Phase.PROBING, self._message)

    def on_received(self, count: int) -> None:
        """So many bytes have arrived."""
        if not self._total:
            return
        done = min(count, self._total)
        self._transfer.count(done, time.monotonic())
        self.say(
            Phase.PROBING,
            self._message,
            done_bytes=done,
            total_bytes=self._total,
            bytes_per_second=self._transfer.bytes_per_second,
            seconds_left=self._transfer.seconds_left(self._total),
        )


def _assemble(
    interpreter: Interpreter, scanned: Any, accelerator: Accelerator, unknown: tuple[str, ...]
) -> HostFacts:
    distributions, skipped = scanned
    return HostFacts(
        interpreter=interpreter,
        distributions=distributions,
        accelerator=accelerator,
        skipped=(*skipped, *unknown),
    )
