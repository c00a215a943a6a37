from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clock import ClockAhead
from xinference_venv.errors import InvalidModelSpec
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.store import catalog, listed_models, visit
from xinference_venv.store.atomic import Disk
from xinference_venv.store.catalog import load_catalog
from xinference_venv.store.installed_models import InstalledModels
from xinference_venv.store.model_files import InstalledFiles
from xinference_venv.store.store import Store

LATER = ClockAhead(3600)
"""A clock by which every file has been as it is for a while."""


def write_model(folder: Path, name: str, package: str = "numpy", file: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file or name}.json"
    path.write_text(json.dumps({"model_name": name, "virtualenv": {"packages": [package]}}))
    return path


class Places:
    """A store, a folder of one's own specifications, an Xinference with models."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "home" / "virtualenv")
        self.own = folder / "own"
        self.installed = folder / "site" / "xinference" / "model" / "llm" / "models"
        self.package = folder / "site" / "xinference"
        self.home = folder / "home"
        write_model(self.own, "lamp")
        write_model(self.installed, "qwen3")

    def listed(self) -> tuple[ListedModel, ...]:
        files = InstalledFiles(self.package, self.home)
        layout = self.store.layout
        return listed_models.listed_models(layout, Disk(), self.own, files, LATER)

    def known(self) -> tuple[ListedModel, ...]:
        """What is true: every specification read."""
        models = InstalledModels(InstalledFiles(self.package, self.home))
        catalog = load_catalog(self.own, [], Disk().skipped, models)
        return tuple(each.listed for each in catalog.models.values())


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Every specification that is read from now on."""
    found: list[Path] = []
    read = visit.read_regular

    def note(path: Path) -> bytes:
        found.append(path)
        return read(path)

    monkeypatch.setattr(catalog, "read_regular", note)
    yield found


def test_the_second_listing_reads_no_specification(places: Places, reads: list[Path]) -> None:
    first = places.listed()
    assert {"lamp", "qwen3", "magika-1"} <= {each.model_name for each in first}
    assert reads
    reads.clear()
    assert places.listed() == first
    assert reads == []


CHANGES: dict[str, Callable[[Places], object]] = {
    "a file of one's own": lambda places: write_model(places.own, "lamp", "pandas"),
    "a file that comes": lambda places: write_model(places.own, "glow"),
    "a file that goes": lambda places: (places.own / "lamp.json").unlink(),
    "a file that gets another name": lambda places: (places.own / "lamp.json").rename(
        places.own / "a.json"
    ),
    "a file of the Xinference": lambda places: write_model(places.installed, "qwen3", "pandas"),
    "a model of the same name": lambda places: write_model(places.own, "qwen3", "scipy"),
    "an update in Xinference's home": lambda places: write_model(
        places.home / "model" / "v2" / "builtin" / "llm", "qwen4"
    ),
    "a file that is replaced by one of its size and time": lambda places: replace_alike(
        places.own / "lamp.json"
    ),
}


def replace_alike(path: Path) -> None:
    """Change a word of a file by one as long, and set its time back."""
    before = path.stat()
    path.write_text(path.read_text().replace("numpy", "scipy"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_shows_in_the_next_listing(
    places: Places, change: Callable[[Places], object]
) -> None:
    before = places.listed()
    change(places)
    assert places.listed() == places.known()
    assert places.listed() == places.known() != before


def test_what_has_just_changed_is_not_kept(places: Places) -> None:
    files = InstalledFiles(places.package, places.home)
    listed_models.listed_models(places.store.layout, Disk(), places.own, files)
    # Two changes within a tick of the file system's clock would leave one stamp.
    assert not places.store.layout.model_index.exists()


def test_a_program_that_reads_them_otherwise_reads_them_again(
    places: Places, reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.listed()
    reads.clear()
    program = tmp_path / "program"
    (program / "planning").mkdir(parents=True)
    (program / "planning" / "catalog.py").write_text("another release")
    monkeypatch.setattr(listed_models, "_PROGRAM", program)
    places.listed()
    assert reads


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"version": 2}', "\udcff"])
def test_a_damaged_index_is_made_again(places: Places, content: str) -> None:
    listed = places.listed()
    index = places.store.layout.model_index
    whole = index.read_bytes()
    index.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert places.listed() == listed
    assert index.read_bytes() == whole


def test_where_nothing_can_be_kept_the_listing_is_the_same(places: Places) -> None:
    places.store.layout.model_index.mkdir()
    assert places.listed() == places.listed() == places.known()
    # No store is made only to keep what is listed.
    away = places.home.with_name("away")
    layout = type(places.store.layout)(away)
    files = InstalledFiles(places.package, places.home)
    assert listed_models.listed_models(layout, Disk(), places.own, files, LATER)
    assert not away.exists()


def test_a_file_of_ones_own_that_is_invalid_is_an_error_every_time(places: Places) -> None:
    places.listed()
    (places.own / "broken.json").write_text("{")
    for _ in range(2):
        with pytest.raises(InvalidModelSpec, match=r"broken\.json"):
            places.listed()


def test_a_listing_that_lacks_a_file_is_not_kept(places: Places) -> None:
    (places.own / "odd.json").mkdir()
    disk = Disk()
    layout = places.store.layout
    listed_models.listed_models(layout, disk, places.own, None, LATER)
    assert [each.path for each in disk.skipped.all()] == [str(places.own / "odd.json")]
    assert not layout.model_index.exists()
