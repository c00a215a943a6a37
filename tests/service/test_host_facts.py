"""Facts of a host are asked once, and again when the host or the form of the facts changed."""

from __future__ import annotations

import asyncio
import json
import os
import venv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.wheels import fake_distribution
from xinference_venv.errors import UvFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.service.host_answers import remembered_facts
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.settings import Settings
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import ProcessRunner, Uv


class Host:
    """A host interpreter of the test's own, and the pids of what was started to ask about it."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.environ = {**environ, "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(folder / "bin/python")}
        self.store = Store.open(folder.parent / "store")
        self.started: list[int] = []
        venv.create(folder, symlinks=True)
        [self.site] = folder.glob("lib/python3*/site-packages")
        fake_distribution(self.site, "lib", "1.0", files={"lib/__init__.py": ""})

    def hosts(self) -> HostFactsReader:
        """What a worker that has just started has."""
        door = ProcessRunner(environment=self.environ, slots=2, started=self.started.append)
        settings = Settings.from_environ(self.environ, home_directory=self.environ["HOME"])
        uv = Uv(program="/nowhere/uv", door=door)
        return HostFactsReader(store=self.store, uv=uv, settings=settings, environ=self.environ)

    def change_saved(self, change: Callable[[dict[str, Any]], object]) -> None:
        [path] = self.store.layout.hosts.glob("probe-*.json")
        saved = json.loads(path.read_text())
        change(saved)
        path.write_text(json.dumps(saved))


@pytest.fixture
def host(tmp_path: Path, environ: dict[str, str]) -> Host:
    return Host(tmp_path / "host", environ)


async def test_a_host_is_not_asked_twice(host: Host) -> None:
    first = host.hosts()
    facts = await first.facts()
    assert facts.by_name["lib"].entries == ("lib", "lib-1.0.dist-info")
    asked = len(host.started)
    assert await first.facts() is facts
    assert await host.hosts().facts() == facts
    assert len(host.started) == asked


async def test_what_was_found_out_is_known_without_asking_until_something_changes(
    host: Host,
) -> None:
    python = host.environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"]
    assert remembered_facts(host.store.layout, python) is None
    facts = await host.hosts().facts()
    assert remembered_facts(host.store.layout, python) == facts
    assert remembered_facts(host.store.layout, f"{python}3") is None
    fake_distribution(host.site, "more", "1.0")
    assert remembered_facts(host.store.layout, python) is None


async def test_what_an_earlier_version_kept_is_asked_again(host: Host) -> None:
    def of_an_earlier_version(saved: dict[str, Any]) -> None:
        del saved["format"]
        for each in saved["answer"]["distributions"]:
            del each["entries"]

    facts = await host.hosts().facts()
    host.change_saved(of_an_earlier_version)
    assert await host.hosts().facts() == facts


async def test_a_changed_host_is_asked_again(host: Host) -> None:
    hosts = host.hosts()
    await hosts.facts()
    fake_distribution(host.site, "more", "1.0")
    assert set((await hosts.facts()).by_name) == {"lib", "more"}


async def test_packages_that_a_user_installs_first_are_asked_for(host: Host) -> None:
    hosts = host.hosts()
    facts = await hosts.facts()
    minor = facts.interpreter.minor_version
    asked = len(host.started)
    user_site = Path(host.environ["HOME"], f".local/lib/python{minor}/site-packages")
    fake_distribution(user_site, "more", "1.0")
    await hosts.facts()
    assert len(host.started) > asked


@pytest.mark.parametrize("damage", ["answer", "stamps"])
async def test_damaged_facts_are_asked_again(host: Host, damage: str) -> None:
    facts = await host.hosts().facts()
    host.change_saved(lambda saved: saved.pop(damage))
    assert await host.hosts().facts() == facts


async def test_a_slow_search_for_one_version_holds_up_no_other_launch_and_says_so(
    host: Host, tmp_path: Path
) -> None:
    hosts = host.hosts()
    facts = await hosts.facts()
    os.mkfifo(tmp_path / "gate")
    slow = tmp_path / "uv"
    slow.write_text(f"#!/bin/sh\nread line < {tmp_path / 'gate'}\n")
    slow.chmod(0o755)
    hosts.uv = replace(hosts.uv, program=str(slow))
    heard: list[str] = []

    def say(phase: Phase, message: str, **progress: int | None) -> None:
        heard.append(message)

    searches = [
        asyncio.create_task(hosts.interpreter("3.99", facts.interpreter, download=True, say=say))
        for _ in range(2)
    ]
    while not heard:  # noqa: ASYNC110 (the second one says it when it comes to the lock)
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await hosts.facts() == facts
        # Who only wants to know whether it is there does not wait for a download.
        hosts.uv = replace(hosts.uv, program="/bin/false")
        with pytest.raises(UvFailed):
            await hosts.interpreter("3.99", facts.interpreter, download=False)
    assert heard == ["waiting for another launch that looks for Python 3.99"]
    for each in searches:
        each.cancel()
    await asyncio.gather(*searches, return_exceptions=True)
