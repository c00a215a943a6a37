"""The key of an environment: what a launch asks for by name, and where its link lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Fields, digest_of


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvKey:
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model_name": self.model_name,
            "model_engine": self.model_engine,
            "python_version": self.python_version,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("environment key", data)
        return cls(
            model_name=fields.text("model_name"),
            model_engine=fields.optional_text("model_engine"),
            python_version=fields.text("python_version"),
        )
