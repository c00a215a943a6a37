"""A launch with files of its own (`--view files`), for a model that writes into its packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host, ran
from tests.scenarios.steps import asking, environments, files_of, says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.bytecode_compiler import BytecodeCompiler
from xinference_venv.store.envs.real_files import Placing
from xinference_venv.store.packages.bytecode import uncompiled
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import ProcessRunner

pytestmark = pytest.mark.uv


def site_of(environment: PreparedEnvironment) -> Path:
    [site] = Path(str(environment.real_path)).glob("lib/python3.*/site-packages")
    return site


@pytest.fixture
def by_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process and two forks of it place files, however few there are."""
    monkeypatch.setattr("xinference_venv.store.envs.compose._LEAST_FILES", 0)
    monkeypatch.setattr("xinference_venv.service.assemble.usable_processors", lambda: 2)


@pytest.mark.parametrize("apart", [False, True])
async def test_a_model_that_writes_into_its_packages_is_alone_with_what_it_wrote(
    environ: dict[str, str],
    tmp_path: Path,
    index: Index,
    wheels: Path,
    layout: StorePaths,
    request: pytest.FixtureRequest,
    apart: bool,
) -> None:
    if apart:
        request.getfixturevalue("by_forks")
    host = Host.make(tmp_path / "host", environ)
    host.add("wick", "1.0", files={"wick.py": "__version__ = '1.0'\n"})
    build_wheel(wheels, "candle", "1.0", requires=["wick"], modules={"candle/__init__.py": "x = 1"})
    async with local_client(environ) as client:
        linked = await client.prepare(asking(index, "candle", model="glow"))
        writer = await client.prepare(asking(index, "candle", model="writer", view="files"))
        # The same lock gives two environments, since they are not made of the same.
        assert linked.real_path != writer.real_path
        before = [files_of(each) for each in (layout.packages, host.prefix)]
        site = site_of(writer)
        for path in (site / "candle" / "__init__.py", site / "wick.py"):
            path.write_text("x = 'patched'\n__version__ = 'patched'\n")
        (site / "candle" / "cache.txt").write_text("new")
        assert await says(writer.python, "importlib.import_module('candle').x") == "patched"
        assert await says(writer.python, version_of("wick")) == "patched"
        assert [files_of(each) for each in (layout.packages, host.prefix)] == before
        assert await says(linked.python, "importlib.import_module('candle').x") == 1
        assert await says(linked.python, version_of("wick")) == "1.0"
        # What it wrote is no damage, and it is launched again as it is.
        [report] = await client.worker.verify_virtual_env(_only("writer"), hashes=True)
        assert report.finding.faults == ()
        again = await client.prepare(asking(index, "candle", model="writer", view="files"))
        assert (again.real_path, again.uv_calls) == (writer.real_path, 0)
        [entry] = await client.entries(_only("writer"))
        assert entry.state is EnvState.READY
        # A file that is gone is.
        (site / "candle" / "__init__.py").unlink()
        [report] = await client.worker.verify_virtual_env(_only("writer"))
        gone = site.relative_to(site.parents[3]) / "candle" / "__init__.py"
        assert report.finding.faults == (f"{gone} is missing",)


@pytest.mark.usefixtures("by_forks", "wheels")
async def test_a_process_that_places_files_and_is_killed_leaves_nothing(
    client: Client, index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.prepare(asking(index, "lantern==1.0"))
    command = Placing.command
    killed = ("sh", "-c", "kill -9 $$")
    monkeypatch.setattr(Placing, "command", lambda *given: command(*given) and killed)
    with pytest.raises(StoreError, match="copies the files ended with signal 9") as caught:
        await client.prepare(asking(index, "lantern==1.0", model="writer", view="files"))
    assert "run out of memory" in str(caught.value.hint)
    assert len(environments(layout)) == 1
    assert list(layout.staging.iterdir()) == []
    monkeypatch.setattr(Placing, "command", command)
    made = await client.prepare(asking(index, "lantern==1.0", model="writer", view="files"))
    assert sorted(each.name for each in Path(str(made.real_path)).parent.glob("*.json")) == [
        "xinference-venv.json",
        "xinference-venv.lock.json",
        "xinference-venv.view.json",
    ]


@pytest.mark.usefixtures("wheels")
async def test_uv_by_hand_meets_an_ordinary_environment(
    client: Client, index: Index, layout: StorePaths
) -> None:
    made = await client.prepare(asking(index, "lantern==1.0", view="files"))
    before = files_of(layout.packages)
    python = str(Path(str(made.real_path)) / "bin" / "python")
    uv = ("uv", "pip", "install", "--python", python, "--default-index", index.url)
    status, _, error = ran(*uv, "lantern==2.0")
    assert status == 0, error
    assert await says(made.python, version_of("lantern")) == "2.0"
    status, _, error = ran("uv", "pip", "uninstall", "--python", python, "lantern")
    assert status == 0, error
    assert not (site_of(made) / "lantern.py").exists()
    assert files_of(layout.packages) == before


async def test_a_package_that_is_upgraded_by_hand_is_no_damage_and_is_named_as_what_it_is(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("wick", "1.0", files={"wick.py": "x = 1\n"})
    build_wheel(wheels, "wick", "2.0", modules={"wick.py": "x = 2\n"})
    old = {"lamp/__init__.py": "", "lamp/old.py": "", "lamp/sub/__init__.py": "", "dim.py": ""}
    build_wheel(
        wheels, "lamp", "1.0", requires=["wick"], modules=old, entry_points={"dim": "dim:main"}
    )
    build_wheel(wheels, "lamp", "2.0", requires=["wick"], modules={"lamp/__init__.py": ""})
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "lamp==1.0", view="files"))
        python = str(Path(str(made.real_path)) / "bin" / "python")
        uv = ("uv", "pip", "install", "--python", python, "--default-index", index.url)
        status, _, error = ran(*uv, "lamp==2.0", "wick==2.0")
        assert status == 0, error
        [report] = await client.worker.verify_virtual_env(Selection())
        assert report.finding.faults == ()
        [shown] = await client.worker.list_virtual_env_packages(Selection())
        by_hand = [(each.name, each.version) for each in shown.unlocked if each.by_hand]
        assert by_hand == [("lamp", "2.0"), ("wick", "2.0")]
        # What has no other version is missing.
        status, _, error = ran("uv", "pip", "uninstall", "--python", python, "wick")
        assert status == 0, error
        [report] = await client.worker.verify_virtual_env(Selection())
        below = site_of(made).relative_to(site_of(made).parents[3])
        metadata = f"{below}/wick-1.0.dist-info is missing"
        assert set(report.finding.faults or ()) == {metadata, f"{below}/wick.py is missing"}


@pytest.mark.usefixtures("wheels")
async def test_the_block_the_setting_and_the_launch_say_it_the_launch_first(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_VIEW"] = "files"
    block = {"packages": ["lantern"], "index_url": index.url, "inherit_pip_config": False}

    def request(name: str, **more: object) -> LaunchRequest:
        return LaunchRequest.from_dict({"model_name": name, **more})

    async with local_client(environ) as client:
        by_setting = await client.prepare(request("one", virtualenv=block))
        by_block = await client.prepare(request("two", virtualenv={**block, "view": "links"}))
        by_launch = await client.prepare(
            request("three", virtualenv={**block, "view": "files"}, view="links")
        )
    assert (site_of(by_setting) / "lantern.py").is_file()
    assert by_block.real_path == by_launch.real_path != by_setting.real_path
    assert not (site_of(by_block) / "lantern.py").exists()
    assert len(environments(layout)) == 2


async def test_what_is_of_the_host_and_of_the_store_is_compiled_in_the_background(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("wick", "1.0", files={"wick.py": "__version__ = '1.0'\n"})
    build_wheel(wheels, "candle", "1.0", requires=["wick"], modules={"candle/__init__.py": "x = 1"})
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "candle", view="files"))
    site = site_of(made)
    assert list(site.rglob("*.pyc")) == []
    store = Store.open(layout.root)
    door = ProcessRunner(environment={"PATH": environ["PATH"]}, slots=1)
    await BytecodeCompiler(store=store, door=door).compile_all()
    compiled = {str(each.relative_to(site)): each for each in site.rglob("*.pyc")}
    tag = sys.implementation.cache_tag
    assert {f"__pycache__/wick.{tag}.pyc", f"candle/__pycache__/__init__.{tag}.pyc"} <= {*compiled}
    [tree] = layout.packages.glob("candle-*/site")
    of_candle = f"candle/__pycache__/__init__.{tag}.pyc"
    assert compiled[of_candle].samefile(tree / of_candle)
    assert list(host.prefix.rglob("wick*.pyc")) == []
    assert uncompiled(store) == []
    # It is the environment's own all the same: what a model writes is compiled by itself.
    (site / "candle" / "__init__.py").write_text("x = 'patched'\n")
    assert await says(made.python, "importlib.import_module('candle').x") == "patched"


def _only(model: str) -> Selection:
    return Selection(model_name=model)
