"""Plain JSON values as identity and as input: canonical bytes, digests, and the one codec.

Every noun that is written to disk or sent over the wire is a `Record`: a frozen dataclass whose
type hints say how it goes to plain JSON values and back. So identity is always the sha256 of one
canonical form, and every damaged record gives the same kind of message.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, TypeVar, cast

from xinference_venv.errors import InvalidRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""What JSON can say."""

_T = TypeVar("_T")
_Reader: TypeAlias = Callable[[object], object]
_Writer: TypeAlias = Callable[[Any], Any]
_VERSION_KEY = "version"
_INLINE = "inline"


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; the same for equal plain values."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest_of(value: object) -> str:
    """The lower-case hexadecimal sha256 of the canonical JSON of plain values."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def inline() -> dict[str, bool]:
    """The metadata of a field, a record, whose keys are written among those of its owner."""
    return {_INLINE: True}


def is_inline(field: dataclasses.Field[Any]) -> bool:
    """Whether the keys of a field, a record, are written among those of its owner."""
    return _INLINE in field.metadata


class Record:
    """A dataclass that goes to plain JSON values and back, by its type hints.

    ``class Lease(Record, name="lease", version=1)``: the name stands in errors; with a version,
    ``version`` is written, and a record of a later one is refused. Keys that a class does not
    know are ignored. A key that is absent or null means the field's default, or None where the
    hint allows it. Understood are strings, integers, finite numbers, booleans, enumerations,
    other records, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]`` and ``object``, which is
    left as it is.
    """

    __slots__ = ()
    record_name: ClassVar[str] = "record"
    record_version: ClassVar[int | None] = None

    def __init_subclass__(cls, *, name: str | None = None, version: int | None = None) -> None:
        # A dataclass with slots makes its class a second time, without these arguments.
        super().__init_subclass__()
        if name is not None:
            cls.record_name = name
        if version is not None:
            cls.record_version = version

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON values; `from_dict` reads them."""
        written: dict[str, Plain] = {}
        if self.record_version is not None:
            written[_VERSION_KEY] = self.record_version
        for field in _fields_of(type(self)):
            value = getattr(self, field.name)
            if field.write is not None and value is not None:
                value = field.write(value)
            if field.is_inline:
                written.update(value)
            else:
                written[field.name] = value
        return written

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Read plain JSON values; raises `InvalidRecord`, which names the place."""
        try:
            return cast(Self, _read_record(cls, data))
        except _Misplaced as error:
            raise InvalidRecord(f"{cls.record_name}: {error}") from None

    def check_record(self) -> None:
        """Raise an error where what was read can't be; for rules that no type says."""


def to_plain(value: object) -> Plain:
    """The plain JSON values of records, enumerations, mappings and sequences."""
    match value:
        case Record():
            return value.to_dict()
        case Enum():
            return cast(Plain, value.value)
        case None | str() | bool() | int() | float():
            return value
        case Mapping():
            return {str(to_plain(key)): to_plain(each) for key, each in value.items()}
        case list() | tuple():
            return [to_plain(each) for each in value]
    raise TypeError(f"a {type(value).__name__} has no plain JSON values")


def from_plain(hint: object, data: object, what: str) -> object:
    """A value of the type that `hint` names; raises `InvalidRecord`, whose message begins with
    `what`.
    """
    try:
        return _reader(hint)(data)
    except _Misplaced as error:
        raise InvalidRecord(f"{what}: {error}") from None


class _Misplaced(Exception):
    """Something is not what it must be; its place is put together on the way out."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__()
        self.expected = expected
        self.found = found
        self.place = ""

    @classmethod
    def of(cls, expected: str, found: object) -> Self:
        # The value itself is not shown: it may hold a credential.
        return cls(expected, "missing" if found is None else type(found).__name__)

    def inside(self, place: str) -> Self:
        """The same, seen from one level above."""
        self.place = place + self.place
        return self

    def __str__(self) -> str:
        if not self.place:
            return f"it must be {self.expected}, not {self.found}"
        return f"{self.place.lstrip('.')!r} must be {self.expected}, but is {self.found}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    """How one field of a record is read and written; None: its values are plain already."""

    name: str
    is_inline: bool
    has_default: bool
    read: _Reader
    write: _Writer | None


_FIELDS: dict[type[Record], tuple[_Field, ...]] = {}


def _fields_of(cls: type[Record]) -> tuple[_Field, ...]:
    """The fields of a record's class, in their order; what is left out of `__init__` is derived."""
    if cls not in _FIELDS:
        _FIELDS[cls] = _find_fields(cls)
    return _FIELDS[cls]


def _find_fields(cls: type[Record]) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls)
    return tuple(
        _Field(
            name=each.name,
            is_inline=is_inline(each),
            has_default=each.default is not dataclasses.MISSING
            or each.default_factory is not dataclasses.MISSING,
            read=_reader(hints[each.name]),
            write=_writer(hints[each.name]),
        )
        for each in dataclasses.fields(cast("type[DataclassInstance]", cls))
        if each.init
    )


def _read_record(cls: type[Record], data: object) -> Record:
    if not isinstance(data, Mapping):
        raise _Misplaced.of("a mapping", data)
    _check_version(cls, data)
    values = {}
    for field in _fields_of(cls):
        if field.is_inline:
            values[field.name] = field.read(data)
            continue
        value = data.get(field.name)
        if value is not None or not field.has_default:
            try:
                values[field.name] = field.read(value)
            except _Misplaced as error:
                raise error.inside(f".{field.name}") from None
    record = cls(**values)
    record.check_record()
    return record


def _check_version(cls: type[Record], data: Mapping[str, object]) -> None:
    known = cls.record_version
    found = None if known is None else data.get(_VERSION_KEY)
    if known is None or found is None:
        return
    if type(found) is not int:
        raise _Misplaced.of("an integer", found).inside(_VERSION_KEY)
    if found > known:
        raise InvalidRecord(
            f"{cls.record_name} is of a later version {found} of this program,"
            f" which reads up to {known}",
            {"hint": "use the release of this program that wrote it, or a later one"},
        )


def _inner_of(hint: object) -> object:
    """What a hint allows when it is not None."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    [inner] = [each for each in typing.get_args(hint) if each is not types.NoneType]
    return inner


@cache
def _writer(hint: object) -> _Writer | None:
    """What makes plain JSON values of the type that a hint names; None: they are already."""
    hint = _inner_of(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, list):
        return _write_items(_writer(arguments[0]))
    if origin in (Mapping, dict):
        return _write_mapping(_writer(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda value: value.to_dict()
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: value.value
    return None


def _write_items(write: _Writer | None) -> _Writer:
    return list if write is None else lambda items: [write(each) for each in items]


def _write_mapping(write: _Writer | None) -> _Writer:
    if write is None:
        return dict
    return lambda items: {key: write(each) for key, each in items.items()}


@cache
def _reader(hint: object) -> _Reader:
    """What reads plain values as the type that a hint names."""
    if hint is object or hint is typing.Any:
        return lambda data: data
    if (inner := _inner_of(hint)) is not hint:
        read = _reader(inner)
        return lambda data: None if data is None else read(data)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, list):
        return _read_items(origin, _reader(arguments[0]))
    if origin in (Mapping, dict):
        return _read_mapping(_reader(arguments[0]), _reader(arguments[1]))
    if isinstance(hint, type):
        return _read_type(hint)
    raise TypeError(f"no record can have a field of type {hint}")


def _read_type(kind: type) -> _Reader:
    if issubclass(kind, Record):
        if "from_dict" in vars(kind):
            # It has rules, and errors, of its own.
            return kind.from_dict
        return lambda data: _read_record(kind, data)
    if issubclass(kind, Enum):
        return lambda data: _read_choice(kind, data)
    if kind is float:
        return _read_number
    expected = _EXPECTED[kind]

    def read(data: object) -> object:
        # Exactly: true is an integer to Python.
        if type(data) is not kind and not (isinstance(data, kind) and kind is not int):
            raise _Misplaced.of(expected, data)
        return data

    return read


_EXPECTED = {str: "a string", int: "an integer", bool: "true or false"}


def _read_number(data: object) -> float:
    if type(data) not in (int, float):
        raise _Misplaced.of("a number", data)
    try:
        number = float(cast(float, data))
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Misplaced("a finite number", str(number))
    return number


def _read_choice(kind: type[Enum], data: object) -> Enum:
    try:
        return kind(data)
    except ValueError:
        allowed = f"one of {', '.join(str(each.value) for each in kind)}"
        if isinstance(data, str):
            raise _Misplaced(allowed, repr(data[:40])) from None
        raise _Misplaced.of(allowed, data) from None


def _read_items(make: Callable[[list[object]], object], read: _Reader) -> _Reader:
    def read_all(data: object) -> object:
        if not isinstance(data, list | tuple):
            raise _Misplaced.of("a list", data)
        items: list[object] = []
        try:
            for each in data:
                items.append(read(each))
        except _Misplaced as error:
            raise error.inside(f"[{len(items)}]") from None
        return make(items)

    return read_all


def _read_mapping(read_key: _Reader, read_value: _Reader) -> _Reader:
    def read_all(data: object) -> object:
        if not isinstance(data, Mapping):
            raise _Misplaced.of("a mapping", data)
        items: dict[object, object] = {}
        place = ""
        try:
            for key, each in data.items():
                place = " key"
                known = read_key(key)
                place = f"[{key!r}]"
                items[known] = read_value(each)
        except _Misplaced as error:
            raise error.inside(place) from None
        return items

    return read_all


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
