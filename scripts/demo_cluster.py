"""The main job over a cluster: two contradicting models on two workers, at once.

Run by ``scripts/demo --cluster``. The workers are those of ``examples/serving_cluster.py``, each
a process with a home and a loopback address of its own. Prints what happens, and ends with status
1 when anything is not what it should be.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import xoscar as xo
from demo import CONSOLE, NUMPY, expect, make_files, show
from rich.table import Table
from serving_cluster import HOSTS, WORKER_UID, worker_process

from xinference_venv.client import Client, connect
from xinference_venv.inventory.jobs import JobEvent, Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.planning.request import LaunchRequest

NAMES = tuple(NUMPY)
HOST_OF_THE_KILLED = HOSTS[1]


def host_of(replica: Replica) -> str:
    """The host part of a worker's address."""
    return replica.worker_address.rpartition(":")[0]


@asynccontextmanager
async def supervisor_process() -> AsyncIterator[str]:
    """The supervisor as the command line starts it; comes with its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xinference_venv", "supervisor", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        line = b"" if process.stdout is None else await process.stdout.readline()
        expect(line.startswith(b"supervisor at "), "the supervisor starts")
        yield line.decode().split()[-1]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def launch(client: Client, *, resolutions: int) -> dict[str, list[Replica]]:
    """Launch both models everywhere, at once; each must be resolved on so many workers."""
    start = time.monotonic()
    resolved: dict[str, set[str]] = {name: set() for name in NAMES}

    def watch(name: str) -> Any:
        def on_event(event: JobEvent) -> None:
            where = (event.worker_address or "").rpartition(":")[0]
            if event.phase is Phase.RESOLVING and event.message.startswith("resolving"):
                resolved[name].add(where)
            CONSOLE.print(f"  {time.monotonic() - start:6.2f} s  {where}  {name:<11}", end="")
            CONSOLE.print(f"{event.phase:<12} ", end="")
            CONSOLE.print(event.message, markup=False, highlight=False, soft_wrap=True)

        return on_event

    launched = await asyncio.gather(
        *(
            client.prepare_on(
                LaunchRequest(model_name=name, model_uid=name),
                everywhere=True,
                on_event=watch(name),
            )
            for name in NAMES
        )
    )
    CONSOLE.print(f"  all ready after {time.monotonic() - start:.2f} s")
    for name, where in resolved.items():
        CONSOLE.print(f"  {name} was resolved by: {', '.join(where) or 'nobody'}")
        expect(len(where) == resolutions, f"{name} is resolved {resolutions} times")
    return dict(zip(NAMES, launched, strict=True))


def result_of(replica: Replica) -> PreparedEnvironment:
    """What a ready replica got."""
    expect(replica.result is not None, f"the launch is ready on {replica.worker_address}")
    assert replica.result is not None
    return replica.result


def show_locks(launched: dict[str, list[Replica]]) -> None:
    """Print what each worker got; equal hosts must have got one lock."""
    table = Table("model", "worker", "calls of uv", "lock", "environment")
    for name, replicas in launched.items():
        results = [result_of(each) for each in replicas]
        for replica, result in zip(replicas, results, strict=True):
            row = [str(result.uv_calls), str(result.lock_digest)[:12], str(result.env_id)[:12]]
            table.add_row(name, replica.worker_address, *row)
        expect(len(replicas) == len(HOSTS), f"{name} is on every worker")
        expect(len({each.lock_digest for each in results}) == 1, f"{name} has one lock")
    CONSOLE.print(table)


async def run_models(launched: dict[str, list[Replica]], folder: Path) -> None:
    """Start every replica by its worker, and let all of them classify the same files."""
    truth = make_files(folder)
    paths = [str(path) for path in truth]

    async def run(name: str, replica: Replica) -> tuple[str, dict[str, str], list[str]]:
        worker = await xo.actor_ref(address=replica.worker_address, uid=WORKER_UID)
        address = await worker.start_model(name, result_of(replica))
        model = await xo.actor_ref(address=address, uid=name)
        return address, await model.describe(), await model.predict(paths)

    started = [(name, replica) for name, replicas in launched.items() for replica in replicas]
    told = await asyncio.gather(*(run(name, replica) for name, replica in started))
    for (name, replica), (address, facts, labels) in zip(started, told, strict=True):
        CONSOLE.print(f"[bold]{name}[/bold] on {host_of(replica)}, process at {address}")
        for key, value in facts.items():
            CONSOLE.print(f"  {key}: {value}", highlight=False, soft_wrap=True)
        expect(address.startswith(f"{host_of(replica)}:"), f"{name} runs on its worker's host")
        expect(facts["prefix"] == result_of(replica).real_path, f"environment of {name}")
        expect(facts["numpy"] in NUMPY[name], f"numpy of {name} is {NUMPY[name]}")
        for path, found in zip(truth, labels, strict=True):
            expect(found == truth[path], f"{path.name} is {truth[path]}, not {found}")
        kinds = ", ".join(f"{labels.count(kind)} {kind}" for kind in sorted(set(labels)))
        CONSOLE.print(f"  files: {kinds}; all {len(labels)} right")


async def show_list(client: Client, worker: str | None = None) -> dict[str, Any]:
    """Print the environments of the cluster, and who did not answer; returns the answer."""
    listed = await client.supervisor.list_virtual_envs(Selection(worker=worker))
    answer: dict[str, Any] = listed.to_dict()
    table = Table("worker", "model", "Python", "state", "MiB", "own", "from the host", "in use")
    for entry in answer["list"]:
        row = [entry["worker_address"], entry["model_name"], entry["python"], entry["state"]]
        row += [f"{entry['size_bytes'] / 2**20:.1f}", str(entry["installed"])]
        table.add_row(*row, str(entry["inherited"]), str(len(entry["leases"])))
    CONSOLE.print(table)
    show_silent(answer)
    return answer


def show_silent(answer: dict[str, Any]) -> None:
    """Print who did not answer, why, and how old the last news of them is."""
    for silent in answer["unreachable"]:
        CONSOLE.print(
            f"  no answer: {silent['worker_address']} ({silent['state']},"
            f" last heard {silent['snapshot_age']:.1f} s ago): {silent['error']['message']}",
            soft_wrap=True,
        )


async def remove(client: Client, host: str) -> list[str]:
    """Remove everything on a host; returns the paths."""
    removed = await client.supervisor.remove_virtual_env(Selection(worker=host))
    answer: dict[str, Any] = removed.to_dict()
    show_silent(answer)
    paths = [entry["path"] for report in answer["list"] for entry in report["done"]]
    for path in paths:
        CONSOLE.print(f"  removed: {path}", soft_wrap=True)
    return paths


async def stop_models(addresses: Sequence[str]) -> None:
    """Let the workers stop their models."""
    for address in addresses:
        worker = await xo.actor_ref(address=address, uid=WORKER_UID)
        await asyncio.gather(*(worker.stop_model(name) for name in NAMES))


async def run(client: Client, folder: Path, to_be_killed: asyncio.subprocess.Process) -> None:
    """The story as long as both workers live, and of the death of one."""
    await client.supervisor.remove_virtual_env(EVERY, force=True)

    CONSOLE.rule("launch both models on both workers")
    launched = await launch(client, resolutions=1)
    show_locks(launched)

    CONSOLE.rule("run all four, each in a process that its own worker started")
    await run_models(launched, folder)

    CONSOLE.rule("launch all again: nothing changed, so nothing to do")
    again = await launch(client, resolutions=0)
    show_locks(again)
    for name, replicas in again.items():
        before = {each.worker_address: result_of(each).env_id for each in launched[name]}
        for replica in replicas:
            result = result_of(replica)
            expect(result.uv_calls == 0, f"the relaunch of {name} takes no uv")
            expect(result.env_id == before[replica.worker_address], f"environment of {name}")
            await client.release(result)

    CONSOLE.rule("list over the cluster")
    answer = await show_list(client)
    expect(len(answer["list"]) == len(HOSTS) * len(NAMES), "all environments are listed")
    expect(all(len(each["leases"]) == 1 for each in answer["list"]), "each is in use once")
    expect(not answer["unreachable"] and not answer["differing"], "the answer is whole")

    CONSOLE.rule("try to remove one that is in use")
    reports = (await client.supervisor.remove_virtual_env(Selection(model_name=NAMES[0]))).list
    for report in reports:
        pids = [x.process.pid for each in report.plan.refuse for x in each.leases]
        CONSOLE.print(f"  refused by {report.worker_address}: used by process {pids[0]}")
        expect(len(pids) == 1 and not report.done, "removal in use is refused")
    expect(len(reports) == len(HOSTS), "every worker refuses")

    CONSOLE.rule(f"kill -9 the worker on {HOST_OF_THE_KILLED}, list")
    to_be_killed.kill()
    await to_be_killed.wait()
    answer = await show_list(client)
    silent = [each["worker_address"].rpartition(":")[0] for each in answer["unreachable"]]
    expect(silent == [HOST_OF_THE_KILLED], "the killed worker is named as silent")
    expect(len(answer["list"]) == len(NAMES), "the other's environments are listed")
    await stop_models([each["worker_address"] for each in answer["list"][:1]])


async def clean_up(client: Client) -> None:
    """Both workers are there again: the leases of the killed one's processes count no more."""
    CONSOLE.rule(f"start it again, remove everything on {' and '.join(HOSTS)}")
    for host in HOSTS:
        expect(len(await remove(client, host)) == len(NAMES), f"all is removed on {host}")
    answer = await show_list(client)
    expect(not answer["list"], "nothing is listed any more")


async def main() -> None:
    """Run the demo, with every actor in a process of its own."""
    os.environ.setdefault("XOSCAR_AUTH_KEY", secrets.token_hex(32))
    with tempfile.TemporaryDirectory() as folder:
        async with (
            supervisor_process() as supervisor,
            worker_process(HOSTS[0], supervisor),
            connect(supervisor) as client,
        ):
            async with worker_process(HOST_OF_THE_KILLED, supervisor) as to_be_killed:
                await run(client, Path(folder), to_be_killed)
            async with worker_process(HOST_OF_THE_KILLED, supervisor):
                await clean_up(client)


if __name__ == "__main__":
    sys.exit(
        show(
            main(),
            [
                f"{' and '.join(NAMES)}, which no one environment can hold, ran on two workers at"
                " once",
                "one worker resolved for both, and what had not changed was not built again",
                "an answer without one of the workers named it, and why",
                "what a killed worker left was taken over when it came back",
            ],
        )
    )
