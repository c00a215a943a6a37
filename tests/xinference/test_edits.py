"""What is written into the files of an environment stays there, and is nowhere else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wheels import build_wheel
from tests.xinference.conftest import Place
from xinference_venv.store.packages.package_store import PackageStore

pytestmark = pytest.mark.uv

LANTERN = "import lantern; print(lantern.__version__)"


@pytest.fixture
def own_cache(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of uv's for this test alone."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path / "uv-cache"


def edit(place: Place, name: str = "lantern.py") -> None:
    """Append to a file in place, as a corporate certificate is to certifi's."""
    with Path(place.manager.get_lib_path(), name).open("a") as file:
        file.write("__version__ += ' of ours'\n")


def test_an_edit_in_place_survives_installs_that_add(place: Place) -> None:
    place.launch("lantern<2")
    edit(place)
    place.launch("lantern<2", "oil")
    place.launch("lantern<2", "oil")
    assert place.says(LANTERN) == "1.0 of ours"
    assert place.visible()["oil"] == "1.0"


def test_it_reaches_no_other_environment_neither_now_nor_later(place: Place) -> None:
    before, after = place.beside("3.11.8"), place.beside("3.11.9")
    for each in (place, before):
        each.launch("lantern<2")
    edit(place)
    after.launch("lantern<2")
    assert (before.says(LANTERN), after.says(LANTERN)) == ("1.0", "1.0")
    assert place.says(LANTERN) == "1.0 of ours"


def test_a_package_that_is_damaged_in_uvs_cache_is_fetched_again(
    place: Place, caplog: pytest.LogCaptureFixture, own_cache: Path
) -> None:
    place.launch("oil")
    store = place.path.parents[3] / "store" / "packages"
    for tree in store.glob("oil-*"):
        os.rename(tree, tree.with_name(f".{tree.name}"))
    [cached] = own_cache.glob("archive-v0/*/oil.py")
    cached.chmod(0o644)
    with cached.open("a") as file:
        file.write("broken\n")
    caplog.set_level(logging.WARNING)
    other = place.beside("3.11.8")
    other.launch("oil")
    assert other.says("import oil; print(oil.__version__)") == "1.0"
    assert "oil has other content than its RECORD says" in caplog.text


def test_a_package_that_is_damaged_in_the_store_is_installed_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    build_wheel(place.wheels, "wind", "1.0", modules={"wind/__init__.py": "x = 1\n"})
    place.launch("wind")
    [tree] = (place.path.parents[3] / "store" / "packages").glob("wind-*")
    module = tree / "site" / "wind" / "__init__.py"
    module.chmod(0o644)
    module.write_text("x = 1 + 1\n")
    other = place.beside("3.11.8")
    other.launch("wind")
    assert other.says("import wind; print(wind.x)") == "1"
    assert "it is installed again, since it is damaged in the store" in caplog.text


def test_only_what_the_store_had_before_is_looked_at_before_it_is_copied(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    has_all_sizes = PackageStore.has_all_sizes

    def look(store: PackageStore, folder: str) -> bool:
        looked.append(folder.partition("-")[0])
        return has_all_sizes(store, folder)

    monkeypatch.setattr(PackageStore, "has_all_sizes", look)
    place.launch("oil")
    assert looked == []
    place.beside("3.11.8").launch("oil", "lantern<2")
    assert looked == ["oil"]


def test_what_another_program_linked_to_uvs_cache_gets_files_of_its_own(
    place: Place, own_cache: Path
) -> None:
    uv = place.manager._get_uv_path()
    venv = [uv, "venv", str(place.path), "--system-site-packages", "-q", "-p", sys.executable]
    subprocess.run(venv, check=True)
    install = [uv, "pip", "install", "-q", "-p", str(place.path), "-i", place.index.url]
    subprocess.run([*install, "lantern<2"], check=True)
    place.launch("oil")
    edit(place)
    assert place.says(LANTERN) == "1.0 of ours"
    assert not [each for each in own_cache.rglob("lantern.py") if "ours" in each.read_text()]
