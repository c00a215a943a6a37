"""The key of an environment: what a launch asks for by name, and where its link lies."""

from __future__ import annotations

from dataclasses import dataclass

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Record, digest_of


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvKey(Record, name="environment key"):
    """The name of an environment: a model, an engine (lower case) or none, a Python version."""

    model_name: str
    model_engine: str | None
    python_version: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The path of the key's link below the virtualenv directory."""
        if self.model_engine is None:
            return ("v3", self.model_name, self.python_version)
        return ("v4", self.model_name, self.model_engine, self.python_version)

    @property
    def digest(self) -> str:
        """A file name for what belongs to the key."""
        return digest_of(self.to_dict())[:32]

    def __str__(self) -> str:
        engine = f", engine {self.model_engine}" if self.model_engine else ""
        return printable(f"{self.model_name} (Python {self.python_version}{engine})")
