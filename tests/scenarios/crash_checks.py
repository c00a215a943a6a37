"""What may be found where a process was killed: at once, after a fresh start, after a launch.

The disk is read by the independent checker; what is asked of the actors is what a user asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.scenarios.checker import check_environment, check_home, environment_of, is_alive
from tests.scenarios.crash_scenarios import HELD, Scenario, World
from tests.scenarios.steps import files_of, says, version_of
from xinference_venv.client import Client, local_client


async def check(scenario: Scenario, world: World, home: Path) -> None:
    """Look at a home where a process was killed; raises what is found wrong."""
    template = world.template(scenario.template)
    broken = set(_broken(template))
    _check_disk(home, broken, settled=False)
    _check_held(home, template)
    async with local_client(world.environ(home)) as client:
        _check_disk(home, broken, settled=True)
        await _check_listing(client, home)
        _check_held(home, template)
        await _check_launch(client, scenario, world)
        await _check_listing(client, home)
        _check_held(home, template)
    # What was broken is healed; what is in use besides is left to its holder.
    _check_disk(home, broken & set(_held(template)), settled=True)


def _broken(template: Path) -> Iterator[str]:
    """The ids of the environments that were broken from the beginning."""
    for env in template.glob("virtualenv/store/envs/*"):
        if check_environment(env, imports=False):
            yield env.name


def _check_disk(home: Path, broken: set[str], *, settled: bool) -> None:
    """All is whole but what was broken; once it is settled, nothing is left over."""
    wrong = [
        str(each)
        for each in check_home(home, settled=settled, imports=False)
        if not any(env_id in str(each) for env_id in broken)
    ]
    left = list(_processes_in(home)) if settled else []
    assert not wrong and not left, f"{wrong}, processes {left}"


def _processes_in(home: Path) -> Iterator[str]:
    """The command lines of the processes that work in a home."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{home}/" in words:
            yield words


def _held(template: Path) -> Iterator[str]:
    """The id of the environment that a living process uses, where there is one."""
    for link in template.glob(f"virtualenv/v3/{HELD}/*"):
        yield link.readlink().name


def _check_held(home: Path, template: Path) -> None:
    """What a living process uses has every file that it had, and is leased to it."""
    for env_id in _held(template):
        had, has = (
            files_of(each / "virtualenv" / "store" / "envs" / env_id) for each in (template, home)
        )
        lost = {name for name, file in had.items() if has.get(name) != file}
        assert not lost, f"in use, and lost or changed: {lost}"
        there = home.glob(f"virtualenv/store/leases/{env_id}/*.json")
        had_leases = template.glob(f"virtualenv/store/leases/{env_id}/*.json")
        assert {each.name for each in had_leases} <= {each.name for each in there}


async def _check_listing(client: Client, home: Path) -> None:
    """What is ready is whole, whose key leads to nothing is broken, and the dead hold no leases."""
    for entry in await client.entries():
        env = environment_of(Path(entry.path))
        if entry.state == "ready":
            assert env is not None and env.is_relative_to(home)
            assert check_environment(env, imports=False) == []
        else:
            assert entry.state == "broken"
        assert all(is_alive(lease.process.to_dict()) for lease in entry.leases)


async def _check_launch(client: Client, scenario: Scenario, world: World) -> None:
    model, package, (module, version) = scenario.launch
    made = await client.prepare(world.asking(package, model=model))
    assert await says(made.python, version_of(module)) == version
    [entry] = [each for each in await client.entries() if each.path == made.path]
    assert entry.state == "ready"
    assert os.getpid() in {lease.process.pid for lease in entry.leases}
