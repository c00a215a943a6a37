"""Plain JSON values as identity and as input: canonical bytes, digests, typed reading.

Every noun goes to and from plain JSON values through here, so identity is always the sha256
of one canonical form and every damaged record gives the same kind of message.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from xinference_venv.errors import InvalidRecord

_T = TypeVar("_T")


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; the same for equal plain values."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest_of(value: Any) -> str:
    """The lower-case hexadecimal sha256 of the canonical JSON of plain values."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class Fields:
    """Typed access to a mapping of unknown origin; unknown keys are left alone.

    Every failure is an `InvalidRecord` that names the record, the key, and what was expected.
    """

    def __init__(self, what: str, data: object) -> None:
        if not isinstance(data, Mapping):
            raise InvalidRecord(f"{what} must be a mapping, not {type(data).__name__}")
        self._what = what
        self._data: Mapping[str, Any] = data

    def _get(self, key: str, kind: type[_T], expected: str) -> _T:
        value = self._data.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            # The value itself is not shown: it may hold a credential.
            found = "missing" if value is None else type(value).__name__
            raise InvalidRecord(f"{self._what}: {key!r} must be {expected}, but is {found}")
        return value

    def check_version(self, known: int) -> None:
        """Refuse a record whose ``version`` is later than `known`; none at all is fine."""
        found = self.integer("version", known)
        if found > known:
            raise InvalidRecord(
                f"{self._what} is of a later version {found} of this program,"
                f" which reads up to {known}",
                {"hint": "use the release of this program that wrote it, or a later one"},
            )

    def text(self, key: str) -> str:
        """A string that must be there."""
        return self._get(key, str, "a string")

    def optional_text(self, key: str) -> str | None:
        """A string, or None when it is absent or null."""
        return None if self._data.get(key) is None else self.text(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer; `default` (when given) stands for an absent or null one."""
        if default is not None and self._data.get(key) is None:
            return default
        return self._get(key, int, "an integer")

    def optional_integer(self, key: str) -> int | None:
        """An integer, or None when it is absent or null."""
        return None if self._data.get(key) is None else self.integer(key)

    def number(self, key: str) -> float:
        """An integer or a float, as a finite float."""
        value = self._data.get(key)
        try:
            found = float(value) if type(value) is int else self._get(key, float, "a number")
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise InvalidRecord(f"{self._what}: {key!r} must be a finite number")
        return found

    def optional_number(self, key: str) -> float | None:
        """A number as a float, or None when it is absent or null."""
        return None if self._data.get(key) is None else self.number(key)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean; `default` stands for an absent or null one."""
        return default if self._data.get(key) is None else self._get(key, bool, "true or false")

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A mapping that must be there."""
        return self._get(key, Mapping, "a mapping")  # type: ignore[type-abstract]

    def optional_mapping(self, key: str) -> Mapping[str, Any] | None:
        """A mapping, or None when it is absent or null."""
        return None if self._data.get(key) is None else self.mapping(key)

    def text_mapping(self, key: str) -> dict[str, str]:
        """A mapping of strings to strings that must be there."""
        values = self.mapping(key)
        if not all(isinstance(each, str) for item in values.items() for each in item):
            raise InvalidRecord(f"{self._what}: {key!r} must map strings to strings")
        return dict(values)

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of strings; unless `required`, empty when it is absent or null."""
        values = self._items(key, required)
        if not all(isinstance(each, str) for each in values):
            raise InvalidRecord(f"{self._what}: {key!r} must be a list of strings")
        return tuple(values)

    def each(
        self, key: str, parse: Callable[[Any], _T], *, required: bool = False
    ) -> tuple[_T, ...]:
        """A list whose items `parse` reads; unless `required`, empty when it is absent or null."""
        return tuple(parse(item) for item in self._items(key, required))

    def choice(self, key: str, choices: Callable[[str], _T], allowed: Iterable[object]) -> _T:
        """A string that `choices` (an enumeration) accepts."""
        value = self.text(key)
        try:
            return choices(value)
        except ValueError:
            names = ", ".join(str(each) for each in allowed)
            raise InvalidRecord(
                f"{self._what}: {key!r} must be one of {names}, but is {value[:40]!r}"
            ) from None

    def _items(self, key: str, required: bool) -> list[Any]:
        value = self._data.get(key)
        if value is None and not required:
            return []
        if not isinstance(value, list | tuple):
            raise InvalidRecord(f"{self._what}: {key!r} must be a list, not {type(value).__name__}")
        return list(value)
