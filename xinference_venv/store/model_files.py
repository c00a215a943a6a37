"""Where the specifications of models lie: a folder of one's own, an Xinference that is installed.

Comes in: the search path of an interpreter, and Xinference's home. Comes out: paths; no file is
read and Xinference is not imported.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xinference_venv.store.stat_cache import StatCache

XINFERENCE = "xinference"


def find_xinference(search_path: Sequence[str]) -> Path | None:
    """The folder of the package as this search path has it, or None; nothing is imported."""
    places = [place for place in search_path if place.startswith("/")]
    spec = PathFinder.find_spec(XINFERENCE, places)
    found = () if spec is None else (spec.submodule_search_locations or ())
    # An editable install may be found by a hook alone; its metadata says where the project lies.
    projects = (f"{project}/{XINFERENCE}" for project in _editable_projects(places))
    every = chain(found, projects)
    return next((Path(each) for each in every if os.path.isdir(f"{each}/model")), None)


def _editable_projects(places: Sequence[str]) -> Iterator[str]:
    # Only where the package is not found at once: the import takes as long as reading the models.
    from importlib.metadata import distributions

    for each in distributions(name=XINFERENCE, path=list(places)):
        try:
            data = json.loads(each.read_text("direct_url.json") or "{}")
            url = urlsplit(str(data.get("url")))
        except (OSError, ValueError, AttributeError):
            continue
        if url.scheme == "file":
            yield unquote(url.path)


def spec_files_in(folder: Path) -> list[Path]:
    """The specifications of a folder in the order in which later ones count; it need not exist."""
    return sorted(folder.glob("*.json"))


class InstalledFiles:
    """The files of the `package` folder and of the `home` in which Xinference has its models.

    What a folder holds is kept while its stamp is the same.
    """

    def __init__(self, package: Path, home: Path) -> None:
        self.package = package
        self._patterns = (
            f"{glob.escape(str(package))}/model/*/models",
            f"{glob.escape(str(home))}/model/v2/builtin/*",
            f"{glob.escape(str(home))}/model/v2/*",
        )
        self._folders: StatCache[str, tuple[str, ...]] = StatCache()

    def files(self) -> tuple[str, ...]:
        """The files, in the order in which later ones count."""
        folders = [folder for each in self._patterns for folder in sorted(glob.glob(each))]
        self._folders.keep_only(folders)
        return tuple(
            file for folder in folders for file in self._folders.get(folder, str, _files_in)
        )


def _files_in(folder: str, _: str) -> tuple[str, ...]:
    return tuple(sorted(glob.glob(f"{glob.escape(folder)}/*.json")))
