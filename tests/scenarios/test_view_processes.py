"""What processes of every kind find in an environment: flags of the interpreter, modules that are
run, processes that are spawned, libraries that find each other, editable projects of the host.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.scenarios.one_site import Package, compare
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.store.packages import joined_tree

pytestmark = pytest.mark.uv

CREW = """
import multiprocessing, sys
def origin(_):
    import rigger
    return rigger.of
if __name__ == "__main__":
    found = []
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found += pool.map(origin, [0])
    print(found)
"""


async def launch(environ: dict[str, str], index: Index, *packages: str) -> PreparedEnvironment:
    async with local_client(environ) as client:
        return await client.prepare(asking(index, *packages))


def output(*command: str | Path, **environ: str) -> str:
    """What a command prints; its errors where it fails."""
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr


@pytest.fixture
async def crew(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> PreparedEnvironment:
    """An environment with an installed package, and an inherited one that it requires."""
    host = Host.make(tmp_path / "host", environ)
    host.add("rigger", "1.0", files={"rigger/__init__.py": "of = 'host'\n"})
    files = {"crew/__init__.py": "", "crew/start.py": CREW}
    build_wheel(wheels, "crew", "1.0", requires=["rigger"], modules=files)
    return await launch(environ, index, "crew")


async def test_every_flag_of_the_interpreter_shows_what_a_virtual_environment_would(
    crew: PreparedEnvironment, tmp_path: Path
) -> None:
    # Not the launcher of model processes, which takes variables away.
    python = Path(str(crew.path)) / "bin" / "python"
    both = "import crew, rigger; print(rigger.of)"
    for flags in ([], ["-I"], ["-E"], ["-s"], ["-P"], ["-B"], ["-O"], ["-X", "utf8"], ["-sEP"]):
        assert output(python, *flags, "-c", both) == "host", flags
    assert "No module named 'crew'" in output(python, "-S", "-c", both)
    # Python without site finds it once a program asks for site.
    late = "import site; site.main(); import crew, rigger; print(rigger.of)"
    assert output(python, "-S", "-c", late) == "host"
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "rigger.py").write_text("of = 'path'\n")
    first = str(tmp_path / "first")
    assert output(python, "-c", both, PYTHONPATH=first) == "path"
    assert output(python, "-E", "-c", both, PYTHONPATH=first) == "host"
    assert output(python, "-I", "-c", both, PYTHONPATH=first) == "host"
    assert output(python, "-c", both, PYTHONDONTWRITEBYTECODE="1") == "host"


async def test_a_module_that_is_run_and_the_processes_that_it_starts_find_the_same(
    crew: PreparedEnvironment, tmp_path: Path
) -> None:
    everywhere = str(["host"] * 3)
    assert output(crew.python, "-m", "crew.start") == everywhere
    assert output(crew.python, "-I", "-m", "crew.start") == everywhere
    script = tmp_path / "script.py"
    script.write_text(CREW)
    assert output(crew.python, str(script)) == everywhere
    assert output(Path(str(crew.path)) / "bin" / "python", str(script)) == everywhere


SPAWNS = """
import multiprocessing, sys
def end():
    import rigger
    sys.exit(7)
def main():
    found = []
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=end)
        process.start()
        process.join()
        found.append(process.exitcode)
    print(found)
"""


async def test_a_program_of_a_package_may_spawn_processes(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    """As `uvicorn --reload` does, and servers of models: each of them runs the program again."""
    host = Host.make(tmp_path / "host", environ)
    files = {"rigger/__init__.py": SPAWNS}
    host.add("rigger", "1.0", files=files, entry_points={"rigger-run": "rigger:main"})
    build_wheel(
        wheels,
        "crew",
        "1.0",
        requires=["rigger"],
        modules={"crew/__init__.py": SPAWNS},
        entry_points={"crew-run": "crew:main"},
    )
    programs = Path(str((await launch(environ, index, "crew")).path)) / "bin"
    for name in ("crew-run", "rigger-run"):
        assert output(programs / name) == str([7] * 3), name


async def test_every_other_way_to_run_python_shows_what_a_virtual_environment_would(
    crew: PreparedEnvironment, tmp_path: Path
) -> None:
    python = str(Path(str(crew.path)) / "bin" / "python")
    both = "import crew, rigger; print(rigger.of)"
    base = output(python, "-c", "import sys; print(sys.base_prefix)")
    for variables in (
        {"PYTHONHOME": base},
        {"PYTHONSAFEPATH": "1"},
        {"PYTHONNOUSERSITE": "1"},
        {"PYTHONUSERBASE": str(tmp_path)},
        {"PYTHONPYCACHEPREFIX": str(tmp_path / "pycache")},
        {"PYTHONDEVMODE": "1"},
        {"LC_ALL": "C"},
    ):
        for each in (python, crew.python):
            assert output(each, "-c", both, **variables) == "host", variables
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(both)
    packed = str(tmp_path / "app.pyz")
    assert output(python, "-m", "zipapp", str(tmp_path / "app"), "-p", python, "-o", packed) == ""
    assert output(packed) == output(python, packed) == "host"
    runs = f"import runpy; runpy.run_path({packed!r}, run_name='__main__')"
    assert output(python, "-c", runs) == "host"
    program = tmp_path / "program.py"
    chosen = "import multiprocessing, sys\nmultiprocessing.set_executable(sys.executable)\n"
    program.write_text(chosen + CREW)
    assert output(crew.python, str(program)) == str(["host"] * 3)
    # A virtual environment that is made with its interpreter is one of the base, as always.
    inner = tmp_path / "inner"
    assert output(python, "-m", "venv", "--without-pip", str(inner)) == ""
    inner_python = str(inner / "bin" / "python")
    assert "No module named 'crew'" in output(inner_python, "-c", both)
    assert output(inner_python, "-c", "import sys; print(sys.base_prefix)") == base
    prefix = output(python, "-c", "import sysconfig; print(sysconfig.get_path('data'))")
    assert prefix == str(crew.path)


def _library(folder: Path, name: str, source: str, *flags: str) -> bytes:
    (folder / f"{name}.c").write_text(source)
    target = folder / f"lib{name}.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", target, folder / f"{name}.c", f"-L{folder}", *flags],
        check=True,
    )
    return target.read_bytes()


def _calculators(
    folder: Path, run_path: str = "$ORIGIN/../../core/lib:$ORIGIN/../../nowhere"
) -> list[Package]:
    """Two packages: a library of `calc` loads one of `core` by its run path."""
    core = _library(folder, "core", "int core_value(void) { return 42; }\n")
    source = "int core_value(void);\nint value(void) { return core_value(); }\n"
    calc = _library(folder, "calc", source, "-lcore", f"-Wl,-rpath,{run_path}")
    loads = (
        "import ctypes, os\n"
        "library = os.path.join(os.path.dirname(__file__), 'lib', 'libcalc.so')\n"
        "answer = ctypes.CDLL(library).value()\n"
    )
    return [
        Package(name="core", files={"core/__init__.py": ""}, data={"core/lib/libcore.so": core}),
        Package(
            name="calc",
            files={"calc/__init__.py": loads},
            data={"calc/lib/libcalc.so": calc},
            requires=("core",),
        ),
    ]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("inherited", [(), ("core",), ("calc",), ("core", "calc")])
async def test_a_library_finds_that_of_another_package_by_its_run_path(
    environ: dict[str, str], tmp_path: Path, inherited: tuple[str, ...]
) -> None:
    seen = await compare(_calculators(tmp_path), inherited, tmp_path, environ)
    assert seen.real["imports"]["calc"][2]["answer"] == 42
    assert seen.differences == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("inherited", ["core", "calc"])
async def test_libraries_of_the_host_that_are_too_large_to_copy_find_others_and_walks_find_them(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: str
) -> None:
    # Less than a library has, more than the sources have.
    monkeypatch.setattr(joined_tree, "MOST_COPIED_BYTES", 5000)
    seen = await compare(_calculators(tmp_path), (inherited,), tmp_path, environ)
    assert seen.real["imports"]["calc"][2]["answer"] == 42
    library = f"SITE/{inherited}/lib/lib{inherited}.so"
    assert seen.differences == [f"stays inside: {library}: real True, view False"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("inherited", [(), ("core",), ("calc",), ("core", "calc")])
async def test_a_library_finds_that_which_another_package_has_in_the_prefix(
    environ: dict[str, str], tmp_path: Path, inherited: tuple[str, ...]
) -> None:
    """As those of Intel do: https://pypi.org/project/mkl-service/ finds mkl in ``lib``."""
    core, calc = _calculators(tmp_path, run_path="$ORIGIN/../../../..")
    [library] = core.data.values()
    core = replace(core, data={"core-1.0.data/data/lib/libcore.so": library})
    seen = await compare([core, calc], inherited, tmp_path, environ)
    assert seen.real["imports"]["calc"][2]["answer"] == 42
    # RECORD of an installed one says ../../../lib where that of uv says ../..
    assert ["../../libcore.so", True] in [
        [path.replace("/../lib/", "/"), is_there] for path, is_there in seen.view["files"]["core"]
    ]
    assert [each for each in seen.differences if not each.startswith("files: core:")] == []


HOOK = """
import importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == {name!r}:
            return importlib.util.spec_from_file_location(name, {place!r})
def install():
    sys.meta_path.append(Finder)
"""


def editable(kind: str, host: Host, name: str, project: Path) -> None:
    """Install a project into a host for development, as different tools do it."""
    source = project / "src"
    source.mkdir(parents=True)
    module = source / f"{name}.py"
    module.write_text("of = 'project'\n")
    files: Mapping[str, str] = {}
    if kind == "a path in a .pth file":
        files = {f"__editable__.{name}-0.5.pth": f"{source}\n"}
    elif kind == "a finder":
        finder = f"__editable___{name}_0_5_finder"
        files = {
            f"{finder}.py": HOOK.format(name=name, place=str(module)),
            f"__editable__.{name}-0.5.pth": f"import {finder}; {finder}.install()\n",
        }
    elif kind == "a redirecting module":
        files = {
            f"_{name}_editable.py": HOOK.format(name=name, place=str(module)) + "install()\n",
            f"_{name}_editable.pth": f"import _{name}_editable\n",
        }
    elif kind == "a folder of links":
        strict = host.site / f"__editable__.{name}-0.5-links"
        strict.mkdir()
        (strict / f"{name}.py").symlink_to(module)
        files = {f"__editable__.{name}-0.5.pth": f"{strict.name}\n"}
    if kind != "an egg-link":
        host.add(name, "0.5", files=files)
        return
    metadata = source / f"{name}.egg-info"
    metadata.mkdir()
    (metadata / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.5\n")
    (host.site / f"{name}.egg-link").write_text(f"{source}\n../\n")
    with (host.site / "easy-install.pth").open("a") as pth:
        pth.write(f"{source}\n")


EDITABLE = (
    *("a path in a .pth file", "a finder", "a redirecting module", "a folder of links"),
    "an egg-link",
)


@pytest.mark.parametrize("kind", EDITABLE)
async def test_an_editable_project_of_the_host_is_seen_unless_it_is_replaced_and_then_nothing_is(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, kind: str
) -> None:
    host = Host.make(tmp_path / "host", environ)
    for name in ("kept", "replaced"):
        editable(kind, host, name, tmp_path / name)
    build_wheel(wheels, "replaced", "1.0", modules={"replaced.py": "of = 'wheel'\n"})
    asks = "import kept, replaced; print(kept.of, replaced.of)"
    assert output(host.python, "-c", asks) == "project project"
    made = await launch(environ, index, "kept", "replaced==1.0")
    assert output(made.python, "-c", asks) == "project wheel"
    found: Any = json.loads(
        output(
            made.python,
            "-c",
            "import json, sys; print(json.dumps([sys.path, [*sys.modules],"
            " [getattr(each, '__module__', '') for each in sys.meta_path]]))",
        )
    )
    assert "replaced" not in " ".join(map(str, found[0])).replace(str(tmp_path), "")
    assert not any("replaced" in str(each) for part in found[1:] for each in part)
    versions = (
        "import importlib.metadata as m; print([m.version(name) for name in ('kept', 'replaced')])"
    )
    assert output(made.python, "-c", versions) == "['0.5', '1.0']"
