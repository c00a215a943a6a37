"""What a request may say: its parameters, and its body as JSON.

Types are checked here and described by OpenAPI; what a value means (which names are allowed, what
is a requirement) is for the nouns that read it. The body of a launch has the fields of these nouns.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from fastapi import Depends, Header, Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from xinference_venv._util.names import MAX_NAME_BYTES, check_python_version
from xinference_venv._util.records import Record, record_hints
from xinference_venv.inventory.selection import Selection, check_directory_name
from xinference_venv.planning.request import (
    MAX_TEXT_LENGTH,
    LaunchRequest,
    ModelVirtualEnv,
    check_model_name,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_INTEGER = 2**53 - 1
"""What JSON readers of all languages take as it is."""
MAX_WAIT_SECONDS = 30.0
MAX_LOG_BYTES = 2**40
_MAX_ITEMS = 200

_DIRECTORY = r"^(?!\.{1,2}$)[^/\u0000]+$"
# White space, control and format characters (Unicode 15) and those that Xinference forbids.
_MODEL = (
    r"^(?!\.{1,2}$)[^+/?%#&=\\\u0000-\u0020\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f"
    r"\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000"
    r"\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f]+$"
)
_PYTHON = r"^3\.(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2}))?$"
_DISTRIBUTION = r"^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])$"
_MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
_FLAGS = {"true": True, "false": False}


def _described(**schema: Any) -> WithJsonSchema:
    """How a text is described: what the nouns allow, in the words of JSON Schema."""
    return WithJsonSchema({"type": "string", **schema})


def _name(pattern: str) -> WithJsonSchema:
    return _described(minLength=1, maxLength=MAX_NAME_BYTES, pattern=pattern)


def _flag(value: object) -> object:
    # Left to the framework, "off" and "no" would mean something, and a typo nothing.
    return _FLAGS.get(value, value) if isinstance(value, str) else value


def _directory(value: str) -> str:
    return check_directory_name(value, "name")


def _engine(value: str) -> str:
    # What Xinference's page sends of an environment whose engine is null.
    return "" if value in ("", "null") else _directory(value)


def _model(value: str) -> str:
    return check_model_name(value, "name")


_Directory = Annotated[str, AfterValidator(_directory), _name(_DIRECTORY)]
_ENGINE = _described(maxLength=MAX_NAME_BYTES, pattern=rf"^$|{_DIRECTORY}")
_Engine = Annotated[str, AfterValidator(_engine), _ENGINE]
_ModelName = Annotated[str, AfterValidator(_model), _name(_MODEL)]
_PythonVersion = Annotated[str, AfterValidator(check_python_version), _described(pattern=_PYTHON)]
_Flag = Annotated[bool, BeforeValidator(_flag), Field(strict=True)]
_Place = Annotated[str, Field(min_length=1, max_length=MAX_NAME_BYTES)]
_Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
_Texts = Annotated[list[_Text], Field(max_length=_MAX_ITEMS)]
_OneOrMore = _Text | _Texts
_Distributions = Annotated[
    list[Annotated[_Text, Field(pattern=_DISTRIBUTION)]], Field(max_length=_MAX_ITEMS)
]
_Modules = Annotated[list[Annotated[_Text, Field(pattern=_MODULE)]], Field(max_length=_MAX_ITEMS)]
_Count = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
_Bytes = Annotated[int, Field(ge=0, le=MAX_INTEGER)]

# What may be left out of a query is described as what it is when it is there: no query has null.
_SelectedModel = Annotated[
    _Directory | None, Query(description="Only of this model."), _name(_DIRECTORY)
]
_NeededModel = Annotated[_Directory, Query(description="The model.")]
_SelectedEngine = Annotated[
    _Engine | None,
    Query(description="Only of this engine; empty, or `null`: only those without one."),
    _ENGINE,
]
_SelectedPython = Annotated[
    _PythonVersion | None,
    Query(description="Only of this Python; 3.12 matches 3.12.1 too."),
    _described(pattern=_PYTHON),
]
WorkerIp = Annotated[
    _Place | None,
    Query(description="Only on the workers at this IP (all of them) or address (HOST:PORT)."),
    _described(minLength=1, maxLength=MAX_NAME_BYTES),
]
WorkerAddress = Annotated[_Place, Query(description="The worker's address (HOST:PORT).")]
DryRun = Annotated[_Flag, Query(description="Only report what would be removed.")]
OnlyChanges = Annotated[
    _Flag,
    Query(
        description="Only what differs from the answer whose ETag is in If-None-Match, if the"
        " server still knows it: then `since` is that ETag."
    ),
]
Force = Annotated[
    _Flag,
    Query(description="Even if it is in use; its files stay until its last process has ended."),
]
Count = Annotated[int, Query(ge=1, le=100, description="How many logs of each worker.")]
Offset = Annotated[int, Query(ge=0, le=MAX_LOG_BYTES, description="In bytes; 0: the beginning.")]
Since = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Only events after this number.")]
Wait = Annotated[
    float,
    Query(
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Wait up to so many seconds for a new event.",
    ),
]
JobId = Annotated[str, Path(max_length=MAX_NAME_BYTES)]
WorkerIdOrAddress = Annotated[str, Path(max_length=MAX_NAME_BYTES)]
LeaseId = Annotated[str, Path(max_length=MAX_NAME_BYTES)]
LogId = Annotated[str, Path(pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}-[A-Za-z0-9_-]{1,64}$")]
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        pattern=r"^([0-9]{1,15}|end)?$",
        description="Continue after this event; browsers send it.",
    ),
]


async def _selection(
    model_name: _SelectedModel = None,
    model_engine: _SelectedEngine = None,
    python_version: _SelectedPython = None,
    worker_ip: WorkerIp = None,
) -> Selection:
    return Selection(
        model_name=model_name,
        model_engine=model_engine,
        python_version=python_version,
        worker=worker_ip,
    )


async def _selection_of_model(
    model_name: _NeededModel,
    model_engine: _SelectedEngine = None,
    python_version: _SelectedPython = None,
    worker_ip: WorkerIp = None,
) -> Selection:
    return await _selection(model_name, model_engine, python_version, worker_ip)


Selected = Annotated[Selection, Depends(_selection)]
"""What the parameters of a request select; without a model, those of all models."""
SelectedOfModel = Annotated[Selection, Depends(_selection_of_model)]
"""The same, of one model."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


_BodyT = TypeVar("_BodyT", bound=_Body)
_TYPES: Mapping[str, object] = {
    "version": Literal[1],
    **dict.fromkeys(("model_name", "model_engine", "model_format", "model_uid"), _ModelName),
    "model_size_in_billions": _ModelName | int | float,
    "python_version": _PythonVersion,
    **dict.fromkeys(("extra_index_url", "find_links", "trusted_host"), _OneOrMore),
    **dict.fromkeys(("exclude", "must_import"), _Distributions),
    "import_check": _Modules,
}
"""Of fields that allow more or less than their type hint says."""


def _with_fields_of(
    record: type[Record], *, without: str = ""
) -> Callable[[type[_BodyT]], type[_BodyT]]:
    """A decorator: the body has the fields of a record, whose defaults are as good as null."""

    def decorate(body: type[_BodyT]) -> type[_BodyT]:
        hints = record_hints(record)
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(cast("type[DataclassInstance]", record)):
            allowed = cast(Any, _TYPES.get(field.name) or _type_of(hints[field.name]))
            needed = field.default is dataclasses.MISSING
            fields[field.name] = (allowed, ...) if needed else (allowed | None, None)
        fields.pop(without, None)
        return create_model(
            body.__name__,
            __base__=body,
            __module__=body.__module__,
            __doc__=body.__doc__,
            **fields,
        )

    return decorate


def _type_of(hint: object) -> object:
    """What JSON may hold for a field of a record."""
    kind = next(each for each in (*typing.get_args(hint), hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        return _Texts
    if kind is ModelVirtualEnv:
        return VirtualEnvBlock
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Literal[tuple(each.value for each in kind)]
    return _Text if kind is str else kind


@_with_fields_of(ModelVirtualEnv)
class VirtualEnvBlock(_Body):
    """A model's ``virtualenv`` block, as Xinference has it."""


@_with_fields_of(LaunchRequest, without="restricted")
class Launch(_Body):
    """What a launch asks for. `virtualenv` is the model's own block; without it the catalogue is
    asked for the model. `virtual_env_packages` replace the model's of the same name.
    """

    def request(self, *, restricted: bool) -> LaunchRequest:
        """The launch as the actors take it, `restricted` or not; raises `InvalidInput`."""
        given = self.model_dump(exclude_none=True, include=set(Launch.model_fields))
        return LaunchRequest.from_dict({**given, "restricted": restricted})


class RequirementText(_Body):
    """A package line as it was typed."""

    text: _Text


class PlanRequest(Launch):
    """A launch that is resolved and not built, on one worker: any, or one of `worker_ip`."""

    worker_ip: _Place | None = None


class PrepareRequest(Launch):
    """A launch, and where: by default on one worker, the least busy.

    `workers` (each an IP, which means all on it, or an address), `count` of these or of all, or
    `everywhere`; with fewer than `require` ready (all, by default) it fails. One in the
    `background` is made ahead of need, at low priority: after all other launches of its workers.
    """

    workers: Annotated[list[_Place], Field(max_length=_MAX_ITEMS)] = []
    count: _Count | None = None
    everywhere: bool = False
    require: _Count | None = None
    background: bool = False


class PrefetchRequest(_Body):
    """Launches to make ahead of need, at low priority, and where: by default on every worker.

    `workers` (each an IP, which means all on it, or an address), or `count` of these or of all;
    with fewer than `require` ready (all, by default) a model's launch fails, which stops no other.
    """

    models: Annotated[list[Launch], Field(min_length=1, max_length=_MAX_ITEMS)]
    workers: Annotated[list[_Place], Field(max_length=_MAX_ITEMS)] = []
    count: _Count | None = None
    require: _Count | None = None


class _Strict(_Body):
    # A misspelt "dry_run" must not do in earnest what was to be tried.
    model_config = ConfigDict(extra="forbid")


class DrainRequest(_Strict):
    """Whether a worker is to get no new launches but those that name it."""

    draining: bool


class CollectRequest(_Strict):
    """What goes besides what nothing needs: environments beyond `max_bytes` together, and those
    not launched for `older_than` seconds. What is in use stays.
    """

    worker_ip: _Place | None = None
    max_bytes: _Bytes | None = None
    older_than: float | None = Field(None, ge=0.0, le=MAX_INTEGER, allow_inf_nan=False)
    prune_uv_cache: bool = False
    dry_run: bool = False


class VerifyRequest(_Strict):
    """Which environments are looked at closely; with `hashes` the contents of all files are read,
    with `repair` broken ones are rebuilt.
    """

    model_name: _Directory | None = None
    model_engine: _Directory | None = None
    python_version: _PythonVersion | None = None
    worker_ip: _Place | None = None
    hashes: bool = False
    repair: bool = False

    def selection(self) -> Selection:
        """Which environments these are."""
        return Selection(
            model_name=self.model_name,
            model_engine=self.model_engine,
            python_version=self.python_version,
            worker=self.worker_ip,
        )
