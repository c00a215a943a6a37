"""The wheels that a worker gets through other workers, before its uv installs them as local files.

Comes in: the wheels of a lock that uv's cache lacks. Comes out: the path of each that came and has
the lock's hash. What does not come, uv fetches from where the lock says.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xinference_venv._util.clock import Clock
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidSource,
    NotFound,
    StoreError,
    VerificationFailed,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.stalls import Done, StallWatch
from xinference_venv.planning.relay import (
    Neighbour,
    WheelFile,
    WheelPart,
    in_order,
    relayed_by_choice,
)
from xinference_venv.sentences import sentence
from xinference_venv.service.wheel_relay import WheelRelay
from xinference_venv.settings import RelayMode
from xinference_venv.store.atomic import Disk

_AT_ONCE = 4
# So often it is heard how much a relay has.
_POLL_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
_AGAIN_SECONDS = 0.05
_ASK_AGAIN_SECONDS = 0.25


class Relays(Protocol):
    """The workers that fetch wheels, as one of them, at the address `here`, reaches them."""

    @property
    def here(self) -> str: ...

    async def relays_of(self, wheel: WheelFile) -> Sequence[Neighbour]: ...

    async def part(
        self, neighbour: Neighbour, wheel: WheelFile, offset: int, timeout: float
    ) -> WheelPart: ...


@dataclass(kw_only=True)
class WheelFetcher:
    """Asks the workers that can fetch a wheel for it; `relay` is this worker's own.

    One that does not answer is asked again for `patience` seconds, while the supervisor counts on
    it: the next one would fetch the same wheel a second time.
    """

    neighbours: Relays
    relay: WheelRelay
    disk: Disk
    patience: float = 15.0
    clock: Clock = time

    @property
    def mode(self) -> RelayMode:
        """What the operator decided."""
        return self.relay.settings.relay

    async def wanted(self, wheels: Mapping[str, WheelFile]) -> dict[str, WheelFile]:
        """Which wheels, by name, are to be asked for before anything is fetched from here."""
        unreachable = []
        if self.mode is RelayMode.AUTO:
            one_each = {wheel.origin: wheel for wheel in wheels.values()}
            reached = await asyncio.gather(*map(self.relay.reachable.wheel, one_each.values()))
            unreachable = [
                origin for origin, there in zip(one_each, reached, strict=True) if not there
            ]
        return relayed_by_choice(self.mode, wheels, unreachable)

    async def fetch(
        self,
        wheels: Mapping[str, WheelFile],
        folder: Path,
        *,
        report: Callable[[str, int], None],
        note: Callable[[str], None],
    ) -> dict[str, Path]:
        """The files, by name, of the wheels that come; `report` hears of what comes, and how many
        bytes of all have come.
        """
        await asyncio.to_thread(self.disk.make_directory, folder)
        fetching = _Fetching(
            neighbours=self.neighbours,
            relay=self.relay,
            disk=self.disk,
            patience=self.patience,
            clock=self.clock,
            folder=folder,
            report=report,
            note=note,
        )
        paths = await asyncio.gather(*map(fetching.fetch, wheels.values()))
        return {name: path for name, path in zip(wheels, paths, strict=True) if path is not None}


@dataclass(kw_only=True)
class _Fetching:
    """The wheels of one launch; who did not answer once is not asked again for it."""

    neighbours: Relays
    relay: WheelRelay
    disk: Disk
    patience: float
    clock: Clock
    folder: Path
    report: Callable[[str, int], None]
    note: Callable[[str], None]
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _gone: set[str] = field(default_factory=set)
    _done: dict[str, int] = field(default_factory=dict)

    async def fetch(self, wheel: WheelFile) -> Path | None:
        """The file of a wheel, or None when no worker gives it."""
        async with self._slots:
            try:
                relays = await self.neighbours.relays_of(wheel)
            except VirtualEnvError as error:
                self.note(f"no worker relays {wheel.file_name}: {error}")
                return None
            for each in in_order(wheel.sha256, relays):
                if each.address in self._gone:
                    continue
                try:
                    return await self._from(each, wheel)
                except (NotFound, InvalidSource, StoreError) as error:
                    self.note(f"{each.address} has no {wheel.file_name} to give: {error}")
                except VirtualEnvError as error:
                    self._gone.add(each.address)
                    self.note(f"{wheel.file_name} did not come from {each.address}: {error}")
            return None

    async def _from(self, neighbour: Neighbour, wheel: WheelFile) -> Path:
        # The sha256 keeps apart files of one name from different indexes.
        path = self.folder / wheel.sha256[:16] / wheel.file_name
        await asyncio.to_thread(self.disk.write, path, b"", durable=False)
        if neighbour.address == self.neighbours.here:
            return await self._from_here(wheel, path)
        digest, offset = hashlib.sha256(), 0
        watch = StallWatch(since=self.clock.monotonic())
        while True:
            part = await self._part(neighbour, wheel, offset)
            self._heard(wheel, max(part.fetched, offset + len(part.data)), neighbour.address)
            if part.data:
                digest.update(part.data)
                offset += len(part.data)
                await asyncio.to_thread(self.disk.append, path, part.data)
                if part.size is None or offset >= part.size:
                    break
                if wheel.size is not None and offset > wheel.size:
                    raise VerificationFailed(
                        sentence(
                            "more than the {size} bytes that the lock states have come",
                            size=wheel.size,
                        )
                    )
            # First they come to the relay, then from it.
            come = Done(written=part.fetched + offset)
            if watch.looked(come, self.clock.monotonic()) > _PATIENCE_SECONDS:
                raise DeadlineExceeded(
                    sentence(
                        "next to nothing came for {patience_seconds} s",
                        patience_seconds=f"{_PATIENCE_SECONDS:g}",
                    )
                )
            if not part.data:
                await asyncio.sleep(_AGAIN_SECONDS)
        if digest.hexdigest() != wheel.sha256:
            raise VerificationFailed(
                sentence(
                    "the file that came has sha256 {digest}, and the lock says {sha256}",
                    digest=digest.hexdigest(),
                    sha256=wheel.sha256,
                )
            )
        return path

    async def _part(self, neighbour: Neighbour, wheel: WheelFile, offset: int) -> WheelPart:
        """The next part of a wheel from a worker, which may be too busy to answer at once."""
        since: float | None = None
        while True:
            try:
                return await self.neighbours.part(neighbour, wheel, offset, _POLL_SECONDS)
            except (WorkerUnavailable, DeadlineExceeded):
                since = since or self.clock.monotonic()
                if self.clock.monotonic() - since >= self.patience:
                    raise
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                if not await self._is_there(neighbour, wheel):
                    raise

    async def _is_there(self, neighbour: Neighbour, wheel: WheelFile) -> bool:
        """Whether the supervisor still counts on a worker, as far as it answers."""
        try:
            return neighbour in await self.neighbours.relays_of(wheel)
        except VirtualEnvError:
            return True

    def _heard(self, wheel: WheelFile, done: int, address: str) -> None:
        """Report the bytes of all wheels, if there are more than before."""
        if done > self._done.get(wheel.sha256, -1):
            self._done[wheel.sha256] = done
            self.report(
                sentence(
                    "{file_name} comes through the worker at {address}",
                    file_name=wheel.file_name,
                    address=address,
                ),
                sum(self._done.values()),
            )

    async def _from_here(self, wheel: WheelFile, path: Path) -> Path:
        """A wheel that this worker itself is to fetch for all."""
        while not (part := await self.relay.part(wheel, 0, _POLL_SECONDS)).data:
            self._heard(wheel, part.fetched, self.neighbours.here)
        await asyncio.to_thread(self.disk.unlink, path)
        if not await asyncio.to_thread(self.relay.wheels.lend, wheel.sha256, path):
            raise NotFound(sentence("{file_name} was deleted meanwhile", file_name=wheel.file_name))
        return path
