from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from xinference_venv.errors import UnknownModel
from xinference_venv.store.catalog import built_in_catalog, load_catalog
from xinference_venv.store.installed_models import InstalledModels
from xinference_venv.store.model_files import InstalledFiles, find_xinference


def write_model(folder: Path, *names: str, package: str = "numpy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{names[0]}.json"
    entries = [
        {"model_name": name, "model_type": "an architecture", "virtualenv": {"packages": [package]}}
        for name in names
    ]
    path.write_text(json.dumps(entries))
    # As long ago that its stamp tells every change.
    for each in (path, folder):
        os.utime(each, (1_000_000_000, 1_000_000_000))
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A site directory with an Xinference that can't be imported, and models of two kinds."""
    package = tmp_path / "site" / "xinference"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError")
    write_model(package / "model" / "llm" / "models", "qwen3")
    write_model(package / "model" / "audio" / "models", "whisper", "whisper")
    (package / "model" / "audio" / "models" / "broken.json").write_text("{")
    return package


@pytest.fixture
def models(package: Path, tmp_path: Path) -> InstalledModels:
    return InstalledModels(InstalledFiles(package, tmp_path / "home"))


def test_xinference_is_found_on_a_search_path_without_being_imported(package: Path) -> None:
    assert find_xinference(["", "relative", str(package.parent)]) == package
    assert find_xinference([str(package.parent.parent)]) is None
    assert "xinference" not in sys.modules


def test_an_editable_install_is_found_by_its_metadata(package: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "other" / "xinference-4.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: xinference\nVersion: 4.1.0\n")
    assert find_xinference([str(metadata.parent)]) is None
    url = {"url": package.parent.as_uri(), "dir_info": {"editable": True}}
    (metadata / "direct_url.json").write_text(json.dumps(url))
    assert find_xinference([str(metadata.parent)]) == package
    (metadata / "direct_url.json").write_text("[")
    assert find_xinference([str(metadata.parent)]) is None


def test_its_models_are_known_with_their_kind_and_place(models: InstalledModels) -> None:
    assert sorted(models) == ["qwen3", "whisper"]
    assert models["qwen3"].model_type == "LLM"
    assert models["whisper"].model_type == "audio"
    assert models["qwen3"].origin.endswith("site/xinference/model/llm/models/qwen3.json")
    assert "other" not in models


def test_what_was_downloaded_or_registered_since_replaces_what_came_with_it(
    models: InstalledModels, tmp_path: Path
) -> None:
    assert len(models) == 2
    home = tmp_path / "home" / "model" / "v2"
    write_model(home / "builtin" / "llm", "qwen3", "qwen4", package="downloaded")
    assert models["qwen3"].variants[0].virtualenv.packages == ("downloaded",)
    assert models["qwen4"].model_type == "LLM"
    write_model(home / "llm", "qwen3", package="registered")
    assert models["qwen3"].variants[0].virtualenv.packages == ("registered",)
    assert sorted(models) == ["qwen3", "qwen4", "whisper"]


def test_a_file_that_is_edited_in_place_counts_as_it_is_now(
    models: InstalledModels, package: Path
) -> None:
    assert models["qwen3"].variants[0].virtualenv.packages == ("numpy",)
    write_model(package / "model" / "llm" / "models", "qwen3", package="edited-later")
    assert models["qwen3"].variants[0].virtualenv.packages == ("edited-later",)


def test_its_models_come_before_the_built_in_ones_and_after_the_users_own(
    models: InstalledModels, package: Path, tmp_path: Path
) -> None:
    write_model(package / "model" / "image" / "models", "magika-1", package="installed")
    own = tmp_path / "own"
    write_model(own, "qwen3", package="own")
    catalog = load_catalog(own, [], installed=models)
    packages = {
        name: catalog.model(name).variants[0].virtualenv.packages for name in catalog.models
    }
    assert packages["qwen3"] == ("own",)
    assert packages["magika-1"] == ("installed",)
    assert packages["magika-0.5"] == ("magika==0.5.1",)
    assert len(catalog.models) == len(built_in_catalog().models) + 2
    with pytest.raises(UnknownModel, match="qwen2"):
        catalog.model("qwen2")
