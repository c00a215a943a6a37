"""What is known of engines: the packages that each needs, and where these come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

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

    @property
    def names(self) -> frozenset[str]:
        """The normalized names by which a model may ask for the engine itself."""
        own = canonicalize_name(self.name)
        return frozenset({own, *(map(canonicalize_name, self.distributions))})


def find_engine(engines: Mapping[str, EngineEntry], name: str | None) -> EngineEntry | None:
    """The engine of this name, whatever its case and whether ``-``, ``_`` or ``.`` is written."""
    if name is None:
        return None
    wanted = canonicalize_name(name)
    return next((each for each in engines.values() if canonicalize_name(each.name) == wanted), None)
