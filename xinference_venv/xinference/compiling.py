"""Bytecode for the environments of the drop-in, compiled by Xinference's worker in the background.

Comes in: that something was installed. Comes out: bytecode in the store's packages, which the
environments that have these get as well, those to come and those that are there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from xinference_venv.errors import VirtualEnvError
from xinference_venv.service.bytecode_compiler import FIRST_SECONDS, BytecodeCompiler
from xinference_venv.xinference.engine import Engine

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class BackgroundCompiling:
    """The compiling of one process, in a thread of its own; it ends with the process."""

    _wanted: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self, environ: Mapping[str, str], after_seconds: float = FIRST_SECONDS) -> None:
        """Compile what is installed from now on, and what was before; once started it stays so."""
        if self._thread is None:
            self._wanted.set()
            self._thread = threading.Thread(
                target=self._keep_compiled,
                args=(dict(environ), after_seconds),
                name="xinference-venv-compiling",
                daemon=True,
            )
            self._thread.start()

    def look_soon(self) -> None:
        """Look for what is to be compiled, since something was installed."""
        self._wanted.set()

    def _keep_compiled(self, environ: Mapping[str, str], after_seconds: float) -> None:
        while True:
            self._wanted.wait()
            # The model that was installed for starts meanwhile.
            time.sleep(after_seconds)
            self._wanted.clear()
            try:
                asyncio.run(compile_all(environ))
            except (VirtualEnvError, OSError) as error:
                _log.warning("packages could not be compiled: %s", error)
            except Exception:  # noqa: BLE001 (the edge of a thread)
                # No one waits for this thread: models would only start more slowly from now on.
                _log.exception("packages could not be compiled, by a defect; the next time again")


async def compile_all(environ: Mapping[str, str]) -> None:
    """Compile what is to be compiled now."""
    engine = await Engine.open(environ)
    await BytecodeCompiler(store=engine.store, door=engine.uv.door).compile_all()


COMPILING = BackgroundCompiling()
"""The compiling of this process, which its worker starts."""
