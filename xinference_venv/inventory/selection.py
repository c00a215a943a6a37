"""Which environments are selected: by model, engine, Python version, worker, each or any.

Comes in: names that callers give, who may not be trusted. Comes out: a `Selection`, the first
argument of all that lists, checks or removes.
"""

from __future__ import annotations

from dataclasses import dataclass

from xinference_venv._util.humanize import quoted
from xinference_venv._util.names import MAX_NAME_BYTES, check_python_version
from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidName
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection(Record, name="selection"):
    """Which environments are selected, on which workers; None means any.

    The engine ``""`` means environments without one. A Python version ``3.12`` means ``3.12.1``
    too. `worker` is an IP, which means every worker on it, or an address.

    Names are only compared, with names of directories among others that older versions made; so
    what no directory can be called raises `InvalidName`, what is no version
    `InvalidPythonVersion`.
    """

    model_name: str | None = None
    model_engine: str | None = None
    python_version: str | None = None
    worker: str | None = None

    def __post_init__(self) -> None:
        if self.model_name is not None:
            check_directory_name(self.model_name, "model name")
        if self.model_engine:
            check_directory_name(self.model_engine, "engine name")
        if self.python_version is not None:
            check_python_version(self.python_version)

    def matches(self, key: EnvKey) -> bool:
        """Whether the environment of a key is selected, whatever its worker."""
        engine, python = self.model_engine, self.python_version
        return (
            (self.model_name is None or key.model_name == self.model_name)
            and (engine is None or (key.model_engine or "") == engine.lower())
            and (
                python is None
                or key.python_version == python
                or key.python_version.startswith(f"{python}.")
            )
        )

    def is_on(self, worker_address: str) -> bool:
        """Whether the worker at an address is selected."""
        return self.worker in (None, worker_address, worker_address.rpartition(":")[0])


EVERY = Selection()
"""All environments of all workers."""


def check_directory_name(value: object, what: str) -> str:
    """Return the name if a directory can have it, whatever a launch allows; raises `InvalidName`.

    ``what`` says in the error what kind of name it is.
    """
    if (
        not isinstance(value, str)
        or value in ("", ".", "..")
        or not {"/", "\0"}.isdisjoint(value)
        or len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
    ):
        raise InvalidName(
            sentence(
                "Invalid {what} {value}: no directory can have it", what=what, value=quoted(value)
            ),
            {
                "hint": sentence(
                    "Allowed are 1 to {max_name_bytes} bytes without '/', not '.' and '..'.",
                    max_name_bytes=MAX_NAME_BYTES,
                )
            },
        )
    return value
