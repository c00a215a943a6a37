"""A serving cluster that embeds the actors: the example as it stands, and its workers' one call."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest
import xoscar as xo

from tests.index import Index, dead_port
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.actors.cluster import supervisor_pool
from xinference_venv.actors.rpc import WORKER_UID
from xinference_venv.client import Client, worker_client
from xinference_venv.errors import StoreError, WorkerUnavailable
from xinference_venv.runtime.model_process import (
    ModelProcess,
    bind,
    end_sub_pool,
    process_variables,
)

pytestmark = pytest.mark.uv

_ROOT = Path(__file__).parents[2]
_EXAMPLE = _ROOT / "examples" / "serving_cluster.py"
_GUIDE = _ROOT / "docs" / "embedding.md"
# The older of the two that the example launches; magika 0.5.1 allows no Python from 3.13 on.
_OLD, _LABEL = ("0.5.1", "ct_label") if sys.version_info < (3, 13) else ("0.6.3", "label")
# As much of magika as the example asks for, in both generations.
_MAGIKA = """\
from types import SimpleNamespace

import filament

assert filament.__version__ == "{version}", filament.__version__


class Magika:
    def identify_path(self, path):
        return SimpleNamespace(output=SimpleNamespace({label}=path.suffix[1:]))
"""


@pytest.fixture
def magikas(tmp_path: Path, index: Index) -> None:
    """Both versions that the catalogue asks for, which contradict each other in what they need."""
    folder = tmp_path / "wheels"
    for version, needed, label in ((_OLD, "1.0", _LABEL), ("1.0.1", "2.0", "label")):
        build_wheel(folder, "filament", needed)
        build_wheel(
            folder,
            "magika",
            version,
            requires=[f"filament=={needed}"],
            modules={"magika.py": _MAGIKA.format(version=needed, label=label)},
        )


@asynccontextmanager
async def serving_worker(
    environ: Mapping[str, str], supervisor: str, home: Path
) -> AsyncIterator[Client]:
    """What a cluster's worker does: its pool, and our worker in it, with a home of its own."""
    pool = await xo.create_actor_pool(address="127.0.0.1", n_process=0, auto_recover=False)
    try:
        own = {**environ, "XINFERENCE_HOME": str(home)}
        async with worker_client(pool, supervisor, own) as client:
            yield client
    finally:
        await pool.stop()


async def test_the_example_serves_two_contradicting_models_in_two_replicas_each(
    magikas: None, index: Index, environ: dict[str, str], tmp_path: Path
) -> None:
    # The catalogue's has a numpy of its own, which the test's index has not.
    own = {"model_name": "magika-0.6", "virtualenv": {"packages": ["magika==0.6.3"]}}
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / "magika-0.6.json").write_text(json.dumps(own))
    environ["XINFERENCE_VIRTUAL_ENV_SPEC_DIR"] = str(specs)
    with tempfile.TemporaryDirectory() as sockets:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(_EXAMPLE), "notes.md", "table.csv"),
            env={**environ, "PIP_INDEX_URL": index.url, "XOSCAR_DIR": sockets},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    lines = said.decode().splitlines()
    served = [line for line in lines if line.startswith("magika ")]
    told = [(line.split()[1], line.split()[-1].partition(":")[0]) for line in served]
    assert process.returncode == 0
    assert told == [
        (_OLD, "127.0.0.2"),
        (_OLD, "127.0.0.3"),
        ("1.0.1", "127.0.0.2"),
        ("1.0.1", "127.0.0.3"),
    ]
    assert lines.count("  notes.md: md") == lines.count("  table.csv: csv") == 4
    # One resolution for each model, and every lease is given back.
    at_the_end = [line.rpartition(": ")[2] for line in lines if " from lock " in line]
    assert len(at_the_end) == 4
    assert len(set(at_the_end)) == 2
    assert all(line.startswith("0 in use, ") for line in at_the_end)


async def test_a_clusters_worker_gets_its_own_hosts_environment_by_one_call_from_one_lock(
    magikas: None, index: Index, environ: dict[str, str], tmp_path: Path
) -> None:
    request = asking(index, "magika==1.0.1")
    async with (
        supervisor_pool("127.0.0.1:0") as supervisor,
        serving_worker(environ, supervisor.address, tmp_path / "a") as first,
        serving_worker(environ, supervisor.address, tmp_path / "b") as second,
    ):
        one = await first.prepare(request)
        index.clear()
        two = await second.prepare(request)
        assert [one.worker_address, two.worker_address] == [
            first.worker.address,
            second.worker.address,
        ]
        assert str(one.real_path).startswith(str(tmp_path / "a"))
        assert str(two.real_path).startswith(str(tmp_path / "b"))
        assert one.lock_digest == two.lock_digest
        assert two.uv_calls < one.uv_calls
        assert not [line for line in index.requests if line.startswith("GET /simple/")]


async def test_a_pool_of_ones_own_starts_a_process_with_the_interpreter_variables_and_lease(
    magikas: None,
    index: Index,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.example.org/simple")
    async with (
        supervisor_pool("127.0.0.1:0") as supervisor,
        serving_worker(environ, supervisor.address, tmp_path / "a") as client,
    ):
        environment = await client.prepare(asking(index, f"magika=={_OLD}"))
        address = await client.pool.append_sub_pool(
            label="model", start_python=environment.python, env=process_variables(os.environ)
        )
        pid = client.pool.sub_processes[address].pid
        await bind(client.worker, environment, pid)
        variables = psutil.Process(pid).environ()
        assert variables["VIRTUAL_ENV"] == environment.real_path
        assert variables["PATH"].startswith(f"{environment.real_path}/bin:")
        assert "PIP_INDEX_URL" not in variables
        [entry] = await client.entries()
        assert [lease.process.pid for lease in entry.leases] == [pid]
        await end_sub_pool(client.pool, address)
        [entry] = await client.entries()
        assert entry.leases == ()
        # Who gets the port next is asked there, and not at the socket of the process before.
        asked = asyncio.Event()

        def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            writer.close()

        async with await asyncio.start_server(close, *address.split(":")):
            with pytest.raises((xo.ServerClosed, ConnectionError)):
                await xo.actor_ref(address=address, uid=WORKER_UID)
        assert asked.is_set()


def test_the_documentation_shows_the_code_as_it_runs() -> None:
    def lines_of(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    runs = lines_of(_EXAMPLE.read_text()) + lines_of(Path(__file__).read_text())
    blocks = [block.partition("```")[0] for block in _GUIDE.read_text().split("```python\n")[1:]]
    shown = [each.strip() for block in blocks for each in block.split("\n\n")]
    assert shown
    imports = [each for each in shown if each.startswith("from ")]
    for each in imports:
        exec(each, {})
    assert [each for each in shown if each not in imports and lines_of(each) not in runs] == []


class _Stuck:
    """A model process that can't be stopped."""

    async def stop(self) -> None:
        raise StoreError("its lease can't be given back")


async def test_a_worker_ends_though_a_model_process_of_it_can_not_be_stopped(
    environ: dict[str, str],
) -> None:
    pool = await xo.create_actor_pool(address="127.0.0.1", n_process=0, auto_recover=False)
    try:
        async with supervisor_pool("127.0.0.1:0") as supervisor:
            with pytest.raises(StoreError):
                async with worker_client(pool, supervisor.address, environ) as client:
                    client._processes.append(cast(ModelProcess, _Stuck()))
            assert await supervisor.list_workers() == ()
    finally:
        await pool.stop()


async def test_a_worker_that_finds_no_supervisor_leaves_nothing_and_has_its_id_at_the_next_try(
    environ: dict[str, str],
) -> None:
    pool = await xo.create_actor_pool(address="127.0.0.1", n_process=0, auto_recover=False)
    ids = []
    try:
        async with supervisor_pool("127.0.0.1:0") as supervisor:
            async with worker_client(pool, supervisor.address, environ) as client:
                ids.append((await client.worker.registration()).worker_id)
            before = asyncio.all_tasks()
            with pytest.raises(WorkerUnavailable):
                async with worker_client(pool, f"127.0.0.1:{dead_port()}", environ):
                    pass
            assert asyncio.all_tasks() <= before
            async with worker_client(pool, supervisor.address, environ) as client:
                ids.append((await client.worker.registration()).worker_id)
    finally:
        await pool.stop()
    assert ids[0] == ids[1]
