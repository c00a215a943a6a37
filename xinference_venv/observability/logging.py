"""Records of the log as lines: text for people, or JSON, a document for each line.

Comes in: records of `logging`, and what is known of whose they are. Comes out: lines with the
time in UTC (RFC 3339), and no credential.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from xinference_venv._util.humanize import printable
from xinference_venv._util.redact import redact_text

# What a record may have besides its message, by `extra`.
_MORE = ("outcome", "source", "duration_seconds", "code")
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


class LogFormat(StrEnum):
    """How the log of a process is written."""

    TEXT = "text"
    JSON = "json"


def context_about(**known: str) -> Context:
    """A copy of the current context (PEP 567) in which each record names what is known.

    That is the ``job``, its ``model`` and the ``worker``; tasks and threads that start in the
    context name them too.
    """
    context = copy_context()
    context.run(_about.set, {**_about.get(), **known})
    return context


def formatter_of(log_format: LogFormat) -> logging.Formatter:
    """The formatter for a handler of `logging`."""
    return _Json() if log_format is LogFormat.JSON else _Text()


class _Text(logging.Formatter):
    """``2026-11-22T16:23:00.123Z INFO [job=... model=... worker=...] message``.

    What follows in further lines is indented, so no message can pass for another record.
    """

    def format(self, record: logging.LogRecord) -> str:
        about = " ".join(f"{name}={_word(value)}" for name, value in _about.get().items())
        whose = f"[{about}] " if about else ""
        lines = redact_text(super().format(record)).splitlines() or [""]
        message = "\n  ".join(map(printable, lines))
        return f"{_time(record)} {record.levelname} {whose}{message}"


class _Json(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_text(record.getMessage()),
            **{name: redact_text(value) for name, value in _about.get().items()},
            **{name: vars(record)[name] for name in _MORE if name in vars(record)},
        }
        if record.exc_info:
            document["exception"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(document)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _word(value: str) -> str:
    """A value whose end can be seen."""
    value = printable(redact_text(value))
    return json.dumps(value) if " " in value or '"' in value else value
