"""What a kind of bad input is, and short ways to write down those of which there are several."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xinference_venv import errors
from xinference_venv.errors import VirtualEnvError

# In messages and hints "…" stands for what differs from host to host, or for uv's own words.
INDEX = "https://index.example/simple/"
"""Stands for the index of the tests, which has ``lantern`` 1.0 and 2.0."""
HOME = "/home/user/.xinference"
"""Stands for ``XINFERENCE_HOME``."""

NAMES = (
    "Allowed are 1 to 255 bytes of UTF-8 without white space, control characters and"
    " + / ? % # & = \\, and neither '.' nor '..'."
)
FORMS = (
    "Allowed are PEP 508 (numpy>=1.26, name[extra]==1.0, name @ URL), direct URLs, #system_NAME#"
    " and #ENGINE_dependencies#, each with a marker after ' ; ' if wanted."
)
OPERANDS = (
    "Allowed here: a text in quotes, True, False, or one of #engine#, #model_engine#,"
    " implementation_name, …, cuda_version, cuda_arch, has_cuda, has_npu."
)
NOWHERE = (
    "check name and version, and whether an index in use has them: `xinference-venv doctor` lists"
    " the indexes"
)
_URLS = (
    "Allowed are http, https and file URLs for indexes, these and absolute paths for find-links,"
    " and host or host:port for trusted hosts."
)
_PYTHONS = "Allowed are MAJOR.MINOR and MAJOR.MINOR.PATCH of Python 3, like 3.11."
_SPECS = (
    "Expected is JSON in Xinference's model format: an object, or a list of objects, like"
    ' {"model_name": "my-model", "virtualenv": {"packages": ["numpy<2"]}}.'
)
ROOTS = "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"


@dataclass(frozen=True, kw_only=True, slots=True)
class BadInput:
    """One kind: a launch of ``glow`` that differs from a good one in `request`, `block` (of its
    ``virtualenv``), `environ` or `spec_file`; or a question about a job.
    """

    title: str
    error: type[VirtualEnvError]
    message: str
    hint: str | None
    request: Mapping[str, Any] = field(default_factory=dict)
    block: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    spec_file: str | None = None
    job: str | None = None

    @property
    def asked(self) -> str:
        """What a user gave, as the page shows it."""
        if self.job is not None:
            return f"wait for the job {self.job}"
        given = [f"{name}={value}" for name, value in self.environ.items()]
        if self.spec_file is not None:
            given.append(f"{HOME}/virtualenv/models/mine.json: {self.spec_file}")
        if self.request:
            given.append(f"launch: {_json(self.request)}")
        if self.block:
            given.append(f"virtualenv: {_json(self.block)}")
        return "\n".join(given)


def _json(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:60]}…{text[-10:]}"


def bad_name(title: str, name: object, wrong: str, shown: str | None = None) -> BadInput:
    return BadInput(
        title=title,
        request={"model_name": name},
        error=errors.InvalidName,
        message=f"Invalid model name {shown or repr(name)}: {wrong}",
        hint=NAMES,
    )


def bad_package(title: str, line: str, wrong: str, hint: str) -> BadInput:
    return BadInput(
        title=title,
        block={"packages": [line]},
        error=errors.InvalidRequirement,
        message=f"Invalid requirement {line!a} in model packages[0]: {wrong}",
        hint=hint,
    )


def unsolvable(title: str, packages: list[str], because: str, hint: str) -> BadInput:
    return BadInput(
        title=title,
        block={"packages": packages},
        error=errors.ResolutionFailed,
        message=f"…No solution found when resolving dependencies…Because {because}",
        hint=hint,
    )


def bad_source(title: str, key: str, value: object, message: str, hint: str = _URLS) -> BadInput:
    return BadInput(
        title=title, block={key: value}, error=errors.InvalidSource, message=message, hint=hint
    )


def wrong_type(title: str, key: str, value: object, message: str, allowed: str) -> BadInput:
    return BadInput(
        title=title,
        block={key: value},
        error=errors.InvalidModelSpec,
        message=message,
        hint=f"Allowed is {allowed}.",
    )


def bad_python(title: str, version: object) -> BadInput:
    return BadInput(
        title=title,
        request={"python_version": version},
        error=errors.InvalidPythonVersion,
        message=f"Invalid Python version {version!r}",
        hint=_PYTHONS,
    )


def bad_spec(title: str, text: str, wrong: str, hint: str = _SPECS) -> BadInput:
    return BadInput(
        title=title,
        spec_file=text,
        error=errors.InvalidModelSpec,
        message=f"Invalid model specification {HOME}/virtualenv/models/mine.json: {wrong}",
        hint=hint,
    )


def bad_variable(title: str, name: str, value: str, allowed: str) -> BadInput:
    return BadInput(
        title=title,
        environ={name: value},
        error=errors.InvalidInput,
        message=f"Invalid value {value!r} of the environment variable {name}",
        hint=f"Allowed: {allowed}.",
    )
