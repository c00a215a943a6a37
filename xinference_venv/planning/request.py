"""The first stage: what somebody asked for, checked, and nothing more.

In comes untrusted input (the decoded JSON of a REST call, the words of a command line, a
model's own ``virtualenv`` block); out goes a `LaunchRequest`, whose every value has the right
type, a bounded size and a safe name. Whether the requirements and sources make sense is
decided by the stages that read them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from xinference_venv._util.humanize import quoted
from xinference_venv._util.names import check_distribution_names
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import (
    InvalidInput,
    InvalidModelSpec,
    InvalidName,
    InvalidPythonVersion,
)
from xinference_venv.settings import InheritMode

MAX_NAME_BYTES = 255  # a name becomes a directory's name, and this is what file systems allow
MAX_LIST_ITEMS = 1000
MAX_TEXT_LENGTH = 4096

_FORBIDDEN_CHARACTERS = frozenset("+/?%#&=\\")
# Control and format characters, line, paragraph and other spaces, and surrogates, which have
# no encoding in UTF-8.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_NAME_RULE = (
    "1 to 255 bytes of UTF-8 without white space, control characters and + / ? % # & = \\, "
    "and neither '.' nor '..'"
)
_PYTHON_VERSION = re.compile(r"3\.(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2}))?")


def _invalid_name(value: object, what: str, wrong: str) -> InvalidName:
    return InvalidName(
        f"Invalid {what} {quoted(value)}: {wrong}", {"hint": f"Allowed are {_NAME_RULE}."}
    )


def check_model_name(value: object, what: str = "model name") -> str:
    """Return ``value`` if Xinference allows it as a name and it is safe as a directory's name.

    ``what`` says in the error what kind of name it is. Raises `InvalidName`.
    """
    if not isinstance(value, str):
        raise _invalid_name(value, what, "it is not a string")
    if not value:
        raise _invalid_name(value, what, "it is empty")
    if value in (".", ".."):
        raise _invalid_name(value, what, "it names a directory relative to another")
    for character in value:
        if (
            character in _FORBIDDEN_CHARACTERS
            or unicodedata.category(character) in _FORBIDDEN_CATEGORIES
        ):
            raise _invalid_name(value, what, f"it contains {character!r}")
    size = len(value.encode())
    if size > MAX_NAME_BYTES:
        raise _invalid_name(value, what, f"it has {size} bytes, more than {MAX_NAME_BYTES}")
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


def check_model_uid(value: object) -> str:
    """Return the name of a running model; raises `InvalidName` like `check_model_name`."""
    return check_model_name(value, "model uid")


def check_python_version(value: object) -> str:
    """Return ``value`` if it is ``MAJOR.MINOR`` or ``MAJOR.MINOR.PATCH`` of Python 3.

    Raises `InvalidPythonVersion`. Whether the host has such an interpreter is not asked here.
    """
    if not isinstance(value, str) or not _PYTHON_VERSION.fullmatch(value):
        raise InvalidPythonVersion(
            f"Invalid Python version {quoted(value)}",
            {"hint": "Allowed are MAJOR.MINOR and MAJOR.MINOR.PATCH of Python 3, like 3.11."},
        )
    return value


def _wrong_type(error: type[InvalidInput], where: str, value: object, allowed: str) -> InvalidInput:
    return error(
        f"{where} is of type {type(value).__name__}, which is not allowed",
        {"hint": f"Allowed is {allowed}."},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fields:
    """Typed reading of a JSON object; an absent key and ``null`` both mean the default.

    Values are never shown in an error: each of them can hold credentials.
    """

    data: Mapping[str, Any]
    prefix: str
    error: type[InvalidInput]

    @classmethod
    def of(cls, data: object, *, what: str, prefix: str, error: type[InvalidInput]) -> Self:
        if not isinstance(data, Mapping):
            raise _wrong_type(error, what, data, "an object with named values")
        return cls(data=data, prefix=prefix, error=error)

    def boolean(self, key: str) -> bool | None:
        value = self.data.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise _wrong_type(self.error, self.prefix + key, value, "true or false")

    def text(self, key: str) -> str | None:
        value = self.data.get(key)
        return None if value is None else self._text(self.prefix + key, value)

    def texts(self, key: str, *, or_single: bool = False) -> tuple[str, ...]:
        """Return a list of strings, and where ``or_single``, one string as a list of one."""
        value = self.data.get(key)
        if value is None:
            return ()
        if or_single and isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            allowed = "a string or a list of strings" if or_single else "a list of strings"
            raise _wrong_type(self.error, self.prefix + key, value, allowed)
        if len(value) > MAX_LIST_ITEMS:
            raise self.error(
                f"{self.prefix}{key} has {len(value)} items",
                {"hint": f"Allowed are at most {MAX_LIST_ITEMS}."},
            )
        return tuple(
            self._text(f"{self.prefix}{key}[{position}]", each)
            for position, each in enumerate(value)
        )

    def _text(self, where: str, value: object) -> str:
        if not isinstance(value, str):
            raise _wrong_type(self.error, where, value, "a string")
        if len(value) > MAX_TEXT_LENGTH:
            raise self.error(
                f"{where} has {len(value)} characters",
                {"hint": f"Allowed are at most {MAX_TEXT_LENGTH}."},
            )
        return value


def check_modules(names: Iterable[str]) -> tuple[str, ...]:
    """Dotted names of modules; raises `InvalidName`."""
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise InvalidName(
                f"Invalid module name {quoted(name)}",
                {"hint": "Allowed are identifiers joined by dots, as in torch.nn."},
            )
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVirtualEnv:
    """The ``virtualenv`` block of a model in Xinference's format: packages and their sources.

    Fields that can hold credentials are left out of ``repr``; `to_dict` has them.
    """

    packages: tuple[str, ...] = field(default=(), repr=False)
    inherit_pip_config: bool = True
    index_url: str | None = field(default=None, repr=False)
    extra_index_url: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    trusted_host: tuple[str, ...] = field(default=(), repr=False)
    index_strategy: str | None = None
    no_build_isolation: bool = False
    must_import: tuple[str, ...] = ()
    """Distributions (normalized names) that must be importable, beside what is asked for."""
    import_check: tuple[str, ...] = ()
    """Modules that a fresh interpreter must import before the environment is published."""

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Read the decoded JSON of a block; unknown keys are ignored.

        Raises `InvalidModelSpec`, naming the key, when a value has the wrong type or is too
        large.
        """
        fields = _Fields.of(data, what="virtualenv", prefix="virtualenv.", error=InvalidModelSpec)
        return cls(
            packages=fields.texts("packages"),
            inherit_pip_config=fields.boolean("inherit_pip_config") is not False,
            index_url=fields.text("index_url"),
            extra_index_url=fields.texts("extra_index_url", or_single=True),
            find_links=fields.texts("find_links", or_single=True),
            trusted_host=fields.texts("trusted_host", or_single=True),
            index_strategy=fields.text("index_strategy"),
            no_build_isolation=fields.boolean("no_build_isolation") is True,
            must_import=check_distribution_names(fields.texts("must_import")),
            import_check=check_modules(fields.texts("import_check")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, credentials included; `from_dict` is the way back."""
        return {
            "packages": list(self.packages),
            "inherit_pip_config": self.inherit_pip_config,
            "index_url": self.index_url,
            "extra_index_url": list(self.extra_index_url),
            "find_links": list(self.find_links),
            "trusted_host": list(self.trusted_host),
            "index_strategy": self.index_strategy,
            "no_build_isolation": self.no_build_isolation,
            "must_import": list(self.must_import),
            "import_check": list(self.import_check),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest:
    """What a launch asks for, as it was said; ``None`` means that nothing was said.

    Build it with `from_dict`, which checks every value. Package lines are left out of
    ``repr``, since a direct URL can hold credentials.
    """

    version: ClassVar[int] = 1

    model_name: str
    model_engine: str | None = None
    """In lower case."""
    model_format: str | None = None
    python_version: str | None = None
    """``MAJOR.MINOR`` or ``MAJOR.MINOR.PATCH``."""
    model_uid: str | None = None
    virtualenv: ModelVirtualEnv | None = None
    """The model's own block; without it the catalogue is asked for the model."""
    enable_virtual_env: bool | None = None
    virtual_env_packages: tuple[str, ...] = field(default=(), repr=False)
    """Requirements that replace the model's of the same name, not yet parsed."""
    virtual_env_find_links: tuple[str, ...] = field(default=(), repr=False)
    inherit: InheritMode | None = None
    must_import: tuple[str, ...] = ()
    """As in the block; what either names counts."""
    import_check: tuple[str, ...] = ()
    """As in the block; what either names counts."""
    refresh: bool = False
    """Resolve anew even if nothing changed."""

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Read and check the decoded JSON of a request; unknown keys are ignored.

        Raises `InvalidName`, `InvalidPythonVersion`, `InvalidModelSpec` (the ``virtualenv``
        block) or `InvalidInput`, each naming the value and what is allowed.
        """
        fields = _Fields.of(data, what="The launch request", prefix="", error=InvalidInput)
        given = fields.data
        if given.get("version") not in (None, cls.version):
            raise InvalidInput(
                f"The launch request has version {quoted(given['version'])}",
                {"hint": f"This version of xinference_venv reads version {cls.version}."},
            )
        engine = given.get("model_engine")
        model_format = given.get("model_format")
        python_version = given.get("python_version")
        model_uid = given.get("model_uid")
        virtualenv = given.get("virtualenv")
        return cls(
            model_name=check_model_name(given.get("model_name")),
            model_engine=None if engine is None else check_engine_name(engine),
            model_format=None if model_format is None else check_format_name(model_format),
            python_version=None if python_version is None else check_python_version(python_version),
            model_uid=None if model_uid is None else check_model_uid(model_uid),
            virtualenv=None if virtualenv is None else ModelVirtualEnv.from_dict(virtualenv),
            enable_virtual_env=fields.boolean("enable_virtual_env"),
            virtual_env_packages=fields.texts("virtual_env_packages"),
            virtual_env_find_links=fields.texts("virtual_env_find_links"),
            inherit=_inherit_mode(given.get("inherit")),
            must_import=check_distribution_names(fields.texts("must_import")),
            import_check=check_modules(fields.texts("import_check")),
            refresh=fields.boolean("refresh") is True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, credentials included; `from_dict` is the way back."""
        return {
            "version": self.version,
            "model_name": self.model_name,
            "model_engine": self.model_engine,
            "model_format": self.model_format,
            "python_version": self.python_version,
            "model_uid": self.model_uid,
            "virtualenv": None if self.virtualenv is None else self.virtualenv.to_dict(),
            "enable_virtual_env": self.enable_virtual_env,
            "virtual_env_packages": list(self.virtual_env_packages),
            "virtual_env_find_links": list(self.virtual_env_find_links),
            "inherit": None if self.inherit is None else self.inherit.value,
            "must_import": list(self.must_import),
            "import_check": list(self.import_check),
            "refresh": self.refresh,
        }

    def to_keep(self) -> dict[str, Any] | None:
        """Plain JSON values to launch the same again from, or None if any holds a credential.

        Without what is of one launch alone: the uid, and that it resolves anew.
        """
        data = replace(self, model_uid=None, refresh=False).to_dict()
        return data if all(redact_text(text) == text for text in _texts_in(data)) else None


def _texts_in(value: object) -> Iterator[str]:
    """Every string of plain JSON values, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)


def _inherit_mode(value: object) -> InheritMode | None:
    if value is None:
        return None
    for mode in InheritMode:
        if mode.value == value:
            return mode
    raise InvalidInput(
        f"Invalid inherit mode {quoted(value)}",
        {"hint": f"Allowed are {', '.join(InheritMode)}."},
    )
