"""The measures of a whole cluster, as the supervisor gathers them for a scrape."""

from __future__ import annotations

from dataclasses import dataclass, field

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.gathered import UnreachableWorker
from xinference_venv.observability.registry import MeasuresReport


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerMeasures(Record, name="measures of a worker"):
    """What a worker measured, and its address; `disk_id` as `DiskUsage` has it."""

    measures: MeasuresReport = field(metadata=inline())
    worker_address: str
    disk_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterMeasures(Record, name="measures of a cluster"):
    """The supervisor's own measures, those of each worker that answered, and who did not."""

    supervisor: MeasuresReport
    list: tuple[WorkerMeasures, ...] = ()
    unreachable: tuple[UnreachableWorker, ...] = ()
