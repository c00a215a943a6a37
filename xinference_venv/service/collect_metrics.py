"""What is measured on request: the counts of a process, and what there is at this moment.

Comes in: a worker's launches, or a supervisor's fleet. Comes out: their `MetricRegistry`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from xinference_venv.errors import DeadlineExceeded, VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.cluster_state import ClusterState, WorkerState
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.lease import Holder
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.counts import StoreCounts, count_store


async def measures_of_worker(launches: LaunchService, started: float) -> MetricRegistry:
    """All that a worker measures; `started` is when it was, in seconds since the epoch."""
    door = launches.uv.door
    now = _measures_of_store(
        await asyncio.to_thread(count_store, launches.store), building=len(launches.builds)
    )
    now.set(metrics.STARTED, value=started)
    now.set(metrics.SLOTS, value=door.slots)
    phases = [job.journal.phase for job in launches.registry.running()]
    for phase in Phase:
        if not phase.is_last:
            now.set(metrics.JOBS, phase.value, value=phases.count(phase))
    # What nothing waits for yet is none, rather than unknown.
    for resource in ("key", "packages", "slot"):
        now.set(metrics.WAITING, resource, value=0)
    now.set(metrics.SUBPROCESSES, value=0)
    return MetricRegistry.merged(launches.measures, door.measures, now)


def measures_of_supervisor(
    fleet: ClusterState,
    counted: MetricRegistry,
    *,
    answered: Collection[str],
    complete: bool,
    now: float,
) -> MetricRegistry:
    """All that a supervisor measures; `answered` are the addresses of workers that just did."""
    counted.keep_only("worker", fleet.members)
    found = MetricRegistry()
    found.set(metrics.COMPLETE, value=complete)
    for address, member in fleet.members.items():
        joined = member.registration
        found.set(metrics.INFO, address, joined.host_name, joined.release, value=1)
        found.set(metrics.UP, address, value=address in answered)
        for state in WorkerState:
            found.set(metrics.STATE, address, state.value, value=state is member.state(now))
        if joined.heartbeat is not None:
            found.set(metrics.HEARD, address, value=now - member.heard)
    return MetricRegistry.merged(counted, found)


@contextmanager
def timed_question(measures: MetricRegistry, worker: str, method: str) -> Iterator[None]:
    """Measure a question to a worker; one that is given up counts for nothing."""
    began = time.monotonic()
    try:
        yield
    except VirtualEnvError as error:
        measures.add(metrics.RPC_FAILURES, worker, method, error.to_dict()["code"])
        if isinstance(error, WorkerUnavailable | DeadlineExceeded):
            raise
        _note_answer(measures, worker, method, began)
        raise
    _note_answer(measures, worker, method, began)


def _note_answer(measures: MetricRegistry, worker: str, method: str, began: float) -> None:
    measures.observe(metrics.RPC_SECONDS, worker, method, value=time.monotonic() - began)


def _measures_of_store(counts: StoreCounts, *, building: int) -> MetricRegistry:
    found = MetricRegistry()
    environments = {**counts.environments, EnvState.BUILDING: building}
    for state in EnvState:
        found.set(metrics.ENVIRONMENTS, state.value, value=environments.get(state, 0))
    for holder in (Holder.ALIVE, Holder.UNKNOWN):
        found.set(metrics.LEASES, holder.value, value=counts.leases.get(holder, 0))
    found.set(metrics.KEYS, value=counts.keys)
    found.set(metrics.ENVIRONMENT_BYTES, value=counts.recorded_bytes)
    found.set(metrics.FREE_BYTES, value=counts.free_bytes)
    return found
