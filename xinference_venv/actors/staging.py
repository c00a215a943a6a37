"""A folder for a build, for as long as the build takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from xinference_venv.actors.threads import finish_in_thread
from xinference_venv.canonical import digest_of
from xinference_venv.host import Interpreter
from xinference_venv.store.store import Store, interpreter_facts


@asynccontextmanager
async def staged(store: Store, interpreter: Interpreter) -> AsyncIterator[Path]:
    """A private folder to build in for an interpreter; nothing of it stays in the end.

    Builds for one interpreter take turns at the same paths: uv starts every interpreter that it
    meets at a new path, which takes as long as linking thousands of files, and remembers what it
    learns by the path.
    """
    place = digest_of(interpreter_facts(interpreter.base_executable))[:16]
    taken: list[Path] = []
    try:
        await finish_in_thread(lambda: taken.append(store.stage(place)))
        yield taken[0]
    finally:
        for folder in taken:
            await finish_in_thread(store.unstage, folder.name)
