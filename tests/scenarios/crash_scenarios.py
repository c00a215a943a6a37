"""What is run to be killed: scenarios, and the homes that they begin with."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.plain import plain
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.model_process import bind
from xinference_venv.store.atomic import temporary_path
from xinference_venv.store.process_identity import this_process

# The model that most scenarios are about, and the one that a living process uses throughout.
MODEL, HELD = "glow", "held"


@dataclass(frozen=True, kw_only=True)
class World:
    """What all scenarios share: an index, variables, a process that lives through all of it."""

    folder: Path
    index_url: str
    variables: Mapping[str, str]
    holder: int

    def template(self, name: str) -> Path:
        """The home that a scenario's homes are copies of."""
        return self.folder / "templates" / name

    def environ(self, home: Path) -> dict[str, str]:
        """The variables of a worker with this home."""
        return {**self.variables, "XINFERENCE_HOME": str(home)}

    def asking(self, *packages: str, model: str = MODEL) -> LaunchRequest:
        """A launch of a model with these packages."""
        block = {"packages": packages, "index_url": self.index_url, "inherit_pip_config": False}
        return LaunchRequest.from_dict({"model_name": model, "virtualenv": block})


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is done in a copy of a template and killed, and which launch must succeed after that.

    `from_start` counts the start of the worker too, `below` only what is done in that folder of
    the home: the rest of a launch is that of every other. `launch` gives a model, what it asks for,
    and a module with its version that a process in its environment then imports.
    """

    name: str
    template: str
    act: Callable[[Client, World], Awaitable[None]]
    launch: tuple[str, str, tuple[str, str]] = (MODEL, "lantern==1.0", ("lantern", "1.0"))
    from_start: bool = False
    below: str = ""


# Homes to begin with


def _make_empty(_: World, home: Path) -> None:
    home.mkdir(parents=True)


def _make_full(world: World, home: Path) -> None:
    """A model that nobody uses, and one that the holder uses."""

    async def fill(client: Client) -> None:
        await client.release(await client.prepare(world.asking("lantern==1.0")))
        await _bind(client, world, await client.prepare(world.asking("taper==1.0", model=HELD)))

    home.mkdir(parents=True)
    asyncio.run(_with_client(world, home, fill))


def _make_crowded(world: World, home: Path) -> None:
    """Two more models that nobody uses; they share an environment."""

    async def fill(client: Client) -> None:
        for model in ("stray", "straying"):
            await client.release(await client.prepare(world.asking("lantern==2.0", model=model)))

    shutil.copytree(world.template("full"), home, symlinks=True)
    asyncio.run(_with_client(world, home, fill))


def _make_broken(world: World, home: Path) -> None:
    _make_with_damage(world, home, MODEL)


def _make_broken_in_use(world: World, home: Path) -> None:
    _make_with_damage(world, home, HELD)


def _make_with_damage(world: World, home: Path, model: str) -> None:
    shutil.copytree(world.template("full"), home, symlinks=True)
    [link] = home.glob(f"virtualenv/v3/{model}/*")
    (link / "xinference-venv.json").write_text("{")


def _make_littered(world: World, home: Path) -> None:
    """All that crashes leave, of this process, which is dead when the home is used."""

    async def fill(client: Client) -> None:
        await client.prepare(world.asking("lantern==1.0"))
        await client.release(await client.prepare(world.asking("lantern==2.0", model="stray")))

    shutil.copytree(world.template("full"), home, symlinks=True)
    asyncio.run(_with_client(world, home, fill))
    root = home / "virtualenv"
    store = root / "store"
    [stray] = root.glob("v3/stray/*")
    [glow] = root.glob(f"v3/{MODEL}/*")
    process = this_process()
    dead = process.to_dict()
    shutil.copytree(stray.resolve(), store / "staging" / "a-job" / "env", symlinks=True)
    (store / "staging" / "a-job.owner").write_text(json.dumps(dead))
    shutil.copytree(stray.resolve(), store / "trash" / "a-grave", symlinks=True)
    stray.unlink()
    note = {"process": {**dead, "pid": process.pid + 1}, "owner": dead}
    (store / "processes" / f"{process.pid + 1}.json").write_text(json.dumps(note))
    for path in (
        store / "keys" / "a-key.json",
        store / "hosts" / "a-host.json",
        store / "leases" / glow.resolve().name / "a-lease.json",
        store / "staging" / "another-job.owner",
        root / "v4" / MODEL / "vllm" / "3.11",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary_path(path).write_text("{")
    temporary_path(glow).symlink_to(glow.readlink())


TEMPLATES: Mapping[str, Callable[[World, Path], None]] = {
    "empty": _make_empty,
    "full": _make_full,
    "crowded": _make_crowded,
    "broken": _make_broken,
    "broken in use": _make_broken_in_use,
    "littered": _make_littered,
}


async def _with_client(world: World, home: Path, work: Callable[[Client], Awaitable[None]]) -> None:
    async with local_client(world.environ(home)) as client:
        await work(client)


async def _bind(client: Client, world: World, environment: PreparedEnvironment) -> None:
    await bind(client.worker, environment, world.holder)


# What is done


async def _launch(client: Client, world: World) -> None:
    await client.prepare(world.asking("lantern==1.0"))


async def _launch_other_packages(client: Client, world: World) -> None:
    await client.prepare(world.asking("lantern==2.0"))


async def _launch_equal(client: Client, world: World) -> None:
    await client.prepare(world.asking("lantern==1.0", model="shine"))


async def _launch_held(client: Client, world: World) -> None:
    await client.prepare(world.asking("taper==1.0", model=HELD))


async def _launch_from_source(client: Client, world: World) -> None:
    await client.prepare(world.asking("ember==1.0", model="fire"))


async def _lease(client: Client, world: World) -> None:
    first = await client.prepare(world.asking("lantern==1.0"))
    second = await client.prepare(world.asking("lantern==1.0"))
    await _bind(client, world, first)
    await client.release(second)
    await client.release(first)


async def _remove(client: Client, _: World) -> None:
    plain(await client.supervisor.remove_virtual_env(Selection(model_name=MODEL)))


async def _remove_in_use(client: Client, _: World) -> None:
    plain(await client.supervisor.remove_virtual_env(Selection(model_name=HELD), force=True))


async def _collect_garbage(client: Client, _: World) -> None:
    plain(await client.supervisor.collect_garbage(max_bytes=0))


async def _nothing(_client: Client, _world: World) -> None:
    """To start is all."""


_HELD_LAUNCH = (HELD, "taper==1.0", ("taper", "1.0"))

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        Scenario(name="a first launch", template="empty", act=_launch, from_start=True),
        Scenario(
            name="a launch of other packages",
            template="full",
            act=_launch_other_packages,
            launch=(MODEL, "lantern==2.0", ("lantern", "2.0")),
        ),
        Scenario(
            name="a launch of an equal lock",
            template="full",
            act=_launch_equal,
            launch=("shine", "lantern==1.0", ("lantern", "1.0")),
        ),
        Scenario(
            name="the keeping of a wheel that was built from source",
            template="full",
            act=_launch_from_source,
            below="virtualenv/store/wheels/",
            launch=("fire", "ember==1.0", ("ember", "1.0")),
        ),
        Scenario(name="leases", template="full", act=_lease),
        Scenario(name="a removal", template="full", act=_remove),
        Scenario(
            name="a forced removal of what is in use",
            template="full",
            act=_remove_in_use,
            launch=_HELD_LAUNCH,
        ),
        Scenario(name="an eviction", template="crowded", act=_collect_garbage),
        Scenario(name="healing", template="broken", act=_launch),
        Scenario(
            name="healing beside what is in use",
            template="broken in use",
            act=_launch_held,
            launch=_HELD_LAUNCH,
        ),
        Scenario(name="a start", template="littered", act=_nothing, from_start=True),
    )
}
