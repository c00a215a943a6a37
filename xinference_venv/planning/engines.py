"""What is known of engines: the packages that each needs, and where these come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name
from packaging.version import Version

MODEL_FORMATS = ("awq", "bnb", "diffusers", "fp4", "fp8", "ggufv2", "gptq", "mlx", "pytorch")
"""The formats of model files that Xinference knows, whatever the engine."""
ENGINES_WITHOUT_SET = ("deepdoc", "flag", "pytorch")
"""The engines of Xinference that need nothing beyond what their models ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEntry:
    """What an engine needs: requirement lines, more of them by model format, and indexes."""

    name: str
    packages: tuple[str, ...] = ()
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Requirement lines that a model format needs in addition, by its name in lower case."""
    extra_index_urls: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    """What the engine itself is called where that is not its name: ``tensorrt_llm``."""
    index_strategy: str | None = None
    """A value of uv's ``--index-strategy``."""
    cuda_indexes: Mapping[str, str] = field(default_factory=dict)
    """Indexes of builds for CUDA, each by the version of CUDA from which on it serves. The public
    index has builds for processors alone in the same versions, so this one is asked first."""
    always: bool = False
    """Its packages are needed whatever else a model asks for."""

    @property
    def names(self) -> frozenset[str]:
        """The normalized names by which a model may ask for the engine itself."""
        own = canonicalize_name(self.name)
        return frozenset({own, *(map(canonicalize_name, self.distributions))})


def cuda_index(engine: EngineEntry, cuda_version: str | None) -> str | None:
    """The index of an engine's builds for the CUDA of a host, ``12.8``; None where it has none."""
    if cuda_version is None:
        return None
    serving = [each for each in engine.cuda_indexes if Version(each) <= Version(cuda_version)]
    return engine.cuda_indexes[max(serving, key=Version)] if serving else None


def find_engine(engines: Mapping[str, EngineEntry], name: str | None) -> EngineEntry | None:
    """The engine of this name, whatever its case and whether ``-``, ``_`` or ``.`` is written."""
    if name is None:
        return None
    wanted = canonicalize_name(name)
    return next((each for each in engines.values() if canonicalize_name(each.name) == wanted), None)
