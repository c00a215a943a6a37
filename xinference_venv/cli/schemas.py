"""What each command prints with ``--json``, described by the records that it prints.

Comes out: a JSON Schema (draft 2020-12) for each kind of document. The command line itself does
without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from xinference_venv._util.records import Record
from xinference_venv.cli.render.documents import (
    Exported,
    Failed,
    Launched,
    LaunchedOnWorkers,
    Serving,
    Watched,
    WebPage,
)
from xinference_venv.cli.render.prefetch import PrefetchOutcome
from xinference_venv.diagnosis.checks import Diagnoses
from xinference_venv.inventory.diff import EnvironmentDifference
from xinference_venv.inventory.environments import Environments
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_list import ListedJob
from xinference_venv.inventory.job_log import WholeLog
from xinference_venv.inventory.lease import ReleaseReport, WorkerLease
from xinference_venv.inventory.packages import EnvironmentPackages, ExplainedPackages
from xinference_venv.inventory.reports import (
    CollectionReport,
    ExplainedPlan,
    RemovalReport,
    VerifiedEnvironment,
)
from xinference_venv.rest.routes.cluster import Models, Workers
from xinference_venv.rest.schemas.of_records import model_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Document:
    record: type[Record]
    perhaps: type[Record] | None = None

    @property
    def model(self) -> type[BaseModel]:
        return model_of(self.record, perhaps=self.perhaps)


DOCUMENTS: Mapping[str, _Document] = {
    "launch": _Document(record=Launched),
    "launch-supervisor": _Document(record=LaunchedOnWorkers),
    "launch-dry-run": _Document(record=ExplainedPlan),
    "prefetch": _Document(record=PrefetchOutcome, perhaps=Failed),
    "export": _Document(record=Exported),
    "import": _Document(record=LaunchedOnWorkers, perhaps=Failed),
    "list": _Document(record=Environments),
    "packages": _Document(record=Gathered[EnvironmentPackages]),
    "show": _Document(record=Gathered[EnvironmentPackages]),
    "explain": _Document(record=Gathered[ExplainedPackages]),
    "diff": _Document(record=EnvironmentDifference),
    "remove": _Document(record=Gathered[RemovalReport], perhaps=Failed),
    "models": _Document(record=Models),
    "watch": _Document(record=Watched),
    "jobs": _Document(record=Gathered[ListedJob]),
    "cancel": _Document(record=Gathered[ListedJob]),
    "logs": _Document(record=Gathered[WholeLog]),
    "leases": _Document(record=Gathered[WorkerLease]),
    "release": _Document(record=Gathered[ReleaseReport], perhaps=Failed),
    "doctor": _Document(record=Diagnoses, perhaps=Failed),
    "verify": _Document(record=Gathered[VerifiedEnvironment], perhaps=Failed),
    "gc": _Document(record=Gathered[CollectionReport], perhaps=Failed),
    "supervisor": _Document(record=Serving, perhaps=WebPage),
    "worker": _Document(record=Serving),
    "workers": _Document(record=Workers),
    "web": _Document(record=Serving),
}
"""By command; a kind of `launch` that prints another one has its option behind the name."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document: what the command prints, or that it failed."""
    either: Any = DOCUMENTS[name].model | model_of(Failed)
    words = name.replace("launch-", "launch --")
    described = TypeAdapter(either).json_schema(mode="serialization")
    return {"$schema": _DIALECT, "title": f"xinference-venv {words} --json", **described}
