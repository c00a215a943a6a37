"""Model processes: real sub pools in real environments, from their start to whatever end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import xoscar as xo
from xoscar.backends.router import Router

from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import alive, asking, eventually
from tests.wheels import build_wheel
from xinference_venv.client import Client
from xinference_venv.errors import DeadlineExceeded, ModelStartFailed, NotFound
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.runtime.model_process import ModelProcess, start_model_process
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

_SOURCE = """\
import os
import sys

import psutil
import six
import xoscar as xo

VERSION = "{version}"


class Model(xo.StatelessActor):
    def report(self):
        listening = [
            each.laddr.ip
            for each in psutil.Process().net_connections(kind="inet")
            if each.status == psutil.CONN_LISTEN
        ]
        return {{
            "version": VERSION,
            "pid": os.getpid(),
            "prefix": sys.prefix,
            "executable": sys.executable,
            "six": six.__file__,
            "of_installers": [each for each in os.environ if each.startswith(("UV_", "PIP_"))],
            "python_path": os.environ.get("PYTHONPATH"),
            "wanted": os.environ.get("MODEL_WANTS"),
            "listening": listening,
        }}
"""


@pytest.fixture
def models(tmp_path: Path, index: Index) -> None:
    """Two versions of a model, each of which needs the ``filament`` that the other can't have."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "six", "1.17.0")
    for version in ("1", "2"):
        build_wheel(folder, "filament", version)
        build_wheel(
            folder,
            "bulb",
            version,
            requires=[f"filament=={version}", "six"],
            modules={"bulb.py": _SOURCE.format(version=version)},
        )


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """The model's class as this process knows it: by name, without its packages."""
    module = types.ModuleType("bulb")
    exec("import xoscar as xo\n\nclass Model(xo.StatelessActor): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "bulb", module)
    found: type[Any] = module.Model
    return found


@pytest.fixture
def no_child_stays() -> Iterator[None]:
    """The test must leave no child of this process."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = {
        each
        for each in psutil.Process().children(recursive=True)
        # uv's keeper stays as long as this process.
        if not any("reaper.py" in word for word in _command_of(each))
    }
    # What compiles bytecode in the background ends by itself.
    assert psutil.wait_procs(left - before, timeout=60)[1] == []


async def _report(process: ModelProcess, model_class: type[Any]) -> dict[str, Any]:
    model = await xo.create_actor(model_class, address=process.address, uid="model")
    answer: dict[str, Any] = await model.report()
    return answer


@pytest.mark.usefixtures("models", "no_child_stays")
async def test_two_models_that_contradict_each_other_run_at_once(
    client: Client,
    index: Index,
    tmp_path: Path,
    model_class: type[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "six.py").write_text("raise ImportError('the stray one')\n")
    monkeypatch.chdir(stray)
    monkeypatch.setenv("PYTHONPATH", str(stray))
    monkeypatch.setenv("UV_INDEX_URL", "https://user:secret@index.example/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.example/simple")

    one, two = await asyncio.gather(
        client.prepare(asking(index, "bulb==1", model="bulb-1")),
        client.prepare(asking(index, "bulb==2", model="bulb-2")),
    )
    first, second = await asyncio.gather(
        client.start(one, label="bulb-1"),
        client.start(two, label="bulb-2", variables={"MODEL_WANTS": "light"}),
    )
    reports = await asyncio.gather(_report(first, model_class), _report(second, model_class))

    for version, process, report in zip("12", (first, second), reports, strict=True):
        real = str(process.environment.real_path)
        assert report["version"] == version
        assert report["pid"] == process.pid
        assert report["prefix"] == real
        assert report["executable"] == f"{real}/bin/python"
        assert report["six"].startswith(f"{real.removesuffix('venv')}view/lib/")
        assert report["of_installers"] == []
        assert report["python_path"] is None
        assert set(report["listening"]) == {"127.0.0.1"}
    assert [report["wanted"] for report in reports] == [None, "light"]
    holders = [lease.process.pid for entry in await client.entries() for lease in entry.leases]
    assert holders == [first.pid, second.pid]
    refused = plain(await client.supervisor.remove_virtual_env(Selection(model_name="bulb-1")))[
        "list"
    ][0]["refuse"]
    assert refused[0]["leases"][0]["process"]["pid"] == first.pid

    os.kill(first.pid, signal.SIGKILL)
    await eventually(lambda: not alive(first.pid))
    [killed, running] = await client.entries()
    assert killed.leases == ()
    assert [lease.process.pid for lease in running.leases] == [second.pid]
    for process in (second, second, first):
        await process.stop()
    assert [entry.leases for entry in await client.entries()] == [(), ()]


@pytest.mark.usefixtures("models", "no_child_stays")
async def test_a_model_that_dies_gives_its_lease_back_by_itself(
    client: Client, index: Index, layout: StorePaths
) -> None:
    prepared = await client.prepare(asking(index, "bulb==1"))
    process = await client.start(prepared, label="bulb")
    lease = layout.leases / str(prepared.env_id) / f"{prepared.lease_id}.json"
    assert lease.exists()

    os.kill(process.pid, signal.SIGKILL)
    await eventually(lambda: not lease.exists())
    # What is remembered of it would be in the way of others.
    router = Router.get_instance_or_empty()
    await eventually(lambda: router.get_internal_address(process.address) is None)
    assert process.address not in client.pool.sub_processes


@pytest.mark.usefixtures("models", "no_child_stays")
async def test_a_model_is_stopped_although_another_one_answers_nothing(
    client: Client, index: Index
) -> None:
    prepared = await client.prepare(asking(index, "bulb==1"))
    busy = await client.start(prepared, label="busy")
    process = await client.start(await client.prepare(asking(index, "bulb==1")), label="bulb")
    os.kill(busy.pid, signal.SIGSTOP)
    stopping = asyncio.create_task(process.stop())
    try:
        # xoscar takes no notice of being cancelled there, so a timeout would.
        assert (await asyncio.wait([stopping], timeout=60))[0]
    finally:
        os.kill(busy.pid, signal.SIGCONT)
    await stopping
    assert not alive(process.pid)
    await busy.stop()


@pytest.mark.usefixtures("wheels", "no_child_stays")
@pytest.mark.parametrize(
    ("does", "wrong"), [("exit 3", "returncode: 3"), (None, "No such file"), ("#", "returncode: 0")]
)
async def test_a_start_that_fails_leaves_neither_child_nor_lease(
    client: Client, index: Index, tmp_path: Path, does: str | None, wrong: str
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    launcher = tmp_path / "launcher"
    if does is not None:
        _write_launcher(launcher, does)
    with pytest.raises(ModelStartFailed, match=f"the process of glow did not start: .*{wrong}"):
        await client.start(replace(prepared, python=str(launcher)), label="glow")

    [entry] = await client.entries()
    assert entry.leases == ()


@pytest.mark.usefixtures("wheels", "no_child_stays")
async def test_a_start_beyond_its_deadline_leaves_neither_child_nor_lease(
    client: Client, index: Index, tmp_path: Path
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    launcher = tmp_path / "launcher"
    _write_launcher(launcher, "exec sleep 60")
    with pytest.raises(DeadlineExceeded, match=r"glow did not start within 0\.2 s"):
        await start_model_process(
            client.pool,
            client.worker,
            replace(prepared, python=str(launcher)),
            label="glow",
            deadline=0.2,
        )

    [entry] = await client.entries()
    assert entry.leases == ()


@pytest.mark.usefixtures("wheels", "no_child_stays")
async def test_a_cancelled_start_leaves_neither_child_nor_lease(
    client: Client, index: Index
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    starting = asyncio.create_task(client.start(prepared, label="glow"))
    await eventually(lambda: _runs(prepared))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    [entry] = await client.entries()
    assert entry.leases == ()


@pytest.mark.usefixtures("models", "no_child_stays")
async def test_a_start_is_given_up_although_another_model_answers_nothing(
    client: Client, index: Index
) -> None:
    """xoscar tells each process of a new one, and waits for its answer without an end."""
    busy = await client.start(await client.prepare(asking(index, "bulb==1")), label="busy")
    prepared = await client.prepare(asking(index, "bulb==2", model="bulb-2"))
    os.kill(busy.pid, signal.SIGSTOP)
    starting = asyncio.create_task(client.start(prepared, label="bulb"))
    try:
        await eventually(lambda: len(client.pool.sub_processes) == 2)
        starting.cancel()
        assert (await asyncio.wait([starting], timeout=60))[0]
    finally:
        os.kill(busy.pid, signal.SIGCONT)
    assert starting.cancelled()
    assert [*client.pool.sub_processes] == [busy.address]
    leases = {entry.key.model_name: len(entry.leases) for entry in await client.entries()}
    assert leases["bulb-2"] == 0
    await busy.stop()


@pytest.mark.usefixtures("models", "no_child_stays")
async def test_who_ends_a_model_that_loads_does_not_wait_for_it(
    client: Client, index: Index, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    (tmp_path / "loading.py").write_text(
        "import time\n\nimport xoscar as xo\n\n\n"
        "class Loading(xo.StatelessActor):\n"
        "    def __init__(self, began):\n"
        "        open(began, 'x').close()\n"
        "        time.sleep(600)\n"
    )
    process = await client.start(await client.prepare(asking(index, "bulb==1")), label="bulb")
    actor = ActorClass(
        module="loading",
        name="Loading",
        arguments={"began": str(began)},
        paths=(str(tmp_path),),
    )
    creating = asyncio.create_task(client.create_actor(process, actor, uid="bulb"))
    await eventually(began.exists)
    creating.cancel()
    try:
        assert (await asyncio.wait([creating], timeout=60))[0]
    finally:
        await process.stop()
    assert creating.cancelled()


@pytest.mark.usefixtures("wheels", "no_child_stays")
async def test_a_start_whose_lease_was_given_back_leaves_no_child(
    client: Client, index: Index
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    await client.release(prepared)
    with pytest.raises(NotFound, match=f"there is no lease {prepared.lease_id}"):
        await client.start(prepared, label="glow")

    assert client.pool.sub_processes == {}


def _write_launcher(path: Path, does: str) -> None:
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def _runs(environment: PreparedEnvironment) -> bool:
    return any(
        str(environment.real_path) in " ".join(_command_of(child))
        for child in psutil.Process().children(recursive=True)
    )


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        # It has ended meanwhile.
        return []
