"""``bake.py`` of the page about Xinference's image: baked over an index, launched without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import eventually
from tests.xinference.conftest import OVERLAY, Place

pytestmark = pytest.mark.uv

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "how-to" / "xinference-docker.md"
_FAMILIES = {
    "embedding/embed_family": 'BUILTIN_EMBEDDING_MODELS = {"lamp": [Family]}',
    "rerank/rerank_family": "BUILTIN_RERANK_MODELS = {}",
    "llm/llm_family": "BUILTIN_LLM_FAMILIES = []",
}
# What bake.py takes of Xinference 4.1, for a model with the tiny wheels of the index.
_WORKER = """
import os, pathlib, sys
from xoscar.virtualenv import get_virtual_env_manager


class WorkerActor:
    @staticmethod
    def _create_virtual_env_manager(enable, name, path):
        manager = get_virtual_env_manager("uv", pathlib.Path(path))
        manager.create_env(python_path=pathlib.Path(sys.executable))
        return manager

    @staticmethod
    def _prepare_virtual_env(manager, settings, packages, engine, **model):
        options = {"index_url": os.environ["INDEX"], "skip_installed": True, "engine": engine}
        manager.install_packages(settings, **options)
"""
_FAMILY = """
class Family:
    model_name = "lamp"
    virtualenv = ["lantern<2"]


"""
_CONTAINER = (
    OVERLAY
    + """\
"$@"
find {scratch}/upper -type f -name 'lantern*.py'
"""
)


def make_application(folder: Path) -> None:
    """The modules of Xinference that bake.py imports."""
    home = "import os\nXINFERENCE_VIRTUAL_ENV_DIR = os.environ['XINFERENCE_HOME'] + '/virtualenv'\n"
    files = {"constants": home, "core/worker": _WORKER}
    for name, models in _FAMILIES.items():
        files[f"model/{name}"] = f"{_FAMILY}{models}\n"
    for name, text in files.items():
        path = folder / "xinference" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_baked_environment_is_launched_over_a_layer_without_an_index(
    place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    outside = tmp_path_factory.mktemp("image")
    make_application(outside / "application")
    found = re.search(r"```python\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    bake = outside / "bake.py"
    bake.write_text(found[1])
    command = [sys.executable, str(bake), "embedding", "lamp", "sentence_transformers"]
    environ = {
        **os.environ,
        "INDEX": place.index.url,
        "UV_CACHE_DIR": str(outside / "uv-cache"),
        "PYTHONPATH": f"{_ROOT}:{outside / 'application'}",
    }
    baked = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert baked.returncode == 0, baked.stderr
    env = Path(baked.stdout.strip().removeprefix("lamp: "))
    python = ".".join(map(str, sys.version_info[:3]))
    home = Path(environ["XINFERENCE_HOME"])
    assert env == home / "virtualenv" / "v4" / "lamp" / "sentence_transformers" / python
    eventually(lambda: not any((home / "virtualenv" / "store" / "trash").iterdir()))

    lower, scratch = outside / "lower", outside / "scratch"
    shutil.rmtree(outside / "uv-cache")
    subprocess.run(["cp", "-a", str(home), str(lower)], check=True)
    scratch.mkdir()
    asked = len(place.index.requests)
    place.index.fail("*", 503)
    script = _CONTAINER.format(scratch=scratch, lower=lower, over=home)
    show = "import sys, lantern; print(lantern.__version__, sys.prefix)"
    for words, said in (
        (command, baked.stdout.strip()),
        ([str(env / "bin" / "python"), "-c", show], f"1.0 {env}"),
    ):
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", script, "bash", *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        # Nothing of the layer was copied up: no file follows.
        assert done.stdout.splitlines() == [said], done.stderr
    assert len(place.index.requests) == asked
