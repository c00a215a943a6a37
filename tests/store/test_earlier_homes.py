"""What earlier releases wrote is read, and written the same way again.

``tests/data/home-0.1.0`` has the records of a home that release 0.1.0 made: a launch over a small
host, verified after a module was deleted, and a launch of the drop-in. `listed.json` is what its
worker answered of the environment. Paths, host name and index were replaced by neutral ones, and
the drop-in's record has three of its interpreter's tags.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from xinference_venv.inventory.env import EnvRecord, EnvState, KeyRecord
from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.job_log import LogEnding, LogHeader, Outcome
from xinference_venv.inventory.lease import Holder, JudgedLease, Lease, ProcessIdentity
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import InheritMode
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.broken_marker import BrokenMarker, read_broken_marker
from xinference_venv.store.paths import BROKEN_NAME, LOCK_NAME, RECORD_NAME, StorePaths
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME as IN_PLACE_NAME

HOME = StorePaths(Path(__file__).parents[1] / "data" / "home-0.1.0")
ENV_ID = "f6381745b1865555b719898d5c2d072e"
ENV = HOME.env(ENV_ID)
KEY = EnvKey(model_name="glow", model_engine="vllm", python_version="3.11")
HOLDER = ProcessIdentity(
    host="lab-1",
    boot="2ad1a95c-d5bf-439d-8d14-e546a33917d8",
    pid=22857,
    start="164151",
    namespace="73b48abb22c7dd58f45f8f10e90d7d24",
)
LEASE = Lease(
    lease_id="0d88621a21a7496b990d57a5445f18f1",
    env_id=ENV_ID,
    model_name="glow",
    model_uid="glow-0",
    process=HOLDER,
    created=1795687474.903024,
)


class Written(Protocol):
    def to_dict(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, data: object) -> Self: ...


def only(folder: Path) -> Path:
    """The one file that lies somewhere below a folder."""
    [path] = (each for each in folder.rglob("*") if each.is_file())
    return path


IN_PLACE = HOME.root / "v4" / "a model" / "vllm" / "3.11.7" / IN_PLACE_NAME
FILES: dict[Path, type[Written]] = {
    ENV / RECORD_NAME: EnvRecord,
    ENV / LOCK_NAME: EnvLock,
    ENV / BROKEN_NAME: BrokenMarker,
    only(HOME.keys): KeyRecord,
    only(HOME.leases): Lease,
    only(HOME.hosts): HostFacts,
    IN_PLACE: InPlaceRecord,
    HOME.root / "listed.json": EnvEntry,
}


def read(path: Path) -> Any:
    return FILES[path].from_dict(json.loads(path.read_bytes()))


def _known_then(written: Any, data: Any) -> Any:
    """What is written, without the keys that a record did not have in that release."""
    if isinstance(written, dict) and isinstance(data, dict):
        return {key: _known_then(each, data[key]) for key, each in written.items() if key in data}
    if isinstance(written, list) and isinstance(data, list) and len(written) == len(data):
        return [_known_then(one, other) for one, other in zip(written, data, strict=True)]
    return written


@pytest.mark.parametrize("path", FILES, ids=lambda path: FILES[path].__name__)
def test_each_record_is_written_as_it_was_read(path: Path) -> None:
    data = json.loads(path.read_bytes())
    of_the_worker = ("actor_ip_address", "worker_address")
    for key in of_the_worker:
        data.pop(key, None)
    written = FILES[path].from_dict(data).to_dict()
    assert json.dumps(_known_then(written, data)) == json.dumps(data)


def test_an_environment_is_what_it_was() -> None:
    record: EnvRecord = read(ENV / RECORD_NAME)
    lock: EnvLock = read(ENV / LOCK_NAME)
    assert (record.env_id, record.lock_digest) == (lock.env_id, lock.digest)
    assert lock.env_id == ENV_ID
    assert (record.installed, record.inherited, record.files) == (2, 1, 27)
    assert record.created == 1795687474.8951232
    assert record.interpreter["path"] == "/opt/python/bin/python3.11"
    assert lock.installed == {"lantern": "1.0", "wick": "2.0"}
    assert {each.name: each.role for each in lock.distributions} == {
        "lantern": Role.INSTALLED,
        "oil": Role.INHERITED,
        "stand": Role.HIDDEN,
        "wick": Role.SHADOWED,
    }
    [asked] = (each for each in lock.distributions if each.asked)
    assert (asked.name, asked.why, asked.requires) == (
        "lantern",
        "model: lantern==1.0",
        ("oil", "wick"),
    )
    assert lock.inherit is InheritMode.HOST


def test_a_mark_says_that_the_environment_is_broken() -> None:
    assert read_broken_marker(Disk(), ENV) == BrokenMarker(
        found=1795687475.7548597,
        faults=("lib/python3.11/site-packages/lantern.py is missing",),
        hashes=True,
    )


def test_a_key_means_the_environment_and_can_be_launched_again() -> None:
    path = only(HOME.keys)
    record: KeyRecord = read(path)
    assert path.stem == KEY.digest
    assert (record.key, record.env_id) == (KEY, ENV_ID)
    assert record.host_fingerprint == only(HOME.hosts).stem
    request = LaunchRequest.from_dict(record.request)
    kept = request.to_keep()
    assert kept is not None and record.request is not None
    # What that release did not know is empty.
    block = {**kept["virtualenv"]}  # type: ignore[dict-item]
    old_block = {**record.request["virtualenv"]}
    assert not any(block.pop(name) for name in block.keys() - old_block.keys())
    assert not any(kept.pop(name) for name in kept.keys() - record.request.keys())
    assert {**kept, "virtualenv": block} == record.request
    assert request.virtualenv is not None
    assert request.virtualenv.packages == ("lantern==1.0",)
    assert not request.virtualenv.inherit_pip_config


def test_a_lease_names_its_holder() -> None:
    assert read(only(HOME.leases)) == LEASE
    entry: EnvEntry = read(HOME.root / "listed.json")
    assert (entry.key, entry.state, entry.env_id) == (KEY, EnvState.READY, ENV_ID)
    assert entry.leases == (JudgedLease.of(LEASE, Holder.ALIVE),)


def test_a_host_is_the_one_that_was_locked_over() -> None:
    path = only(HOME.hosts)
    facts: HostFacts = read(path)
    lock: EnvLock = read(ENV / LOCK_NAME)
    assert facts.fingerprint == path.stem
    assert facts.digest == lock.host_digest
    assert facts.interpreter.platform_digest == lock.platform_digest
    assert facts.versions == {"oil": "1.5", "stand": "1.0", "wick": "1.0"}


def test_a_log_says_how_its_job_ended() -> None:
    first, *others = only(HOME.logs).read_bytes().splitlines()
    header = LogHeader.from_line(first)
    # Who asked was not noted then.
    assert json.loads(header.line) == {**json.loads(first), "asked_by": None}
    assert (header.key, header.owner) == (KEY, HOLDER)
    ending = LogEnding.from_line(others[-1])
    assert ending is not None
    assert ending.line == others[-1].decode()
    assert (ending.outcome, ending.ended, ending.error) == (Outcome.READY, 1795687474.9036248, None)


def test_notes_of_processes_name_them() -> None:
    note = json.loads(only(HOME.processes).read_bytes())
    assert ProcessIdentity.from_dict(note["owner"]) == HOLDER
    assert ProcessIdentity.from_dict(note["process"]).pid == 22906
    held = json.loads(only(HOME.locks).read_bytes())
    assert ProcessIdentity.from_dict(held["process"]) == HOLDER


def test_the_drop_in_knows_what_was_asked_of_an_environment() -> None:
    record: InPlaceRecord = read(IN_PLACE)
    assert (record.asked, record.contents) == (("lantern==1.0",), ("lantern-1.0.dist-info",))
    assert record.lock.installed["lantern"] == "1.0"
    assert record.interpreter.version == "3.11.7"
