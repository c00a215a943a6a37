"""What uv answered is known again until something may make it say another thing."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clock import ClockAhead
from xinference_venv._util.clock import Clock
from xinference_venv.service import uv_facts
from xinference_venv.service.uv_facts import (
    UvFacts,
    ask_uv,
    remember_uv,
    remembered_uv,
    stamps_of_uv,
)
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import ProcessRunner, Uv

LISTED = (
    '[{"implementation": "cpython", "variant": "default", "version": "3.11.7", "path": "/bin/p"}]'
)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Host:
    """A uv that notes each time it is run, a folder of programs, a store."""

    def __init__(self, folder: Path) -> None:
        self.layout = Store.open(folder / "home" / "virtualenv").layout
        self.programs, self.runs = folder / "programs", folder / "runs"
        self.runs.write_text("")
        says = f"case $1 in python) echo '{LISTED}';; *) echo 'uv 0.13.9 (x)';; esac"
        self.uv = script(folder / "uv", f"echo $1 >> {self.runs}\n{says}")
        self.interpreter = script(self.programs / "python3.11", "true")
        self.managed = folder / "managed"
        self.environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "UV_PYTHON_INSTALL_DIR": str(self.managed),
            "LS_COLORS": "di=1",
        }

    def known(self) -> UvFacts | None:
        return remembered_uv(self.layout, str(self.uv), self.environment)

    async def ask(self, clock: Clock = ClockAhead(3600)) -> UvFacts:  # noqa: B008 (no state)
        door = ProcessRunner(environment=self.environment, slots=1)
        stamps = stamps_of_uv(str(self.uv), self.environment)
        said = await ask_uv(Uv(program=str(self.uv), door=door))
        remember_uv(self.layout, stamps, said, clock)
        return said


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_what_uv_answered_is_known_without_a_process(host: Host) -> None:
    assert host.known() is None
    said = await host.ask()
    assert (said.version, said.pythons) == ("uv 0.13.9 (x)", ("3.11.7",))
    ran = host.runs.read_text()
    assert host.known() == said
    host.environment["LS_COLORS"] = "di=2"
    assert host.known() == said
    assert host.runs.read_text() == ran == "--version\npython\n"


def _replaced_uv(host: Host) -> None:
    script(host.uv, "exit 1")


def _forbidden_uv(host: Host) -> None:
    host.uv.chmod(0o644)


def _new_interpreter(host: Host) -> None:
    script(host.programs / "python3.12", "true")


def _replaced_interpreter(host: Host) -> None:
    script(host.interpreter, "exit 2")


def _interpreter_behind_a_link(host: Host) -> None:
    host.interpreter.unlink()
    host.interpreter.symlink_to("/bin/true")


def _downloaded_interpreter(host: Host) -> None:
    script(host.managed / "cpython-3.13.1-linux" / "bin" / "python3.13", "true")


def _other_folders(host: Host) -> None:
    host.environment["PATH"] = "/usr/bin:/bin"


def _other_libraries(host: Host) -> None:
    host.environment["LD_LIBRARY_PATH"] = "/opt/lib"


@pytest.mark.parametrize(
    "change",
    [
        _replaced_uv,
        _forbidden_uv,
        _new_interpreter,
        _replaced_interpreter,
        _interpreter_behind_a_link,
        _downloaded_interpreter,
        _other_folders,
        _other_libraries,
    ],
    ids=lambda each: each.__name__,
)
async def test_what_may_change_the_answer_makes_it_unknown(
    host: Host, change: Callable[[Host], None]
) -> None:
    await host.ask()
    assert host.known() is not None
    change(host)
    assert host.known() is None


async def test_another_boot_or_less_memory_makes_it_unknown(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.ask()
    with monkeypatch.context() as patch:
        patch.setattr(uv_facts, "boot", lambda: "another one")
        assert host.known() is None
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (1 << 30, 1 << 30))
        assert host.known() is None
    assert host.known() is not None


async def test_what_has_just_changed_is_not_kept(host: Host) -> None:
    os.utime(host.uv)
    await host.ask(time)
    assert host.known() is None


async def test_nothing_is_written_where_there_is_no_store_nor_of_what_is_no_uv(
    host: Host, tmp_path: Path
) -> None:
    stamps = stamps_of_uv(str(host.uv), host.environment)
    said = await host.ask()
    absent = replace(host.layout, root=tmp_path / "absent")
    remember_uv(absent, stamps, said, ClockAhead(3600))
    assert not (tmp_path / "absent").exists()
    script(host.uv, "exit 0")
    stamps = stamps_of_uv(str(host.uv), host.environment)
    remember_uv(host.layout, stamps, replace(said, version=""), ClockAhead(3600))
    assert host.known() is None
