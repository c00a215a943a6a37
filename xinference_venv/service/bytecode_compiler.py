"""Compiles packages in the background, once for all environments that show them.

Comes in: a store, and word of each build. Comes out: bytecode in the trees. It has a slot of its
own and idle priority, so no launch waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv._util.tasks import cancel, in_background
from xinference_venv.errors import VirtualEnvError
from xinference_venv.store.packages.bytecode import (
    COMPILER,
    STARTED,
    Uncompiled,
    give_bytecode,
    give_bytecode_of,
    mark_compiled,
    share_bytecode,
    uncompiled,
)
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import ProcessRunner

# A process that lives for one command ends before it would be kept busy.
FIRST_SECONDS = 60.0
_DEADLINE_SECONDS = 4 * 3600.0
# One process after the other: the paths of more would not fit into an argument vector.
_MOST_FOLDERS = 200

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class BytecodeCompiler:
    """The compiling of one worker."""

    store: Store
    door: ProcessRunner
    _wanted: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self, after_seconds: float = FIRST_SECONDS) -> None:
        """Compile what environments show from now on, and again after each build."""
        self._task = in_background(self._keep_compiled(after_seconds), "compiling packages", _log)

    def look_soon(self) -> None:
        """Look for what is to be compiled, since there is something new."""
        self._wanted.set()

    async def stop(self) -> None:
        """End what runs; returns when it has ended. What was compiled stays."""
        if self._task is not None:
            await cancel(self._task)

    async def compile_all(self) -> None:
        """Compile what is to be compiled now."""
        for each in await UPKEEP.run(uncompiled, self.store):
            async for folders in self._batches(each):
                if not await self._compile(each, folders):
                    break
        await UPKEEP.run(give_bytecode, self.store)

    async def _batches(self, what: Uncompiled) -> AsyncIterator[tuple[Path, ...]]:
        """The folders to compile, each with what others have for it; what one process takes."""
        for start in range(0, len(what.packages), _MOST_FOLDERS):
            yield what.packages[start : start + _MOST_FOLDERS]
        for folder in what.joined:
            await UPKEEP.run(share_bytecode, self.store, folder, what.tag)
            yield (folder,)
        for folder, trees in what.own.items():
            await UPKEEP.run(give_bytecode_of, self.store, trees, folder, what.tag)
            yield (folder,)

    async def _keep_compiled(self, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        while True:
            self._wanted.clear()
            try:
                await self.compile_all()
            except (VirtualEnvError, OSError) as error:
                _log.warning("packages could not be compiled: %s", error)
            await self._wanted.wait()

    async def _compile(self, what: Uncompiled, folders: tuple[Path, ...]) -> bool:
        """Compile folders; tells whether the interpreter can compile anything."""
        waiting = {str(folder): folder for folder in folders}
        has_started = False

        def on_line(line: str) -> None:
            nonlocal has_started
            has_started = has_started or line.strip() == STARTED
            if (done := waiting.pop(line.strip(), None)) is not None:
                mark_compiled(self.store, done, what.tag)

        # A place of its own, and no word is heard of it until a folder is done.
        door = replace(self.door, slots=1, places=None, patience=_DEADLINE_SECONDS)
        while waiting:
            has_started = False
            try:
                finished = await door.run(
                    [what.interpreter, "-I", "-S", "-c", COMPILER, *waiting],
                    deadline=_DEADLINE_SECONDS,
                    on_line=on_line,
                )
            except FileNotFoundError:
                return False
            if not has_started:
                _log.warning(
                    "nothing is compiled, what imports packages does that: %s of %s",
                    finished.ending,
                    what.interpreter,
                )
                return False
            if waiting:
                # It takes them in this order: the first one left is what ended it.
                folder = next(iter(waiting))
                del waiting[folder]
                _log.warning(
                    "%s is not compiled, what imports it does that: %s of %s",
                    folder,
                    finished.ending,
                    what.interpreter,
                )
        return True
