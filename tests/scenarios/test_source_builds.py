"""Sources: built once, locked as wheels, said so; also on another host, and without isolation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import (
    asking,
    eventually,
    left_behind,
    outcome,
    says,
    uv_processes,
    version_of,
)
from tests.wheels import build_sdist, build_wheel, corrupt, git_repository
from xinference_venv.client import Client, local_client
from xinference_venv.errors import BuildFailed, VirtualEnvError
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME, StorePaths
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

pytestmark = pytest.mark.uv


def lock_on_disk(layout: StorePaths, env_id: str | None) -> dict[str, Any]:
    return dict(json.loads((layout.envs / str(env_id) / LOCK_NAME).read_text()))


def entry_of(lock: Mapping[str, Any], name: str) -> dict[str, Any]:
    [entry] = [each for each in lock["packages"] if each["name"] == name]
    return dict(entry)


def built(layout: StorePaths) -> list[str]:
    return sorted(path.name for path in layout.wheels.glob("*/*.whl"))


@pytest.mark.usefixtures("wheels")
async def test_a_source_is_built_once_and_its_wheel_is_locked(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    sdist = build_sdist(tmp_path / "wheels", "ember", "2.0", requires=["wick"])
    build_wheel(tmp_path / "wheels", "ember", "1.0")
    made = await client.prepare(asking(index, "ember"))

    lock = lock_on_disk(layout, made.env_id)
    entry = entry_of(lock, "ember")
    [wheel] = entry["wheels"]
    kept = layout.built_wheels(wheel["hashes"]["sha256"]) / "ember-2.0-py3-none-any.whl"
    assert wheel["size"] == kept.stat().st_size
    origin = entry["tool"]["xinference-venv"]["built-from"]
    assert origin["sdist"]["url"].endswith(f"/files/{sdist.name}")
    assert made.warnings == (
        "ember 2.0 is built from source: no index that is asked has a wheel of this"
        " version that fits",
    )
    assert await says(made.python, version_of("ember")) == "2.0"

    index.clear()
    index.fail("*")
    again = await client.prepare(asking(index, "ember"))
    assert (again.env_id, again.uv_calls, index.requests) == (made.env_id, 0, [])


# Every build of it gives another wheel.
_UNREPEATABLE = """
_copied = build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import os, zipfile

    name = _copied(wheel_directory)
    with zipfile.ZipFile(Path(wheel_directory, name), "a") as archive:
        archive.comment = os.urandom(8).hex().encode()
    return name
"""

# The wheel is that of the version of `wick` that the build sees; its metadata takes no build.
_SEEING = """
_copied = build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import wick, zipfile

    name = _copied(wheel_directory)
    with zipfile.ZipFile(Path(wheel_directory, name), "a") as archive:
        archive.writestr("seen.py", f"__version__ = '{wick.__version__}'")
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    import zipfile

    [wheel] = Path("prebuilt").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [each for each in archive.namelist() if ".dist-info/" in each]
        archive.extractall(metadata_directory, names)
    return names[0].partition("/")[0]
"""


def forget_builds(cache: Path) -> None:
    for bucket in cache.glob("sdists-*"):
        shutil.rmtree(bucket)


def builds(vectors: Sequence[Sequence[str]]) -> int:
    """How many of the subprocesses built wheels from source."""
    return sum("--link-mode" in arguments for arguments in vectors)


@pytest.mark.usefixtures("wheels")
async def test_another_lock_takes_the_wheel_that_was_built_for_the_first(
    client: Client,
    index: Index,
    layout: StorePaths,
    tmp_path: Path,
    uv_cache: Path,
    started: list[tuple[str, ...]],
) -> None:
    build_sdist(tmp_path / "wheels", "coal", "1.0", backend=_UNREPEATABLE)
    first = await client.prepare(asking(index, "coal"))
    wheel = entry_of(lock_on_disk(layout, first.env_id), "coal")["wheels"][0]
    forget_builds(uv_cache)
    other = await client.prepare(asking(index, "coal", "wick", model="shine"))

    assert entry_of(lock_on_disk(layout, other.env_id), "coal")["wheels"][0] == wheel
    assert builds(started) == 1
    assert built(layout) == ["coal-1.0-py3-none-any.whl"]


@pytest.mark.usefixtures("wheels")
async def test_a_kept_wheel_that_was_changed_is_built_again(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    build_sdist(tmp_path / "wheels", "slag", "1.0")
    first = await client.prepare(asking(index, "slag"))
    [kept] = layout.wheels.glob("*/*.whl")
    whole = kept.read_bytes()
    corrupt(kept)
    other = await client.prepare(asking(index, "slag", "wick", model="shine"))

    assert await says(other.python, version_of("slag")) == "1.0"
    assert kept.read_bytes() == whole
    assert entry_of(lock_on_disk(layout, first.env_id), "slag") == entry_of(
        lock_on_disk(layout, other.env_id), "slag"
    )


@pytest.mark.usefixtures("wheels")
async def test_a_lock_of_another_host_is_built_here_and_says_what_was_built(
    client: Client, environ: dict[str, str], index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    build_sdist(folder, "coke", "1.0")
    build_sdist(folder, "peat", "1.0", backend=_UNREPEATABLE)
    request = asking(index, "coke", "peat")
    there = lock_on_disk(layout, (await client.prepare(request)).env_id)
    away = {
        "XINFERENCE_HOME": str(tmp_path / "another home"),
        "UV_CACHE_DIR": str(tmp_path / "another cache"),
    }
    async with local_client({**environ, **away}) as other:
        job = await other.worker.prepare(request, EnvLock.from_dict(there))
        answer = await ended(other, job)
        assert answer["error"] is None
    elsewhere = StorePaths(Path(away["XINFERENCE_HOME"], "virtualenv"))
    here = lock_on_disk(elsewhere, answer["result"]["env_id"])

    assert entry_of(here, "coke") == entry_of(there, "coke")
    mine, theirs = entry_of(here, "peat"), entry_of(there, "peat")
    assert mine["wheels"][0]["hashes"] != theirs["wheels"][0]["hashes"]
    assert mine["tool"] == theirs["tool"]
    assert built(elsewhere) == ["coke-1.0-py3-none-any.whl", "peat-1.0-py3-none-any.whl"]
    assert answer["result"]["lock_digest"] == EnvLock.from_dict(here).digest
    assert EnvLock.from_dict(here).digest != EnvLock.from_dict(there).digest


@pytest.mark.usefixtures("wheels")
async def test_a_repository_and_an_archive_are_locked_as_wheels(
    environ: dict[str, str], index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    repository = git_repository(build_sdist(tmp_path, "tool", "1.0"), tmp_path / "repository")
    archive = build_sdist(tmp_path, "packed-up", "1.0")
    lines = (f"tool @ git+{repository.as_uri()}", f"packed-up @ {archive.as_uri()}")
    async with local_client({**environ, ALLOWED_ROOTS_VARIABLE: str(tmp_path)}) as client:
        made = await client.prepare(asking(index, *lines))

    lock = lock_on_disk(layout, made.env_id)
    origins = {
        name: entry_of(lock, name)["tool"]["xinference-venv"]["built-from"]
        for name in ("tool", "packed-up")
    }
    assert origins["tool"]["vcs"]["url"] == repository.as_uri()
    assert len(origins["tool"]["vcs"]["commit-id"]) == 40
    assert origins["packed-up"]["archive"]["hashes"]["sha256"]
    assert built(layout) == ["packed_up-1.0-py3-none-any.whl", "tool-1.0-py3-none-any.whl"]
    assert [await says(made.python, version_of(name)) for name in ("tool", "packed_up")] == [
        "1.0",
        "1.0",
    ]


async def test_a_build_without_isolation_sees_what_the_model_would_see(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    versions = ["1.0", "2.0", "3.0"]
    for version in versions:
        build_wheel(folder, "wick", version)
    build_sdist(folder, "seeing", "1.0", backend=_SEEING)

    async def seen(wick: str) -> Any:
        block = {
            "packages": ["seeing", f"wick=={wick}"],
            "index_url": index.url,
            "inherit_pip_config": False,
            "no_build_isolation": True,
        }
        request = LaunchRequest.from_dict({"model_name": f"glow-{wick}", "virtualenv": block})
        made = await client.prepare(request)
        return await says(made.python, version_of("seen"))

    assert [await seen(version) for version in versions] == versions
    assert len(built(layout)) == 3


@pytest.mark.usefixtures("wheels")
async def test_a_build_that_fails_tells_its_own_words_and_leaves_nothing(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    failing = _SEEING.replace("import wick, zipfile", "raise SystemExit('no coal, no heat')")
    build_sdist(tmp_path / "wheels", "stove", "1.0", backend=failing)
    with pytest.raises(BuildFailed) as caught:
        await client.prepare(asking(index, "stove", "lantern"))

    error = caught.value
    assert error.message.startswith("could not build stove from source: ")
    assert "no coal, no heat" in error.message + str(error.details["output"])
    assert error.phase == Phase.RESOLVING
    assert "XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES=0" in str(error.hint)
    assert left_behind(layout) == built(layout) == []
    [log] = await client.worker.logs(Selection(model_name="glow"))
    assert "no coal, no heat" in log.text


@pytest.mark.usefixtures("wheels")
async def test_a_launch_cancelled_while_it_builds_ends_the_build(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    slow = f"Path({str(begun)!r}).touch(); import time; time.sleep(600)"
    backend = _SEEING.replace("import wick, zipfile", slow)
    build_sdist(tmp_path / "wheels", "kiln", "1.0", backend=backend)
    job = await client.supervisor.prepare(asking(index, "kiln"))
    await eventually(begun.exists, 60)
    assert uv_processes(layout)
    await client.supervisor.cancel(job)

    assert (await outcome(client, job))["error"]["code"] == "job_cancelled"
    assert left_behind(layout) == built(layout) == []


@pytest.mark.usefixtures("wheels")
async def test_nothing_is_built_for_a_plan_nor_where_sources_are_forbidden(
    client: Client,
    environ: dict[str, str],
    index: Index,
    layout: StorePaths,
    tmp_path: Path,
    started: list[tuple[str, ...]],
) -> None:
    build_sdist(tmp_path / "wheels", "stone", "2.0")
    build_wheel(tmp_path / "wheels", "stone", "1.0")
    plan = plain(await client.worker.plan(asking(index, "stone")))
    assert "sdist" in entry_of(plan["lock"], "stone")
    assert plan["lock"]["warnings"] == [
        "stone 2.0 is built from source: no index that is asked has a wheel of this"
        " version that fits"
    ]
    assert (builds(started), built(layout)) == (0, [])
    async with local_client({**environ, "XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES": "0"}) as other:
        made = await other.prepare(asking(index, "stone"))
        assert await says(made.python, version_of("stone")) == "1.0"
        assert made.warnings == ()


@pytest.mark.usefixtures("wheels")
async def test_a_wheel_that_no_lock_needs_is_swept_and_one_that_is_needed_is_not(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    for name in ("kept", "unkept"):
        build_sdist(tmp_path / "wheels", name, "1.0")
        await client.release(await client.prepare(asking(index, name, model=f"model-{name}")))
    plain(await client.supervisor.remove_virtual_env(Selection(model_name="model-unkept")))
    store = Store.open(layout.root)
    building = store.make_staging_folder("a-job")
    sweep(store)
    assert len(built(layout)) == 2
    store.delete_trashed(store.trash_staging_folder(building.name))
    sweep(store)
    assert built(layout) == ["kept-1.0-py3-none-any.whl"]


@pytest.mark.usefixtures("wheels")
async def test_an_environment_with_a_built_wheel_is_healed_without_a_build(
    client: Client,
    index: Index,
    layout: StorePaths,
    tmp_path: Path,
    started: list[tuple[str, ...]],
) -> None:
    build_sdist(tmp_path / "wheels", "clay", "1.0")
    request = asking(index, "clay")
    made = await client.prepare(request)
    await client.release(made)
    path = layout.envs / str(made.env_id) / RECORD_NAME
    record = json.loads(path.read_text())
    record["interpreter"]["size"] += 1
    path.write_text(json.dumps(record))
    again = await client.prepare(request)

    assert again.lock_digest == made.lock_digest
    assert builds(started) == 1


async def ended(client: Client, job: str) -> dict[str, Any]:
    """The last answer of a job of the worker's own."""
    while True:
        answer = plain(await client.worker.wait(job, 1 << 30, 10.0))
        if answer["result"] is not None or answer["error"] is not None:
            return answer


# What builds see and may use


@pytest.mark.usefixtures("wheels")
async def test_a_build_without_isolation_sees_the_other_packages_of_the_request(
    client: Client, index: Index, tmp_path: Path
) -> None:
    """As of flash-attn beside torch: its metadata can't even be read without them."""
    build_wheel(tmp_path / "wheels", "tors", "2.0")
    build_sdist(tmp_path / "wheels", "flashy", "1.0", requires=["tors"], backend="import tors\n")
    request = asking(index, "tors", "flashy")
    block = {**(request.to_dict()["virtualenv"] or {}), "no_build_isolation": True}  # type: ignore[dict-item]
    made = await client.prepare(
        LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})
    )
    assert await says(made.python, version_of("flashy")) == "1.0"


@pytest.mark.usefixtures("wheels")
async def test_a_build_uses_what_the_build_constraints_allow(
    client: Client, index: Index, tmp_path: Path
) -> None:
    for version in ("80.0", "81.0"):
        build_wheel(tmp_path / "wheels", "setuptools", version)
    build_sdist(
        tmp_path / "wheels",
        "legacy",
        "1.0",
        backend="import setuptools\nassert setuptools.__version__ == '80.0'\n",
        build_requires=["setuptools"],
    )
    with pytest.raises(VirtualEnvError, match="legacy"):
        await client.prepare(asking(index, "legacy"))
    made = await client.prepare(asking(index, "legacy", build_constraints=["setuptools<81"]))
    assert await says(made.python, version_of("legacy")) == "1.0"
    # A pin of a build tool among the packages is meant for their builds, too.
    made = await client.prepare(asking(index, "legacy", "setuptools>=70,<81"))
    assert await says(made.python, version_of("setuptools")) == "80.0"
