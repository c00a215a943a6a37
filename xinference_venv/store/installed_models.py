"""The models of an installed Xinference, read where its files lie; Xinference is not imported.

Comes in: where the files are. Comes out: its models by name: those that come with the package
(``xinference/model/KIND/models/NAME.json``), those that it downloaded since
(``model/v2/builtin/KIND/*.json`` in its home), and those that its users registered
(``model/v2/KIND/*.json``), later ones in the place of earlier ones of their names.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from xinference_venv.errors import InvalidModelSpec
from xinference_venv.planning.catalog import ModelEntry
from xinference_venv.store.catalog import read_model_spec
from xinference_venv.store.model_files import InstalledFiles
from xinference_venv.store.stat_cache import StatCache


class InstalledModels(Mapping[str, ModelEntry]):
    """The models of the files of an Xinference.

    What a file says is kept while its stamp is the same, so that one model costs a handful of
    stamps. A file that can't be understood is left out.
    """

    def __init__(self, files: InstalledFiles) -> None:
        self.files = files
        self._files: StatCache[str, Mapping[str, ModelEntry]] = StatCache()
        self._index: dict[str, str] = {}
        self._indexed: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> ModelEntry:
        files = self.files.files()
        if files == self._indexed and (path := self._index.get(name)) is not None:
            found = self._entries(path).get(name)
            if found is not None:
                return found
        return self._all(files)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all(self.files.files()))

    def __len__(self) -> int:
        return len(self._all(self.files.files()))

    def items(self) -> ItemsView[str, ModelEntry]:
        """All of them, each file looked at once."""
        return self._all(self.files.files()).items()

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
