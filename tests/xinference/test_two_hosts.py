"""Two hosts that share a home: neither sees the processes of the other.

Each is imitated by its own pids, host name and machine-id over one folder. What tells one host of
the other are file locks, as those of NFS from version 4 on do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import eventually
from tests.xinference.conftest import Place

_NAMESPACES = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--uts")
_HOST = """
hostname {name}
mount --bind {machine_id} /etc/machine-id
exec {python} -c "$CODE" "$@"
"""
_CHANGES = """
import pathlib, sys
from xinference_venv.xinference import InPlaceEnvManager

manager = InPlaceEnvManager(pathlib.Path(sys.argv[1]))
for change in (
    lambda: manager.install_packages(["lantern==2.0"], index_url=sys.argv[2]),
    manager.remove_env,
    lambda: manager.install_packages(["oil"], index_url=sys.argv[2]),
):
    try:
        change()
    except RuntimeError as error:
        print("refused:", error)
    else:
        print("done")
"""
_STAGES = """
import pathlib, sys, time
from xinference_venv.xinference import InPlaceEnvManager, rebuild

rebuild.Change._exchange = lambda *_: (print("staged", flush=True), time.sleep(600))
manager = InPlaceEnvManager(pathlib.Path(sys.argv[1]))
manager.install_packages(["lantern==2.0"], index_url=sys.argv[2])
"""
pytestmark = [
    pytest.mark.uv,
    pytest.mark.skipif(
        subprocess.run([*_NAMESPACES, "true"], check=False, capture_output=True).returncode != 0
        or not Path("/etc/machine-id").exists(),
        reason="this machine lets nobody make namespaces",
    ),
]


def on_host(tmp_path: Path, name: str, program: str, code: str, *arguments: str) -> list[str]:
    """The command that runs code with a program, on a host of this name."""
    machine_id = tmp_path / f"machine-id-{name}"
    machine_id.write_text(f"{name.encode().hex():0>32}\n")
    script = _HOST.format(name=name, machine_id=f"'{machine_id}'", python=f"'{program}'")
    return [*_NAMESPACES, "env", f"CODE={code}", "bash", "-ec", script, "bash", *arguments]


@contextmanager
def running(command: list[str], line: str) -> Iterator[subprocess.Popen[str]]:
    """A process on a host, which has printed a line; killed at the end, as its host may be."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=with_ours(), start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{line}\n"
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def with_ours() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def changes_of(place: Place, tmp_path: Path) -> list[str]:
    """What becomes of three changes by a second host: replace, remove, add."""
    arguments = (str(place.path), place.index.url)
    command = on_host(tmp_path, "second", sys.executable, _CHANGES, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=with_ours())
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("Hint")]


def test_a_model_of_another_host_keeps_its_environment_until_that_is_gone(
    place: Place, tmp_path: Path
) -> None:
    place.launch("lantern<2")
    python = str(place.manager.get_python_path())
    model = "import lantern, time; print(lantern.__version__, flush=True); time.sleep(600)"
    with running(on_host(tmp_path, "first", python, model), "1.0"):
        replaced, removed, added = changes_of(place, tmp_path)
        for refused in (replaced, removed):
            assert refused.startswith("refused: ")
            assert "whose number is not known here" in refused
        assert added == "done"
        assert place.visible()["lantern"] == "1.0"
    # Its host died: the kernel, or the server of NFS, frees what it held.
    eventually(lambda: changes_of(place, tmp_path)[:2] == ["done", "done"])
    assert not place.path.exists()


def test_a_host_that_died_in_the_middle_of_a_change_does_not_block_others(
    place: Place, tmp_path: Path
) -> None:
    place.launch("lantern<2")
    arguments = (str(place.path), place.index.url)
    with running(on_host(tmp_path, "first", sys.executable, _STAGES, *arguments), "staged"):
        pass
    place.install(place.manager, "lantern==2.0")
    assert place.visible()["lantern"] == "2.0"
