"""Every metric there is: its name, type, labels and meaning.

Names and units follow Prometheus's conventions. No label holds what users make up (models,
engines, jobs, packages), so the number of series is bounded by the number of workers: which model
a number is about is in the log, the lists of jobs and the environments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from xinference_venv.inventory.jobs import Phase
from xinference_venv.observability.registry import Kind, Metric

PREFIX = "xinference_venv_"
# From a relaunch (some milliseconds) to a build of large packages from source.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
# Fewer: there are these for each method of each worker.
_RPC_SECONDS = (0.002, 0.01, 0.05, 0.25, 1, 5, 30)


class Source(StrEnum):
    """Where the environment of a launch that became ready came from."""

    HOST = "host"
    """No environment was wanted: the host's interpreter."""
    RELAUNCH = "relaunch"
    """Its key referred to the right one already: nothing was resolved or built."""
    JOINED = "joined"
    """An equal launch was building it."""
    SHARED = "shared"
    """It was resolved, and an environment with this lock was there."""
    WARM = "warm"
    """It was built, and uv's cache had every package when they were installed."""
    COLD = "cold"
    """It was built, and uv had to fetch or unpack some of them first."""


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=PREFIX + name, kind=Kind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=PREFIX + name, kind=Kind.GAUGE, help=text, labels=labels)


def _seconds(name: str, text: str, *labels: str, buckets: Iterable[float] = _SECONDS) -> Metric:
    bounds = tuple(map(float, buckets))
    return Metric(
        name=f"{PREFIX}{name}_duration_seconds",
        kind=Kind.HISTOGRAM,
        help=text,
        labels=labels,
        buckets=bounds,
    )


_RUNNING = ", ".join(phase for phase in Phase if not phase.is_last)

# Of a worker

STARTED = _gauge("worker_start_time_seconds", "When the worker was started (Unix time).")
JOBS = _gauge("jobs", f"Launches that run now, by phase: {_RUNNING}.", "phase")
JOB_SECONDS = _seconds(
    "job",
    "How long launches took to their end: ready, failed or cancelled. `source` says of those that"
    f" became ready where the environment came from: {', '.join(Source)}.",
    *("outcome", "source"),
)
PHASE_SECONDS = _seconds("job_phase", "How long launches that ended were in each phase.", "phase")
JOB_FAILURES = _counter("job_failures_total", "Launches that failed, by code of the error.", "code")
WAITING = _gauge(
    "waiting",
    "What waits now: launches for their key, which another launch or a removal has (key), or for"
    " the build of the same packages (packages); subprocesses for a slot (slot).",
    "resource",
)
WAIT_SECONDS = _seconds(
    "wait", "How long launches and subprocesses waited for each of these.", "resource"
)
SUBPROCESSES = _gauge(
    "subprocesses", "Subprocesses that run now: uv, and interpreters that are looked at."
)
SLOTS = _gauge("subprocess_slots", "How many subprocesses may run at once.")
UV_SECONDS = _seconds("uv", "How long runs of uv took, by uv's command.", "command")
UV_FAILURES = _counter(
    "uv_failures_total",
    "Runs of uv that ended with an error or at their deadline. A resolution may try several ways,"
    " and one that has no solution counts here.",
    "command",
)
DOWNLOADED = _counter(
    "downloaded_bytes_total",
    "Bytes of wheels that uv had to fetch, from an index or a folder, as far as uv names them:"
    " small ones are left out unless all were fetched.",
)
RELAYED = _counter("relayed_bytes_total", "Bytes of wheels that this worker sent to others.")
INSTALLED = _counter(
    "installed_bytes_total",
    "Bytes of packages unpacked into the store: linked to uv's cache, or copied (where that is on"
    " another file system).",
    "how",
)
ENVIRONMENTS = _gauge(
    "environments",
    "Environments: ready, building, broken, in-place (of the drop-in for Xinference), or unmanaged"
    " (left by older versions).",
    "state",
)
KEYS = _gauge(
    "environment_keys",
    "Models (with engine and Python version) that an environment is there for; several may share"
    " one.",
)
ENVIRONMENT_BYTES = _gauge(
    "environment_bytes",
    "What the environments take at most, as recorded when each was built: files that are linked"
    " count in each.",
)
FREE_BYTES = _gauge("store_free_bytes", "Free bytes of the file system of the environments.")
LEASES = _gauge(
    "leases", "Uses of environments: by a process that lives (alive), or may (unknown).", "holder"
)
EVICTIONS = _counter("evictions_total", "Environments that were evicted, by reason.", "reason")
EVICTED_BYTES = _counter(
    "evicted_bytes_total", "Bytes that were freed by evicting environments.", "reason"
)

# Of the supervisor

COMPLETE = _gauge(
    "cluster_complete",
    "0 in the first seconds of a supervisor, while workers may have yet to register.",
)
UP = _gauge("worker_up", "1 when the worker answered this scrape, else 0.", "worker")
INFO = _gauge("worker_info", "1, with what the worker is.", "worker", "host_name", "release")
STATE = _gauge(
    "worker_state",
    "1 for the worker's state by its last heartbeat: alive, suspect or gone; 0 for the others.",
    *("worker", "state"),
)
HEARTBEATS = _counter("heartbeats_total", "Heartbeats of the worker that were received.", "worker")
HEARD = _gauge(
    "worker_heard_seconds", "How long ago the last heartbeat of the worker arrived.", "worker"
)
RPC_SECONDS = _seconds(
    "rpc",
    "How long the worker took to answer the supervisor. `wait`, `lock_of_job` and `ready_lock`"
    " wait for something on purpose.",
    *("worker", "method"),
    buckets=_RPC_SECONDS,
)
RPC_FAILURES = _counter(
    "rpc_failures_total",
    "Calls of the supervisor that the worker answered with an error, or not at all, by code.",
    *("worker", "method", "code"),
)


def _by_name(*metrics: Metric) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in metrics}


OF_WORKER = _by_name(
    *(STARTED, JOBS, JOB_SECONDS, PHASE_SECONDS, JOB_FAILURES, WAITING, WAIT_SECONDS),
    *(SUBPROCESSES, SLOTS, UV_SECONDS, UV_FAILURES, DOWNLOADED, RELAYED, INSTALLED),
    *(ENVIRONMENTS, KEYS, ENVIRONMENT_BYTES, FREE_BYTES, LEASES, EVICTIONS, EVICTED_BYTES),
)
"""What each worker measures; a scrape adds the label ``worker`` in front."""
OF_SUPERVISOR = _by_name(*(COMPLETE, UP, INFO, STATE, HEARTBEATS, HEARD, RPC_SECONDS, RPC_FAILURES))
