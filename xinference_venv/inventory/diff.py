"""The difference of two environments: which packages one has and the other has not, or otherwise.

Comes in: how people name two environments, and what is listed of them. Comes out: a `Difference`,
package by package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from xinference_venv._util.records import Record, inline
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import UnreachableWorker
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import LockedDistribution, Role
from xinference_venv.sentences import sentence

_NO_ENGINE = "-"
_FORM = "MODEL[/ENGINE[/PYTHON[/WORKER]]]"


class PackageChange(StrEnum):
    """What became of a package; `ORIGIN`: the same version, installed here and inherited there."""

    ADDED = "added"
    REMOVED = "removed"
    VERSION = "version"
    ORIGIN = "origin"


def parse_name(text: str) -> Selection:
    """What people call an environment: ``MODEL/ENGINE/PYTHON/WORKER``, or only as much of it.

    An empty part means any, ``-`` no engine. No name of a model, an engine or a worker has a
    slash, so it separates them, as it does the folders that environments are found in. Raises
    `InvalidInput`.
    """
    parts = text.split("/")
    if len(parts) > 4:
        raise InvalidInput(
            sentence("{text} names no environment", text=repr(text)),
            {"hint": sentence("allowed is {form}, like m/vllm/3.11", form=_FORM)},
        )
    model, engine, python, worker = [*parts, "", "", ""][:4]
    return Selection(
        model_name=model,
        model_engine="" if engine == _NO_ENGINE else engine.lower() or None,
        python_version=python or None,
        worker=worker or None,
    )


def is_meant(wanted: Selection, environment: Environment) -> bool:
    """Whether an environment of a worker is meant."""
    return wanted.matches(environment.entry.key) and wanted.is_on(environment.worker_address)


def name_of(key: EnvKey, worker: str | None) -> str:
    """The whole name of an environment, as `parse_name` reads it; with its worker if given."""
    parts = [key.model_name, key.model_engine or _NO_ENGINE, key.python_version]
    return "/".join(parts if worker is None else [*parts, worker])


def name_in(environment: Environment, *, worker: bool) -> str:
    """The whole name of an environment; `worker` says whether its worker is part of it."""
    return name_of(environment.entry.key, environment.worker_address if worker else None)


def options_of(environment: Environment, *, worker: bool) -> str:
    """The options of a command that select an environment of a model."""
    key = environment.entry.key
    words = ["--engine", key.model_engine or "''", "--python-version", key.python_version]
    return " ".join([*words, "--worker", environment.worker_address] if worker else words)


def check_selected(model: str, found: Sequence[Environment], *, workers: bool) -> None:
    """Check that a model and options select one environment of those found.

    `workers` says whether the options of candidates need their worker. Raises `InvalidInput`.
    """
    if len(found) > 1:
        options = sorted({options_of(each, worker=workers) for each in found})
        raise _several(model, found, sentence("choose one: {options}", options="; ".join(options)))


def _several(text: str, found: Sequence[Environment], hint: str) -> InvalidInput:
    return InvalidInput(
        sentence(
            "{text} matches {found_count} environments", text=repr(text), found_count=len(found)
        ),
        {"hint": hint},
    )


def check_one(text: str, found: Sequence[Environment], *, workers: bool) -> None:
    """Check that a name means one environment of those found, whose packages are known.

    `workers` says whether the names of candidates need their worker. Raises `InvalidInput`.
    """
    if len(found) > 1:
        named = sorted({name_in(each, worker=workers) for each in found})
        raise _several(text, found, sentence("name one of: {named}", named=", ".join(named)))
    for each in found:
        if not each.entry.has_known_packages:
            state = each.entry.state
            raise InvalidInput(
                sentence(
                    "nothing is known of the packages of {text}: it is {state}",
                    text=repr(text),
                    state=state,
                )
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageVersion(Record, name="package"):
    """A package as one environment has it; the version is None where only the install tells it."""

    version: str | None
    role: Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed(Record, name="changed package"):
    """A package that two environments don't have alike; None where one has it not."""

    name: str
    change: PackageChange
    a: PackageVersion | None
    b: PackageVersion | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference(Record, name="difference"):
    """From environment a to environment b; `same` packages are alike in both."""

    changes: tuple[Changed, ...]
    same: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentDifference(Record, name="difference of two environments"):
    """From environment a to environment b; `unreachable` may have had others of these names."""

    a: Environment
    b: Environment
    difference: Difference = field(metadata=inline())
    unreachable: tuple[UnreachableWorker, ...]


def difference(a: Iterable[LockedDistribution], b: Iterable[LockedDistribution]) -> Difference:
    """What differs between the packages that two environments show, by name.

    What is shadowed or hidden of the host is not shown by either.
    """
    before, after = _shown_packages(a), _shown_packages(b)
    changes = []
    for name in sorted(before.keys() | after.keys()):
        change = _change(before.get(name), after.get(name))
        if change is not None:
            changes.append(Changed(name=name, change=change, a=before.get(name), b=after.get(name)))
    same = len(before.keys() & after.keys()) - sum(
        each.a is not None and each.b is not None for each in changes
    )
    return Difference(changes=tuple(changes), same=same)


def _shown_packages(distributions: Iterable[LockedDistribution]) -> dict[str, PackageVersion]:
    return {
        each.name: PackageVersion(version=each.version, role=each.role)
        for each in distributions
        if each.role in (Role.INSTALLED, Role.INHERITED)
    }


def _change(a: PackageVersion | None, b: PackageVersion | None) -> PackageChange | None:
    if a is None:
        return PackageChange.ADDED
    if b is None:
        return PackageChange.REMOVED
    if a.version != b.version:
        return PackageChange.VERSION
    return None if a.role is b.role else PackageChange.ORIGIN
