"""The host's facts for a worker: asked once, kept on disk, known to be unchanged by stamps."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xinference_venv._util.records import digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.transfer import Transfer
from xinference_venv.planning.host import Accelerator, HostFacts, Interpreter
from xinference_venv.planning.pip_config import PipConfig, parse_pip_config, pip_config_paths
from xinference_venv.planning.uv_files import (
    UvFiles,
    check_present,
    is_project_of_uv,
    read_uv_files,
    uv_file_paths,
    with_uv_files,
)
from xinference_venv.planning.uv_variables import with_uv_variables
from xinference_venv.service.phases import ReportProgress, ignore_progress
from xinference_venv.service.places import user_home
from xinference_venv.settings import Settings
from xinference_venv.store.atomic import Disk
from xinference_venv.store.host.scan import scan_distributions, stamp_all, unchanged
from xinference_venv.store.host_files import read_present
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.stamp import Stamp
from xinference_venv.store.store import Store
from xinference_venv.uv.interpreters import find_python, probe_accelerator, probe_interpreter
from xinference_venv.uv.messages import interpreter_size
from xinference_venv.uv.subprocess import Uv

# Their presence says whether an accelerator was added or its driver replaced.
_ACCELERATOR_FILES = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/davinci_manager")

_log = logging.getLogger(__name__)

# Raised when the answers kept on disk tell more, or are found out in another way.
_FORMAT = 4

# What may follow a requirement in a file.
_OPTIONS = re.compile(r"\s+(?:#|--)")


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

        what = _of_host(python)
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
            on_line(f"waiting for another launch that looks for Python {wanted}")
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
        path = _answer_path(self.store.layout, what)
        if what not in self.kept:
            self.kept[what] = await asyncio.to_thread(_load, self.store.disk, path, kind)
        stamps, answer = self.kept[what]
        if answer is None or not unchanged(stamps):
            found = await ask()
            answer, stamps = found.answer, found.stamps
            self.kept[what] = (stamps, answer)
            saved = {"format": _FORMAT, "stamps": stamps, "answer": answer.to_dict()}
            if found.lasting:
                await asyncio.to_thread(self.store.disk.write_json, path, saved, durable=False)
        return answer


def remembered_facts(layout: StorePaths, python: str) -> HostFacts | None:
    """What a launch found out of an interpreter as the host, None if anything has changed since.

    Blocks on the disk, and raises `StoreError`.
    """
    stamps, answer = _load(Disk(), _answer_path(layout, _of_host(python)), HostFacts)
    return answer if isinstance(answer, HostFacts) and unchanged(stamps) else None


def _of_host(python: str) -> str:
    return f"host {python}"


def _answer_path(layout: StorePaths, what: str) -> Path:
    return layout.hosts / f"probe-{digest_of(what)[:32]}.json"


def _load(disk: Disk, path: Path, kind: Any) -> tuple[dict[str, Stamp], Any]:
    try:
        saved = disk.read_json(path)
        if saved is None or saved.get("format") != _FORMAT:
            return {}, None
        return {name: tuple(stamp) for name, stamp in saved["stamps"].items()}, kind.from_dict(
            saved["answer"]
        )
    except (InvalidRecord, KeyError, TypeError, AttributeError):
        return {}, None


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


def pip_config_of(environ: Mapping[str, str]) -> PipConfig:
    """What pip and uv are configured to on this host; blocks, raises `InvalidSource`."""
    paths = pip_config_paths(
        environ,
        prefix=sys.prefix,
        home=user_home(environ),
        platform=sys.platform,
        present=os.path.exists,
    )
    return _with_uv(parse_pip_config(read_present(paths), environ), environ)


def uv_files_of(environ: Mapping[str, str], working_directory: str) -> UvFiles:
    """What uv's files say to a process in a working directory; blocks, raises `InvalidSource`."""

    def is_project(path: str) -> bool:
        return any(is_project_of_uv(text) for _, text in read_present([path]))

    paths = uv_file_paths(
        environ,
        working_directory=working_directory,
        home=user_home(environ),
        present=os.path.isfile,
        is_project=is_project,
    )
    files = read_present(paths)
    check_present(paths, files)
    return read_uv_files(files)


def uv_config_of(environ: Mapping[str, str], files: UvFiles) -> PipConfig:
    """What uv alone is configured to by variables and files, where a caller says what pip is;
    blocks.
    """
    return with_uv_files(_with_uv(PipConfig(), environ), files, environ)


def _with_uv(pip: PipConfig, environ: Mapping[str, str]) -> PipConfig:
    found = with_uv_variables(pip, environ)
    return replace(
        found,
        constraints=_lines_of(found.constraint),
        overrides=_lines_of(found.override),
        build_constraints=_lines_of(found.build_constraint),
    )


def _lines_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The requirements in files, without comments, hashes and other options; those of URLs are not
    read.
    """
    files = read_present(each for each in paths if each.startswith("/"))
    whole = (text.replace("\\\n", " ") for _, text in files)
    lines = (_OPTIONS.split(line, maxsplit=1)[0] for text in whole for line in text.splitlines())
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith(("#", "-")))


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
