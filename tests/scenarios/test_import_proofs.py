"""Compiled against compiled: that it works next to the host's is proved by importing it."""

from __future__ import annotations

import asyncio
import importlib.machinery
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host, lock_of, of_role, visible
from tests.scenarios.steps import asking, left_behind
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import ResolutionFailed, VerificationFailed
from xinference_venv.planning.lock import Role
from xinference_venv.store.paths import StorePaths
from xinference_venv.uv.interpreters import import_modules
from xinference_venv.uv.subprocess import ProcessRunner

pytestmark = pytest.mark.uv

_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
EXTENSION = f"_fast{_SUFFIX}"
NEEDS_2 = "import numpy\nif numpy.__version__ < '2': raise ImportError('built for numpy 2')\n"


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


@pytest.fixture
def compiled(tmp_path: Path) -> bytes:
    """An extension module that really loads."""
    return _compile(tmp_path)


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path, compiled: bytes) -> Host:
    """A host with a compiled numpy 1.26."""
    host = Host.make(tmp_path / "host", environ)
    _add_compiled(host, compiled, "numpy", "1.26")
    return host


def _compile(folder: Path, *flags: str) -> bytes:
    source, target = folder / "fast.c", folder / "fast.so"
    source.write_text("int answer(void) { return 1; }\n")
    command = ["cc", "-shared", "-nostdlib", "-fPIC", "-o", str(target), str(source), *flags]
    subprocess.run(command, check=True)
    return target.read_bytes()


def _add_compiled(host: Host, content: bytes, name: str, version: str) -> None:
    metadata = host.add(
        name, version, files={f"{name}/__init__.py": f"__version__ = {version!r}\n"}
    )
    (host.site / name / EXTENSION).write_bytes(content)
    with (metadata / "RECORD").open("a") as record:
        record.write(f"{name}/{EXTENSION},,\n")


def _build(wheels: Path, content: bytes, name: str, source: str, *requires: str) -> None:
    build_wheel(
        wheels,
        name,
        "1.0",
        requires=requires,
        modules={f"{name}/__init__.py": source},
        data={f"{name}/{EXTENSION}": content},
    )


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that are imported for proofs."""
    names: list[str] = []

    async def recording(
        door: ProcessRunner, python: str, modules: Iterable[str], *, deadline: float
    ) -> str | None:
        names.extend(modules)
        return await import_modules(door, python, modules, deadline=deadline)

    monkeypatch.setattr("xinference_venv.service.import_prover.import_modules", recording)
    return names


async def test_what_works_next_to_the_host_is_imported_once_for_all_environments(
    host: Host,
    client: Client,
    index: Index,
    wheels: Path,
    compiled: bytes,
    imported: list[str],
) -> None:
    _build(wheels, compiled, "scipy", "import numpy\n", "numpy")
    build_wheel(wheels, "wick", "1.0")
    await client.prepare(asking(index, "scipy"))
    assert imported == ["scipy"]
    await client.prepare(asking(index, "scipy"))
    other = await client.prepare(asking(index, "scipy", "wick", model="other"))
    assert (await visible(other))["numpy"] == "1.26"
    assert imported == ["scipy"]


async def test_what_does_not_work_next_to_the_host_gets_another_one_afresh(
    host: Host, client: Client, index: Index, wheels: Path, compiled: bytes, layout: StorePaths
) -> None:
    _build(wheels, compiled, "scipy", NEEDS_2, "numpy>=1.20")
    build_wheel(wheels, "numpy", "2.1", modules={"numpy.py": "__version__ = '2.1'\n"})
    made = await client.prepare(asking(index, "scipy"))
    lock = lock_of(layout, made)
    assert of_role(lock, Role.INSTALLED) == {"scipy": "1.0", "numpy": "2.1"}
    [warning] = [each for each in lock.warnings if "numpy" in each]
    assert "scipy 1.0 does not work next to the host's numpy 1.26" in warning
    assert "ImportError: built for numpy 2" in warning
    assert (await visible(made))["numpy"] == "2.1"


async def test_what_works_with_no_version_that_there_is_is_refused_with_the_last_line(
    host: Host, client: Client, index: Index, wheels: Path, compiled: bytes, layout: StorePaths
) -> None:
    _build(wheels, compiled, "scipy", NEEDS_2, "numpy")
    with pytest.raises(ResolutionFailed) as without:
        await client.prepare(asking(index, "scipy"))
    assert "ImportError: built for numpy 2" in str(without.value)

    build_wheel(wheels, "numpy", "1.27", modules={"numpy.py": "__version__ = '1.27'\n"})
    with pytest.raises(VerificationFailed) as afresh:
        await client.prepare(asking(index, "scipy"))
    assert str(afresh.value) == "scipy 1.0 does not work: ImportError: built for numpy 2"
    assert left_behind(layout) == []

    _build(wheels, compiled, "glow", "import numpy, absent\n", "numpy")
    with pytest.raises(VerificationFailed) as caught:
        await client.prepare(asking(index, "glow", model="other"))
    assert "glow 1.0 does not work next to the host's numpy 1.26" in str(caught.value)
    assert "ModuleNotFoundError: No module named 'absent'" in str(caught.value)
    assert "Traceback" in caught.value.details["output"]
    assert "--no-proof" in str(caught.value.hint)
    assert caught.value.phase == "verifying"
    assert left_behind(layout) == []
    assert await client.entries() == []


async def test_no_proof_of_a_launch_or_a_setting_publishes_without_an_import(
    host: Host,
    environ: dict[str, str],
    index: Index,
    wheels: Path,
    compiled: bytes,
    imported: list[str],
) -> None:
    _build(wheels, compiled, "scipy", "raise ImportError('never')\n", "numpy")
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "scipy", no_proof=True))
        assert (await visible(made))["numpy"] == "1.26"
        with pytest.raises((VerificationFailed, ResolutionFailed), match="never"):
            await client.prepare(asking(index, "scipy"))
    before = list(imported)
    environ["XINFERENCE_VIRTUAL_ENV_PROOF"] = "0"
    async with local_client(environ) as client:
        await client.prepare(asking(index, "scipy", model="other"))
    assert imported == before


async def test_a_library_that_the_host_has_in_another_version_is_installed_afresh(
    host: Host, client: Client, index: Index, wheels: Path, tmp_path: Path, layout: StorePaths
) -> None:
    (tmp_path / "two").mkdir()
    _compile(tmp_path / "two", "-Wl,-soname,libglow.so.2")
    (tmp_path / "two" / "fast.so").rename(tmp_path / "two" / "libglow.so.2")
    needs_2 = _compile(tmp_path, "-Wl,--no-as-needed", f"-L{tmp_path / 'two'}", "-l:libglow.so.2")
    one = _compile(tmp_path, "-Wl,-soname,libglow.so.1")
    metadata = host.add("glow", "1.0", files={"glow/__init__.py": ""})
    (host.site / "glow" / "libglow.so.1").write_bytes(one)
    with (metadata / "RECORD").open("a") as record:
        record.write("glow/libglow.so.1,,\n")
    # Nothing imports the extension module: only its needs tell.
    _build(wheels, needs_2, "lamp", "", "glow")
    build_wheel(
        wheels,
        "glow",
        "2.0",
        modules={"glow/__init__.py": ""},
        data={"glow/libglow.so.2": (tmp_path / "two" / "libglow.so.2").read_bytes()},
    )
    made = await client.prepare(asking(index, "lamp"))
    assert of_role(lock_of(layout, made), Role.INSTALLED) == {"lamp": "1.0", "glow": "2.0"}


@pytest.mark.parametrize("has_all", [False, True])
async def test_what_would_be_of_two_builds_is_installed_afresh(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths, has_all: bool
) -> None:
    # As vLLM's cuda-python 12 next to the cuda-bindings 13 of torch: both have cuda/bindings.
    new = {f"cuda/bindings/{name}{_SUFFIX}": b"13" for name in ("driver", "nvvm")}
    bindings = build_wheel(wheels, "cuda-bindings", "13.5", modules={}, data=new)
    zipfile.ZipFile(bindings).extractall(host.site)
    old = {path: b"12" for path in new if has_all or "driver" in path}
    build_wheel(wheels, "cuda-python", "12.6", modules={}, data=old)
    made = await client.prepare(asking(index, "cuda-python", "cuda-bindings"))
    lock = lock_of(layout, made)
    [view] = Path(str(made.real_path)).parent.glob("view/lib/python3.*/site-packages")
    seen = {path: (view / path).read_bytes() for path in new}
    if has_all:
        assert of_role(lock, Role.INSTALLED) == {"cuda-python": "12.6"}
        assert seen == old
    else:
        # Of two that are installed, the one that pip would install later is seen.
        assert of_role(lock, Role.INSTALLED) == {"cuda-python": "12.6", "cuda-bindings": "13.5"}
        assert seen == new
        assert any("it has another cuda/bindings/driver" in each for each in lock.warnings)


async def test_an_import_that_hangs_is_ended_with_all_that_it_started(
    host: Host,
    environ: dict[str, str],
    index: Index,
    wheels: Path,
    compiled: bytes,
    tmp_path: Path,
) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_PATIENCE"] = "3"
    pid = tmp_path / "pid"
    source = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    _build(wheels, compiled, "scipy", source, "numpy")
    async with local_client(environ) as client:
        with pytest.raises((VerificationFailed, ResolutionFailed), match="importing scipy"):
            await client.prepare(asking(index, "scipy"))
    child = Path(f"/proc/{pid.read_text()}")
    await asyncio.to_thread(_wait_until_gone, child)


def _wait_until_gone(process: Path) -> None:
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        pass
