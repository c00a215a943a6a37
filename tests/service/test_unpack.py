"""What a lock needs is unpacked into the store by the real uv, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes import lock
from tests.index import Index
from tests.uv.conftest import Bench
from tests.wheels import build_wheel, corrupt
from xinference_venv.errors import DeadlineExceeded, InstallFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.package import PackageKey
from xinference_venv.planning.relay import WheelFile
from xinference_venv.service.unpack import Unpacking
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.settings import InheritMode
from xinference_venv.store.packages.finish_trees import Filled
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "home" / "virtualenv")


class Unpacks:
    """Unpacks lines, each time as a build of its own."""

    def __init__(self, bench: Bench, store: Store) -> None:
        self.bench = bench
        self.store = store
        self.said: list[tuple[Phase, str]] = []
        self.notes: list[str] = []

    def unpacking(self) -> Unpacking:
        return Unpacking(
            store=self.store,
            uv=replace(self.bench.uv, calls=0),
            spec=self.bench.spec([]),
            deadline=60,
            say=lambda phase, message, **_: self.said.append((phase, message)),
            note=self.notes.append,
        )

    async def lock(self, *lines: str) -> EnvLock:
        resolution = await self.bench.resolve(*lines)
        return lock(*resolution.packages, inherit=InheritMode.NONE)


@pytest.fixture
def unpacks(bench: Bench, store: Store) -> Unpacks:
    return Unpacks(bench, store)


async def test_what_the_store_lacks_is_installed_by_one_call_and_never_again(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    build_wheel(wheels, "lamp", "1.0", requires=["wick"])
    build_wheel(wheels, "wick", "1.0", entry_points={"wick": "wick:main"})
    build_wheel(wheels, "oil", "1.0")
    made = await unpacks.lock("lamp")
    first = unpacks.unpacking()
    records = await first.packages_for(made, store.make_staging_folder("one"))
    assert [each.key for each in records] == [PackageKey.of(each) for each in made.packages]
    assert first.uv.calls == 1
    assert not first.was_cached
    assert first.linked_bytes + first.copied_bytes == sum(each.size_bytes for each in records)
    again = unpacks.unpacking()
    assert await again.packages_for(made, store.make_staging_folder("two")) == records
    assert (again.uv.calls, again.was_cached, again.linked_bytes, again.copied_bytes) == (
        0,
        True,
        0,
        0,
    )
    more = unpacks.unpacking()
    both = await more.packages_for(
        await unpacks.lock("lamp", "oil"), store.make_staging_folder("three")
    )
    assert {each.key.name for each in both} == {"lamp", "wick", "oil"}
    assert set(records) < set(both)
    assert more.linked_bytes + more.copied_bytes == next(
        each.size_bytes for each in both if each.key.name == "oil"
    )
    assert (Phase.DOWNLOADING, "1 package to install") in unpacks.said
    for record in both:
        assert store.packages.verify(record.key.folder, hashes=True) == TreeCheck()


async def test_two_owners_of_one_path_each_get_their_own_file(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    for name in ("lampa", "lampb"):
        build_wheel(wheels, name, "1.0", modules={"tests/__init__.py": f"# {name}\n"})
    build_wheel(wheels, "wick", "1.0")
    made = await unpacks.lock("lampa", "lampb", "wick")
    records = await unpacks.unpacking().packages_for(made, store.make_staging_folder("one"))
    found = {
        each.key.name: store.layout.package(each.key.folder) / "site" / "tests" / "__init__.py"
        for each in records
    }
    assert found["lampa"].read_text() == "# lampa\n"
    assert found["lampb"].read_text() == "# lampb\n"
    assert not found["wick"].exists()


async def test_what_is_there_stays_for_the_build_that_named_it(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    build_wheel(wheels, "lamp", "1.0")
    made = await unpacks.lock("lamp")
    folder = store.make_staging_folder("one")
    [record] = await unpacks.unpacking().packages_for(made, folder)
    assert store.packages.needed_by_builds() == {record.key.folder}
    store.delete_trashed(store.trash_staging_folder("one"))
    assert store.packages.needed_by_builds() == set()


async def test_without_a_hash_of_the_index_the_content_is_the_key(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    build_wheel(wheels, "lamp", "1.0")
    made = await unpacks.lock("lamp")
    [package] = made.packages
    [wheel] = package["wheels"]
    bare = replace(made, packages=({**package, "wheels": [{**wheel, "hashes": {}}]},))
    assert PackageKey.of(bare.packages[0]) is None
    try:
        [record] = await unpacks.unpacking().packages_for(bare, store.make_staging_folder("one"))
    except InstallFailed as error:
        pytest.skip(f"this uv refuses a lock without hashes: {error}")
    [again] = await unpacks.unpacking().packages_for(bare, store.make_staging_folder("two"))
    assert again == record
    assert len(store.packages.folders()) == 1


async def test_a_wheel_that_was_exchanged_since_the_lock_leaves_nothing(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    made = await unpacks.lock("lamp")
    corrupt(wheel)
    with pytest.raises(InstallFailed, match="Hash mismatch") as caught:
        await unpacks.unpacking().packages_for(made, store.make_staging_folder("one"))
    assert caught.value.details["phase"] == "installing"
    assert store.packages.folders() == []


async def test_a_lock_that_installs_nothing_runs_nothing(unpacks: Unpacks, store: Store) -> None:
    unpacking = unpacks.unpacking()
    assert await unpacking.packages_for(lock(), store.make_staging_folder("one")) == ()
    assert unpacking.uv.calls == 0


async def test_two_that_unpack_the_same_at_once_share_it(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    build_wheel(wheels, "lamp", "1.0", requires=["wick"])
    build_wheel(wheels, "wick", "1.0")
    made = await unpacks.lock("lamp")
    # As another process does: with a store of its own.
    other = Unpacks(unpacks.bench, Store.open(store.layout.root))
    one, two = await asyncio.gather(
        unpacks.unpacking().packages_for(made, store.make_staging_folder("one")),
        other.unpacking().packages_for(made, store.make_staging_folder("two")),
    )
    assert [each.key for each in one] == [each.key for each in two]
    assert len(store.packages.folders()) == 2
    for record in one:
        assert store.packages.verify(record.key.folder, hashes=True) == TreeCheck()


class FakeFetcher(WheelFetcher):
    """Gives wheels of the index's folder, or other bytes in their place."""

    def __init__(self, *, wheels: Path, content: bytes | None = None, before: bool = True) -> None:
        self.wheels = wheels
        self.content = content
        self.before = before
        self.asked: list[list[str]] = []

    async def wanted(self, wheels: Mapping[str, WheelFile]) -> dict[str, WheelFile]:
        return dict(wheels) if self.before else {}

    async def fetch(
        self,
        wheels: Mapping[str, WheelFile],
        folder: Path,
        *,
        report: Callable[[str, int], None],
        note: Callable[[str], None],
    ) -> dict[str, Path]:
        self.asked.append(sorted(wheels))
        await asyncio.to_thread(folder.mkdir)
        for wheel in wheels.values():
            content = self.content or (self.wheels / wheel.file_name).read_bytes()
            (folder / wheel.file_name).write_bytes(content)
        return {name: folder / wheel.file_name for name, wheel in wheels.items()}


def files_of(index: Index) -> list[str]:
    return [each for each in index.requests if "/files/" in each and "metadata" not in each]


async def test_what_comes_through_other_workers_is_not_fetched_here(
    unpacks: Unpacks, store: Store, wheels: Path, index: Index
) -> None:
    build_wheel(wheels, "relaya", "1.0", requires=["relayb"])
    build_wheel(wheels, "relayb", "1.0")
    made = await unpacks.lock("relaya")
    index.clear()
    unpacking = unpacks.unpacking()
    fetcher = FakeFetcher(wheels=wheels)
    unpacking.fetcher = fetcher
    records = await unpacking.packages_for(made, store.make_staging_folder("one"))
    assert [each.key for each in records] == [PackageKey.of(each) for each in made.packages]
    assert fetcher.asked == [["relaya", "relayb"]]
    assert files_of(index) == []
    assert unpacking.fetched_bytes == 0


async def test_after_uv_failed_to_fetch_others_are_asked(
    unpacks: Unpacks, store: Store, wheels: Path, index: Index
) -> None:
    build_wheel(wheels, "relayc", "1.0")
    made = await unpacks.lock("relayc")
    index.fail("/files/*", 403)
    unpacking = unpacks.unpacking()
    fetcher = FakeFetcher(wheels=wheels, before=False)
    unpacking.fetcher = fetcher
    [record] = await unpacking.packages_for(made, store.make_staging_folder("one"))
    assert record.key == PackageKey.of(made.packages[0])
    assert fetcher.asked == [["relayc"]]


async def test_uv_itself_checks_the_hash_of_what_came_through_other_workers(
    unpacks: Unpacks, store: Store, wheels: Path, tmp_path: Path
) -> None:
    build_wheel(wheels, "relayd", "1.0")
    made = await unpacks.lock("relayd")
    other = tmp_path / "other"
    other.mkdir()
    lie = build_wheel(other, "relayd", "1.0", modules={"relayd.py": "print('a lie')\n"})
    unpacking = unpacks.unpacking()
    unpacking.fetcher = FakeFetcher(wheels=wheels, content=lie.read_bytes())
    with pytest.raises(InstallFailed, match=r"[Hh]ash mismatch"):
        await unpacking.packages_for(made, store.make_staging_folder("one"))


@pytest.fixture
def shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process and two forks of it finish trees, however little there is to do."""
    monkeypatch.setattr("xinference_venv.store.packages.finish_trees._LEAST_RECORD_BYTES", 0)
    monkeypatch.setattr("xinference_venv.service.unpack.usable_processors", lambda: 2)


@pytest.fixture
def never_done(shared_out: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process does not end by itself before a test has done something to it."""
    command = Filled.command

    def waits(filled: Filled, forks: int) -> tuple[str, ...]:
        monkeypatch.setattr(Filled, "command", command)
        *start, program, file, path = command(filled, forks)
        return (*start, f"import time\ntime.sleep(600)\n{program}", file, path)

    monkeypatch.setattr(Filled, "command", waits)


class Finishers:
    """What finishes trees for an unpacking; `heard` hears of each process by pid as it starts."""

    def __init__(self, unpacking: Unpacking, heard: Callable[[int], object]) -> None:
        self.pids: list[int] = []
        self.heard = heard
        unpacking.uv = replace(unpacking.uv, door=replace(unpacking.uv.door, started=self._started))

    def _started(self, pid: int) -> None:
        # It counts as started a moment before the system knows its arguments.
        while not (command := psutil.Process(pid).cmdline()):
            pass
        if "take_apart" in "".join(command):
            self.pids.append(pid)
            self.heard(pid)


async def _two(unpacks: Unpacks, wheels: Path) -> EnvLock:
    """The lock of two packages, one for each fork."""
    build_wheel(wheels, "lamp", "1.0")
    build_wheel(wheels, "wick", "1.0")
    return await unpacks.lock("lamp", "wick")


@pytest.mark.usefixtures("shared_out")
async def test_forks_that_share_the_work_leave_the_same_in_the_store(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    for name in ("lamp", "wick", "oil"):
        build_wheel(wheels, name, "1.0", modules={f"{name}.py": f"# {name}\n"})
    made = await unpacks.lock("lamp", "wick", "oil")
    unpacking = unpacks.unpacking()
    finishers = Finishers(unpacking, lambda _: None)
    folder = store.make_staging_folder("one")
    records = await unpacking.packages_for(made, folder)
    assert len(finishers.pids) == 1
    assert [each.key.name for each in records] == [each["name"] for each in made.packages]
    for record in records:
        assert store.packages.verify(record.key.folder, hashes=True) == TreeCheck()
    # Nothing of the environment that was taken apart, nor of what the process was to do.
    assert not list(folder.glob("*unpacked*"))


@pytest.mark.usefixtures("shared_out")
async def test_what_is_refused_in_one_fork_ends_the_others(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    build_wheel(wheels, "evil", "1.0", modules={"sitecustomize.py": ""})
    build_wheel(wheels, "good", "1.0")
    made = await unpacks.lock("evil", "good")
    unpacking = unpacks.unpacking()
    finishers = Finishers(unpacking, lambda _: None)
    with pytest.raises(InstallFailed, match="Python would run it at every start"):
        await unpacking.packages_for(made, store.make_staging_folder("one"))
    assert not any(map(psutil.pid_exists, finishers.pids))
    assert store.packages.folders() == []


@pytest.mark.usefixtures("never_done")
async def test_a_killed_process_is_an_error_that_names_its_packages_and_leaves_nothing(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    made = await _two(unpacks, wheels)
    unpacking = unpacks.unpacking()
    finishers = Finishers(unpacking, lambda pid: os.kill(pid, signal.SIGKILL))
    with pytest.raises(InstallFailed, match=r"lamp, wick can't be unpacked: .*signal 9") as caught:
        await unpacking.packages_for(made, store.make_staging_folder("one"))
    assert "run out of memory" in str(caught.value.hint)
    assert not any(map(psutil.pid_exists, finishers.pids))
    assert store.packages.folders() == []
    store.delete_trashed(store.trash_staging_folder("one"))
    records = await unpacks.unpacking().packages_for(made, store.make_staging_folder("two"))
    assert len(records) == 2


@pytest.mark.usefixtures("never_done")
async def test_a_cancelled_build_ends_the_process_that_finishes_its_trees(
    unpacks: Unpacks, store: Store, wheels: Path
) -> None:
    made = await _two(unpacks, wheels)
    unpacking = unpacks.unpacking()
    building = asyncio.ensure_future(unpacking.packages_for(made, store.make_staging_folder("one")))
    finishers = Finishers(unpacking, lambda _: building.cancel())
    with pytest.raises(asyncio.CancelledError):
        await building
    assert finishers.pids
    assert not any(map(psutil.pid_exists, finishers.pids))
    assert store.packages.folders() == []
    store.delete_trashed(store.trash_staging_folder("one"))


@pytest.mark.usefixtures("never_done")
async def test_a_process_that_takes_longer_than_allowed_is_ended(
    unpacks: Unpacks, store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await _two(unpacks, wheels)
    unpacking = unpacks.unpacking()

    finishers = Finishers(unpacking, lambda pid: os.kill(pid, signal.SIGSTOP))
    install = unpacking._install

    async def install_in_time(*arguments: Any) -> None:
        await install(*arguments)
        unpacking.deadline = 0.5

    monkeypatch.setattr(unpacking, "_install", install_in_time)
    with pytest.raises(DeadlineExceeded, match="took longer than"):
        await unpacking.packages_for(made, store.make_staging_folder("one"))
    assert not any(map(psutil.pid_exists, finishers.pids))
    assert store.packages.folders() == []
