"""An environment of this host as one file, for those who ask for its bytes part by part.

Comes in: which environment. Comes out: a bundle (see `planning.bundle`), whose bytes are put
together when they are read: nothing but its wheels lies on the disk. Wheels are at hand where they
were built here or fetched for others; the rest is fetched again from where the lock says.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.tasks import cancel, finish_in_thread
from xinference_venv.errors import (
    InvalidInput,
    InvalidRecord,
    NotFound,
    StoreError,
    VerificationFailed,
    VirtualEnvError,
)
from xinference_venv.inventory.reports import ExportProgress
from xinference_venv.planning.bundle import (
    END,
    MANIFEST,
    PYLOCK,
    WHEELS,
    Bundle,
    BundleFile,
    Demand,
    padding,
    pylock_in_bundle,
    sha256_of,
    tar_header,
    wheel_table,
    without_paths,
)
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pip_config import local_path
from xinference_venv.planning.pylock import file_name_of
from xinference_venv.planning.relay import WheelFile, is_wheel, wheels_of
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.source_builds import built_hashes
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.wheel_relay import PART_BYTES, WheelRelay
from xinference_venv.store.visit import open_regular

# So long a bundle is kept for who has not read it to its end.
_IDLE_SECONDS = 600.0
_MOST_SECONDS = 30.0
_MOST_AT_ONCE = 8

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Export:
    """A bundle that is being put together, then read; its wheels lie in `folder`."""

    task: asyncio.Task[None] | None = None
    folder: Path | None = None
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    segments: list[bytes | tuple[Path, int]] = field(default_factory=list)
    expiry: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """The bytes of the whole."""
        return sum(each[1] if isinstance(each, tuple) else len(each) for each in self.segments)


@dataclass(kw_only=True)
class BundleExports:
    """The bundles that a worker gives."""

    launches: LaunchService
    relay: WheelRelay
    _running: dict[str, _Export] = field(default_factory=dict, init=False)

    async def prepare(self, export_id: str, key: EnvKey, timeout: float) -> ExportProgress:
        """Put the bundle of an environment together; how far it is after `timeout` seconds at most.

        Ask again with the same id until it has a size. Raises `NotFound` where a wheel can't be
        had or it was ended meanwhile, `InvalidInput` for an environment that is no one's launch by
        now.
        """
        export = self._running.get(export_id)
        if export is None:
            if len(self._running) >= _MOST_AT_ONCE:
                raise InvalidInput(f"{_MOST_AT_ONCE} bundles are read from this worker already")
            export = self._running[export_id] = _Export(message=f"reading the lock of {key}")
            export.task = asyncio.create_task(self._gather(export, key))
        self._expire_later(export_id, export)
        assert export.task is not None
        await asyncio.wait([export.task], timeout=min(max(timeout, 0.0), _MOST_SECONDS))
        if export.task.cancelled():
            raise _no_bundle(export_id)
        if export.task.done() and (error := export.task.exception()) is not None:
            await self.end(export_id)
            raise error
        return ExportProgress(
            size=export.size if export.task.done() else None,
            message=export.message,
            done_bytes=export.done_bytes,
            total_bytes=export.total_bytes,
        )

    async def read(self, export_id: str, offset: int) -> bytes:
        """The bytes of a bundle from an offset on; none at its end. Raises `NotFound`."""
        export = self._running.get(export_id)
        if export is None or export.task is None or not export.task.done():
            raise _no_bundle(export_id)
        if offset < 0:
            raise InvalidInput(f"invalid offset {offset}", {"hint": "allowed are 0 and more"})
        self._expire_later(export_id, export)
        return await asyncio.to_thread(_read, export.segments, offset, PART_BYTES)

    async def end(self, export_id: str) -> None:
        """Delete what lies on the disk of a bundle; one that is gone is fine."""
        export = self._running.pop(export_id, None)
        if export is None:
            return
        if export.expiry is not None:
            export.expiry.cancel()
        if export.task is not None:
            await cancel(export.task)
        if export.folder is not None:
            store = self.launches.store
            left = await finish_in_thread(store.trash_staging_folder, export.folder.name)
            await BUILDING.finish(store.delete_trashed, left)

    async def stop(self) -> None:
        """End all of them."""
        await asyncio.gather(*map(self.end, [*self._running]))

    def _expire_later(self, export_id: str, export: _Export) -> None:
        loop = asyncio.get_running_loop()
        if export.expiry is not None:
            export.expiry.cancel()
        export.expiry = loop.call_later(
            _IDLE_SECONDS, lambda: loop.create_task(self.end(export_id))
        )

    async def _gather(self, export: _Export, key: EnvKey) -> None:
        store = self.launches.store
        lock, request, spec = await self._of_key(key)

        def stage() -> Path:
            # Noted by the thread, which goes on when this is cancelled.
            export.folder = store.make_staging_folder("export")
            return export.folder

        folder = await finish_in_thread(stage)
        export.total_bytes = sum(lock.sizes.values())
        wheels = await self._wheels(export, folder, lock)
        paths = {name: f"{WHEELS}{path.name}" for name, path in wheels.items()}
        document = tomli_w.dumps(pylock_in_bundle(lock, paths)).encode()
        files = [
            BundleFile(path=PYLOCK, size=len(document), sha256=hashlib.sha256(document).hexdigest())
        ]
        segments: list[bytes | tuple[Path, int]] = _file(PYLOCK, document)
        for package in lock.packages:
            path = wheels[package["name"]]
            size = path.stat().st_size
            name = paths[package["name"]]
            files.append(BundleFile(path=name, size=size, sha256=sha256_of(package)))
            segments += [tar_header(name, size), (path, size), padding(size)]
        bundle = Bundle(
            created_by=version("xinference_venv"),
            request=request,
            interpreter=without_paths(spec.interpreter),
            demand=Demand.of(spec),
            lock=lock,
            files=tuple(files),
        )
        bundle.check_record()
        manifest = json.dumps(bundle.to_dict(), separators=(",", ":")).encode()
        export.segments = [*_file(MANIFEST, manifest), *segments, END]

    async def _of_key(self, key: EnvKey) -> tuple[EnvLock, LaunchRequest, EnvSpec]:
        """The lock of an environment, and the launch that it is of."""
        store = self.launches.store

        def read() -> tuple[EnvLock | None, Mapping[str, Any] | None, str]:
            record = store.key_record(key)
            if record is None:
                return None, None, ""
            return store.lock_of(record.env_id), record.request, record.spec_digest

        lock, kept, spec_digest = await asyncio.to_thread(read)
        if lock is None:
            raise NotFound(f"the lock of {key} can't be read", {"hint": "launch the model again"})
        if kept is None:
            raise InvalidInput(
                f"the launch of {key} names a login, which no file may carry",
                {"hint": "name the login in pip's configuration, and launch without it"},
            )
        request = LaunchRequest.from_dict(kept)
        _, spec = await self.launches.specify(request, download=False)
        if spec is None or spec.digest != spec_digest:
            raise InvalidInput(
                f"what {key} asks for has changed since it was launched",
                {"hint": "launch it again, then export it"},
            )
        return lock, request, spec

    async def _wheels(self, export: _Export, folder: Path, lock: EnvLock) -> dict[str, Path]:
        """The wheel of each package of a lock, by name, in a folder; raises `NotFound`."""
        remote = wheels_of(lock)
        built = built_hashes(lock)
        counted: dict[str, int] = {}
        failed: dict[str, str] = {}

        def received(name: str, count: int) -> None:
            counted[name] = count
            export.done_bytes = sum(counted.values())

        async def one(package: Mapping[str, Any]) -> tuple[str, Path]:
            name = package["name"]
            table = wheel_table(package)
            file_name = "" if table is None else file_name_of(table)
            target = folder / file_name
            try:
                if table is None or not is_wheel(file_name):
                    raise NotFound("it was installed from what is no wheel")
                if not sha256_of(package):
                    raise NotFound("its index gave no sha256")
                here = await BUILDING.finish(self._at_hand, table, built.get(name), target)
                if not here and name in remote:
                    export.message = f"fetching {file_name}"
                    await self._fetch(remote[name], target, partial(received, name))
                elif not here:
                    raise NotFound(f"{file_name} is not where the lock says any more")
                await BUILDING.run(_check_hash, target, sha256_of(package))
                received(name, target.stat().st_size)
            except (VirtualEnvError, OSError) as error:
                failed[name] = str(error)
            return name, target

        found = dict(await asyncio.gather(*map(one, lock.packages)))
        if failed:
            raise NotFound(
                "the wheels of these packages can't be had: "
                + "; ".join(f"{name}: {why}" for name, why in sorted(failed.items())[:5]),
                {
                    "hint": "put the files back, or export it on a host that reaches the index:"
                    " what was unpacked of a wheel does not give the wheel again"
                },
            )
        return found

    async def _fetch(self, wheel: WheelFile, target: Path, received: Callable[[int], None]) -> None:
        """Fetch a wheel from where the lock says, or through a worker that reaches that."""
        fetcher = self.launches.fetcher
        if fetcher is None or await self.relay.reachable.wheel(wheel):
            await self.relay.fetch_to(wheel, target, received)
            return
        came = await fetcher.fetch(
            {wheel.file_name: wheel},
            target.parent / "relayed",
            report=lambda _, done: received(done),
            note=_log.info,
        )
        if not came:
            raise NotFound(f"{wheel.file_name} can't be fetched here, nor by another worker")
        await asyncio.to_thread(came[wheel.file_name].replace, target)

    def _at_hand(self, table: Mapping[str, Any], built: str | None, target: Path) -> bool:
        """Put a wheel that is on this host at its place in the bundle; False where it is not."""
        store = self.launches.store
        if built is not None:
            source = store.layout.built_wheels(built) / target.name
        elif self.relay.wheels.lend(str(table["hashes"]["sha256"]), target):
            return True
        else:
            place = table.get("path") or local_path(str(table.get("url", "")))
            if place is None:
                return False
            source = Path(place)
        try:
            store.disk.copy(source, target)
        except StoreError:
            return False
        return True


def _no_bundle(export_id: str) -> NotFound:
    return NotFound(f"there is no bundle {export_id!r}", {"hint": "export it again"})


def _file(path: str, content: bytes) -> list[bytes | tuple[Path, int]]:
    return [tar_header(path, len(content)), content, padding(len(content))]


def _check_hash(path: Path, sha256: str) -> None:
    with open_regular(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise VerificationFailed(f"{path.name} has sha256 {found}, and the lock says {sha256}")


def _read(segments: Sequence[bytes | tuple[Path, int]], offset: int, most: int) -> bytes:
    """So many bytes of what the segments are together, fewer at the end."""
    parts: list[bytes] = []
    for each in segments:
        length = each[1] if isinstance(each, tuple) else len(each)
        if offset >= length:
            offset -= length
            continue
        if isinstance(each, tuple):
            with open_regular(each[0]) as file:
                file.seek(offset)
                part = file.read(min(most, length - offset))
            if len(part) < min(most, length - offset):
                raise InvalidRecord(f"{each[0].name} became shorter while it was read")
        else:
            part = each[offset : offset + most]
        parts.append(part)
        most -= len(part)
        offset = 0
        if not most:
            break
    return b"".join(parts)
