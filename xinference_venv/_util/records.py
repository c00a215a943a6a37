"""Plain JSON values as identity and as input: canonical bytes, digests, and the one codec.

Every noun that is written to disk or sent over the wire is a `Record`: a frozen dataclass whose
type hints say how it goes to plain JSON values and back. So identity is always the sha256 of one
canonical form, and every damaged record gives the same kind of message.
"""

from __future__ import annotations

import binascii
import dataclasses
import hashlib
import json
import math
import types
import typing
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, TypeVar, cast

from xinference_venv.errors import InvalidRecord, VirtualEnvError
from xinference_venv.sentences import TEXTS, Sentence, sentence_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""What JSON can say."""

_T = TypeVar("_T")
_Reader: TypeAlias = Callable[[object], object]
_Writer: TypeAlias = Callable[[Any], Any]
_VERSION_KEY = "version"
_INLINE = "inline"
_READ = "read"


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; the same for equal plain values."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest_of(value: object) -> str:
    """The lower-case hexadecimal sha256 of the canonical JSON of plain values."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def read_by(read: Callable[[Any], object]) -> dict[str, Callable[[Any], object]]:
    """The metadata of a field whose plain value is read by a function, not by its hint.

    It may raise `Misplaced`, whose place is then inside the field's, or an error of its own.
    """
    return {_READ: read}


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
    hint allows it. Understood are strings, integers, finite numbers, booleans, bytes (as base64),
    enumerations, other records, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]`` and
    ``object``, which is left as it is. A record may be generic: ``Gathered[Lease]`` is read as
    such. A string that is a `Sentence` is written as its text, and under ``texts`` as a sentence.
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
                _add_texts(written, value.pop(TEXTS, {}))
                written.update(value)
            else:
                written[field.name] = value
                # Nearly every text is a plain one.
                if field.is_text and type(value) is not str and (texts := _write_texts(value)):
                    _add_texts(written, {field.name: texts})
        return written

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Read plain JSON values; raises `InvalidRecord`, or what the class has as `refusal`."""
        try:
            return cast(Self, _read_record(cls, _fields_of(cls), data))
        except Misplaced as error:
            raise cls.refusal(error) from None

    @classmethod
    def refusal(cls, error: Misplaced) -> VirtualEnvError:
        """The error that is raised for what is not as the type hints say."""
        return InvalidRecord(f"{cls.record_name}: {error}")

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
        case bytes():
            return _write_bytes(value)
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
        return read_as(hint, data)
    except Misplaced as error:
        raise InvalidRecord(f"{what}: {error}") from None


def read_as(hint: object, data: object) -> object:
    """A value of the type that `hint` names, for `read_by`; raises `Misplaced`."""
    return _reader(hint)(data)


class Misplaced(Exception):
    """Something is not what it must be; its place is put together on the way out."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__()
        self.expected = expected
        self.found = found
        self._place = ""

    @classmethod
    def of(cls, expected: str, found: object) -> Self:
        # The value itself is not shown: it may hold a credential.
        return cls(expected, "missing" if found is None else type(found).__name__)

    def inside(self, place: str) -> Self:
        """The same, seen from one level above."""
        self._place = place + self._place
        return self

    @property
    def place(self) -> str:
        """Where it is, like ``distributions[3].name``; empty for the whole."""
        return self._place.lstrip(".")

    def __str__(self) -> str:
        if not self.place:
            return f"it must be {self.expected}, not {self.found}"
        return f"{self.place!r} must be {self.expected}, but is {self.found}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    """How one field of a record is read and written; None: its values are plain already."""

    name: str
    is_inline: bool
    has_default: bool
    is_text: bool
    read: _Reader
    write: _Writer | None


_FIELDS: dict[type[Record], tuple[_Field, ...]] = {}


def _fields_of(cls: type[Record]) -> tuple[_Field, ...]:
    """The fields of a record's class, in their order; what is left out of `__init__` is derived."""
    if cls not in _FIELDS:
        _FIELDS[cls] = _find_fields(cls)
    return _FIELDS[cls]


def _find_fields(cls: type[Record], arguments: tuple[object, ...] = ()) -> tuple[_Field, ...]:
    """The fields of a class; `arguments` are those of a generic one."""
    hints = record_hints(cls, arguments)
    return tuple(
        _Field(
            name=each.name,
            is_inline=is_inline(each),
            has_default=each.default is not dataclasses.MISSING
            or each.default_factory is not dataclasses.MISSING,
            is_text=_inner_of(hints[each.name]) in (str, tuple[str, ...], Mapping[str, str]),
            read=each.metadata.get(_READ) or _reader(hints[each.name]),
            write=_writer(hints[each.name]),
        )
        for each in dataclasses.fields(cast("type[DataclassInstance]", cls))
        if each.init
    )


def record_hints(cls: type[Record], arguments: tuple[object, ...] = ()) -> dict[str, object]:
    """The type hints of a record's fields by name; `arguments` are those of a generic class."""
    known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        parameters = getattr(typing.get_origin(base), "__parameters__", ())
        known.update(zip(parameters, typing.get_args(base), strict=False))
    return {name: _resolved(hint, known) for name, hint in typing.get_type_hints(cls).items()}


def _resolved(hint: object, known: Mapping[object, object]) -> object:
    """A hint with the type variables replaced that are known."""
    if isinstance(hint, TypeVar):
        return known.get(hint, hint)
    inner = getattr(hint, "__parameters__", ())
    if not inner or isinstance(hint, type):
        return hint
    return cast("Any", hint)[tuple(known.get(each, each) for each in inner)]


def _read_record(cls: type[Record], fields: tuple[_Field, ...], data: object) -> Record:
    if not isinstance(data, Mapping):
        raise Misplaced.of("a mapping", data)
    _check_version(cls, data)
    values = {}
    for field in fields:
        if field.is_inline:
            values[field.name] = field.read(data)
            continue
        value = data.get(field.name)
        if value is not None or not field.has_default:
            try:
                values[field.name] = field.read(value)
            except Misplaced as error:
                raise error.inside(f".{field.name}") from None
    if isinstance(texts := data.get(TEXTS), Mapping):
        for field in fields:
            if field.is_text and field.name in texts and field.name in values:
                values[field.name] = _read_texts(values[field.name], texts[field.name])
    record = cls(**values)
    record.check_record()
    return record


def _write_texts(value: object) -> Plain:
    """The sentences of a text, or of texts that have any; None of all else."""
    if isinstance(value, dict):
        known: dict[str, Plain] = {
            name: texts for name, each in value.items() if (texts := _write_texts(each))
        }
        return known or None
    if isinstance(value, list):
        if not any(type(each) is Sentence for each in value):
            return None
        return [_write_texts(each) for each in value]
    return cast(Plain, value.to_dict()) if type(value) is Sentence else None


def _add_texts(written: dict[str, Plain], more: Mapping[str, Plain]) -> None:
    if more:
        written[TEXTS] = {**cast("dict[str, Plain]", written.get(TEXTS, {})), **more}


def _read_texts(value: object, written: object) -> object:
    """A text, or texts, as the sentences that they are; what says something else is ignored."""
    if isinstance(value, Mapping) and isinstance(written, Mapping):
        return {name: _read_texts(each, written.get(name)) for name, each in value.items()}
    if isinstance(value, tuple) and isinstance(written, list) and len(value) == len(written):
        return tuple(map(_read_texts, value, written))
    return (sentence_of(written, value) if isinstance(value, str) else None) or value


def _check_version(cls: type[Record], data: Mapping[str, object]) -> None:
    known = cls.record_version
    found = None if known is None else data.get(_VERSION_KEY)
    if known is None or found is None:
        return
    if type(found) is not int:
        raise Misplaced.of("an integer", found).inside(_VERSION_KEY)
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
    if isinstance(hint, TypeVar):
        return to_plain
    if _is_record(hint) or _is_record(origin):
        return lambda value: value.to_dict()
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: value.value
    return _write_bytes if hint is bytes else None


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
        expected = "a list of strings" if arguments[0] is str else "a list"
        return _read_items(origin, _reader(arguments[0]), expected)
    if origin in (Mapping, dict):
        return _read_mapping(_reader(arguments[0]), _reader(arguments[1]))
    if _is_record(origin):
        fields = _find_fields(origin, arguments)
        return lambda data: _read_record(origin, fields, data)
    if hint is types.NoneType:
        return _read_nothing
    if isinstance(hint, type):
        return _read_type(hint)
    if isinstance(hint, TypeVar):
        # Of a generic class that is only written.
        return lambda data: data
    raise TypeError(f"no record can have a field of type {hint}")


def _is_record(kind: object) -> typing.TypeGuard[type[Record]]:
    return isinstance(kind, type) and issubclass(kind, Record)


def _read_nothing(data: object) -> None:
    if data is not None:
        raise Misplaced.of("null", data)


def _read_type(kind: type) -> _Reader:
    if issubclass(kind, Record):
        if "refusal" in vars(kind):
            # Its errors are its own, wherever it lies.
            return kind.from_dict
        return lambda data: _read_record(kind, _fields_of(kind), data)
    if issubclass(kind, Enum):
        return lambda data: _read_choice(kind, data)
    if kind is float:
        return _read_number
    if kind is bytes:
        return _read_bytes
    expected = _EXPECTED[kind]

    def read(data: object) -> object:
        # Exactly: true is an integer to Python.
        if type(data) is not kind and not (isinstance(data, kind) and kind is not int):
            raise Misplaced.of(expected, data)
        return data

    return read


_EXPECTED = {str: "a string", int: "an integer", bool: "true or false"}


def _write_bytes(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _read_bytes(data: object) -> bytes:
    if not isinstance(data, str):
        raise Misplaced.of("a string in base64", data)
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Misplaced("a string in base64", "other text") from None


def _read_number(data: object) -> float:
    if type(data) not in (int, float):
        raise Misplaced.of("a number", data)
    try:
        number = float(cast(float, data))
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Misplaced("a finite number", str(number))
    return number


def _read_choice(kind: type[Enum], data: object) -> Enum:
    try:
        return kind(data)
    except ValueError:
        allowed = f"one of {', '.join(str(each.value) for each in kind)}"
        if isinstance(data, str):
            raise Misplaced(allowed, repr(data[:40])) from None
        raise Misplaced.of(allowed, data) from None


def _read_items(make: Callable[[list[object]], object], read: _Reader, expected: str) -> _Reader:
    def read_all(data: object) -> object:
        if not isinstance(data, list | tuple):
            raise Misplaced.of(expected, data)
        items: list[object] = []
        try:
            for each in data:
                items.append(read(each))
        except Misplaced as error:
            raise error.inside(f"[{len(items)}]") from None
        return make(items)

    return read_all


def _read_mapping(read_key: _Reader, read_value: _Reader) -> _Reader:
    def read_all(data: object) -> object:
        if not isinstance(data, Mapping):
            raise Misplaced.of("a mapping", data)
        items: dict[object, object] = {}
        place = ""
        try:
            for key, each in data.items():
                place = " key"
                known = read_key(key)
                place = f"[{key!r}]"
                items[known] = read_value(each)
        except Misplaced as error:
            raise error.inside(place) from None
        return items

    return read_all
