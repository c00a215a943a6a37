"""Bytecode for the environments of the drop-in."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

from tests.wheels import build_wheel
from tests.xinference.conftest import Place
from xinference_venv.xinference import compiling
from xinference_venv.xinference.compiling import BackgroundCompiling, compile_all

pytestmark = pytest.mark.uv

COMPILED = f"lamp/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"


@pytest.fixture
def lamp(place: Place) -> Place:
    """A place of an environment with a module that nothing has imported yet."""
    build_wheel(place.wheels, "lamp", "1.0", modules={"lamp/__init__.py": "LIGHT = 1\n"})
    place.launch("lamp")
    return place


def site_of(place: Place) -> Path:
    return Path(place.manager.get_lib_path())


def test_what_was_installed_is_compiled_once_for_the_environments_that_have_it(
    lamp: Place,
) -> None:
    assert not (site_of(lamp) / COMPILED).exists()
    asyncio.run(compile_all(os.environ))
    compiled = (site_of(lamp) / COMPILED).stat()
    other = lamp.beside("3.11.8")
    other.launch("lamp")
    assert (site_of(other) / COMPILED).stat().st_ino == compiled.st_ino
    # The interpreter takes it: it writes none of its own in its place.
    assert lamp.says("import lamp; print(lamp.__cached__)").endswith(COMPILED)
    assert (site_of(lamp) / COMPILED).stat().st_ino == compiled.st_ino


def test_a_file_that_was_edited_gets_no_bytecode_of_what_it_was(lamp: Place) -> None:
    (site_of(lamp) / "lamp" / "__init__.py").write_text("LIGHT = 'a hot fix'\n")
    asyncio.run(compile_all(os.environ))
    assert not (site_of(lamp) / COMPILED).exists()
    assert lamp.says("import lamp; print(lamp.LIGHT)") == "a hot fix"


def test_a_worker_compiles_after_each_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = threading.Semaphore(0)

    async def compile_nothing(_: object) -> None:
        compiled.release()

    monkeypatch.setattr(compiling, "compile_all", compile_nothing)
    background = BackgroundCompiling()
    background.start({}, after_seconds=0.0)
    assert compiled.acquire(timeout=60)
    background.look_soon()
    assert compiled.acquire(timeout=60)


def test_a_worker_goes_on_compiling_after_a_defect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Semaphore(0)

    async def fail(_: object) -> None:
        looked.release()
        raise LookupError("a defect")

    monkeypatch.setattr(compiling, "compile_all", fail)
    background = BackgroundCompiling()
    background.start({}, after_seconds=0.0)
    assert looked.acquire(timeout=60)
    background.look_soon()
    assert looked.acquire(timeout=60)
    assert "by a defect" in caplog.text
    assert "LookupError: a defect" in caplog.text
