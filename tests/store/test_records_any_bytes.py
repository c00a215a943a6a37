"""Whatever stands in a file of the store: it is read as what it should be, or clearly refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import host, interpreter, key
from tests.store.conftest import (
    attached,
    ended_process,
    lock_of,
    publish,
)
from tests.wheels import build_wheel
from xinference_venv.errors import InvalidRecord, NotFound
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.host import Accelerator, HostFacts, Interpreter
from xinference_venv.service import host_facts as hosts_module
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.settings import Settings
from xinference_venv.store.listing import entries_of
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.process_journal import ProcessJournal
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep
from xinference_venv.uv.subprocess import ProcessRunner, Uv

KEY = key()

ODD: tuple[Any, ...] = (
    *(None, True, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), float("-inf")),
    *("", ".", "..", "/", "../../etc", "\0", "a\0b", "\ud800", "x" * 5000, "模型"),
    *([], {}, [[]], [{}], {"": None}, ["\0"], {"\ud800": 1}, {"\0": [1]}),
)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a store, whole, and a way to read it that ends well or in `InvalidRecord`."""

    path: Path
    content: bytes
    read: Callable[[], object]


def places_of(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the parts of plain JSON values are."""
    found = [path]
    parts: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    for name, part in parts:
        found += places_of(part, (*path, name))
    return found


def replaced(value: Any, path: tuple[Any, ...], odd: object) -> Any:
    """The value with one of its parts exchanged."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], odd)
    return copy


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file's content: cut, overwritten in the middle, or of anything."""
    at = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["cut", "overwritten", "anything", "nested"])):
        case "cut":
            return content[:at]
        case "overwritten":
            other = draw(st.binary(max_size=8))
            return content[:at] + other + content[at + draw(st.integers(0, 8)) :]
        case "anything":
            return draw(st.binary(max_size=64))
        case _:
            return draw(st.sampled_from([b"[", b'{"key":'])) * 5000


def env_file(store: Store, name: str) -> File:
    env_id = attached(store, "numpy")
    path = store.layout.env(env_id) / name

    def read() -> object:
        [entry] = entries_of(store)
        if entry.state is EnvState.READY:
            assert store.env_record(env_id).env_id == env_id
        else:
            assert entry.reason
            with pytest.raises(InvalidRecord):
                store.take_lease(env_id, model_name="m", model_uid=None, process=this_process())
        return store.lock_of(env_id)

    return File(path=path, content=path.read_bytes(), read=read)


def record_file(store: Store, _: Path) -> File:
    return env_file(store, RECORD_NAME)


def lock_file(store: Store, _: Path) -> File:
    return env_file(store, LOCK_NAME)


def key_file(store: Store, _: Path) -> File:
    env_id = attached(store, "numpy")
    path = store.layout.keys / f"{KEY.digest}.json"

    def read() -> object:
        [entry] = entries_of(store)
        assert (entry.key, entry.env_id, entry.state) == (KEY, env_id, EnvState.READY)
        record = store.key_record(KEY)
        # When it was last used is the time of the file.
        return None if record is None else replace(record, last_used=0.0)

    return File(path=path, content=path.read_bytes(), read=read)


def lease_file(store: Store, _: Path) -> File:
    lease = publish(store, lock_of("numpy"))
    path = store.layout.leases_of(lease.env_id) / f"{lease.lease_id}.json"

    def read() -> object:
        # One that can't be read is some process's, and keeps the files.
        for found, holder in store.leases.of(lease.env_id):
            assert holder is not Holder.GONE
            assert found.env_id
        # A start of another boot makes it one that is over.
        with suppress(InvalidRecord, NotFound):
            store.leases.bind(lease.env_id, lease.lease_id, this_process())
        sweep(store)
        return store.leases.find(lease.env_id, lease.lease_id)

    return File(path=path, content=path.read_bytes(), read=read)


def process_file(store: Store, _: Path) -> File:
    journal = ProcessJournal(layout=store.layout, disk=store.disk)
    dead = ended_process().to_dict()
    note = {"process": dead, "owner": dead}
    path = store.layout.processes / "4242.json"

    def read() -> object:
        journal.sweep()
        return None

    return File(path=path, content=json.dumps(note).encode(), read=read)


def owner_file(store: Store, _: Path) -> File:
    store.make_staging_folder("a-job")
    path = store.layout.staging / "a-job.owner"

    def read() -> object:
        sweep(store)
        return None

    return File(path=path, content=path.read_bytes(), read=read)


def wheel_file(store: Store, folder: Path) -> File:
    kept = store.wheels.keep(build_wheel(folder, "numpy", "1.0"), "a build")
    path = store.layout.built_wheels(kept.sha256) / "built.json"
    return File(
        path=path, content=path.read_bytes(), read=lambda: store.wheels.find("a build", None)
    )


def host_file(store: Store, _: Path) -> File:
    facts = host()
    store.save_host(facts)
    [path] = store.layout.hosts.iterdir()
    return File(
        path=path, content=path.read_bytes(), read=lambda: store.saved_host(facts.fingerprint)
    )


FILES = {
    "environment": record_file,
    "lock": lock_file,
    "key": key_file,
    "lease": lease_file,
    "process": process_file,
    "owner": owner_file,
    "built wheel": wheel_file,
    "host": host_file,
}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> File:
    return FILES[request.param](store, tmp_path)


def read(file: File, content: bytes) -> None:
    """Read other content in its place; an error of another kind than ours is a failure."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    file.path.write_bytes(content)
    with suppress(InvalidRecord):
        file.read()


def test_any_bytes_are_read_as_a_record_or_refused(file: File) -> None:
    read(file, file.content)

    @settings(max_examples=60, deadline=None, database=None)
    @given(damaged(file.content))
    def check(content: bytes) -> None:
        read(file, content)

    check()


def test_any_value_in_any_place_is_read_as_a_record_or_refused(file: File) -> None:
    value = json.loads(file.content)
    for place in places_of(value):
        for odd in ODD:
            read(file, json.dumps(replaced(value, place, odd)).encode())


@pytest.mark.parametrize("make", [record_file, key_file, lock_file])
def test_a_record_cut_at_any_byte_is_no_record(
    make: Callable[[Store, Path], File], store: Store, tmp_path: Path
) -> None:
    file = make(store, tmp_path)
    whole = file.read()
    assert whole is not None
    for length in range(len(file.content)):
        file.path.write_bytes(file.content[:length])
        [entry] = entries_of(store)
        assert entry.state is (EnvState.BROKEN if make is record_file else EnvState.READY)
        assert file.read() == (whole if make is record_file else None)
    file.path.write_bytes(file.content)
    assert file.read() == whole


class Asking:
    """A worker's way to its host, with answers that are counted."""

    def __init__(self, store: Store, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch):
        self.asked = 0
        self.unknown: tuple[str, ...] = ()
        self._settings = Settings.from_environ(environ, home_directory=environ["HOME"])
        self._store = store

        async def probe(*_: object) -> Interpreter:
            self.asked += 1
            return interpreter()

        async def accelerator(*_: object) -> tuple[Accelerator, tuple[str, ...]]:
            return Accelerator(), self.unknown

        monkeypatch.setattr(hosts_module, "probe_interpreter", probe)
        monkeypatch.setattr(hosts_module, "probe_accelerator", accelerator)
        monkeypatch.setattr(hosts_module, "scan_distributions", lambda _: ((), ()))

    async def facts(self) -> HostFacts:
        """What a worker that has just started finds out."""
        uv = Uv(program="/nowhere/uv", door=ProcessRunner(environment={}, slots=1))
        hosts = HostFactsReader(store=self._store, uv=uv, settings=self._settings, environ={})
        return await hosts.facts()


async def test_what_could_not_be_found_out_of_a_host_is_asked_again_by_the_next_worker(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(store, {"HOME": str(tmp_path)}, monkeypatch)
    asking.unknown = ("GPUs: nvidia-smi took longer than 30 s and was ended",)
    assert (await asking.facts()).skipped == asking.unknown
    asking.unknown = ()
    assert (await asking.facts()).skipped == ()
    await asking.facts()
    assert asking.asked == 2


async def test_facts_of_a_host_that_were_damaged_are_asked_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(store, {"HOME": str(tmp_path)}, monkeypatch)
    whole = await asking.facts()
    assert await asking.facts() == whole
    assert asking.asked == 1
    [path] = store.layout.hosts.glob("probe-*.json")
    content = path.read_bytes()
    value = json.loads(content)
    damages = [content[:length] for length in range(0, len(content), 50)]
    damages += [
        json.dumps(replaced(value, place, odd)).encode()
        for place in places_of(value)
        for odd in ODD
        if place[:1] != ("answer",) or len(place) < 3
    ]
    for damage in damages:
        path.write_bytes(damage)
        await asking.facts()
    path.write_bytes(content)
    before = asking.asked
    assert await asking.facts() == whole
    assert asking.asked == before
