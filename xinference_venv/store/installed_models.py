"""The models of an installed Xinference, read where its files lie; Xinference is not imported.

Comes in: the search path of an interpreter, and Xinference's home. Comes out: its models by name:
those that come with the package (``xinference/model/KIND/models/NAME.json``), those that it
downloaded since (``model/v2/builtin/KIND/*.json`` in its home), and those that its users
registered (``model/v2/KIND/*.json``), later ones in the place of earlier ones of their names.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import PathFinder
from importlib.metadata import distributions
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xinference_venv.errors import InvalidModelSpec
from xinference_venv.planning.catalog import ModelEntry
from xinference_venv.store.catalog import read_model_spec
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
    for each in distributions(name=XINFERENCE, path=list(places)):
        try:
            data = json.loads(each.read_text("direct_url.json") or "{}")
            url = urlsplit(str(data.get("url")))
        except (OSError, ValueError, AttributeError):
            continue
        if url.scheme == "file":
            yield unquote(url.path)


class InstalledModels(Mapping[str, ModelEntry]):
    """The models of the `package` folder and of the `home`.

    What a file or a folder says is kept while its stamp is the same, so that one model costs a
    handful of stamps. A file that can't be understood is left out.
    """

    def __init__(self, package: Path, home: Path) -> None:
        self.package = package
        self._patterns = (
            f"{glob.escape(str(package))}/model/*/models",
            f"{glob.escape(str(home))}/model/v2/builtin/*",
            f"{glob.escape(str(home))}/model/v2/*",
        )
        self._folders: StatCache[str, tuple[str, ...]] = StatCache()
        self._files: StatCache[str, Mapping[str, ModelEntry]] = StatCache()
        self._index: dict[str, str] = {}
        self._indexed: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> ModelEntry:
        files = self._names()
        if files == self._indexed and (path := self._index.get(name)) is not None:
            found = self._entries(path).get(name)
            if found is not None:
                return found
        return self._all(files)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all(self._names()))

    def __len__(self) -> int:
        return len(self._all(self._names()))

    def _all(self, files: tuple[str, ...]) -> dict[str, ModelEntry]:
        """Every model, each file looked at."""
        models: dict[str, ModelEntry] = {}
        index: dict[str, str] = {}
        for path in files:
            for name, entry in self._entries(path).items():
                models[name] = entry
                index[name] = path
        self._files.keep_only(files)
        self._index, self._indexed = index, files
        return models

    def _names(self) -> tuple[str, ...]:
        """The files, in the order in which later ones count."""
        folders = [folder for each in self._patterns for folder in sorted(glob.glob(each))]
        self._folders.keep_only(folders)
        return tuple(file for folder in folders for file in self._folder(folder))

    def _folder(self, folder: str) -> tuple[str, ...]:
        return self._folders.get(folder, str, _files_in)

    def _entries(self, path: str) -> Mapping[str, ModelEntry]:
        return self._files.get(path, str, self._entries_of)

    def _entries_of(self, path: str, _: str) -> Mapping[str, ModelEntry]:
        kind = _kind_of(Path(path).parent)
        try:
            models = read_model_spec(Path(path))
        except InvalidModelSpec:
            return {}
        # In the files of language models the key says which architecture it is.
        return {each.model_name: replace(each, model_type=kind) for each in models}


def _kind_of(folder: Path) -> str:
    """What Xinference calls the models of a folder: ``LLM``, ``audio`` ..."""
    kind = folder.parent.name if folder.name == "models" else folder.name
    return "LLM" if kind == "llm" else kind


def _files_in(folder: str, _: str) -> tuple[str, ...]:
    return tuple(sorted(glob.glob(f"{glob.escape(folder)}/*.json")))
