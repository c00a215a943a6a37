"""An error as part of an answer: plain values, of which an error is made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError, error_from_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure(Record, name="error"):
    """What went wrong: `code` for programs, `message` for people, `details` that say more."""

    code: str = VirtualEnvError.code
    message: str = "unknown error"
    details: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, error: VirtualEnvError) -> Self:
        """The failure that an error is."""
        described = error.to_dict()
        return cls(
            code=described["code"], message=described["message"], details=described["details"]
        )

    def error(self) -> VirtualEnvError:
        """The error, of the class that its code names."""
        return error_from_dict(self.to_dict())
