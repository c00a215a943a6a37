"""Launches on a host that changes: interpreter or uv go, the clock is set, a record is cut."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.index import Index
from tests.plain import plain
from tests.scenarios.hosts import Host, ran
from tests.scenarios.steps import asking, environments, left_behind, says, version_of
from tests.wheels import build_wheel
from xinference_venv.cli.render import environments as render_environments
from xinference_venv.client import Client, local_client
from xinference_venv.errors import PythonNotFound, UvNotFound
from xinference_venv.inventory.env import KeyRecord
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME, StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

A_WEEK = 7 * 86400


def copied_interpreter(folder: Path) -> Path:
    """An interpreter that can be removed: its program alone, with the library of this one."""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = folder / "bin" / minor
    program.parent.mkdir(parents=True)
    shutil.copy2(os.path.realpath(sys.executable), program)
    (folder / "lib").mkdir()
    (folder / "lib" / minor).symlink_to(sysconfig.get_path("stdlib"))
    started = subprocess.run(
        [program, "-c", "import sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if started.stdout.strip() != str(folder):
        pytest.skip(f"this interpreter can't be copied: {started.stderr or started.stdout}")
    return program


async def test_an_environment_whose_interpreter_was_removed_is_broken_and_heals_with_another(
    environ: dict[str, str], index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    program = copied_interpreter(tmp_path / "one")
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = str(program)
    request = asking(index, "lantern==1.0")
    async with local_client(environ) as client:
        first = await client.prepare(request)
        await client.release(first)
        program.unlink()
        [entry] = await client.entries()
        assert entry.state == "broken"
        assert entry.reason == f"the interpreter {program} was removed or replaced"
        with pytest.raises(PythonNotFound) as caught:
            await client.prepare(request)
    assert f"the interpreter {program} does not work" in caught.value.message
    assert caught.value.hint == "start it in a shell to see why, or name another one"

    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = sys.executable
    async with local_client(environ) as client:
        second = await client.prepare(request)
        assert await says(second.python, version_of("lantern")) == "1.0"
        [entry] = await client.entries()
        assert (entry.state, entry.env_id) == ("ready", second.env_id)
        assert environments(layout) == [second.env_id]


async def test_a_uv_that_went_is_named_and_what_is_built_needs_none(
    environ: dict[str, str], index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{find_uv_bin()}" "$@"\n')
    program.chmod(0o755)
    environ["XOSCAR_UV_PATH"] = str(program)
    aside = program.with_name("uv-aside")
    old, new = asking(index, "lantern==1.0"), asking(index, "lantern==2.0", model="shine")
    async with local_client(environ) as client:
        first = await client.prepare(old)
        await client.release(first)
        program.rename(aside)
        with pytest.raises(UvNotFound) as gone:
            await client.prepare(new)
        program.write_bytes(b"")
        program.chmod(0o644)
        with pytest.raises(UvNotFound) as closed:
            await client.prepare(new)
        for error, why in ((gone.value, "No such file"), (closed.value, "Permission denied")):
            assert f"uv could not be started: {program}: {why}" in error.message
            assert error.hint == "reinstall the uv package, or set XOSCAR_UV_PATH"
        again = await client.prepare(old)
        assert (again.env_id, again.uv_calls) == (first.env_id, 0)
        await client.release(again)
        assert [entry.key.model_name for entry in await client.entries()] == ["glow"]
        assert list(layout.staging.iterdir()) == []
        aside.replace(program)
        prepared = await client.prepare(new)
        assert await says(prepared.python, version_of("lantern")) == "2.0"


async def test_a_clock_that_was_set_back_does_no_harm(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    request = asking(index, "lantern==1.0")
    later = time.time() + A_WEEK
    async with local_client(environ) as client:
        first = await client.prepare(request)
        await client.release(first)
    _set_times(layout, first, later)
    async with local_client(environ) as client:
        [entry] = await client.entries()
        assert (entry.state, entry.created, entry.last_used) == ("ready", later, later)
        answer = await client.supervisor.list_virtual_envs(EVERY)
        assert list(render_environments.listed(answer, time.time()))
        second = await client.prepare(request)
        assert (second.env_id, second.uv_calls) == (first.env_id, 0)
        [entry] = await client.entries()
        assert entry.last_used is not None and entry.last_used < later
        assert [lease.lease_id for lease in entry.leases] == [second.lease_id]
        await client.release(second)
        _set_times(layout, first, later)
        plain(await client.supervisor.remove_virtual_env(Selection(model_name="glow")))
        assert left_behind(layout) == []


def _set_times(layout: StorePaths, environment: PreparedEnvironment, at: float) -> None:
    """Let an environment be made and used, and every lease be taken, at a time."""
    path = layout.env(str(environment.env_id)) / RECORD_NAME
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "created": at}))
    for each in (*layout.keys.iterdir(), *layout.leases.rglob("*"), *layout.logs.iterdir()):
        os.utime(each, (at, at))


async def test_a_home_with_spaces_and_letters_of_every_kind_works_throughout(
    environ: dict[str, str], index: Index, wheels: Path, tmp_path: Path
) -> None:
    home = tmp_path / "my home, 模型 'é' $HOME"
    environ["XINFERENCE_HOME"] = str(home)
    layout = StorePaths(home / "virtualenv")
    build_wheel(
        wheels, "torch-bearer", "1.0", entry_points={"bear": "torch_bearer:__version__.split"}
    )
    request = asking(index, "lantern==1.0", "torch-bearer")
    async with local_client(environ) as client:
        prepared = await client.prepare(request)
        assert str(prepared.real_path).startswith(str(home))
        assert await says(prepared.python, version_of("lantern")) == "1.0"
        assert await says(prepared.python, "sys.prefix") == prepared.real_path
        status, _, errors = ran(Path(str(prepared.real_path), "bin", "bear"))
        assert (status, errors) == (1, "['1.0']\n")
        process = await client.start(prepared, label="glow")
        [entry] = await client.entries()
        assert [lease.process.pid for lease in entry.leases] == [process.pid]
        await process.stop()
        again = await client.prepare(request)
        assert again.uv_calls == 0
        await client.release(again)
        answer = plain(await client.supervisor.remove_virtual_env(Selection(model_name="glow")))
        assert [each["real_path"] for each in answer["list"][0]["done"]] == [prepared.real_path]
    assert left_behind(layout) == []


@pytest.mark.parametrize("name", [RECORD_NAME, LOCK_NAME, "key"])
async def test_a_record_that_was_cut_is_healed_by_the_next_launch(
    environ: dict[str, str],
    client: Client,
    index: Index,
    layout: StorePaths,
    name: str,
    tmp_path: Path,
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("xoscar", version("xoscar"))
    request = asking(index, "lantern==1.0")
    prepared = await client.prepare(request)
    await client.release(prepared)
    path = Path(str(prepared.real_path)).parent / name
    if name == "key":
        [path] = layout.keys.iterdir()
    content = path.read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        if name == LOCK_NAME:
            # At a glance its content is not looked at.
            plain(await client.supervisor.verify_virtual_env(Selection(model_name="glow")))
        [entry] = await client.entries()
        assert (entry.state == "ready") == (name == "key"), (name, length)
        prepared = await client.prepare(request)
        await client.release(prepared)
        [entry] = await client.entries()
        assert (entry.state, entry.env_id) == ("ready", prepared.env_id)
        assert environments(layout) == [prepared.env_id]
        assert path.read_bytes() != content[:length]
        if name == "key":
            assert KeyRecord.from_dict(json.loads(path.read_bytes())).env_id == prepared.env_id
        packages = await client.worker.list_virtual_env_packages(Selection(model_name="glow"))
        assert "lantern" in {each.name for each in packages[0].distributions}
