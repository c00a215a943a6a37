"""Nouns for tests, made with few words: what a test doesn't name has an ordinary value.

And the checks that every record has to stand: through JSON and back, with keys of a later
version, truncated, and damaged in every single place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar

import pytest

from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Holder, JudgedLease, Lease, ProcessIdentity
from xinference_venv.planning.catalog import Catalog, ModelEntry, ModelVariant
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.planning.host import Accelerator, HostDistribution, HostFacts, Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.planning.requirements import Origin, RequirementLine
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.settings import InheritMode, Settings

TAGS = (
    "cp311-cp311-manylinux_2_28_x86_64",
    "cp311-cp311-manylinux_2_17_x86_64",
    "cp311-cp311-linux_x86_64",
    "cp311-abi3-manylinux_2_17_x86_64",
    "py3-none-any",
)
SHA256 = "0123456789abcdef" * 4


def interpreter(version: str = "3.11.7", **changes: Any) -> Interpreter:
    minor = ".".join(version.split(".")[:2])
    made = Interpreter(
        executable=f"/srv/host/bin/python{minor}",
        base_executable=f"/usr/bin/python{minor}",
        version=version,
        markers={
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": "x86_64",
            "python_full_version": version,
            "python_version": minor,
            "sys_platform": "linux",
        },
        tags=tuple(tag.replace("cp311", f"cp{minor.replace('.', '')}") for tag in TAGS),
        search_path=(f"/srv/host/lib/python{minor}/site-packages",),
    )
    return replace(made, **changes)


def distribution(
    name: str, version: str = "1.0", *requires: str, **changes: Any
) -> HostDistribution:
    made = HostDistribution(
        name=name,
        version=version,
        requires=requires,
        location="/srv/host/lib/python3.11/site-packages",
        metadata=f"{name.replace('-', '_')}-{version}.dist-info",
    )
    return replace(made, **changes)


def host(*distributions: HostDistribution, **changes: Any) -> HostFacts:
    made = HostFacts(
        interpreter=interpreter(), distributions=distributions, accelerator=Accelerator()
    )
    return replace(made, **changes)


def line(text: str, name: str | None = None, origin: Origin = Origin.MODEL) -> RequirementLine:
    return RequirementLine(text=text, name=name, origin=origin, written=text)


def key(
    model_name: str = "a-model", model_engine: str | None = "vllm", python_version: str = "3.11"
) -> EnvKey:
    return EnvKey(model_name=model_name, model_engine=model_engine, python_version=python_version)


def spec(*requirements: RequirementLine, **changes: Any) -> EnvSpec:
    made = EnvSpec(
        key=key(),
        requirements=requirements,
        sources=PackageSources(),
        interpreter=interpreter(),
        inherit=InheritMode.HOST,
        skip_installed=True,
        roots=("xoscar",),
        allow_source_builds=True,
        warnings=(),
    )
    return replace(made, **changes)


def wheel_package(name: str, version: str = "1.0", sha256: str = SHA256) -> dict[str, Any]:
    """A PEP 751 package table of one wheel."""
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return {
        "name": name,
        "version": version,
        "wheels": [
            {"url": f"https://files.example/{file}", "size": 1000, "hashes": {"sha256": sha256}}
        ],
        "index": "https://files.example/simple",
    }


def locked(name: str, role: Role = Role.INSTALLED, **changes: Any) -> LockedDistribution:
    made = LockedDistribution(name=name, role=role, version="1.0", why="model: it was asked for")
    return replace(made, **changes)


def lock(*packages: Mapping[str, Any], **changes: Any) -> EnvLock:
    """A lock that installs these packages and inherits nothing."""
    made = EnvLock(
        packages=packages,
        distributions=tuple(
            locked(package["name"], version=package.get("version")) for package in packages
        ),
        python_version="3.11.7",
        platform_digest="a platform",
        inherit=InheritMode.HOST,
        host_digest="a host",
        spec_digest="a spec",
        uv_version="uv 0.9.17",
    )
    return replace(made, **changes)


def process(pid: int = 100, **changes: Any) -> ProcessIdentity:
    return replace(ProcessIdentity(host="a-host", boot="a-boot", pid=pid, start="12345"), **changes)


def lease(lease_id: str = "a-lease", **changes: Any) -> Lease:
    made = Lease(
        lease_id=lease_id,
        env_id="an-env",
        model_name="a-model",
        model_uid=None,
        process=process(),
        created=1_700_000_000.5,
    )
    return replace(made, **changes)


def entry(of: EnvKey | None = None, *leases: Lease, **changes: Any) -> EnvEntry:
    made = EnvEntry(
        key=of or key(),
        path="/home/v4/a-model/vllm/3.11",
        real_path="/home/store/envs/an-env",
        state=EnvState.READY,
        env_id="an-env",
        leases=tuple(JudgedLease.of(each, Holder.ALIVE) for each in leases),
    )
    return replace(made, **changes)


def settings(**environ: str) -> Settings:
    return Settings.from_environ(environ, home_directory="/home/someone")


def catalog(models: Mapping[str, ModelVirtualEnv], *engines: EngineEntry) -> Catalog:
    return Catalog(
        engines={each.name: each for each in engines},
        models={
            name: ModelEntry(
                model_name=name, variants=(ModelVariant(virtualenv=block),), origin="built-in"
            )
            for name, block in models.items()
        },
    )


def request(model_name: str = "a-model", **given: Any) -> LaunchRequest:
    return LaunchRequest.from_dict({"model_name": model_name, **given})


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


class Record(Protocol):
    """What all nouns that cross a process boundary have."""

    def to_dict(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, data: object) -> Self: ...


_R = TypeVar("_R", bound=Record)

_WRONG: tuple[Any, ...] = (
    *(None, True, -1, 10**400, 0.5, math.nan, "", "text", "\ud800"),
    *([], [None], ["text"], [[]], [{}], {}, {"text": None}, {"text": {}}),
)


def check_record(value: Record, *, may_be_absent: Collection[str] = ()) -> None:
    """A record comes back from JSON, tolerates unknown keys, and never half a value is read."""
    kind = type(value)
    data = through_json(value.to_dict())
    assert kind.from_dict(data) == value
    assert kind.from_dict({**data, "of a later version": [{}]}) == value
    for missing in data:
        truncated = {name: each for name, each in data.items() if name != missing}
        if missing in may_be_absent:
            kind.from_dict(truncated)
        else:
            with pytest.raises(InvalidRecord):
                kind.from_dict(truncated)
    for data_of_wrong_type in (None, 3, "text", b"text", [], [data]):
        with pytest.raises(InvalidRecord):
            kind.from_dict(data_of_wrong_type)
    for damaged in _damages(data):
        _read_or_refuse(kind, damaged)


def _read_or_refuse(kind: type[_R], data: Any) -> None:
    try:
        value = kind.from_dict(data)
    except InvalidRecord:
        return
    # What was read is whole: it goes through JSON again, and can be identified.
    again = kind.from_dict(through_json(value.to_dict()))
    assert json.dumps(again.to_dict()) == json.dumps(value.to_dict())
    for name in ("digest", "fingerprint", "platform_digest", "installed", "sizes"):
        if hasattr(kind, name):
            getattr(value, name)


def _damages(value: Any) -> Iterator[Any]:
    """The value with each of its parts in turn taken away or replaced by something wrong."""
    yield from _WRONG
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: each for name, each in value.items() if name != key}
            for damaged in _damages(part):
                yield {**value, key: damaged}
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield [*value[:place], *value[place + 1 :]]
            yield [*value, part]
            for damaged in _damages(part):
                yield [*value[:place], damaged, *value[place + 1 :]]
