"""Bytecode of trees, compiled by a real interpreter."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.packages.conftest import Unpack
from tests.store.packages.test_retention import publish
from tests.wheels import build_wheel
from xinference_venv.planning.package import JoinMember, JoinPlan
from xinference_venv.service.bytecode_compiler import BytecodeCompiler
from xinference_venv.store.packages.bytecode import uncompiled
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import ProcessRunner

pytestmark = pytest.mark.uv

TAG = sys.implementation.cache_tag


def compiler(store: Store) -> BytecodeCompiler:
    environment = {"PATH": os.environ["PATH"]}
    return BytecodeCompiler(store=store, door=ProcessRunner(environment=environment, slots=1))


def test_every_tree_that_an_environment_shows_is_compiled_once(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    code = {"lamp/__init__.py": "x = 1\n", "lamp/template.py": "not python at all\n"}
    build_wheel(wheels, "lamp", "1.0", modules=code)
    build_wheel(wheels, "wick", "1.0")
    records = unpack.add(*wheels.iterdir())
    publish(store, records["lamp"])
    lamp = unpack.site(records["lamp"])
    [found] = uncompiled(store)
    assert found.packages == (lamp,)
    asyncio.run(compiler(store).compile_all())
    assert os.listdir(lamp / "lamp" / "__pycache__") == [f"__init__.{TAG}.pyc"]
    assert os.listdir(unpack.site(records["wick"]) / "__pycache__") == []
    assert uncompiled(store) == []
    assert store.packages.verify(records["lamp"].key.folder, hashes=True) == TreeCheck()
    # A process that imports it writes nothing, and runs what was compiled.
    before = (lamp / "lamp" / "__pycache__" / f"__init__.{TAG}.pyc").stat()
    program = "import lamp; print(lamp.__cached__)"
    shown = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(lamp)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    after = Path(shown).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_joined_tree_has_bytecode_of_its_own_sources_alone(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    both = "space/both.py"
    build_wheel(wheels, "one", "1.0", modules={"space/one.py": "", both: "x = 1\n"})
    records = unpack.add(*wheels.iterdir())
    other = build_wheel(wheels, "two", "1.0", modules={"space/two.py": "", both: "x = 2\n"})
    records |= unpack.add(other)
    plan = JoinPlan(members=tuple(JoinMember(tree=each.key.folder) for each in records.values()))
    store.joined.make(plan, unpack.staging)
    publish(store, *records.values(), joined=(plan.folder,))
    asyncio.run(compiler(store).compile_all())
    site = store.layout.joined_tree(plan.folder) / "site"
    cache = site / "space" / "__pycache__"
    assert sorted(os.listdir(cache)) == sorted(
        f"{each}.{TAG}.pyc" for each in ("one", "two", "both")
    )
    two = unpack.site(records["two"]) / "space" / "__pycache__" / f"both.{TAG}.pyc"
    assert (cache / f"both.{TAG}.pyc").samefile(two)
    program = "import space.both; print(space.both.x)"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "2\n"
    assert store.joined.verify(plan.folder) == TreeCheck()


def test_an_interpreter_that_is_gone_compiles_nothing(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    records = unpack.add(build_wheel(wheels, "lamp", "1.0"))
    publish(store, records["lamp"])
    [found] = uncompiled(store)
    gone = replace(found, interpreter="/nowhere/python")
    asyncio.run(compiler(store)._compile(gone, gone.packages))
    assert len(uncompiled(store)) == 1


def test_an_interpreter_that_ends_before_it_compiles_is_started_once_and_named_once(
    unpack: Unpack,
    wheels: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an upgrade of the system that took a library away from it."""
    records = unpack.add(*(build_wheel(wheels, name, "1.0") for name in ("lamp", "wick", "oil")))
    publish(store, *records.values())
    broken, starts = tmp_path / "python", tmp_path / "starts"
    broken.write_text(f"#!/bin/sh\necho >> {starts}\necho no libpython >&2\nexit 127\n")
    broken.chmod(0o755)
    [found] = uncompiled(store)
    monkeypatch.setattr("xinference_venv.service.bytecode_compiler._MOST_FOLDERS", 2)
    monkeypatch.setattr(
        "xinference_venv.service.bytecode_compiler.uncompiled",
        lambda _: [replace(found, interpreter=str(broken))],
    )
    asyncio.run(compiler(store).compile_all())
    assert starts.read_text() == "\n"
    [said] = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert str(broken) in said and "127" in said
    assert len(uncompiled(store)[0].packages) == 3


def test_a_tree_that_ends_the_compiling_interpreter_keeps_no_other_from_being_compiled(
    unpack: Unpack, wheels: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lamp", "oil", "wick"):
        build_wheel(wheels, name, "1.0", modules={f"{name}.py": "x = 1\n"})
    records = unpack.add(*wheels.iterdir())
    publish(store, *records.values())
    [found] = uncompiled(store)
    killed = found.packages[1]
    interpreter = tmp_path / "python"
    interpreter.write_text(
        f"#!{sys.executable}\n"
        "import os, subprocess, sys\n"
        "*options, code = sys.argv[1:5]\n"
        "for folder in sys.argv[5:]:\n"
        f"    if folder == {str(killed)!r}:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    subprocess.run([sys.executable, *options, code, folder], check=True)\n"
    )
    interpreter.chmod(0o755)
    asyncio.run(
        compiler(store)._compile(replace(found, interpreter=str(interpreter)), found.packages)
    )
    [left] = uncompiled(store)
    assert left.packages == (killed,)
    assert f"{killed} is not compiled" in caplog.text
    assert "signal 9 (Killed)" in caplog.text
