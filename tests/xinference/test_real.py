"""Xinference's own code with our managers; skipped where it is not installed."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

import pytest

from tests.xinference.conftest import Place
from xinference_venv.store.drop_in import EXTENSION, EXTENSIONS_VARIABLE
from xinference_venv.xinference import InPlaceEnvManager

pytestmark = pytest.mark.uv


def test_the_worker_of_xinference_prepares_an_environment_of_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xinference", reason="Xinference is not installed")
    monkeypatch.setenv(EXTENSIONS_VARIABLE, EXTENSION)
    [made] = importlib.import_module("xinference.extensions").get_extensions()
    assert made.name == "xinference_venv"
    worker = importlib.import_module("xinference.core.worker").WorkerActor
    block = importlib.import_module("xinference.model.core").VirtualEnvSettings
    settings = block(packages=["lantern<2"], index_url=place.index.url, inherit_pip_config=False)
    for packages in ([], ["oil"]):
        manager = worker._create_virtual_env_manager(True, None, str(place.path))
        assert isinstance(manager, InPlaceEnvManager)
        worker._prepare_virtual_env(manager, settings, packages, "transformers")
    python = str(manager.get_python_path())
    subprocess.run([python, "-c", "import lantern, oil, xinference"], check=True, cwd="/")
    assert Path(python).is_relative_to(place.path)
