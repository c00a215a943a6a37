"""A model of the catalogue as a listing shows it: made by `ModelEntry.listed`, kept and sent."""

from __future__ import annotations

from dataclasses import dataclass

from xinference_venv._util.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel(Record, name="model"):
    """A model as a listing shows it, without the credentials of its packages.

    `packages` are of its first entry, `engines` and `formats` what it is known to run on and in.
    """

    model_name: str
    model_type: str | None = None
    description: str | None = None
    packages: tuple[str, ...]
    engines: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    origin: str
