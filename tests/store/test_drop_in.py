"""Whether an Xinference that runs here, or that systemd starts, has the drop-in on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xinference_venv.store.drop_in import EXTENSION, running_xinference, service_units

_ROOT = Path(__file__).parents[2]
_COMMAND = """
import sys
from pathlib import Path
from xinference_venv.store.atomic import Disk
from xinference_venv.store.drop_in import hold_drop_in
if sys.argv[1] == "on":
    lock = hold_drop_in(Disk(), Path(sys.argv[2]) / "virtualenv")
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def xinference(tmp_path: Path, state: str) -> Iterator[int]:
    """The pid of what looks like an Xinference with a home of its own."""
    script = tmp_path / "bin" / "xinference-local"
    script.parent.mkdir(exist_ok=True)
    script.write_text(_COMMAND)
    home = tmp_path / f"home-{state}"
    with _started(str(script), state, str(home), XINFERENCE_HOME=str(home)) as pid:
        yield pid


@contextmanager
def _started(*words: str, **variables: str) -> Iterator[int]:
    """The pid of a Python that was started so, from when it says that it is there."""
    with subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process.pid
        process.kill()


@pytest.mark.parametrize("state", ["on", "off"])
def test_a_running_one_is_known_with_its_home_and_whether_ours_is_on(
    tmp_path: Path, state: str
) -> None:
    with xinference(tmp_path, state) as pid:
        [found] = [each for each in running_xinference("/root") if each.pid == pid]
    assert (found.command, found.home) == ("xinference-local", str(tmp_path / f"home-{state}"))
    assert found.is_on is (state == "on")
    assert pid not in {each.pid for each in running_xinference("/root")}


def test_one_that_its_service_runs_is_known(tmp_path: Path) -> None:
    """As the unit that ``xinference service install`` of 4.1 writes starts it."""
    package = tmp_path / "xinference" / "deploy"
    package.mkdir(parents=True)
    home = tmp_path / "home"
    hold = f"lock = hold_drop_in(Disk(), Path({str(home / 'virtualenv')!r}))"
    (package / "cmdline.py").write_text(
        f"""def local():
    import sys
    from pathlib import Path
    from xinference_venv.store.atomic import Disk
    from xinference_venv.store.drop_in import hold_drop_in
    {hold}
    print("there", flush=True)
    sys.stdin.read()
"""
    )
    code = "from xinference.deploy.cmdline import local; local()"
    words = ("-u", "-B", "-c", code, "--host", "127.0.0.1", "--port", "9997")
    path = f"{tmp_path}:{_ROOT}"
    with _started(*words, XINFERENCE_HOME=str(home), PYTHONPATH=path) as pid:
        [found] = [each for each in running_xinference("/root") if each.pid == pid]
    assert (found.command, found.home, found.is_on) == ("xinference-local", str(home), True)


def test_a_unit_of_a_user_is_looked_at_with_what_was_added_to_it(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}

    def found() -> list[bool]:
        units = service_units("/nowhere", environ)
        return [is_on for path, is_on in units if path.is_relative_to(tmp_path)]

    assert found() == []
    unit = tmp_path / "systemd" / "user" / "xinference.service"
    unit.parent.mkdir(parents=True)
    unit.write_text('[Service]\nExecStart="python" "-I"\nEnvironment="XINFERENCE_HOME=/home"\n')
    assert found() == [False]
    added = unit.with_name("xinference.service.d") / "override.conf"
    added.parent.mkdir()
    added.write_text(f"[Service]\n# Environment=XINFERENCE_EXTENSIONS={EXTENSION}\n")
    assert found() == [False]
    added.write_text(f'[Service]\nEnvironment="A=b" "XINFERENCE_EXTENSIONS=mine:x,{EXTENSION}"\n')
    assert found() == [True]


def test_units_of_a_home_directory_that_may_not_be_entered_are_none_of_ours(tmp_path: Path) -> None:
    """As where sudo or an image keeps ``HOME=/root`` for another user."""
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    home.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65_534)
        units = [path for path, _ in service_units(str(home), {})]
    finally:
        if root:
            os.seteuid(0)
        home.chmod(0o700)
    assert not [path for path in units if path.is_relative_to(home)]
