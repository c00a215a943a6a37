"""The tables of records: what each noun that is kept or sent has as plain JSON values."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import get_type_hints

from sphinx.pycode import ModuleAnalyzer

from directives.markdown import code, table
from xinference_venv._util.records import Record, is_inline
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.inventory import EnvEntry, RemovalPlan
from xinference_venv.inventory.job_log import LogEnding, LogHeader
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.lease import JudgedLease, Lease, ProcessIdentity
from xinference_venv.inventory.replicas import Replica
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock, LockedDistribution
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.store.envs.broken_marker import BrokenMarker

# The title of each group, and its records with the place where they lie.
_GROUPS: dict[str, dict[type, str]] = {
    "On disk": {
        EnvRecord: "`store/envs/{id}/xinference-venv.json`",
        EnvLock: "`store/envs/{id}/xinference-venv.lock.json`",
        LockedDistribution: "",
        BrokenMarker: "`store/envs/{id}/xinference-venv-broken.json`",
        KeyRecord: "`store/keys/{digest}.json`",
        EnvKey: "",
        Lease: "`store/leases/{id}/{lease}.json`",
        ProcessIdentity: "",
        LogHeader: "The first line of a file in `store/logs`.",
        LogEnding: "The last line of a file in `store/logs`.",
    },
    "Over the wire": {
        LaunchRequest: "",
        ModelVirtualEnv: "",
        JobEvent: "",
        PreparedEnvironment: "",
        Replica: "",
        EnvEntry: "",
        JudgedLease: "",
        RemovalPlan: "",
    },
}
_NAMES = frozenset(kind.__name__ for group in _GROUPS.values() for kind in group)
_JSON = {
    "str": "string",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "None": "null",
    "Mapping": "object",
}


def records() -> str:
    """A section for each group, in it one for each record."""
    parts = []
    for title, group in _GROUPS.items():
        parts.append(f"## {title}")
        for kind, place in group.items():
            parts += [f"### {kind.__name__}", *([place] if place else [])]
            parts += [inspect.cleandoc(kind.__doc__ or ""), _table_of(kind)]
    return "\n\n".join(parts)


def _table_of(kind: type) -> str:
    """The keys of a record, with types and docstrings of the fields of that name."""
    rows = []
    for key, owner in _keys(kind):
        documented = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
        types = {field.name: str(field.type) for field in fields(owner)}
        told = " ".join(documented.get((owner.__name__, key), []))
        # What is no field is the version of the record.
        rows.append([code(key), _as_json(types.get(key, "int"), owner), told])
    if any(told for _, _, told in rows):
        return table(["key", "type", "meaning"], rows)
    return table(["key", "type"], [row[:2] for row in rows])


def _as_json(annotation: str, kind: type) -> str:
    """What a field is as JSON: of ``tuple[str, ...] | None`` a list of strings or null."""
    items = re.fullmatch(r"tuple\[(.+), \.\.\.\]", annotation)
    if items:
        return f"list of {_as_json(items[1], kind)}"
    if " | " in annotation:
        return " or ".join(_as_json(each, kind) for each in annotation.split(" | "))
    name = annotation.partition("[")[0]
    if name in _JSON:
        return _JSON[name]
    named = getattr(sys.modules[kind.__module__], name)
    if issubclass(named, Enum):
        return ", ".join(code(each.value) for each in named)
    return f"[{name}](#{name.lower()})" if name in _NAMES else "object"


def _keys(kind: type) -> Iterator[tuple[str, type]]:
    """The keys that a record is written with, and the class that has the field."""
    if issubclass(kind, Record) and kind.record_version is not None:
        yield "version", kind
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_inline(field):
            yield from _keys(hints[field.name])
        else:
            yield field.name, kind
