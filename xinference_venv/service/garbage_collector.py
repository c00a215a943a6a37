"""Keeping a store small: garbage collection on request, and by the settings' policy.

Comes in: a policy. Comes out: a report of what went and what stayed. What goes is decided by
`plan_eviction`; here are the locks, the threads and the time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv._util.tasks import cancel, ignore, in_background
from xinference_venv.errors import (
    DeadlineExceeded,
    InUse,
    InvalidRecord,
    StoreError,
    VirtualEnvError,
)
from xinference_venv.inventory.eviction import (
    EnvUsage,
    Eviction,
    EvictionPlan,
    EvictionPolicy,
    plan_eviction,
)
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.reports import (
    CacheUsage,
    CollectionReport,
    DiskUsage,
    Evicted,
    InPlace,
    PrunedCache,
    Skipped,
    Unmanaged,
    UnneededItem,
)
from xinference_venv.observability import metrics
from xinference_venv.sentences import sentence
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.disk_usage import measure, recorded_bytes, usages_of
from xinference_venv.store.gc import (
    UnneededFile,
    delete_unneeded,
    find_unneeded,
    move_to_trash,
    record_use,
)
from xinference_venv.store.host_files import disk_id, folder_id, free_bytes, total_bytes
from xinference_venv.store.keys import key_places
from xinference_venv.store.legacy.layouts import is_in_place, old_directories
from xinference_venv.store.packages.retention import (
    UnneededTree,
    record_tree_use,
    remove_trees,
    unneeded_trees,
)
from xinference_venv.store.relayed_wheels import RelayedWheels
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import Scale, Stop, Weight, weigh
from xinference_venv.uv.subprocess import Uv

# How often the policy is applied where nothing happens.
_EVERY_SECONDS = 600.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class GarbageCollector:
    """The garbage collection of one worker; `policy` is the policy it keeps to by itself."""

    launches: LaunchService
    policy: EvictionPolicy
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _measuring: asyncio.Task[DiskUsage] | None = field(default=None, init=False)
    # Environments that were measured together, and what they took: they never change.
    _known: tuple[frozenset[tuple[str, float]], int] = field(default=(frozenset(), 0), init=False)

    @property
    def _store(self) -> Store:
        return self.launches.store

    @property
    def _uv(self) -> Uv:
        return self.launches.uv

    @property
    def _relayed(self) -> RelayedWheels:
        return RelayedWheels(
            layout=self._store.layout,
            disk=self._store.disk,
            max_bytes=self.launches.settings.relay_max_bytes,
        )

    def start(self) -> None:
        """Apply the policy from now on, where there is one."""
        if self.policy != EvictionPolicy():
            self._task = in_background(self._keep_to_policy(), "keeping to the policy", _log)

    def look_soon(self) -> None:
        """Apply the policy now, since there is something new."""
        self._wanted.set()

    async def stop(self) -> None:
        """End what goes on by itself; returns when it has ended."""
        await cancel(*filter(None, (self._task, self._measuring)))

    async def collect(
        self, policy: EvictionPolicy, *, prune_uv_cache: bool, dry_run: bool
    ) -> CollectionReport:
        """Evict what a policy evicts, and delete what nothing needs; returns a report.

        A dry run changes nothing and reports what would go.
        """
        async with self._alone:
            usages = await self._usages()
            usages = await _while_awaited(measure, self._store, usages)
            plan = plan_eviction(usages, policy, now=time.time(), since=self._store.seen_since)
            found = await _while_awaited(find_unneeded, self._store, time.time(), self._relayed)
            evicted, skipped = await self._would_evict(plan) if dry_run else await self._evict(plan)
            trees = await self._unneeded_trees(plan, policy)
            cleared = found
            if not dry_run:
                await UPKEEP.finish(record_use, self._store, usages)
                await UPKEEP.finish(record_tree_use, self._store)
                cleared = await UPKEEP.finish(delete_unneeded, self._store, found)
                trees = await UPKEEP.finish(remove_trees, self._store, trees)
            cache, pruned, failure = await self._cache(prune=prune_uv_cache and not dry_run)
            unmanaged, in_place = await self._not_collected()
        freed = sum(each.freed_bytes for each in evicted) + pruned.own_bytes
        gone = sum(each.eviction.usage.added_bytes for each in evicted)
        return CollectionReport(
            dry_run=dry_run,
            evict=tuple(evicted),
            skipped=tuple(skipped),
            in_use=plan.in_use,
            unneeded=(*map(_unneeded_file, cleared), *map(_unneeded_tree, trees)),
            bytes_before=plan.bytes_before,
            bytes_after=plan.bytes_before - gone,
            freed_bytes=freed
            + sum(each.size_bytes for each in cleared)
            + sum(each.own_bytes for each in trees),
            max_bytes=policy.max_bytes,
            unmanaged=unmanaged,
            in_place=in_place,
            uv_cache=PrunedCache(
                usage=self._cache_usage(cache),
                pruned_bytes=pruned.size_bytes,
                error=None if failure is None else Failure.of(failure),
            ),
            worker_address=self.launches.address,
        )

    async def disk_usage(self, timeout: float) -> DiskUsage:
        """What is on the disk, measured by one walk for all who ask at once; changes nothing.

        Raises `DeadlineExceeded` after `timeout` seconds; the walk goes on for who asks again.
        """
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure())
        done, _ = await asyncio.wait([self._measuring], timeout=timeout)
        if not done:
            raise DeadlineExceeded(
                sentence("the disk was not measured within {timeout} s", timeout=f"{timeout:g}"),
                {"hint": sentence("measuring goes on: ask again in a while")},
            )
        return self._measuring.result()

    async def _measure(self) -> DiskUsage:
        async with self._alone:
            usages = await _while_awaited(measure, self._store, await self._usages())
            cache, *_ = await self._cache(prune=False)
            unmanaged, in_place = await self._not_collected()
        return DiskUsage(
            environments=tuple(usages),
            unmanaged=unmanaged,
            in_place=in_place,
            uv_cache=self._cache_usage(cache),
            relayed_bytes=await UPKEEP.run(self._relayed.size_bytes),
            free_bytes=await asyncio.to_thread(free_bytes, self._store.layout.root),
            total_bytes=await asyncio.to_thread(total_bytes, self._store.layout.root),
            worker_address=self.launches.address,
            disk_id=await asyncio.to_thread(disk_id, self._store.layout.root),
            store_id=await asyncio.to_thread(folder_id, self._store.layout.root),
        )

    async def _keep_to_policy(self) -> None:
        while True:
            try:
                async with self._alone:
                    await self._apply()
            except (VirtualEnvError, OSError) as error:
                _log.warning("the eviction policy could not be applied: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _apply(self) -> None:
        usages = await self._usages()
        await UPKEEP.finish(record_use, self._store, usages)
        await UPKEEP.finish(record_tree_use, self._store)
        limit = self.policy.max_bytes
        if limit is not None and not await UPKEEP.run(self._surely_fit, usages, limit):
            usages = await _while_awaited(measure, self._store, usages)
            await UPKEEP.run(self._remember, usages)
        plan = plan_eviction(usages, self.policy, now=time.time(), since=self._store.seen_since)
        evicted, skipped = await self._evict(plan)
        trees = await self._unneeded_trees(plan, self.policy)
        for tree in await UPKEEP.finish(remove_trees, self._store, trees):
            _log.info("removed the %s %s, which nothing needs", tree.kind, tree.path.name)
        for gone in evicted:
            usage = gone.eviction.usage
            _log.info("evicted %s (%s): %s", usage.env_id, gone.eviction.reason, _names(usage))
        for kept in skipped:
            _log.info("kept %s: %s", kept.eviction.usage.env_id, kept.why)

    def _surely_fit(self, usages: list[EnvUsage], limit: int) -> bool:
        """Whether records and the last walk show that all fits, so that no new walk is needed."""
        known, total = self._known
        try:
            there = recorded_bytes(self._store, usages)
        except (InvalidRecord, StoreError):
            return False
        if not known <= there.keys():
            # What others shared with the one that is gone may be rebuilt, and be theirs alone.
            known, total = frozenset(), 0
        return total + sum(size for which, size in there.items() if which not in known) <= limit

    def _remember(self, usages: list[EnvUsage]) -> None:
        """Keep what a walk has found, while every record can be read."""
        with suppress(InvalidRecord, StoreError):
            there = frozenset(recorded_bytes(self._store, usages))
            self._known = (there, sum(usage.added_bytes for usage in usages))

    async def _usages(self) -> list[EnvUsage]:
        launching = {build.spec.key for build in self.launches.builds.values()}
        return await UPKEEP.run(usages_of, self._store, launching)

    async def _unneeded_trees(
        self, plan: EvictionPlan, policy: EvictionPolicy
    ) -> list[UnneededTree]:
        """The trees that nothing needs once a plan is carried out, and that go by a policy."""
        limit = math.inf if policy.max_bytes is None else policy.max_bytes
        return await _while_awaited(
            partial(
                unneeded_trees,
                now=time.time(),
                room_bytes=limit - plan.bytes_after,
                without={each.usage.env_id for each in plan.evict},
            ),
            self._store,
        )

    async def _would_evict(self, plan: EvictionPlan) -> tuple[list[Evicted], list[Skipped]]:
        """What `_evict` would do: each removal frees what those before it left."""
        scale = Scale()
        freed_before = 0
        evicted = []
        for each in plan.evict:
            env = self._store.layout.env(each.usage.env_id)
            freed = (await _while_awaited(scale.put, env)).own_bytes
            size = each.usage.size_bytes
            weight = Weight(size_bytes=size, linked_bytes=size - (freed - freed_before))
            evicted.append(_evicted(each, weight))
            freed_before = freed
        return evicted, []

    async def _evict(self, plan: EvictionPlan) -> tuple[list[Evicted], list[Skipped]]:
        """Evict what was planned, one by one, and never what is used by now."""
        evicted = []
        skipped = []
        for each in plan.evict:
            env = self._store.layout.env(each.usage.env_id)
            weight = await _while_awaited(weigh, [env])
            try:
                trashed = await self._move_to_trash(each.usage)
                if trashed is not None:
                    await UPKEEP.finish(self._store.delete_trashed, trashed)
            except DeadlineExceeded:
                why = sentence("a launch or a removal of it is under way")
                skipped.append(Skipped(eviction=each, why=why))
            except (InUse, StoreError) as error:
                skipped.append(Skipped(eviction=each, why=str(error)))
            else:
                evicted.append(_evicted(each, weight))
                measures, reason = self.launches.measures, each.reason.value
                measures.add(metrics.EVICTIONS, reason)
                measures.add(metrics.EVICTED_BYTES, reason, by=weight.own_bytes)
        return evicted, skipped

    async def _move_to_trash(self, usage: EnvUsage) -> Path | None:
        """Alone with all keys of an environment; a launch that has one of them goes before."""
        async with AsyncExitStack() as locks:
            # In one order, so that no two collections wait for each other.
            for key in sorted(usage.keys, key=lambda key: key.digest):
                await locks.enter_async_context(
                    self.launches.hold_key(key, "eviction", deadline=0.0, on_wait=ignore)
                )
            return await UPKEEP.finish(move_to_trash, self._store, usage)

    async def _cache(self, *, prune: bool) -> tuple[Weight, Weight, VirtualEnvError | None]:
        """What uv's cache takes, what was pruned of it, and why it could not be pruned."""
        if self._cache_path is None:
            return Weight(), Weight(), None
        before = await _while_awaited(weigh, [self._cache_path])
        if not prune:
            return before, Weight(), None
        try:
            await self._uv.prune_cache(deadline=float(self.launches.settings.build_timeout))
        except VirtualEnvError as error:
            # What was done before it is reported as well.
            return before, Weight(), error
        after = await _while_awaited(weigh, [self._cache_path])
        # Others may have put something into it meanwhile.
        size = max(0, before.size_bytes - after.size_bytes)
        freed = min(size, max(0, before.own_bytes - after.own_bytes))
        return after, Weight(size_bytes=size, linked_bytes=size - freed), None

    def _cache_usage(self, weight: Weight) -> CacheUsage:
        return CacheUsage(
            path=self._cache_path,
            size_bytes=weight.size_bytes,
            shared_bytes=weight.linked_bytes,
        )

    @property
    def _cache_path(self) -> str | None:
        return self._uv.door.environment.get("UV_CACHE_DIR")

    async def _not_collected(self) -> tuple[Unmanaged, InPlace]:
        """What older versions left, and what the drop-in for Xinference has made."""
        old, in_place = await UPKEEP.run(self._old_directories)
        sizes = [await _while_awaited(weigh, each) for each in (old, in_place)]
        return (
            Unmanaged(count=len(old), size_bytes=sizes[0].size_bytes),
            InPlace(count=len(in_place), size_bytes=sizes[1].size_bytes),
        )

    def _old_directories(self) -> tuple[list[Path], list[Path]]:
        layout = self._store.layout
        found = [each for each in old_directories(layout, key_places(layout)) if not each.is_link]
        there = [each.path for each in found if is_in_place(each.path)]
        return [each.path for each in found if each.path not in there], there


async def _while_awaited(work: Callable[..., _T], *arguments: Any) -> _T:
    """The result of blocking work that takes a `Stop` last; it stops when this is cancelled."""
    given_up = threading.Event()
    stop: Stop = given_up.is_set
    try:
        return await UPKEEP.run(work, *arguments, stop)
    except asyncio.CancelledError:
        given_up.set()
        raise


def _evicted(eviction: Eviction, weight: Weight) -> Evicted:
    return Evicted(
        eviction=eviction, freed_bytes=weight.own_bytes, linked_bytes=weight.linked_bytes
    )


def _unneeded_file(found: UnneededFile) -> UnneededItem:
    return UnneededItem(kind=found.kind, path=str(found.path), size_bytes=found.size_bytes)


def _unneeded_tree(found: UnneededTree) -> UnneededItem:
    return UnneededItem(kind=found.kind, path=str(found.path), size_bytes=found.own_bytes)


def _names(usage: EnvUsage) -> str:
    return ", ".join(map(str, usage.keys)) or "no key"
