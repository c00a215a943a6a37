"""The first stage: what a caller requested, checked, and nothing more.

In comes untrusted input (the decoded JSON of a REST call, the words of a command line, a
model's own ``virtualenv`` block); out goes a `LaunchRequest`, whose every value has the right
type, a bounded size and a safe name. Whether the requirements and sources make sense is
decided by the stages that read them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TypeVar, cast

from xinference_venv._util.humanize import quoted
from xinference_venv._util.names import (
    MAX_NAME_BYTES,
    check_distribution_names,
    check_python_version,
    check_version_bounds,
)
from xinference_venv._util.records import Misplaced, Plain, Record, read_as, read_by
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import (
    InvalidInput,
    InvalidModelSpec,
    InvalidName,
)
from xinference_venv.sentences import sentence
from xinference_venv.settings import InheritMode, ViewKind

MAX_LIST_ITEMS = 1000
MAX_TEXT_LENGTH = 4096
_VERSION = 1
_Choice = TypeVar("_Choice", bound=StrEnum)

_FORBIDDEN_CHARACTERS = frozenset("+/?%#&=\\")
# Control and format characters, line, paragraph and other spaces, and surrogates, which have
# no encoding in UTF-8.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_NAME_RULE = sentence(
    "1 to 255 bytes of UTF-8 without white space, control characters and + /"
    " ? % # & = \\, and neither '.' nor '..'"
)


def _invalid_name(value: object, what: str, wrong: str) -> InvalidName:
    return InvalidName(
        sentence("Invalid {what} {value}: {wrong}", what=what, value=quoted(value), wrong=wrong),
        {"hint": sentence("Allowed are {name_rule}.", name_rule=_NAME_RULE)},
    )


def check_model_name(value: object, what: str = "model name") -> str:
    """Return ``value`` if Xinference allows it as a name and it is safe as a directory's name.

    ``what`` says in the error what kind of name it is. Raises `InvalidName`.
    """
    if not isinstance(value, str):
        raise _invalid_name(value, what, sentence("it is not a string"))
    if not value:
        raise _invalid_name(value, what, sentence("it is empty"))
    if value in (".", ".."):
        raise _invalid_name(value, what, sentence("it names a directory relative to another"))
    for character in value:
        if (
            character in _FORBIDDEN_CHARACTERS
            or unicodedata.category(character) in _FORBIDDEN_CATEGORIES
        ):
            raise _invalid_name(
                value, what, sentence("it contains {character}", character=repr(character))
            )
    size = len(value.encode())
    if size > MAX_NAME_BYTES:
        raise _invalid_name(
            value,
            what,
            sentence(
                "it has {size} bytes, more than {max_name_bytes}",
                size=size,
                max_name_bytes=MAX_NAME_BYTES,
            ),
        )
    return value


def check_engine_name(value: object) -> str:
    """Return the engine's name in lower case, since engine names compare without case.

    Raises `InvalidName` by the rule of `check_model_name`.
    """
    # Some lower case letters are longer in UTF-8, so the result is what has to be safe.
    return check_model_name(check_model_name(value, "engine name").lower(), "engine name")


def check_format_name(value: object) -> str:
    """Return the name of a model's file format; raises `InvalidName` like `check_model_name`."""
    return check_model_name(value, "format name")


def check_model_size(value: object) -> str:
    """Return the size of a model in billions of parameters: ``0.5`` for ``0_5``, ``7`` for 7.

    Raises `InvalidName` like `check_model_name`.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return check_model_name(value, "model size").replace("_", ".").removesuffix(".0")


def check_quantization(value: object) -> str:
    """Return the name of a quantization; raises `InvalidName` like `check_model_name`."""
    return check_model_name(value, "quantization")


def check_model_uid(value: object) -> str:
    """Return the name of a running model; raises `InvalidName` like `check_model_name`."""
    return check_model_name(value, "model uid")


def _wrong_type(where: str, error: Misplaced) -> tuple[str, dict[str, str]]:
    """The message and details of an error. Values are not shown: each can hold credentials."""
    found = "NoneType" if error.found == "missing" else error.found
    return (
        f"{where} is of type {found}, which is not allowed",
        {"hint": f"Allowed is {error.expected}."},
    )


def check_modules(names: Iterable[str]) -> tuple[str, ...]:
    """Dotted names of modules; raises `InvalidName`."""
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise InvalidName(
                sentence("Invalid module name {name}", name=quoted(name)),
                {"hint": sentence("Allowed are identifiers joined by dots, as in torch.nn.")},
            )
    return tuple(dict.fromkeys(names))


def _inherit_mode(value: object) -> InheritMode:
    return _choice(value, InheritMode, "inherit mode")


def _view_kind(value: object) -> ViewKind:
    return _choice(value, ViewKind, "kind of view")


def _choice(value: object, choices: type[_Choice], what: str) -> _Choice:
    for each in choices:
        if each.value == value:
            return each
    raise InvalidInput(
        sentence("Invalid {what} {value}", what=what, value=quoted(value)),
        {"hint": sentence("Allowed are {choices}.", choices=", ".join(choices))},
    )


def _known_version(value: object) -> int:
    if value == _VERSION:
        return _VERSION
    raise InvalidInput(
        sentence("The launch request has version {value}", value=quoted(value)),
        {
            "hint": sentence(
                "This version of xinference_venv reads version {version}.", version=_VERSION
            )
        },
    )


def _text_or_texts(value: object) -> tuple[str, ...]:
    """A list of strings; one string is a list of one."""
    if not isinstance(value, str | list | tuple):
        raise Misplaced.of("a string or a list of strings", value)
    return _texts([value] if isinstance(value, str) else value)


def _texts(value: object) -> tuple[str, ...]:
    return cast("tuple[str, ...]", read_as(tuple[str, ...], value))


def _distributions(value: object) -> tuple[str, ...]:
    return check_distribution_names(_texts(value))


def _bounds(value: object) -> tuple[str, ...]:
    return check_version_bounds(_texts(value))


def _modules(value: object) -> tuple[str, ...]:
    return check_modules(_texts(value))


def _check_sizes(
    record: ModelVirtualEnv | LaunchRequest, prefix: str, error: type[InvalidInput]
) -> None:
    """Refuse lists and texts that are too long."""
    for key in (each.name for each in fields(record)):
        value = getattr(record, key)
        items = value if isinstance(value, tuple) else ()
        if len(items) > MAX_LIST_ITEMS:
            raise error(
                f"{prefix}{key} has {len(items)} items",
                {"hint": f"Allowed are at most {MAX_LIST_ITEMS}."},
            )
        for position, text in enumerate(items):
            _check_length(f"{prefix}{key}[{position}]", text, error)
        if isinstance(value, str):
            _check_length(f"{prefix}{key}", value, error)


def _check_length(where: str, text: str, error: type[InvalidInput]) -> None:
    if len(text) > MAX_TEXT_LENGTH:
        raise error(
            f"{where} has {len(text)} characters",
            {"hint": f"Allowed are at most {MAX_TEXT_LENGTH}."},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVirtualEnv(Record, name="virtualenv"):
    """The ``virtualenv`` block of a model in Xinference's format: packages and their sources.

    Fields that can hold credentials are left out of ``repr``; `to_dict` has them.
    """

    packages: tuple[str, ...] = field(default=(), repr=False)
    inherit_pip_config: bool = True
    index_url: str | None = field(default=None, repr=False)
    extra_index_url: tuple[str, ...] = field(
        default=(), repr=False, metadata=read_by(_text_or_texts)
    )
    find_links: tuple[str, ...] = field(default=(), repr=False, metadata=read_by(_text_or_texts))
    trusted_host: tuple[str, ...] = field(default=(), repr=False, metadata=read_by(_text_or_texts))
    index_strategy: str | None = None
    no_build_isolation: bool = False
    constraints: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Versions that whatever is resolved must have, asked for or not."""
    overrides: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Requirements that replace every other one of their names."""
    exclude: tuple[str, ...] = field(default=(), metadata=read_by(_distributions))
    """Distributions that are left out, whatever requires them."""
    build_constraints: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Versions that what a source needs for being built must have."""
    must_import: tuple[str, ...] = field(default=(), metadata=read_by(_distributions))
    """Distributions (normalized names) that must be importable together with what is requested."""
    import_check: tuple[str, ...] = field(default=(), metadata=read_by(_modules))
    """Modules that a fresh interpreter must import before the environment is published."""
    view: ViewKind | None = field(default=None, metadata=read_by(_view_kind))
    """Whether its packages are to be links, or files of its own that it may write into."""

    @classmethod
    def refusal(cls, error: Misplaced) -> InvalidModelSpec:
        """An `InvalidModelSpec`."""
        where = f"virtualenv.{error.place}" if error.place else "virtualenv"
        return InvalidModelSpec(*_wrong_type(where, error))

    def check_record(self) -> None:
        """Raise `InvalidModelSpec` for what is too large."""
        _check_sizes(self, "virtualenv.", InvalidModelSpec)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest(Record, name="launch request"):
    """What a launch asks for, as it was given; ``None`` means that nothing was given.

    Build it with `from_dict`, which checks every value. Package lines are left out of
    ``repr``, since a direct URL can hold credentials.
    """

    version: int = field(default=_VERSION, metadata=read_by(_known_version))
    model_name: str = field(metadata=read_by(check_model_name))
    model_engine: str | None = field(default=None, metadata=read_by(check_engine_name))
    """In lower case."""
    model_format: str | None = field(default=None, metadata=read_by(check_format_name))
    model_size_in_billions: str | None = field(default=None, metadata=read_by(check_model_size))
    quantization: str | None = field(default=None, metadata=read_by(check_quantization))
    """With the engine, the format and the size it says which entry of a model is meant."""
    any_engine: bool = False
    """An engine or format that neither catalogue nor model knows is taken as it is."""
    python_version: str | None = field(default=None, metadata=read_by(check_python_version))
    """``MAJOR.MINOR`` or ``MAJOR.MINOR.PATCH``."""
    model_uid: str | None = field(default=None, metadata=read_by(check_model_uid))
    virtualenv: ModelVirtualEnv | None = None
    """The model's own block; without it the catalogue is asked for the model."""
    enable_virtual_env: bool | None = None
    virtual_env_packages: tuple[str, ...] = field(default=(), repr=False)
    """Requirements that replace the model's of the same name, not yet parsed."""
    virtual_env_find_links: tuple[str, ...] = field(default=(), repr=False)
    inherit: InheritMode | None = field(default=None, metadata=read_by(_inherit_mode))
    constraints: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Versions that whatever is resolved must have, asked for or not."""
    overrides: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Requirements that replace every other one of their names."""
    exclude: tuple[str, ...] = field(default=(), metadata=read_by(_distributions))
    """Distributions that are left out, whatever requires them."""
    build_constraints: tuple[str, ...] = field(default=(), metadata=read_by(_bounds))
    """Versions that what a source needs for being built must have."""
    must_import: tuple[str, ...] = field(default=(), metadata=read_by(_distributions))
    """As in the block; what either names counts."""
    import_check: tuple[str, ...] = field(default=(), metadata=read_by(_modules))
    """As in the block; what either names counts."""
    no_proof: bool = False
    """What is compiled against the host's packages is not imported before it is published."""
    view: ViewKind | None = field(default=None, metadata=read_by(_view_kind))
    """As in the block, and before it."""
    refresh: bool = False
    """Resolve again even if nothing changed."""
    restricted: bool = False
    """Whether it may name only hosts that the worker's own configuration names, and PyPI."""

    @classmethod
    def refusal(cls, error: Misplaced) -> InvalidInput:
        """An `InvalidInput`."""
        return InvalidInput(*_wrong_type(error.place or "The launch request", error))

    def check_record(self) -> None:
        """Raise `InvalidInput` for what is too large."""
        _check_sizes(self, "", InvalidInput)

    def to_keep(self) -> dict[str, Plain] | None:
        """Plain JSON values to launch the same again from, or None if any holds a credential.

        Without what is of one launch alone: the uid, and `refresh`.
        """
        data = replace(self, model_uid=None, refresh=False).to_dict()
        if not self.restricted:
            # As releases wrote it that did not restrict requests.
            del data["restricted"]
        return data if all(redact_text(text) == text for text in _texts_in(data)) else None

    def to_show(self) -> LaunchRequest | None:
        """The same as whoever may look at it sees it, or None if it holds a credential."""
        return None if self.to_keep() is None else replace(self, model_uid=None)


def _texts_in(value: object) -> Iterator[str]:
    """Every string of plain JSON values, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)
