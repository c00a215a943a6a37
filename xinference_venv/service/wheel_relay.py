"""What a worker fetches for others: wheels, from where a lock says, once for all who ask.

Comes in: a wheel by URL and sha256, from another worker. Comes out: its bytes, part by part, once
the whole is here and has this hash. So who asks learns nothing that it does not know by its hash.
It is fetched as this worker's configuration of pip and uv says, with its credentials.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from xinference_venv._util.clock import Clock
from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.redact import redact_text, redact_url, secrets_of
from xinference_venv._util.tasks import cancel, gave_nothing
from xinference_venv.errors import (
    InvalidInput,
    InvalidSource,
    NotFound,
    StoreError,
    VirtualEnvError,
)
from xinference_venv.inventory.stalls import Done, StallWatch
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.planning.index_answers import Place, is_trusted, places_of
from xinference_venv.planning.pip_config import TRUE_WORDS, PipConfig
from xinference_venv.planning.relay import RelayPolicy, WheelFile, WheelPart, gives_files
from xinference_venv.planning.sources import combine_sources
from xinference_venv.sentences import sentence
from xinference_venv.service.http_client import openers_for, request_to
from xinference_venv.service.index_probe import answers_of
from xinference_venv.settings import RelayMode, Settings
from xinference_venv.store.atomic import store_error
from xinference_venv.store.host_files import free_bytes
from xinference_venv.store.relayed_wheels import RelayedWheels
from xinference_venv.store.store import Store
from xinference_venv.uv.installer import with_credentials

PART_BYTES = 4 << 20
# What an index or a host of files answered holds for so long, and that it did not, for so long.
_ANSWER_SECONDS = 60.0
_NO_ANSWER_SECONDS = 10.0
_BLOCK = 1 << 18
# An index that does not have it answers so. The page of all projects may take it long.
ANY_PROJECT = "pip"
_AT_ONCE = 4
_COUNTED_SECONDS = 0.2
_ATTEMPTS = 3
_READ_SECONDS = 30.0
_MOST_SECONDS = 60.0


@dataclass(kw_only=True)
class _Fetch:
    """A wheel on its way here; `fetched` counts its bytes."""

    task: asyncio.Task[None] | None = None
    fetched: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)


@dataclass(kw_only=True)
class Reachable:
    """What this worker can fetch from, asked once a minute; `environment` is that of uv."""

    settings: Settings
    environment: Mapping[str, str]
    pip: Callable[[], PipConfig]
    clock: Clock = time
    _kept: dict[str, tuple[float, asyncio.Task[bool]]] = field(default_factory=dict, init=False)

    async def wheel(self, wheel: WheelFile) -> bool:
        """Whether the host of a wheel would give it to this worker."""

        async def ask() -> bool:
            place = await asyncio.to_thread(self.place_of, wheel)
            return await self._give([place])

        return await self._remembered(wheel.origin, ask)

    async def indexes(self) -> bool:
        """Whether the indexes of this worker's own configuration answer; False without any."""

        async def ask() -> bool:
            pip = await asyncio.to_thread(self.pip)
            sources = combine_sources(
                model=None,
                engine_extra_index_urls=(),
                engine_index_strategy=None,
                pip=pip,
                launch_find_links=(),
                offline=self.settings.offline_install,
            )
            indexes = [each for each in places_of(sources) if each.what == "index"]
            pages = [each.of_project(ANY_PROJECT) for each in indexes]
            return bool(pages) and await self._give(pages)

        return await self._remembered("indexes", ask)

    async def places(self, places: Sequence[Place], key: str) -> bool:
        """Whether all of some places answer; `key` is what the answer is kept by."""
        return await self._remembered(key, lambda: self._give(places))

    async def _give(self, places: Sequence[Place]) -> bool:
        answers = await answers_of(places, self.environment, method="HEAD")
        return all(map(gives_files, answers))

    def place_of(self, wheel: WheelFile) -> Place:
        """A wheel with the login that this worker has for its host; blocks on the disk."""
        pip = self.pip()
        own = [pip.index_url or "", *pip.extra_index_url, *pip.find_links]
        urls = [each for each in own if "@" in urlsplit(each).netloc]
        url: str = with_credentials({"wheel": {"url": wheel.url}}, urls)["wheel"]["url"]
        return Place(what="wheel", url=url, trusted=is_trusted(url, pip.trusted_host))

    async def _remembered(self, what: str, ask: Callable[[], Awaitable[bool]]) -> bool:
        async def answer() -> bool:
            try:
                return await ask()
            except InvalidSource:
                # Pip's configuration is wrong, as every launch says.
                return False

        if self.environment.get("UV_OFFLINE", "").lower() in TRUE_WORDS:
            return False
        now = self.clock.monotonic()
        # Launches may name any number of places in the months that a worker runs.
        self._kept = {name: kept for name, kept in self._kept.items() if _holds(*kept, now)}
        if what not in self._kept:
            self._kept[what] = (now, asyncio.create_task(answer()))
        _, task = self._kept[what]
        # Who asks may be cancelled while others wait.
        return await asyncio.shield(task)


def _holds(at: float, task: asyncio.Task[bool], now: float) -> bool:
    """Whether what was asked at a time needs not be asked again."""
    return now - at <= (_NO_ANSWER_SECONDS if gave_nothing(task) else _ANSWER_SECONDS)


@dataclass(kw_only=True)
class WheelRelay:
    """The wheels that one worker fetches for others."""

    store: Store
    settings: Settings
    reachable: Reachable
    measures: MetricRegistry
    _fetches: dict[str, _Fetch] = field(default_factory=dict, init=False)
    _slots: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False
    )

    def __post_init__(self) -> None:
        # A counter that is not there before it counts looks like a worker that can't.
        self.measures.add(metrics.RELAYED, by=0.0)

    @property
    def wheels(self) -> RelayedWheels:
        """Those that are here."""
        return RelayedWheels(
            layout=self.store.layout,
            disk=self.store.disk,
            max_bytes=self.settings.relay_max_bytes,
        )

    async def can_relay(self, wheel: WheelFile) -> bool:
        """Whether this worker would fetch a wheel for others, and can."""
        try:
            await asyncio.to_thread(self._check, wheel)
        except VirtualEnvError:
            return False
        if await asyncio.to_thread(self.wheels.size_of, wheel.sha256) is not None:
            return True
        return await self.reachable.wheel(wheel)

    async def part(self, wheel: WheelFile, offset: int, timeout: float) -> WheelPart:
        """The bytes of a wheel from an offset on; without any after `timeout` seconds at most.

        It is fetched once, however many ask, and kept for who asks later. Raises `InvalidSource`
        for what this worker fetches for no one, `NotFound` when it can't be fetched,
        `VerificationFailed` when it has another hash.
        """
        if offset < 0:
            raise InvalidInput(
                sentence("invalid offset {offset}", offset=offset),
                {"hint": sentence("allowed are 0 and more")},
            )
        await asyncio.to_thread(self._check, wheel)
        size = await asyncio.to_thread(self.wheels.size_of, wheel.sha256)
        if size is None:
            fetch = self._fetch(wheel)
            assert fetch.task is not None
            await asyncio.wait([fetch.task], timeout=min(max(timeout, 0.0), _MOST_SECONDS))
            if not fetch.task.done():
                return WheelPart(size=wheel.size, fetched=fetch.fetched)
            fetch.task.result()
            size = fetch.fetched
        try:
            data = await asyncio.to_thread(self.wheels.read, wheel.sha256, offset, PART_BYTES)
        except OSError as error:
            raise NotFound(
                sentence(
                    "{file_name} was deleted meanwhile: {error}",
                    file_name=wheel.file_name,
                    error=error.strerror,
                )
            ) from None
        self.measures.add(metrics.RELAYED, by=len(data))
        return WheelPart(data=data, size=size, fetched=size)

    async def fetch_to(self, wheel: WheelFile, path: Path, received: Callable[[int], None]) -> None:
        """Fetch a wheel of a lock of this host to a file; `received` hears how many bytes came.

        Its hash is for the caller. Raises `NotFound` when it can't be fetched.
        """
        fetch = _Fetch()

        def bring() -> None:
            with path.open("xb+") as file:
                self._download(wheel, fetch, file, wheel.size or free_bytes(path.parent))

        async def count() -> None:
            while True:
                await asyncio.sleep(_COUNTED_SECONDS)
                received(fetch.fetched)

        async with self._slots:
            counting = asyncio.create_task(count())
            try:
                await BUILDING.run(bring)
            finally:
                fetch.stopped.set()
                await cancel(counting)

    async def stop(self) -> None:
        """End what is being fetched."""
        tasks = [each.task for each in self._fetches.values() if each.task is not None]
        for each in self._fetches.values():
            each.stopped.set()
        await cancel(*tasks)

    def _check(self, wheel: WheelFile) -> None:
        if self.settings.relay is RelayMode.OFF:
            raise NotFound(
                sentence("this worker fetches nothing for others"), {"hint": _HOW_TO_ALLOW}
            )
        settings = self.settings
        policy = RelayPolicy.of(
            settings.allowed_hosts, self.reachable.pip(), offline=settings.offline_install
        )
        policy.check(wheel)

    def _fetch(self, wheel: WheelFile) -> _Fetch:
        fetch = self._fetches.get(wheel.sha256)
        if fetch is None:
            fetch = self._fetches[wheel.sha256] = _Fetch()
            fetch.task = asyncio.create_task(self._run(wheel, fetch))
            fetch.task.add_done_callback(partial(self._forget, wheel.sha256))
        return fetch

    def _forget(self, sha256: str, task: asyncio.Task[None]) -> None:
        del self._fetches[sha256]
        if not task.cancelled():
            # Retrieved, in case no one waits for it any more.
            task.exception()

    async def _run(self, wheel: WheelFile, fetch: _Fetch) -> None:
        async with self._slots:
            try:
                await BUILDING.run(self._bring, wheel, fetch)
            finally:
                fetch.stopped.set()

    def _bring(self, wheel: WheelFile, fetch: _Fetch) -> None:
        """Fetch a wheel into the store; blocks."""
        most = self.settings.relay_max_bytes
        if (wheel.size or 0) > min(most, free_bytes(self.store.layout.root)):
            raise StoreError(
                sentence(
                    "there is no room for {file_name} among the relayed wheels",
                    file_name=wheel.file_name,
                )
            )
        with self.wheels.adding(wheel.sha256) as file:
            self._download(wheel, fetch, file, wheel.size or most)

    def _download(self, wheel: WheelFile, fetch: _Fetch, file: BinaryIO, most: int) -> None:
        """Write a wheel of `most` bytes at most, in some attempts.

        Raises `NotFound`, and `StoreError` where the disk does not take it.
        """
        place, clock = self.reachable.place_of(wheel), self.reachable.clock
        patience = self.settings.patience
        watch = StallWatch(since=clock.monotonic())
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for fetched in _download(place, self.reachable.environment, file, fetch, most):
                    if watch.looked(Done(written=fetched), clock.monotonic()) > patience:
                        raise TimeoutError(f"next to nothing came for {patience} s")
                return
            except (OSError, HTTPException, ValueError) as error:
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if fetch.stopped.is_set() or refused or attempt == _ATTEMPTS:
                    words = redact_text(str(error), secrets_of([place.url]))[:200]
                    raise NotFound(
                        sentence(
                            "{url} can't be fetched here: {words}",
                            url=redact_url(wheel.url),
                            words=words,
                        )
                    ) from None


_HOW_TO_ALLOW = sentence("XINFERENCE_VIRTUAL_ENV_RELAY is off there")


def _download(
    place: Place,
    environment: Mapping[str, str],
    file: BinaryIO,
    fetch: _Fetch,
    most: int,
) -> Iterator[int]:
    """Write a file from a web server, going on after what is there; `most` bytes at most.

    Yields how many bytes are there after each block.
    """
    there = file.seek(0, 2)
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    with _open(place, environment, request_to(place, environment, headers=headers)) as response:
        if there and response.status != HTTPStatus.PARTIAL_CONTENT:
            there = file.seek(0)
            file.truncate()
        announced = response.headers["Content-Length"]
        fetch.fetched = there
        while block := response.read1(_BLOCK):
            if fetch.stopped.is_set():
                raise ValueError("it was stopped")
            fetch.fetched += len(block)
            if fetch.fetched > most:
                raise ValueError(f"it has more than {most} bytes")
            try:
                file.write(block)
            except OSError as error:
                # Another attempt would meet the same disk.
                raise store_error(error) from error
            yield fetch.fetched
    if announced is not None and fetch.fetched - there < int(announced):
        # A read of so many bytes does not say it: https://github.com/python/cpython/issues/74881
        raise OSError("the connection was closed before the whole file had come")


def _open(
    place: Place, environment: Mapping[str, str], request: urllib.request.Request
) -> HTTPResponse:
    refused: urllib.error.URLError | None = None
    for opener in openers_for(place, environment):
        try:
            response: HTTPResponse = opener.open(request, timeout=_READ_SECONDS)
            return response
        except urllib.error.HTTPError as error:
            # It is an answer as well, whose connection is to be closed.
            error.close()
            raise
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):
                raise
            refused = error
    assert refused is not None
    raise refused
