"""What several environments share: a tree of packages that is damaged, evicted, moved with its home
or unpacked by two workers at once; and what a release before this one made, without any tree.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.scenarios.processes import worker_process
from tests.scenarios.steps import (
    asking,
    left_behind,
    requested,
    says,
    uv_subcommands,
    version_of,
)
from tests.scenarios.test_verify import rewrite, verify
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.env import EnvState
from xinference_venv.store.packages import package_store
from xinference_venv.store.paths import (
    LAYER_NAME,
    OWN_FILES_NAME,
    RECORD_NAME,
    VENV_NAME,
    VIEW_RECORD_NAME,
    StorePaths,
)

pytestmark = pytest.mark.uv

EMBER = "/files/ember-1.0-*.whl"
# What numba and gradio do as root, whom modes don't stop.
WRITES = """
import os, lantern, reed.low
for module, name in ((lantern, "hash_seed.txt"), (reed.low, "x.py311.nbi")):
    folder = os.path.dirname(os.path.realpath(module.__file__))
    mode = os.stat(folder).st_mode
    os.chmod(folder, 0o755)
    open(os.path.join(folder, name), "w").close()
    os.chmod(folder, mode)
    print(folder)
"""


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tree_of(layout: StorePaths, name: str) -> Path:
    """The one tree of a package."""
    [tree] = layout.packages.glob(f"{name}-*")
    return tree


async def states(client: Client) -> dict[str, EnvState]:
    return {entry.key.model_name: entry.state for entry in await client.entries()}


async def test_a_damaged_tree_breaks_names_and_heals_all_that_show_it(
    client: Client, index: Index, wheels: Path, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = package_store.check_tree

    def counting(tree: Path, folder: str, **how: object) -> object:
        # Those of the worker's own checks are without.
        if how["hashes"]:
            looks.append(folder.partition("-")[0])
        return real(tree, folder, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(package_store, "check_tree", counting)
    build_wheel(wheels, "spark", "1.0")
    first = await client.prepare(asking(index, "lantern==1.0"))
    other = await client.prepare(asking(index, "lantern==1.0", "spark", model="shine"))
    apart = await client.prepare(asking(index, "spark", model="alone"))
    for each in (first, other, apart):
        await client.release(each)
    assert first.env_id != other.env_id
    assert all(each["faults"] == [] for each in await verify(client, hashes=True))
    assert sorted(looks) == ["lantern", "spark", "wick"]

    module = tree_of(layout, "lantern") / "site" / "lantern.py"
    os.chmod(module.parent, 0o755)
    rewrite(module, module.read_bytes().replace(b"1.0", b"6.6"))
    # A look at one of them is enough to know of the others.
    [found] = await verify(client, "glow", hashes=True)
    assert "lantern.py" in found["faults"][0]
    broken = dict.fromkeys(("glow", "shine"), EnvState.BROKEN)
    assert await states(client) == {**broken, "alone": EnvState.READY}
    faults = {each["model_name"]: each["faults"] for each in await verify(client, hashes=True)}
    assert faults["alone"] == []
    assert all("lantern.py" in faults[name][0] for name in broken)

    healed = await client.prepare(asking(index, "lantern==1.0", "spark", model="shine"))
    assert await says(healed.python, version_of("lantern")) == "1.0"
    assert await says(first.python, version_of("lantern")) == "1.0"
    assert set((await states(client)).values()) == {EnvState.READY}
    assert all(each["faults"] == [] for each in await verify(client, hashes=True))


async def test_what_a_model_wrote_next_to_modules_is_named_and_deleted_when_none_runs(
    environ: dict[str, str], index: Index, wheels: Path, layout: StorePaths
) -> None:
    build_wheel(wheels, "reed-low", "1.0", modules={"reed/low/__init__.py": ""})
    build_wheel(wheels, "reed-high", "1.0", modules={"reed/high.py": ""})
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "lantern==1.0", "reed-low", "reed-high"))
        other = await client.prepare(asking(index, "lantern==1.0", model="shine"))
        one, both = output_of(made.python, "-c", WRITES).splitlines()
        assert (Path(one).parents[1], Path(both).parents[3]) == (layout.packages, layout.joined)
        expected = [
            f"{Path(one).relative_to(layout.packages)}/hash_seed.txt",
            f"{Path(both).relative_to(layout.joined)}/x.py311.nbi",
        ]
        glow, shine = await verify(client)
        assert (glow["faults"], glow["additions"]) == ([], expected)
        assert (shine["faults"], shine["additions"]) == ([], expected[:1])
        # Launches that were not given back count as processes that run.
        await client.release(made)
        glow, shine = await verify(client, repair=True)
        assert glow["additions"] == shine["additions"] == expected[:1]
        await client.release(other)
        assert [each["additions"] for each in await verify(client, repair=True)] == [[], []]
        assert [each["faults"] for each in await verify(client, hashes=True)] == [[], []]
        assert not {"hash_seed.txt", "x.py311.nbi"} & {*os.listdir(one), *os.listdir(both)}


@pytest.mark.usefixtures("wheels")
async def test_a_tree_that_was_deleted_by_hand_is_missed_and_made_again_by_the_next_launch(
    client: Client, index: Index, layout: StorePaths
) -> None:
    first = await client.prepare(asking(index, "lantern==1.0"))
    await client.release(first)
    tree = tree_of(layout, "lantern")
    shutil.rmtree(tree)
    again = await client.prepare(asking(index, "lantern==1.0"))
    assert tree_of(layout, "lantern") == tree
    assert await says(again.python, version_of("lantern")) == "1.0"
    await client.release(again)


async def test_what_a_build_needs_is_not_evicted_under_it(
    client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    # One that uv has in no cache.
    build_wheel(wheels, "ember", "1.0")
    first = await client.prepare(asking(index, "lantern==1.0"))
    await client.release(first)
    tree = tree_of(layout, "lantern")
    inode = tree.stat().st_ino
    index.hang(EMBER)
    launch = asyncio.create_task(
        client.prepare(asking(index, "lantern==1.0", "ember", model="shine"))
    )
    await requested(index, EMBER)
    await client.supervisor.collect_garbage(max_bytes=0)
    assert await states(client) == {"shine": EnvState.BUILDING}
    assert tree.stat().st_ino == inode
    index.release()
    made = await launch
    assert await says(made.python, version_of("lantern")) == "1.0"
    assert tree_of(layout, "lantern").stat().st_ino == inode
    await client.release(made)
    await client.supervisor.collect_garbage(max_bytes=0)
    assert left_behind(layout) == []
    assert [*layout.packages.iterdir()] == []


async def test_two_workers_that_miss_the_same_package_leave_one_tree_of_it(
    environ: dict[str, str], index: Index, wheels: Path, layout: StorePaths
) -> None:
    build_wheel(wheels, "spark", "1.0")
    async with worker_process(environ) as one, worker_process(environ) as two:
        made = await asyncio.gather(
            one.client.prepare(asking(index, "lantern==1.0")),
            two.client.prepare(asking(index, "lantern==1.0", "spark", model="shine")),
        )
        for each in made:
            assert await says(each.python, version_of("lantern")) == "1.0"
        assert made[0].env_id != made[1].env_id
        assert await states(one.client) == dict.fromkeys(("glow", "shine"), EnvState.READY)
        found = await verify(one.client, hashes=True)
        assert all(each["faults"] == [] for each in found)
    assert sorted(path.name.partition("-")[0] for path in layout.packages.iterdir()) == [
        *("lantern", "spark", "wick")
    ]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
async def test_a_home_without_hard_links_has_whole_environments(
    client: Client,
    index: Index,
    wheels: Path,
    layout: StorePaths,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    data = {"low-1.0.data/data/share/low/x.txt": b"data"}
    build_wheel(wheels, "low", "1.0", modules={"reed/low.py": "x = 1\n"}, data=data)
    build_wheel(wheels, "high", "1.0", modules={"reed/high.py": "x = 2\n"})
    monkeypatch.setattr(os, "link", refuse)
    made = await client.prepare(asking(index, "low", "high"))
    parts = [f"importlib.import_module('reed.{each}').x" for each in ("low", "high")]
    assert await says(made.python, f"[{', '.join(parts)}]") == [1, 2]
    text = "open(sys.prefix + '/share/low/x.txt').read()"
    assert await says(made.python, text) == "data"
    assert [each["faults"] for each in await verify(client, hashes=True)] == [[]]


def put_elsewhere(home: Path, how: str) -> str:
    """Move a home, or let another path lead to it; its place then."""
    if how == "moved":
        return str(home.rename(home.with_name("moved")))
    home.with_name("mounted").symlink_to(home)
    return str(home.with_name("mounted"))


@pytest.mark.parametrize("how", ["moved", "mounted elsewhere"])
async def test_a_home_at_another_place_serves_as_it_is(
    environ: dict[str, str],
    tmp_path: Path,
    index: Index,
    wheels: Path,
    started: list[tuple[str, ...]],
    how: str,
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("reed-low", "1.0", files={"reed/low.py": "x = 1\n"})
    build_wheel(wheels, "reed-high", "1.0", requires=["reed-low"], modules={"reed/high.py": ""})
    wanted = asking(index, "lantern==1.0", "reed-high")
    async with local_client(environ) as client:
        made = await client.prepare(wanted)
        await client.release(made)
    environ["XINFERENCE_HOME"] = put_elsewhere(Path(environ["XINFERENCE_HOME"]), how)
    started.clear()
    async with local_client(environ) as client:
        again = await client.prepare(wanted)
        assert again.env_id == made.env_id
        assert uv_subcommands(started) == []
        assert await says(again.python, "importlib.import_module('reed.low').x") == 1
        assert [each["faults"] for each in await verify(client, hashes=True)] == [[]]
        # Others that are made there share the trees.
        other = await client.prepare(asking(index, "lantern==1.0", model="shine"))
        assert "pip install" not in uv_subcommands(started)
        assert await says(other.python, version_of("lantern")) == "1.0"


async def test_an_environment_of_the_release_before_is_used_until_it_is_rebuilt(
    environ: dict[str, str],
    index: Index,
    wheels: Path,
    layout: StorePaths,
    started: list[tuple[str, ...]],
) -> None:
    wanted = asking(index, "lantern==1.0")
    async with local_client(environ) as client:
        made = await client.prepare(wanted)
        await client.release(made)
    env = as_before(layout, str(made.env_id), Path(str(made.path)), index)
    started.clear()
    async with local_client(environ) as client:
        again = await client.prepare(wanted)
        await client.release(again)
        assert (again.env_id, again.real_path) == (made.env_id, str(env))
        assert uv_subcommands(started) == []
        assert await says(again.python, version_of("lantern")) == "1.0"
        assert [each["faults"] for each in await verify(client)] == [[]]
        [module] = env.glob("lib/python3.*/site-packages/lantern.py")
        module.unlink()
        [found] = await verify(client)
        assert "lantern.py is missing" in found["faults"][0]
        rebuilt = await client.prepare(wanted)
        assert await says(rebuilt.python, version_of("lantern")) == "1.0"
        assert (Path(str(rebuilt.real_path)).parent / "view").is_dir()
        assert await states(client) == {"glow": EnvState.READY}


def as_before(layout: StorePaths, env_id: str, link: Path, index: Index) -> Path:
    """Make an environment anew as release 0.1.0 did: a virtual environment with its packages."""
    env = layout.env(env_id)
    launcher = (env / VENV_NAME / "bin" / "xinference-venv-python").read_text()
    shutil.rmtree(env / "view")
    shutil.rmtree(env / VENV_NAME)
    made = env.with_name("made")
    uv = [find_uv_bin(), "--no-config"]
    subprocess.run([*uv, "venv", "-q", "--relocatable", "-p", sys.executable, made], check=True)
    install = ("pip", "install", "-q", "--python", made, "--index-url", index.url, "lantern==1.0")
    subprocess.run([*uv, *install], check=True)
    (made / "bin" / "xinference-venv-python").write_text(launcher)
    (made / "bin" / "xinference-venv-python").chmod(0o755)
    for path in env.iterdir():
        path.rename(made / path.name)
    env.rmdir()
    made.rename(env)
    (env / VIEW_RECORD_NAME).unlink()
    # Its links to the host, which has nothing.
    (env / LAYER_NAME).mkdir()
    [site] = env.glob("lib/python3.*/site-packages")
    own = (*env.iterdir(), *(env / "bin").iterdir(), *site.iterdir())
    names = [path for path in own if path.is_file() and not path.is_symlink()]
    sizes = {
        str(path.relative_to(env)): path.stat().st_size
        for path in names
        if path.parent != env or path.name == "pyvenv.cfg"
    }
    listed = {"lantern.py", "wick.py"}
    sizes = {name: size for name, size in sizes.items() if Path(name).name not in listed}
    (env / OWN_FILES_NAME).write_text(json.dumps({"version": 1, "sizes": sizes}))
    record = json.loads((env / RECORD_NAME).read_text())
    for name in ("contents", "trees", "joined"):
        del record[name]
    rows = sum(
        len((site / name / "RECORD").read_text().splitlines())
        for name in ("lantern-1.0.dist-info", "wick-1.0.dist-info")
    )
    record["files"] = rows + len(sizes)
    (env / RECORD_NAME).write_text(json.dumps(record))
    link.unlink()
    link.symlink_to(os.path.relpath(env, link.parent))
    return env
