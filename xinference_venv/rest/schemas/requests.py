"""What a request may say: its parameters, and its body as JSON.

The types are checked here and told by the API's description; what a value means (which names are
allowed, what is a requirement) is for the nouns that read it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from xinference_venv.inventory.selection import Selection, check_directory_name
from xinference_venv.planning.request import (
    MAX_NAME_BYTES,
    MAX_TEXT_LENGTH,
    LaunchRequest,
    check_model_name,
    check_python_version,
)

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
ModelName = Annotated[
    _Directory | None, Query(description="Only of this model."), _name(_DIRECTORY)
]
NeededModelName = Annotated[_Directory, Query(description="The model.")]
ModelEngine = Annotated[
    _Engine | None,
    Query(description="Only of this engine; empty, or `null`: only those without one."),
    _ENGINE,
]
PythonVersion = Annotated[
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
DryRun = Annotated[_Flag, Query(description="Only say what would go.")]
Force = Annotated[_Flag, Query(description="Whatever uses it; files stay until that has ended.")]
Count = Annotated[int, Query(ge=1, le=100, description="So many of each worker.")]
Offset = Annotated[int, Query(ge=0, le=MAX_LOG_BYTES, description="In bytes; 0: the beginning.")]
Since = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Only events after this number.")]
Wait = Annotated[
    float,
    Query(
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Wait so many seconds for an event that is new.",
    ),
]
JobId = Annotated[str, Path(max_length=MAX_NAME_BYTES)]
LeaseId = Annotated[str, Path(max_length=MAX_NAME_BYTES)]
LogId = Annotated[str, Path(pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}-[A-Za-z0-9_-]{1,64}$")]
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        pattern=r"^([0-9]{1,15}|end)?$",
        description="Go on after this event, as browsers ask.",
    ),
]


def selected(
    model_name: str | None,
    model_engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
) -> Selection:
    """What the parameters of a request select."""
    return Selection(
        model_name=model_name,
        model_engine=model_engine,
        python_version=python_version,
        worker=worker_ip,
    )


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class VirtualEnvBlock(_Body):
    """A model's ``virtualenv`` block, as Xinference has it."""

    packages: _Texts | None = None
    inherit_pip_config: bool | None = None
    index_url: _Text | None = None
    extra_index_url: _OneOrMore | None = None
    find_links: _OneOrMore | None = None
    trusted_host: _OneOrMore | None = None
    index_strategy: _Text | None = None
    no_build_isolation: bool | None = None
    constraints: _Texts | None = None
    overrides: _Texts | None = None
    exclude: _Distributions | None = None
    build_constraints: _Texts | None = None
    must_import: _Distributions | None = None
    import_check: _Modules | None = None


class Launch(_Body):
    """What a launch asks for. `virtualenv` is the model's own block; without it the catalogue is
    asked for the model. `virtual_env_packages` replace the model's of the same name.
    """

    version: Literal[1] | None = None
    model_name: _ModelName
    model_engine: _ModelName | None = None
    model_format: _ModelName | None = None
    python_version: _PythonVersion | None = None
    model_uid: _ModelName | None = None
    virtualenv: VirtualEnvBlock | None = None
    enable_virtual_env: bool | None = None
    virtual_env_packages: _Texts | None = None
    virtual_env_find_links: _Texts | None = None
    inherit: Literal["host", "exact", "none"] | None = None
    constraints: _Texts | None = None
    overrides: _Texts | None = None
    exclude: _Distributions | None = None
    build_constraints: _Texts | None = None
    must_import: _Distributions | None = None
    import_check: _Modules | None = None
    refresh: bool | None = None

    def request(self, *, restricted: bool) -> LaunchRequest:
        """The launch as the actors take it, `restricted` or not; raises `InvalidInput`."""
        given = self.model_dump(exclude_none=True, include=set(Launch.model_fields))
        return LaunchRequest.from_dict({**given, "restricted": restricted})


class RequirementText(_Body):
    """A package line as somebody writes it."""

    text: _Text


class PlanRequest(Launch):
    """A launch that is resolved and not built, on one worker: any, or one of `worker_ip`."""

    worker_ip: _Place | None = None


class PrepareRequest(Launch):
    """A launch, and where: by default on one worker, the least busy.

    `workers` (each an IP, which means all on it, or an address), `count` of these or of all, or
    `everywhere`; with fewer than `require` ready (all, by default) it fails.
    """

    workers: Annotated[list[_Place], Field(max_length=_MAX_ITEMS)] = []
    count: _Count | None = None
    everywhere: bool = False
    require: _Count | None = None


class _Strict(_Body):
    # A misspelt "dry_run" must not do in earnest what was to be tried.
    model_config = ConfigDict(extra="forbid")


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
