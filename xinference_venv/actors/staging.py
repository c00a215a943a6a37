"""A folder for a build, for as long as the build takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from xinference_venv.actors.threads import finish_in_thread
from xinference_venv.store.store import Store


@asynccontextmanager
async def staged(store: Store, name: str) -> AsyncIterator[Path]:
    """A private folder whose name is, or begins with, `name`; nothing of it stays in the end."""
    taken: list[Path] = []
    try:
        await finish_in_thread(lambda: taken.append(store.stage(name)))
        yield taken[0]
    finally:
        for folder in taken:
            await asyncio.shield(asyncio.to_thread(store.unstage, folder.name))
