"""A process that runs in an environment is known as its user, however it was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.wheels import build_wheel
from tests.xinference.conftest import Place
from xinference_venv.store.process_scan import users_of
from xinference_venv.store.use_lock import USE_NAME, hold_unused

pytestmark = pytest.mark.uv

# What is left of a model process of Xinference 4.1 in its default mode: no variable, no argument,
# no compiled library leads to its environment.
_MODEL = """
import ctypes, os, sys
import lantern
library = ctypes.CDLL(None)
with open("/proc/self/stat") as file:
    start, end = map(int, file.read().rpartition(")")[2].split()[45:47])
ctypes.memset(start, 0, end - start)
print("there", flush=True)
for line in sys.stdin:
    exec(line)
"""


@contextmanager
def model_process(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A process in the environment that shows it by nothing but having been started there."""
    python = str(place.manager.get_python_path())
    environ = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    with subprocess.Popen(
        [python, "-c", _MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environ,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.stdin.close()


def says(process: subprocess.Popen[str], code: str) -> str:
    """What a model process prints for a line of code."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{code}; sys.stdout.flush()\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_model_of_pure_python_packages_is_a_user(place: Place) -> None:
    place.launch("lantern<2")
    with model_process(place) as process:
        [user] = users_of([place.path]).users[place.path]
        assert (user.pid, user.seen_in) == (process.pid, ("lock of the environment",))
        with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
            place.install(place.manager, "lantern==2.0")
        with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
            place.manager.remove_env()
        assert says(process, "import wick; print(lantern.__version__)") == "1.0"
    assert place.path not in users_of([place.path]).users
    place.install(place.manager, "lantern==2.0")


def test_it_stays_a_user_over_changes_that_add(place: Place) -> None:
    build_wheel(place.wheels, "wind", "1.0")
    place.launch("lantern<2")
    with model_process(place) as process:
        for package in ("oil", "wind"):
            place.install(place.manager, package)
            with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
                place.install(place.manager, "lantern==2.0")
        assert says(process, "import oil; print(oil.__version__)") == "1.0"


def test_a_worker_that_shares_the_home_sees_it_too(place: Place) -> None:
    place.launch("lantern<2")
    code = (
        "from xinference_venv.xinference import InPlaceEnvManager; import pathlib, sys;"
        "manager = InPlaceEnvManager(pathlib.Path(sys.argv[1]));"
        "manager.install_packages(['lantern==2.0'], index_url=sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(place.path), place.index.url]
    with model_process(place) as process:
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"in use by process {process.pid}" in other.stderr
        assert place.visible()["lantern"] == "1.0"


def test_a_process_that_starts_during_an_exchange_waits_for_it(place: Place) -> None:
    place.launch("lantern<2")
    python = str(place.manager.get_python_path())
    with hold_unused(place.path) as alone:
        assert alone
        with subprocess.Popen([python, "-c", "print('started')"], cwd="/") as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            os.utime(place.path / USE_NAME)
            process.kill()


def test_children_of_a_model_are_users_as_well(place: Place) -> None:
    place.launch("lantern<2")
    with model_process(place) as process:
        # Forked, as by multiprocessing: it has the model's own open file.
        child = int(
            says(
                process, "r, w = os.pipe(); child = os.fork(); child or os.read(r, 1); print(child)"
            )
        )
        process.kill()
        process.wait()
        [user] = users_of([place.path]).users[place.path]
        assert user.seen_in == ("lock of the environment",)
        os.kill(child, signal.SIGKILL)


def test_an_environment_that_another_program_made_has_users_from_its_next_launch_on(
    place: Place,
) -> None:
    subprocess.run(
        [place.manager._get_uv_path(), "venv", "-q", str(place.path), "--python", sys.executable],
        check=True,
    )
    place.manager.create_env(python_path=Path(sys.executable))
    Path(place.manager.get_lib_path(), "lantern.py").write_text("__version__ = '0'\n")
    with (
        model_process(place) as process,
        pytest.raises(RuntimeError, match=f"in use by process {process.pid}"),
    ):
        place.install(place.manager, "oil")


def test_a_process_removes_an_environment_that_it_has_loaded_itself(place: Place) -> None:
    place.launch("lantern<2")
    code = (
        "import mmap, pathlib, sys, lantern;"
        "file = open(lantern.__file__, 'rb');"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ);"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
        "from xinference_venv.xinference import InPlaceEnvManager;"
        "InPlaceEnvManager(pathlib.Path(sys.argv[1])).remove_env()"
    )
    environ = {**os.environ, "PYTHONPATH": str(place.manager.get_lib_path())}
    subprocess.run([sys.executable, "-c", code, str(place.path)], check=True, env=environ)
    assert not place.path.exists()


def test_the_environments_own_interpreter_removes_it(place: Place) -> None:
    """It finds no uv."""
    place.launch("lantern<2")
    code = (
        "import sys, lantern;"
        "from pathlib import Path;"
        f"sys.path += [{str(Path(__file__).parents[2])!r}, {sysconfig.get_path('purelib')!r}];"
        "from xinference_venv.xinference import InPlaceEnvManager;"
        "InPlaceEnvManager(Path(sys.prefix)).remove_env()"
    )
    python = str(place.manager.get_python_path())
    environ = {**os.environ, "XOSCAR_UV_PATH": "/nowhere/uv"}
    subprocess.run([python, "-c", code], check=True, cwd=place.path, env=environ)
    assert not place.path.exists()
