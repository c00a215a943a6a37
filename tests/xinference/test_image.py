"""An environment that was baked into an image, and is used and changed over its layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import eventually
from tests.xinference.conftest import OVERLAY, Place
from xinference_venv.xinference.carry_over import SETUP_MARK

pytestmark = pytest.mark.uv

_CONTAINER = (
    OVERLAY
    + """\
exec {python} -c "$CODE" {path} {index}
"""
)
_CODE = """
import pathlib, subprocess, sys
from xinference_venv.store.process_scan import users_of
from xinference_venv.xinference import InPlaceEnvManager

path, index = pathlib.Path(sys.argv[1]), sys.argv[2]
manager = InPlaceEnvManager(path)


def shown(*names):
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    words = [str(manager.get_python_path()), "-c", code, *names]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


before = (path / "xinference-venv-in-place.json").stat().st_ino
manager.create_env()
assert (path / "xinference-venv-in-place.json").stat().st_ino == before, "it was made again"
assert (path / ".xinference_setup_done").exists()
code = "import sys; print('there', flush=True); sys.stdin.read(); import oil"
with subprocess.Popen(
    [str(manager.get_python_path()), "-c", f"{code}; print(oil.__version__)"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
) as model:
    assert model.stdout.readline() == "there\\n"
    manager.install_packages(["oil"], index_url=index, skip_installed=True)
    assert [each.pid for each in users_of([path]).users[path]] == [model.pid]
    try:
        manager.install_packages(["lantern==2.0"], index_url=index, skip_installed=True)
    except RuntimeError as error:
        assert f"in use by process {model.pid}" in str(error), error
    else:
        raise AssertionError("it was replaced under a process")
    model.stdin.close()
    assert model.stdout.read() == "1.0\\n"
assert shown("lantern", "wick", "oil") == "1.0 1.0 1.0"
manager.install_packages(["lantern==2.0"], index_url=index, skip_installed=True)
assert shown("lantern", "wick") == "2.0 2.0"
manager.remove_env()
assert not path.exists()
print("done")
"""


def test_it_is_used_as_it_is_grows_is_replaced_and_removed_over_an_overlay(
    place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    manager = place.launch("lantern<2")
    (manager.env_path / SETUP_MARK).write_text("{}")
    # It is emptied behind the launch, and what goes away can't be copied, nor looked through.
    [trash] = tmp_path.glob("home/xinference/virtualenv/store/trash")
    eventually(lambda: not any(trash.iterdir()))
    outside = tmp_path_factory.mktemp("outside")
    # As in a layer: every inode is another one, hard links are kept.
    lower = outside / "lower"
    subprocess.run(["cp", "-a", str(tmp_path), str(lower)], check=True)
    scratch = outside / "scratch"
    scratch.mkdir()
    script = _CONTAINER.format(
        scratch=scratch,
        lower=lower,
        over=tmp_path,
        python=sys.executable,
        path=f"'{place.path}'",
        index=place.index.url,
    )
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        env={**os.environ, "CODE": _CODE, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("done\n"), done.stderr
