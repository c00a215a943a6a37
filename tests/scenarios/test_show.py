"""What a person and a program learn of a view: where files really are, who shares the trees, what
the host has otherwise since.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host, ran
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

Run = Callable[..., Awaitable[str]]


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run a command line; its output."""

    async def run(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xinference_venv", *words),
            env=environ,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        # doctor finds that this host has no index.
        assert process.returncode == 0 or words[0] == "doctor", err.decode()
        return out.decode()

    return run


@pytest.fixture
async def host(environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path) -> Host:
    """A host with two packages; ``glow`` and ``shine`` are there and share ``lantern``."""
    host = Host.make(tmp_path / "host", environ)
    host.add("shade", "1.0", files={"shade/__init__.py": "", "reed/low.py": ""})
    host.add("pole", "1.0", "shade")
    build_wheel(wheels, "reed-high", "1.0", requires=["shade"], modules={"reed/high.py": ""})
    async with local_client(environ) as client:
        await client.prepare(asking(index, "lantern==1.0", "reed-high", "pole"))
        await client.prepare(asking(index, "lantern==1.0", model="shine"))
    return host


async def listed(run: Run, *words: str) -> Any:
    return json.loads(await run(*words, "--json"))["list"]


async def test_packages_says_of_each_where_its_files_really_are(
    run: Run, host: Host, layout: StorePaths
) -> None:
    [environment] = await listed(run, "packages", "glow")
    places = {
        each["name"]: [(place["place"], place["path"], place["names"]) for place in each["places"]]
        for each in environment["packages"]
    }
    [(kind, path, names)] = places["lantern"]
    assert (kind, names) == ("package", ["lantern-1.0.dist-info", "lantern.py"])
    assert Path(path).parent.parent == layout.packages
    assert (Path(path) / "lantern.py").is_file()
    by_kind = {kind: names for kind, _, names in places["shade"]}
    assert by_kind == {"host": ["shade", "shade-1.0.dist-info"], "joined": ["reed"]}
    assert [kind for kind, *_ in places["reed-high"]] == ["joined"]
    [(kind, path, _)] = places["pole"]
    assert (kind, path) == ("host", str(host.site))
    text = await run("packages", "glow")
    assert str(host.site) in text
    assert str(layout.packages) in text


async def test_show_draws_the_view_its_trees_and_who_shares_them(
    run: Run, host: Host, layout: StorePaths
) -> None:
    [environment] = await listed(run, "show", "glow")
    trees = {each["label"]: each for each in environment["view"]["trees"]}
    assert [each["model_name"] for each in trees["lantern 1.0"]["shared_with"]] == ["shine"]
    assert trees["reed-high 1.0"]["shared_with"] == []
    [joined] = [each for each in trees.values() if each["place"] == "joined"]
    assert joined["reasons"] == ["they share the directory reed"]
    assert joined["label"] == "shade of the host, reed-high 1.0"
    [site] = environment["view"]["host"]
    assert site["path"] == str(host.site)
    assert {"pole.py", "shade"} <= {*site["names"]}
    text = await run("show", "glow")
    for part in (
        "1 package that no other environment shows",
        "2 packages that other environments show as well",
        "with shine (Python",
        "1 joined tree",
        "because they share the directory reed",
        f"of {host.site}",
    ):
        assert part in text


async def test_packages_has_what_else_a_model_sees_of_the_host_and_what_was_installed_by_hand(
    run: Run, host: Host, wheels: Path, tmp_path: Path, index: Index, environ: dict[str, str]
) -> None:
    host.add("tool", "3.0")
    project = tmp_path / "project"
    metadata = host.add("edited", "1.0", files={"__editable__.edited-1.0.pth": f"{project}\n"})
    url = {"url": project.as_uri(), "dir_info": {"editable": True}}
    (metadata / "direct_url.json").write_text(json.dumps(url))
    build_wheel(wheels, "lantern", "0.9")
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "lantern==1.0", "pole", model="seen"))
    python = str(Path(str(made.real_path)) / "bin" / "python")
    uv = ("uv", "pip", "install", "--python", python, "--default-index", index.url, "--no-deps")
    status, _, error = ran(*uv, "lantern==0.9", "reed-high")
    assert status == 0, error

    [environment] = await listed(run, "packages", "seen")
    unlocked = {each["name"]: each for each in environment["unlocked"]}
    assert list(unlocked) == ["edited", "lantern", "reed-high", "tool"]
    by_hand = {name: each["version"] for name, each in unlocked.items() if each["by_hand"]}
    assert by_hand == {"lantern": "0.9", "reed-high": "1.0"}
    assert [unlocked[name]["places"] for name in by_hand] == [[], []]
    site = {"place": "host", "path": str(host.site)}
    assert unlocked["tool"]["places"] == [{**site, "names": ["tool-3.0.dist-info", "tool.py"]}]
    assert [each["path"] for each in unlocked["edited"]["places"]] == [str(host.site), str(project)]
    # What the lock has in that version is not what a model imports.
    text = await run("packages", "seen")
    assert "behind 0.9, see below" in text
    assert text.count("in the environment itself") == 2
    drawn = await run("show", "seen")
    # lantern and wick, pole and shade, tool and edited.
    assert "view of 6 packages" in drawn
    assert "2 packages installed by hand, before the view" in drawn


async def test_packages_of_an_environment_with_files_of_its_own_lie_in_itself(
    run: Run, host: Host, index: Index, environ: dict[str, str]
) -> None:
    async with local_client(environ) as client:
        request = asking(index, "lantern==1.0", "pole", model="writer", view="files")
        await client.prepare(request)
    [environment] = await listed(run, "show", "writer")
    assert environment["view"] is None
    assert environment["launch"]["view"] == "files"
    places = {each["name"]: (each["role"], each["places"]) for each in environment["packages"]}
    assert places["lantern"] == ("installed", [])
    assert places["pole"] == ("inherited", [])
    text = await run("packages", "writer")
    assert str(host.site) not in text
    assert text.count("in the environment itself") >= 3
    assert environment["unlocked"] == []
    status, _, error = ran(
        *("uv", "pip", "install", "--python", f"{environment['real_path']}/bin/python"),
        *("--default-index", index.url, "--no-deps", "reed-high"),
    )
    assert status == 0, error
    [environment] = await listed(run, "show", "writer")
    assert [(each["name"], each["by_hand"]) for each in environment["unlocked"]] == [
        ("reed-high", True)
    ]
    drawn = await run("show", "writer")
    assert f"its packages lie in {environment['real_path']} itself" in drawn
    assert "view of" not in drawn


async def test_list_tells_what_an_environment_has_for_itself_and_what_it_shares(
    run: Run, host: Host
) -> None:
    glow, shine = await listed(run, "list")
    assert glow["shared_bytes"] == shine["shared_bytes"] > 0
    assert glow["size_bytes"] > shine["size_bytes"] > 0
    text = await run("list")
    assert "Own" in text
    assert "Shared" in text


async def test_a_host_that_changed_is_reported_by_list_and_doctor_and_in_the_log_of_the_launch(
    run: Run, host: Host, index: Index, environ: dict[str, str]
) -> None:
    assert [each["changed_on_host"] for each in await listed(run, "list")] == [[], []]
    # pip gives what it installs another metadata folder, even of the same version.
    shutil.rmtree(host.site / "pole-1.0.dist-info")
    host.add("pole", "1.1", "shade")
    changed = {each["model_name"]: each["changed_on_host"] for each in await listed(run, "list")}
    assert changed == {"glow": ["pole"], "shine": ["pole"]}
    assert "inherits packages that have changed on the host since it was made (pole)" in await run(
        "list"
    )
    found = json.loads(await run("doctor", "--json"))
    [check] = [
        check
        for each in found["list"]
        for check in each["checks"]
        if check["name"] == "inherited packages"
    ]
    assert "pole" in check["found"]
    async with local_client(environ) as client:
        await client.prepare(asking(index, "lantern==1.0", "reed-high", "pole"))
    changed = {each["model_name"]: each["changed_on_host"] for each in await listed(run, "list")}
    assert changed == {"glow": [], "shine": ["pole"]}
    log = await run("logs", "glow")
    assert "the host changed since the environment of glow" in log
