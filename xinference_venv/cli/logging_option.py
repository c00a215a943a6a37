"""How the long-running commands write their log, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from xinference_venv.observability.logging import LogFormat, formatter_of

_Command = TypeVar("_Command", bound=Callable[..., Any])


def log_option(command: _Command) -> _Command:
    """The option that says how the log is written; `start_logging` takes its value."""
    return click.option(
        "--log-format",
        type=click.Choice([each.value for each in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="The log on standard error: lines for people, or a JSON document for each record.",
    )(command)


def start_logging(log_format: str, verbosity: int = 0) -> None:
    """Write what this program, and what it stands on, logs from now on; from a verbosity of 2 on
    all of it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(LogFormat(log_format)))
    logging.basicConfig(handlers=[handler])
    level = logging.DEBUG if verbosity > 1 else logging.INFO
    logging.getLogger("xinference_venv").setLevel(level)
