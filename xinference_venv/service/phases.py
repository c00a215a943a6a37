"""How far a launch is: reported to its jobs, and noted in errors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from xinference_venv._util.redact import redact_text
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.jobs import Phase
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import name_error as name_error
from xinference_venv.store.atomic import store_error as store_error

_T = TypeVar("_T")


class ReportProgress(Protocol):
    """Tells whoever waits how far a build is; see `Job.say`."""

    def __call__(self, phase: Phase, message: str, **progress: int | None) -> None: ...


def ignore_progress(phase: Phase, message: str, **progress: int | None) -> None:
    """Report to nothing: for a caller that follows no job."""


async def in_phase(phase: Phase, work: Awaitable[_T]) -> _T:
    """Let an error say in which phase it happened, also one of the file system."""
    try:
        return await work
    except OSError as error:
        raise store_error(error).with_details(phase=phase.value) from error
    except VirtualEnvError as error:
        raise error.with_details(phase=phase.value) from error


def unforeseen_error(error: Exception) -> VirtualEnvError:
    """A defect of ours as an error, for whoever waits at the edge of a process or a job."""
    return VirtualEnvError(
        sentence("{name}: {error}", name=type(error).__name__, error=redact_text(str(error)))
    )
