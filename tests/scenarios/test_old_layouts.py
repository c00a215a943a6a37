"""Directories that older versions left: who uses them, and what a launch and a removal do then."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.plain import plain, selected
from tests.scenarios.steps import asking, environments, files_of, left_behind, requested
from xinference_venv.client import Client
from xinference_venv.errors import InUse, InvalidName, StoreError, VirtualEnvError
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.store.paths import StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSION = f"{MINOR}.{sys.version_info.micro}"
WHEEL = "/files/lantern-2.0-*.whl"
# Of this interpreter, without what it would bring of its own environment.
ELSEWHERE = (os.path.realpath(sys.executable), "-I", "-S")
WAIT = "import sys; print(flush=True); sys.stdin.read()"
MAP = (
    "import mmap, os; file = open('weights.npy', 'rb');"
    " memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); os.chdir('/')"
)
LATE = "print(flush=True); input(); import late; print(late.SAYS, flush=True)"


def old_env(place: Path) -> Path:
    """A virtual environment as an older version made it, with a module and an array of its own."""
    venv.create(place, symlinks=True)
    [packages] = place.glob("lib/python3*/site-packages")
    (packages / "late.py").write_text("SAYS = 'old'\n")
    (place / "weights.npy").write_bytes(b"\0" * 4096)
    return place


@asynccontextmanager
async def running(
    *command: str, program: str = WAIT, cwd: Path | str = "/", environ: Mapping[str, str] = {}
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that waits until it is ended; it is there once it waits."""
    process = await asyncio.create_subprocess_exec(
        *(*command, "-c", program),
        cwd=cwd,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def remove(client: Client, *names: str | None, **how: Any) -> dict[str, Any]:
    answer = plain(await client.supervisor.remove_virtual_env(selected(*names), **how))
    [report] = answer["list"]
    return dict(report)


async def listed(client: Client, *names: str | None) -> list[EnvEntry]:
    answer = plain(await client.supervisor.list_virtual_envs(selected(*names)))
    return [EnvEntry.from_dict(each) for each in answer["list"]]


@dataclass(frozen=True, kw_only=True)
class Use:
    """A way to run a process, in which OLD stands for the old environment, and what tells of it."""

    command: Sequence[str]
    seen_in: Sequence[str]
    program: str = WAIT
    cwd: str = "/"
    environ: Mapping[str, str] | None = None


USES = {
    "absolute": Use(command=["OLD/bin/python"], seen_in=["command line"]),
    "relative": Use(command=["3/bin/python"], cwd="OLD/..", seen_in=["command line"]),
    "by a link": Use(command=["LINKS/python"], seen_in=["command line"]),
    "by a linked directory": Use(command=["LINKS/env/bin/python"], seen_in=["command line"]),
    "memory": Use(command=ELSEWHERE, program=f"{MAP}\n{WAIT}", cwd="OLD", seen_in=["memory map"]),
    "variable": Use(
        command=ELSEWHERE, environ={"VIRTUAL_ENV": "OLD"}, seen_in=["variable VIRTUAL_ENV"]
    ),
    "path": Use(
        command=["python"],
        environ={"PATH": "OLD/bin:/usr/bin"},
        seen_in=["variable PATH"],
    ),
    "working directory": Use(command=ELSEWHERE, cwd="OLD/bin", seen_in=["working directory"]),
    "neither": Use(command=ELSEWHERE, seen_in=[]),
    "beside": Use(
        command=ELSEWHERE, cwd="OLD/..", environ={"HOME": "OLD", "PATH": "OLD-2"}, seen_in=[]
    ),
}


async def test_who_counts_as_a_user(client: Client, layout: StorePaths, tmp_path: Path) -> None:
    old = old_env(layout.root / "v3" / "glow" / "3")
    links = tmp_path / "links"
    links.mkdir()
    (links / "python").symlink_to(old / "bin" / "python")
    (links / "env").symlink_to(old)

    def filled(text: str) -> str:
        return text.replace("OLD", str(old)).replace("LINKS", str(links))

    pids = {}
    async with AsyncExitStack() as stack:
        for name, use in USES.items():
            environ = {key: filled(value) for key, value in (use.environ or {}).items()}
            command = [filled(each) for each in use.command]
            if command[0] == "python":
                # As a shell would: found by PATH, called by its name alone.
                command = ["/usr/bin/env", *command]
            process = await stack.enter_async_context(
                running(*command, program=use.program, cwd=filled(use.cwd), environ=environ)
            )
            pids[process.pid] = name
        [entry] = await listed(client, "glow", None, None)
        report = await remove(client, "glow", force=True)

    told = {pids[each.pid]: list(each.seen_in) for each in entry.users}
    assert told == {name: list(use.seen_in) for name, use in USES.items() if use.seen_in}
    assert report["done"] == []
    [refused] = report["refuse"]
    assert {pids[each["pid"]] for each in refused["users"]} == set(told)
    assert old.is_dir()
    assert len((await remove(client, "glow"))["done"]) == 1
    assert not old.exists()


async def test_every_layout_is_listed_filtered_and_removed(
    client: Client, layout: StorePaths
) -> None:
    root = layout.root
    places = ("glow", "v2/glow", f"v3/glow/{MINOR}", f"v4/glow/vLLM/{MINOR}", "v2/two words")
    before = {place: files_of(old_env(root / place)) for place in places}
    entries = {
        str(Path(each.path).relative_to(root)): each for each in await listed(client, *3 * [None])
    }

    assert {place: each.layout for place, each in entries.items()} == dict(
        zip(places, ("v1", "v2", "v3", "v4", "v2"), strict=True)
    )
    for place, entry in entries.items():
        assert (entry.state, entry.python) == ("unmanaged", VERSION)
        assert entry.key.python_version == MINOR
        assert entry.size_bytes == sum(
            path.lstat().st_size
            for path in (root / place).rglob("*")
            if path.is_file() and not path.is_symlink()
        )
    [engine] = await listed(client, "glow", "VLLM", None)
    assert engine.layout == "v4"
    assert len(await listed(client, "glow", None, MINOR)) == 4
    assert await listed(client, "glow", None, "3.2") == []
    assert {place: files_of(root / place) for place in places} == before

    assert len((await remove(client, "two words", dry_run=True))["remove"]) == 1
    assert len((await remove(client, "two words"))["done"]) == 1
    assert len((await remove(client, "glow", "vllm"))["done"]) == 1
    assert len((await remove(client))["done"]) == 3
    assert await client.entries() == []
    assert sorted(each.name for each in root.iterdir()) == ["store"]
    with pytest.raises(InvalidName):
        await remove(client, "../glow")


async def test_old_directories_of_a_model_stay_when_its_environment_goes_and_the_other_way_round(
    client: Client, index: Index, layout: StorePaths
) -> None:
    for place in ("glow", "v2/glow"):
        old_env(layout.root / place)
    await client.release(await client.prepare(asking(index, "lantern==1.0")))
    entries = await listed(client, "glow", None, None)
    assert [(each.state, each.layout) for each in entries] == [
        *(("unmanaged", "v1"), ("unmanaged", "v2"), ("ready", None))
    ]
    # One key means all three, and each is removed by its own path.
    assert len({each.key for each in entries}) == 1
    async with running(str(layout.root / "v2" / "glow" / "bin" / "python")):
        assert len((await remove(client, "glow"))["refuse"]) == 1
    assert len((await remove(client, "glow"))["done"]) == 3
    assert environments(layout) == []


async def test_a_launch_takes_over_the_place_of_an_old_directory_that_no_one_uses(
    client: Client, index: Index, layout: StorePaths
) -> None:
    old = old_env(layout.root / "v4" / "glow" / "vllm" / MINOR)
    inode = old.stat().st_ino
    index.hang(WHEEL)
    launch = asyncio.create_task(client.prepare(asking(index, "lantern==2.0", model_engine="vllm")))
    await requested(index, WHEEL)
    assert old.stat().st_ino == inode
    index.release()
    prepared = await launch

    assert prepared.path == str(old)
    assert old.resolve() == Path(str(prepared.real_path))
    [entry] = await client.entries()
    assert (entry.state, entry.env_id, entry.layout) == ("ready", prepared.env_id, None)
    assert list(layout.trash.iterdir()) == []


async def test_a_launch_that_fails_leaves_the_old_directory_as_it_was(
    client: Client, index: Index, layout: StorePaths
) -> None:
    old = old_env(layout.root / "v3" / "glow" / MINOR)
    before, inode = files_of(old), old.stat().st_ino
    with pytest.raises(VirtualEnvError):
        await client.prepare(asking(index, "lantern==9.9"))
    assert (files_of(old), old.stat().st_ino) == (before, inode)
    assert left_behind(layout) == []


async def test_a_launch_is_refused_while_a_process_uses_the_old_directory(
    client: Client, index: Index, layout: StorePaths
) -> None:
    old = old_env(layout.root / "v3" / "glow" / MINOR)
    async with running(str(old / "bin" / "python"), program=LATE) as process:
        index.requests.clear()
        with pytest.raises(InUse, match=f"process {process.pid} .*seen in its command line") as no:
            await client.prepare(asking(index, "lantern==1.0"))
        assert [each["pid"] for each in no.value.details["users"]] == [process.pid]
        assert "another engine" in str(no.value.hint)
        assert index.requests == []
        # Under another engine it is another key.
        served = await client.prepare(asking(index, "lantern==1.0", model_engine="vllm"))
        await client.release(served)
        # What it imports late is still its own.
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"old\n"
        await process.wait()
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    assert old.resolve() == Path(str(prepared.real_path))


async def test_a_process_that_comes_while_it_is_built_refuses_the_launch_at_its_end(
    client: Client, index: Index, layout: StorePaths
) -> None:
    old = old_env(layout.root / "v3" / "glow" / MINOR)
    before, inode = files_of(old), old.stat().st_ino
    index.hang(WHEEL)
    launch = asyncio.create_task(client.prepare(asking(index, "lantern==2.0")))
    await requested(index, WHEEL)
    async with running(str(old / "bin" / "python"), "-B") as process:
        index.release()
        with pytest.raises(InUse, match=f"process {process.pid} "):
            await launch
    assert (files_of(old), old.stat().st_ino) == (before, inode)
    assert left_behind(layout) == []
    await client.prepare(asking(index, "lantern==2.0"))


async def test_a_link_in_the_place_of_a_model_refuses_the_launch_before_anything_is_built(
    client: Client, index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (layout.root / "v3").mkdir()
    (layout.root / "v3" / "glow").symlink_to(elsewhere)
    index.requests.clear()
    with pytest.raises(StoreError, match="a link leads to its folder"):
        await client.prepare(asking(index, "lantern==1.0"))
    assert index.requests == []
    assert len((await remove(client, "glow"))["done"]) == 1
    await client.prepare(asking(index, "lantern==1.0"))
    assert list(elsewhere.iterdir()) == []


def command(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xinference_venv", *words],
        env=environ,
        capture_output=True,
        text=True,
    )


async def test_the_command_line_shows_and_removes_them(
    environ: dict[str, str], layout: StorePaths
) -> None:
    old = old_env(layout.root / "v2" / "two\nlines")
    # The shell that asks may have activated it.
    environ = {**environ, "VIRTUAL_ENV": str(old)}
    async with running(str(old / "bin" / "python")) as process:
        shown = await asyncio.to_thread(command, environ, "list")
        assert "unmanaged, v2" in shown.stdout
        assert f"pid {process.pid}" in shown.stdout
        assert "two\\nlines" in shown.stdout
        refused = await asyncio.to_thread(command, environ, "remove", "two\nlines", "--json")
        assert refused.returncode == 4
        error = json.loads(refused.stdout)["error"]
        assert [each["pid"] for each in error["details"]["users"]] == [process.pid]
        assert "can't be removed before" in error["details"]["hint"]
        assert f"process {process.pid} (" in error["message"]
    removed = await asyncio.to_thread(command, environ, "remove", "two\nlines")
    assert removed.returncode == 0
    assert removed.stdout.startswith(r"removed: two\nlines (Python ")
    assert not old.exists()
