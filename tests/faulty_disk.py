"""A door to the disk that fails, or dies, at one chosen operation."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk

# `write_json` is a `write`; what only reads changes nothing.
OPERATIONS = frozenset(
    name for name in vars(Disk) if not name.startswith(("_", "read")) and name != "write_json"
)


Fault = Callable[[str, Path], BaseException]


class Death(BaseException):
    """The process ends here, as far as the disk can tell."""


class FaultyDisk(Disk):
    """Counts its operations in `done`; one that was chosen fails, and what follows works again,
    but not after a death.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self._at: int | None = None
        self._fault: Fault = dying

    def break_at(self, at: int, fault: Fault) -> None:
        """Count from 0 again, and let number `at` fail."""
        self.done.clear()
        self._at = at
        self._fault = fault

    def mend(self) -> None:
        """Let nothing fail any more."""
        self._at = None

    @property
    def broke(self) -> bool:
        """Whether the operation that was to fail has been reached."""
        return self._at is not None and len(self.done) > self._at

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._perform, name, found) if name in OPERATIONS else found

    def _perform(
        self, name: str, operation: Callable[..., Any], path: Path, *rest: Any, **named: Any
    ) -> Any:
        number = len(self.done)
        self.done.append(f"{name} {path}")
        if number == self._at or (self.broke and self._fault is dying):
            raise self._fault(name, path)
        return operation(path, *rest, **named)


def dying(name: str, path: Path) -> BaseException:
    """The end of the process."""
    return Death(f"{name} {path}")


def failing(number: int) -> Fault:
    """An error of the system, by its number, as the door reports it."""

    def fault(name: str, path: Path) -> BaseException:
        return StoreError(f"could not {name} {path}: {os.strerror(number)}", {"errno": number})

    return fault
