"""What the metadata of a distribution says: the fields of METADATA, and its entry points.

Comes in: a metadata folder, or the text of its files. Comes out: values by field, and entry points
by group. As `importlib.metadata` reads them, which imports a parser of mail for that: a third of
what the process imports that checks packages, and ten times what reading the fields takes.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from xinference_venv.store.visit import read_text

# The last one is an ``.egg-info`` that is a file.
_WITH_FIELDS = ("METADATA", "PKG-INFO", "")
SCRIPT_GROUPS = frozenset({"console_scripts", "gui_scripts"})
"""The groups of entry points that are programs."""
_SEPARATORS = re.compile("[-_.]+")
_REQUIRED_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


class Fields:
    """The fields of a METADATA or PKG-INFO, several of one name in their order."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def all(self, name: str) -> list[str]:
        """The values of a field, whatever the case of its name."""
        return self._values.get(name.lower(), [])

    def first(self, name: str) -> str | None:
        """The first value of a field; None where it has none."""
        return next(iter(self.all(name)), None)


class NamedValue(NamedTuple):
    """An entry point as it is written: the group that it is in, its name, and what it names."""

    group: str
    name: str
    value: str


def read_fields(metadata: str | os.PathLike[str]) -> Fields:
    """The fields in a metadata folder, or of metadata that is a file; none where it has no text.

    Raises `UnicodeDecodeError`, and `OSError` where a file is there that can't be read.
    """
    text = next(filter(None, (_text(metadata, name) for name in _WITH_FIELDS)), "")
    return parse_fields(text)


def read_entry_points(metadata: str | os.PathLike[str]) -> list[NamedValue]:
    """The entry points in a metadata folder; raises as `read_fields` does."""
    return list(parse_entry_points(_text(metadata, "entry_points.txt")))


def parse_fields(text: str) -> Fields:
    """The fields in a text, up to its first empty line or what is no field (RFC 5322)."""
    values: dict[str, list[str]] = defaultdict(list)
    last: list[str] = []
    # A description has a thousand lines.
    for line in text.partition("\n\n")[0].split("\n"):
        name, colon, value = line.partition(":")
        if line.startswith((" ", "\t")):
            # The rest of a long line.
            last[-1:] = [f"{last[-1]}\n{line}"] if last else []
        elif colon and name.isascii() and name.isprintable() and " " not in name:
            last = values[name.lower()]
            last.append(value.lstrip(" \t"))
        else:
            break
    return Fields(values)


def parse_entry_points(text: str) -> Iterator[NamedValue]:
    """The entry points in the text of an ``entry_points.txt``; what is in no group is left out, and
    a line that names nothing has an empty value.
    """
    group = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
            continue
        if line and group is not None and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield NamedValue(group, name.strip(), value.strip())


def required_name(requirement: str) -> str:
    """The normalized name (PEP 503) of what a requirement asks for; empty where it has none."""
    found = _REQUIRED_NAME.match(requirement)
    return "" if found is None else normalized_name(found[1])


def normalized_name(name: str) -> str:
    """The name of a package as it is compared (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()


def _text(metadata: str | os.PathLike[str], name: str) -> str:
    """The text of a file of the metadata; empty where there is none that may be read."""
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return read_text(os.path.join(metadata, name) if name else metadata)
    return ""
