"""Damage of every kind: verification tells, the listing tells, a launch or a repair mends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clock import LoopClock
from tests.index import Index
from tests.plain import plain, selected
from tests.scenarios.hosts import Host
from tests.scenarios.steps import (
    asking,
    environments,
    eventually,
    files_of,
    left_behind,
    real_path_of,
    requested,
    says,
    uv_subcommands,
    version_of,
)
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.runtime.model_process import bind
from xinference_venv.service import integrity_checker
from xinference_venv.store.envs.verify import check_env
from xinference_venv.store.paths import (
    BROKEN_NAME,
    LOCK_NAME,
    RECORD_NAME,
    VIEW_RECORD_NAME,
    StorePaths,
)

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

Damage = Callable[[Path], object]


def shown(env: Path, name: str) -> Path:
    """Where an entry of an environment's view really lies."""
    [entry] = env.glob(f"view/lib/python3.*/site-packages/{name}")
    return entry.resolve()


def module_of(env: Path) -> Path:
    return shown(env, "lantern.py")


def rewrite(file: Path, content: bytes) -> None:
    """Write another file at a place: what was there may be linked to uv's cache.

    It is seconds younger, as Python tells by whole seconds which source bytecode is of.
    """
    before = file.stat().st_mtime
    file.unlink()
    file.write_bytes(content)
    os.utime(file, (before + 2, before + 2))


def truncate(env: Path) -> None:
    rewrite(module_of(env), module_of(env).read_bytes()[:-3])


def flip(env: Path) -> None:
    content = module_of(env).read_bytes()
    rewrite(module_of(env), content.replace(b"1.0", b"1.9"))


def remove_list(env: Path) -> None:
    (shown(env, "lantern-1.0.dist-info") / "RECORD").unlink()


def remove_interpreter(env: Path) -> None:
    (env / "venv" / "bin" / "python").unlink()
    (env / "venv" / "bin" / "python").symlink_to("/nowhere/bin/python3")


KINDS: dict[str, tuple[Damage, str]] = {
    "a file cut short": (truncate, "lantern.py has "),
    "a file removed": (lambda env: module_of(env).unlink(), "lantern.py is missing"),
    "a RECORD removed": (remove_list, "RECORD"),
    "our record removed": (lambda env: (env / RECORD_NAME).unlink(), "has no record"),
    "the lock damaged": (
        lambda env: (env / LOCK_NAME).write_text("{"),
        f"{LOCK_NAME} is damaged",
    ),
    "the interpreter removed": (remove_interpreter, "bin/python leads to no interpreter"),
    "the launcher removed": (
        lambda env: (env / "venv" / "bin" / "xinference-venv-python").unlink(),
        "bin/xinference-venv-python is missing",
    ),
    "our record of the view removed": (
        lambda env: (env / VIEW_RECORD_NAME).unlink(),
        f"{VIEW_RECORD_NAME} is missing",
    ),
    "a link of the view removed": (
        lambda env: next(env.glob("view/lib/python3.*/site-packages/lantern.py")).unlink(),
        "lantern.py is not a link",
    ),
}


async def verify(client: Client, *names: str, **how: Any) -> list[dict[str, Any]]:
    answer = plain(await client.supervisor.verify_virtual_env(selected(*names), **how))
    assert answer["unreachable"] == []
    found: list[dict[str, Any]] = answer["list"]
    return found


def folder_of(prepared: PreparedEnvironment) -> Path:
    """What holds an environment's virtual environment, its view and its records."""
    return Path(str(prepared.real_path)).parent


async def made(client: Client, request: Any) -> tuple[PreparedEnvironment, Path]:
    """A launch whose lease is given back, and the folder of its environment."""
    prepared = await client.prepare(request)
    await client.release(prepared)
    return prepared, folder_of(prepared)


@asynccontextmanager
async def held(client: Client, environment: PreparedEnvironment) -> AsyncIterator[None]:
    """A process runs in the environment."""
    process = await asyncio.create_subprocess_exec(
        *(environment.python, "-c", "print(flush=True); input()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    # Until then its launcher may not have been read.
    assert process.stdout is not None
    assert await process.stdout.readline() == b"\n"
    try:
        await bind(client.worker, environment, process.pid)
        yield
    finally:
        process.kill()
        await process.wait()


async def test_what_is_whole_is_reported_as_whole(
    client: Client, index: Index, layout: StorePaths
) -> None:
    await made(client, asking(index, "lantern==1.0", model="glow"))
    _, env = await made(client, asking(index, "wick", "lantern==2.0", model="shine"))
    before = files_of(env)
    for hashes in (False, True):
        found = await verify(client, hashes=hashes, repair=True)
        assert [each["model_name"] for each in found] == ["glow", "shine"]
        for each in found:
            assert (each["faults"], each["repaired"], each["not_repaired"]) == ([], None, None)
            assert each["state"] == "ready"
            assert each["worker_address"] == client.worker.address
    assert files_of(env) == before
    [one] = await verify(client, "shine")
    assert one["real_path"] == str(env / "venv")
    assert await verify(client, "another") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_damage_is_reported_listed_and_mended_by_a_launch_or_by_hand(
    client: Client, index: Index, layout: StorePaths, kind: str
) -> None:
    damage, expected = KINDS[kind]
    request = asking(index, "lantern==1.0")
    prepared, env = await made(client, request)
    for by_hand in (False, True):
        damage(env)
        [finding] = await verify(client)
        assert any(expected in fault for fault in finding["faults"]), finding["faults"]
        assert finding["repaired"] is finding["not_repaired"] is None
        [entry] = await client.entries()
        assert entry.state is EnvState.BROKEN
        assert entry.reason in finding["faults"]

        if by_hand:
            [finding] = await verify(client, "glow", repair=True)
            assert finding["faults"]
            assert (finding["repaired"], finding["not_repaired"]) == (True, None)
            assert (finding["state"], finding["leases"]) == ("ready", [])
        else:
            await made(client, request)
        [entry] = await client.entries()
        assert (entry.state, entry.reason, entry.leases) == (EnvState.READY, None, ())
        [finding] = await verify(client, hashes=True)
        assert finding["faults"] == []
        assert await says(prepared.python, version_of("lantern")) == "1.0"
    assert environments(layout) == [prepared.env_id]
    assert not any(layout.staging.iterdir())
    assert not any(layout.leases.iterdir())


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_byte_of_the_same_size_is_found_by_hashes_and_mended(
    client: Client, index: Index, by_hand: bool
) -> None:
    request = asking(index, "lantern==1.0")
    prepared, env = await made(client, request)
    flip(env)
    assert await says(prepared.python, version_of("lantern")) == "1.9"
    [finding] = await verify(client)
    assert finding["faults"] == []
    [entry] = await client.entries()
    assert entry.state is EnvState.READY

    [finding] = await verify(client, hashes=True)
    [fault] = finding["faults"]
    assert fault.endswith("lantern.py has other content than its RECORD says")
    [entry] = await client.entries()
    assert (entry.state, entry.reason) == (EnvState.BROKEN, fault)
    # Not taken back by one who looks less closely.
    [finding] = await verify(client)
    assert finding["faults"] == [fault]

    if by_hand:
        [finding] = await verify(client, repair=True)
        assert finding["repaired"] is True
    else:
        await made(client, request)
    assert await says(prepared.python, version_of("lantern")) == "1.0"
    [finding] = await verify(client, hashes=True)
    assert (finding["faults"], finding["state"]) == ([], "ready")


async def test_what_is_wrong_in_the_cache_of_uv_as_well_is_fetched_again(
    environ: dict[str, str], tmp_path: Path, index: Index
) -> None:
    environ["UV_CACHE_DIR"] = str(tmp_path / "uv-cache")
    async with local_client(environ) as client:
        request = asking(index, "lantern==1.0")
        prepared, env = await made(client, request)
        # In place: uv links every environment's file to that of its cache.
        module = module_of(env)
        module.write_bytes(module.read_bytes().replace(b"1.0", b"1.9"))
        [finding] = await verify(client, hashes=True, repair=True)
        assert finding["repaired"] is True
        assert await says(prepared.python, version_of("lantern")) == "1.0"


async def test_a_file_of_the_host_that_is_gone_breaks_what_shows_it(
    environ: dict[str, str], tmp_path: Path, index: Index
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("wick", "1.0", files={"wick.py": "__version__ = '1.0'\n", "more_wick.py": ""})
    async with local_client(environ) as client:
        request = asking(index, "lantern==1.0")
        await made(client, request)
        (host.site / "more_wick.py").unlink()
        [finding] = await verify(client)
        [fault] = finding["faults"]
        assert fault == (
            f"more_wick.py leads nowhere: {host.site}/more_wick.py was removed from the host"
        )
        [entry] = await client.entries()
        assert (entry.state, entry.reason) == (EnvState.BROKEN, fault)

        [finding] = await verify(client, repair=True)
        assert finding["repaired"] is True
        [view] = Path(finding["real_path"]).parent.glob("view/lib/python3.*/site-packages")
        assert not (view / "more_wick.py").is_symlink()
        assert (view / "wick.py").exists()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_files_of_a_broken_environment_in_use_are_left_as_they_are(
    client: Client, index: Index, layout: StorePaths, kind: str
) -> None:
    damage, _ = KINDS[kind]
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    env = folder_of(prepared)
    async with held(client, prepared):
        damage(env)
        [finding] = await verify(client)
        assert finding["faults"]
        before = files_of(env)
        [finding] = await verify(client, repair=True)
        assert (finding["repaired"], finding["state"]) == (True, "ready")
        # A package that is damaged is exchanged, for all that show it; else one is built beside.
        in_package = kind in ("a file cut short", "a RECORD removed")
        whole = layout.env(str(prepared.env_id) if in_package else f"{prepared.env_id}x1")
        assert finding["real_path"] == str(whole / "venv") == real_path_of(prepared)
        after = files_of(env)
        # The mark says anew when it was found.
        assert in_package or before.pop(BROKEN_NAME) != after.pop(BROKEN_NAME)
        assert after == before
        assert [each.state for each in await client.entries()] == [EnvState.READY]
    await client.release(prepared)
    assert environments(layout) == [whole.name]


async def test_keys_that_share_a_broken_environment_in_use_are_whole_after_a_repair(
    client: Client, index: Index, layout: StorePaths, started: list[tuple[str, ...]]
) -> None:
    glow = await client.prepare(asking(index, "lantern==1.0", model="glow"))
    shine, env = await made(client, asking(index, "wick", "lantern==1.0", model="shine"))
    assert glow.env_id == shine.env_id
    async with held(client, glow):
        truncate(env)
        found = await verify(client, repair=True)
        assert [each["repaired"] for each in found] == [True, True]
        assert environments(layout) == [glow.env_id]
        # The package is whole again, and so is everything that shows it.
        assert all(entry.state is EnvState.READY for entry in await client.entries())
        # And whoever comes later.
        started.clear()
        later, _ = await made(client, asking(index, "lantern==1.0", "wick", model="later"))
        assert later.env_id == glow.env_id
        assert "pip install" not in uv_subcommands(started)


async def test_keys_that_share_a_broken_environment_are_repaired_by_one_build(
    client: Client, index: Index, layout: StorePaths
) -> None:
    await made(client, asking(index, "lantern==1.0", model="glow"))
    shine, env = await made(client, asking(index, "lantern==1.0", "wick", model="shine"))
    truncate(env)
    found = await verify(client, repair=True)
    assert [each["repaired"] for each in found] == [True, True]
    assert environments(layout) == [shine.env_id]


async def test_what_can_not_be_repaired_says_why(
    environ: dict[str, str], client: Client, index: Index, layout: StorePaths
) -> None:
    prepared, env = await made(client, asking(index, "lantern==1.0"))
    truncate(env)
    (env / LOCK_NAME).unlink()
    index.fail("/simple/lantern/", 500)
    [finding] = await verify(client, repair=True)
    assert finding["repaired"] is False
    assert "lantern" in finding["not_repaired"]
    assert (finding["state"], finding["env_id"]) == ("broken", prepared.env_id)
    index.heal()

    # A record that was lost, or that had to leave the request out.
    [record] = layout.keys.iterdir()
    data = json.loads(record.read_text())
    assert data["request"]["model_name"] == "glow"
    record.write_text(json.dumps({**data, "request": None}))
    [finding] = await verify(client, repair=True)
    assert finding["repaired"] is False
    assert "launch the model again" in finding["not_repaired"]
    record.write_text(json.dumps({**data, "request": {"model_name": "../.."}}))
    [finding] = await verify(client, repair=True)
    assert "Invalid model name" in finding["not_repaired"]
    record.unlink()
    [finding] = await verify(client, repair=True)
    assert "launch the model again" in finding["not_repaired"]


async def test_a_repair_that_is_cancelled_leaves_nothing_half_made(
    client: Client, index: Index, layout: StorePaths
) -> None:
    prepared, env = await made(client, asking(index, "lantern==1.0"))
    truncate(env)
    (env / LOCK_NAME).unlink()
    index.hang("/simple/lantern/")
    repair = asyncio.create_task(verify(client, repair=True))
    await requested(index, "/simple/lantern/")
    repair.cancel()
    with pytest.raises(asyncio.CancelledError):
        await repair
    index.release()
    await eventually(lambda: not any(layout.staging.iterdir()))
    assert environments(layout) == [prepared.env_id]
    # What compiles trees in the background may run for a moment.
    await eventually(lambda: not any(layout.processes.iterdir()))


async def test_what_older_versions_left_is_not_looked_at(
    client: Client, layout: StorePaths
) -> None:
    (layout.root / "v3" / "old" / "3.11" / "bin").mkdir(parents=True)
    [finding] = await verify(client, repair=True)
    assert (finding["state"], finding["faults"]) == ("unmanaged", None)
    assert (layout.root / "v3" / "old" / "3.11" / "bin").is_dir()


# In the background


async def test_a_worker_looks_at_every_environment_once_a_day(
    environ: dict[str, str],
    index: Index,
    layout: StorePaths,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with local_client(environ) as client:
        _, broken = await made(client, asking(index, "lantern==1.0", model="broken"))
        _, fresh = await made(client, asking(index, "lantern==2.0", model="fresh"))
        _, gone = await made(client, asking(index, "wick", model="gone"))
    for env in (broken, fresh):
        next(env.glob("view/lib/python3.*/site-packages/wick.py")).unlink()
    (gone / RECORD_NAME).unlink()
    two_days_ago = broken.stat().st_mtime - 2 * 24 * 3600
    os.utime(broken, (two_days_ago, two_days_ago))

    def warned() -> list[str]:
        return [
            each.getMessage() for each in caplog.records if each.name == integrity_checker.__name__
        ]

    clock = LoopClock(monkeypatch)
    with caplog.at_level(logging.WARNING, logger=integrity_checker.__name__):
        async with local_client(environ) as client:
            await clock.advance(10.0)
            await eventually(lambda: (broken / BROKEN_NAME).exists())
            states = {each.key.model_name: each.state for each in await client.entries()}
            assert states == {"broken": "broken", "fresh": "ready", "gone": "broken"}
            await eventually(lambda: len(warned()) == 2)
    assert warned()[0].startswith(f"the environment {gone} is broken: ")
    assert warned()[1].startswith(f"the environment {broken} is broken: ")
    assert "wick.py is not a link" in warned()[1]
    assert not (fresh / BROKEN_NAME).exists()
    # Nothing is due any more.
    with caplog.at_level(logging.WARNING, logger=integrity_checker.__name__):
        async with local_client(environ):
            await clock.advance(10.0)
            await eventually(lambda: len(warned()) == 4)
    assert not (fresh / BROKEN_NAME).exists()


async def test_a_worker_that_stops_does_not_wait_for_the_rest_of_a_check(
    environ: dict[str, str], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_client(environ) as client:
        _, env = await made(client, asking(index, "lantern==1.0"))
    os.utime(env, (0, 0))
    began = threading.Event()

    def check(*what: Any, pause: Callable[[], None], **how: Any) -> tuple[str, ...] | None:
        def pause_for_ever() -> None:
            began.set()
            while True:
                pause()

        return check_env(*what, pause=pause_for_ever, **how)

    monkeypatch.setattr(integrity_checker, "check_env", check)
    clock = LoopClock(monkeypatch)
    async with local_client(environ):
        await clock.advance(10.0)
        await eventually(began.is_set)
    assert env.stat().st_mtime == 0


# Credentials


SECRET = "hunter2222"


def _files_with(folder: Path, text: str) -> list[Path]:
    files = (each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
    return [each for each in files if text.encode() in each.read_bytes()]


@pytest.mark.parametrize("field", ["index_url", "extra_index_url", "find_links", "packages", "vp"])
async def test_no_credential_of_a_request_reaches_a_file_of_the_home(
    client: Client, index: Index, layout: StorePaths, field: str
) -> None:
    with_secret = index.require_auth("me", SECRET)
    assert SECRET in with_secret
    block: dict[str, Any] = {"packages": ["lantern==1.0"], "inherit_pip_config": False}
    more: dict[str, Any] = {}
    wheel = with_secret.replace("/simple/", "/files/lantern-1.0-py3-none-any.whl")
    match field:
        case "index_url" | "extra_index_url":
            block[field] = with_secret
        case "find_links":
            block["index_url"] = with_secret
            block[field] = [f"{with_secret}lantern/"]
        case "packages":
            block |= {"packages": [f"lantern @ {wheel}"], "index_url": with_secret}
        case "vp":
            block["index_url"] = with_secret
            more["virtual_env_packages"] = [f"lantern @ {wheel}"]
    request = asking(index, "lantern==1.0", virtualenv=block, **more)
    _, env = await made(client, request)
    assert _files_with(layout.root, SECRET) == []
    truncate(env)
    [finding] = await verify(client, repair=True)
    assert finding["repaired"] is False
    assert "launch the model again" in finding["not_repaired"]
    await made(client, request)
    [finding] = await verify(client, hashes=True)
    assert finding["faults"] == []
    assert left_behind(layout) == [str(env)]
