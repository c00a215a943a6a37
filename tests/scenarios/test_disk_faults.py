"""Launches on a disk that fails: full, read-only, or with one operation that goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_disk import FaultyDisk, failing
from tests.index import Index
from tests.plain import plain
from tests.scenarios.hosts import Host
from tests.scenarios.steps import asking, environments, left_behind, says, version_of
from tests.store.conftest import ended_process, rubbish
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import InstallFailed, StoreError, VirtualEnvError
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store import store as store_module
from xinference_venv.store.leases import Leases
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
# What clears away: when that fails, something stays until the next start.
CLEARING = ("move_to_trash", "delete", "discard", "remove_empty", "unlink")
SMALL_BYTES = 8 << 20


@pytest.fixture
def bare_host(tmp_path: Path, environ: dict[str, str]) -> Host:
    """A host with little to link, so that launches take few operations."""
    host = Host.make(tmp_path / "host", environ)
    host.add("xoscar", version("xoscar"))
    return host


async def attempt(client: Client, request: LaunchRequest) -> VirtualEnvError | None:
    """Launch, and give what is prepared back; returns the error that a user would see."""
    try:
        await client.release(await client.prepare(request))
    except VirtualEnvError as error:
        return error
    return None


async def remove_all(client: Client) -> None:
    answer = plain(
        await client.supervisor.remove_virtual_env(Selection(model_name="glow"), force=True)
    )
    assert answer["list"][0]["refuse"] == []


async def check_healed(client: Client, layout: StorePaths, request: LaunchRequest) -> None:
    """The fault is over: the next launch succeeds, and nothing but it is there."""
    prepared = await client.prepare(request)
    assert await says(prepared.python, version_of("lantern")) == "1.0"
    [entry] = await client.entries()
    assert (entry.state, entry.env_id) == ("ready", prepared.env_id)
    assert environments(layout) == [prepared.env_id]
    await client.release(prepared)


@pytest.mark.usefixtures("bare_host")
async def test_whichever_operation_of_the_disk_fails_nothing_is_half_made(
    environ: dict[str, str], index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr(store_module, "Disk", lambda: disk)
    request = asking(index, "lantern==1.0")
    async with local_client(environ) as client:
        assert await attempt(client, request) is None
        await remove_all(client)
        at, failures = 0, 0
        while True:
            number = ERRORS[at % len(ERRORS)]
            before = _unfinished(layout)
            disk.break_at(at, failing(number))
            error = await attempt(client, request)
            broke = disk.broke
            if not broke:
                break
            operation = disk.done[at]
            disk.mend()
            if error is not None:
                failures += 1
                assert isinstance(error, StoreError), (operation, error)
                assert os.strerror(number) in error.message
            assert {entry.state for entry in await client.entries()} <= {"ready"}, operation
            if not operation.startswith(CLEARING):
                assert _unfinished(layout) <= before, operation
            await check_healed(client, layout, request)
            await remove_all(client)
            at += 1
        disk.mend()
    assert failures > 10
    _end_owners(layout)
    sweep(Store.open(layout.root))
    assert rubbish(Store.open(layout.root)) == []


def _unfinished(layout: StorePaths) -> set[Path]:
    """What nobody waits for any more after a launch that failed."""
    places = (layout.staging, layout.trash, layout.processes)
    leases = layout.leases.glob("*/*")
    return {path for place in places for path in place.iterdir()}.union(leases)


def _end_owners(layout: StorePaths) -> None:
    """Let what is staged be a dead process's."""
    for owner in layout.staging.glob("*.owner"):
        owner.write_text(json.dumps(ended_process().to_dict()))


@pytest.fixture
def small_disk(tmp_path: Path, environ: dict[str, str]) -> Iterator[Path]:
    """A file system of few bytes, which the home of the test lies on."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small tmpfs can't be mounted here: {done.stderr.strip()}")
    environ["XINFERENCE_HOME"] = str(place / "home")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small_layout(small_disk: Path) -> StorePaths:
    return StorePaths(small_disk / "home" / "virtualenv")


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Leave not a byte free."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 65536):
            pass
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


@pytest.mark.usefixtures("bare_host")
async def test_packages_that_do_not_fit_are_named_and_leave_nothing(
    environ: dict[str, str], index: Index, wheels: Path, small_layout: StorePaths
) -> None:
    build_wheel(wheels, "lighthouse", "1.0", data={"lighthouse.bin": b"\1" * 2 * SMALL_BYTES})
    async with local_client(environ) as client:
        error = await attempt(client, asking(index, "lighthouse==1.0"))
        assert isinstance(error, InstallFailed | StoreError), error
        assert "space" in error.message
        assert error.hint
        assert left_behind(small_layout) == []
        assert await client.entries() == []
        await check_healed(client, small_layout, asking(index, "lantern==1.0"))


@pytest.mark.usefixtures("bare_host")
@pytest.mark.parametrize(("owner", "method"), [(Store, "publish"), (Leases, "take")])
async def test_a_disk_that_fills_up_ends_the_launch_and_leaves_nothing(
    environ: dict[str, str],
    index: Index,
    small_disk: Path,
    small_layout: StorePaths,
    monkeypatch: pytest.MonkeyPatch,
    owner: type[Any],
    method: str,
) -> None:
    request = asking(index, "lantern==1.0")
    real: Callable[..., Any] = getattr(owner, method)

    def on_a_full_disk(*given: Any, **named: Any) -> Any:
        with filled(small_disk):
            return real(*given, **named)

    async with local_client(environ) as client:
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, on_a_full_disk)
            error = await attempt(client, request)
        assert isinstance(error, StoreError), error
        assert "No space left on device" in error.message
        assert "gc" in str(error.hint)
        assert await client.entries() == []
        assert _unfinished(small_layout) == set()
        assert environments(small_layout) == []
        await check_healed(client, small_layout, request)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody make or remove an entry of a folder, not even root."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
    else:
        program = shutil.which("chattr")
        done = subprocess.run(
            [program or "false", "+i", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"root can't be kept from writing here: {done.stderr.strip()}")
    try:
        yield
    finally:
        if os.geteuid() != 0:
            folder.chmod(0o755)
        else:
            subprocess.run(["chattr", "-i", str(folder)], check=True)


@pytest.mark.usefixtures("bare_host")
@pytest.mark.parametrize(
    "name", ["envs", "staging", "leases", "keys", "logs", "locks", "processes"]
)
async def test_a_folder_that_became_read_only_is_named_and_heals(
    client: Client, index: Index, layout: StorePaths, name: str
) -> None:
    request = asking(index, "lantern==1.0")
    folder = layout.store / name
    with read_only(folder):
        error = await attempt(client, request)
        assert isinstance(error, StoreError), error
        assert str(folder) in error.message
        assert "write" in str(error.hint)
        assert await client.entries() == []
    assert _unfinished(layout) == set()
    await check_healed(client, layout, request)
