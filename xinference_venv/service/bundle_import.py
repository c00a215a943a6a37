"""Bundles that come to this host part by part, and become environments without any index.

Comes in: the bytes of a bundle (see `planning.bundle`), in order. Comes out: a job that makes its
environment of its lock and its wheels. All is checked as it comes: nothing of a bundle that is
wrong, or does not fit here, is used.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.humanize import size_text
from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import InvalidInput, NotFound, StoreError
from xinference_venv.planning.bundle import PYLOCK, Bundle, BundleReader
from xinference_venv.planning.bundle_fit import lock_for
from xinference_venv.service.jobs import BundleFiles, Job
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.host_files import free_bytes

# So long it is waited for the next part.
_IDLE_SECONDS = 600.0
_MOST_AT_ONCE = 8


@dataclass(kw_only=True)
class _Import:
    """A bundle that is on its way, then that of a job; its wheels lie in `folder`."""

    folder: Path
    job: Job | None = None
    reader: BundleReader = field(default_factory=BundleReader)
    received: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    expiry: asyncio.TimerHandle | None = None


@dataclass(kw_only=True)
class BundleImports:
    """The bundles that come to a worker."""

    launches: LaunchService
    _running: dict[str, _Import] = field(default_factory=dict, init=False)
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _watching: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def receive(self, import_id: str, offset: int, data: bytes) -> None:
        """Take the next part of a bundle; the one at offset 0 begins it.

        A part that was taken before is taken for one that is sent again. After any error nothing
        of the bundle is left. Raises `InvalidInput` for what is no bundle or does not fit here,
        `VerificationFailed` for a wrong hash, `StoreError` where it has no room.
        """
        is_taken = False
        try:
            incoming = self._running.get(import_id) or await self._begin(import_id, offset)
            async with incoming.turn:
                if offset + len(data) <= incoming.received and data:
                    is_taken = True
                    return
                if offset != incoming.received:
                    raise InvalidInput(f"{incoming.received} bytes came, and {offset} come next")
                was_known = incoming.reader.bundle is not None
                # To its end: what it writes after a cancellation would stay.
                await BUILDING.finish(self._take, incoming, data)
                incoming.received += len(data)
                if incoming.reader.bundle is not None and not was_known:
                    await self._check(incoming.reader.bundle)
                is_taken = True
        finally:
            if not is_taken:
                await self.end(import_id)
        self._expire_later(import_id, incoming)

    async def launch(self, import_id: str, job_id: str | None) -> Job:
        """Start to make the environment of a bundle that is here whole; raises `InvalidInput`.

        From then on what came of it belongs to the job.
        """
        incoming = self._running.get(import_id)
        if incoming is None:
            raise NotFound(
                f"there is no bundle {import_id!r}",
                {"hint": "its import was interrupted: import it again"},
            )
        if incoming.job is not None:
            raise InvalidInput(
                f"the bundle {import_id!r} is launched already, by job {incoming.job.job_id}"
            )
        try:
            bundle = incoming.reader.check_whole()
            files = {name: str(incoming.folder / file.path) for name, file in bundle.wheels.items()}
            job = self.launches.start(
                bundle.request,
                None,
                job_id=job_id,
                bundle=BundleFiles(bundle=bundle, paths=files),
            )
            incoming.job = job
        finally:
            if incoming.job is None:
                await self.end(import_id)
        if incoming.expiry is not None:
            incoming.expiry.cancel()
        assert job.task is not None
        watching = asyncio.create_task(self._end_after(import_id, job.task))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return job

    async def end(self, import_id: str) -> None:
        """Delete what came of a bundle, unless a job needs it; one that is gone is fine."""
        incoming = self._running.get(import_id)
        using = None if incoming is None or incoming.job is None else incoming.job.task
        if incoming is None or (using is not None and not using.done()):
            return
        del self._running[import_id]
        if incoming.expiry is not None:
            incoming.expiry.cancel()
        store = self.launches.store
        left = await finish_in_thread(store.trash_staging_folder, incoming.folder.name)
        await BUILDING.finish(store.delete_trashed, left)

    async def stop(self) -> None:
        """Delete all that came; their jobs have ended."""
        await asyncio.gather(*map(self.end, [*self._running]))
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def _begin(self, import_id: str, offset: int) -> _Import:
        if offset:
            raise NotFound(
                f"there is no bundle {import_id!r}",
                {"hint": "its import was interrupted: import it again"},
            )

        def begin() -> None:
            folder = self.launches.store.make_staging_folder("import")
            self._running[import_id] = _Import(folder=folder)

        async with self._beginning:
            # It may have been sent twice.
            if import_id not in self._running:
                if len(self._running) >= _MOST_AT_ONCE:
                    raise InvalidInput(f"{_MOST_AT_ONCE} bundles come to this worker already")
                await finish_in_thread(begin)
            return self._running[import_id]

    def _take(self, incoming: _Import, data: bytes) -> None:
        """Write what a part holds; blocks."""
        disk = self.launches.store.disk
        for path, part in incoming.reader.feed(data):
            if path == PYLOCK:
                continue
            target = incoming.folder / path
            if not target.exists():
                disk.write(target, b"", durable=False)
            disk.append(target, part)

    async def _check(self, bundle: Bundle) -> None:
        """Raise what a launch would, before the wheels come."""
        host, spec = await self.launches.specify(bundle.request, download=False)
        if spec is not None:
            lock_for(bundle, spec, host)
        root = self.launches.store.layout.root
        free = await asyncio.to_thread(free_bytes, root)
        if bundle.size > free:
            raise StoreError(
                f"the bundle has {size_text(bundle.size)}, and {size_text(free)} are free at {root}"
            )

    def _expire_later(self, import_id: str, incoming: _Import) -> None:
        loop = asyncio.get_running_loop()
        if incoming.expiry is not None:
            incoming.expiry.cancel()
        incoming.expiry = loop.call_later(
            _IDLE_SECONDS, lambda: loop.create_task(self.end(import_id))
        )

    async def _end_after(self, import_id: str, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task])
        await self.end(import_id)
