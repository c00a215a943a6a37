"""One distribution of the host, as its metadata folder or file describes it.

Comes in: a location and the name of the metadata there. Comes out: a `HostDistribution` without
what only the files tell. What is not valid is left out with a reason; nothing raises.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PathDistribution
from pathlib import Path

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from xinference_venv.planning.host import HostDistribution
from xinference_venv.store.metadata_files import SCRIPT_GROUPS, parse_entry_points, read_fields
from xinference_venv.store.visit import read_text

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
# Names become file names in an environment, so they are no other than the standard recommends.
_SCRIPT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SCRIPT_TARGET = re.compile(rf"({_DOTTED})\s*:\s*({_DOTTED})\s*(\[.*\])?")
# Two requirements in three are of an extra and have one bound at most. To parse each takes a third
# of the time of a scan.
_PLAIN_REQUIREMENT = re.compile(
    r"""(?P<asked>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:(?:[<>]=?|==|!=)\d+(?:\.\d+)*)?)"""
    r"""\s*;\s*extra\s*==\s*(?P<quote>['"])(?P<extra>[a-z0-9]+(?:-[a-z0-9]+)*)(?P=quote)"""
)
# All others can be evaluated, whatever they compare.
_UNUSUAL_MARKER = re.compile(r";.*(?:~=|===|\bextras\b|\bdependency_groups\b)", re.DOTALL)


class _Egg(PathDistribution):
    """An ``.egg-info``, whose requirements may be in a file of their own.

    Only regular files are read: a pipe would hold up everything.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._folder = path

    def read_text(self, filename: str | os.PathLike[str]) -> str | None:
        """The text of a file of the metadata; None where there is none that may be read."""
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            return read_text(self._folder / filename)
        return None


def read_metadata(location: str, entry: str, skipped: list[str]) -> HostDistribution | None:
    """Read one distribution; what is not valid is added to `skipped`, each with its reason.

    None where there is no name (PEP 503) or version (PEP 440) to know it by. Requirements that
    are none (PEP 508), scripts and a ``direct_url.json`` (PEP 610) that can't be read are left
    out.
    """
    place = os.path.join(location, entry)
    try:
        fields = read_fields(place)
        name = canonicalize_name(fields.first("Name") or "", validate=True)
        version = Version(fields.first("Version") or "")
        is_egg = not entry.endswith(".dist-info")
        declared = _Egg(Path(place)).requires if is_egg else fields.all("Requires-Dist")
        requires = tuple(_requirements(declared or [], place, skipped))
        inode = os.stat(place).st_ino
    except (InvalidName, InvalidVersion):
        skipped.append(f"{place}: no valid name and version")
        return None
    except (OSError, UnicodeDecodeError) as error:
        skipped.append(f"{place}: {error}")
        return None
    return HostDistribution(
        name=name,
        version=str(version),
        requires=requires,
        extras=tuple(fields.all("Provides-Extra")),
        location=location,
        metadata=entry,
        inode=inode,
        direct_url=_direct_url(_text(place, "direct_url.json", skipped), place, skipped),
        scripts=_scripts(_text(place, "entry_points.txt", skipped) or "", place, skipped),
    )


def _requirements(declared: Iterable[str], place: str, skipped: list[str]) -> Iterator[str]:
    for text in declared:
        if (plain := _PLAIN_REQUIREMENT.fullmatch(text)) is not None:
            yield f'{plain["asked"]}; extra == "{plain["extra"]}"'
            continue
        try:
            requirement = Requirement(text)
            if requirement.marker is not None and _UNUSUAL_MARKER.search(text):
                _check_marker(requirement.marker)
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            skipped.append(f"{place}: requirement {text!r} is not valid")
            continue
        # A host's copy serves whatever URL it once came from.
        requirement.url = None
        yield str(requirement)


def _check_marker(marker: Marker) -> None:
    """Raise an error of `packaging` for a marker that can't be evaluated, such as
    ``python_version ~= '3'``, or that uv can't read.
    """
    if "===" in str(marker):
        raise UndefinedComparison("uv knows no === in markers")
    marker.evaluate({"extra": ""})


def _text(place: str, name: str, skipped: list[str]) -> str | None:
    """The text of a file of the metadata folder; None where it is absent or can't be read."""
    try:
        return read_text(Path(place, name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        skipped.append(f"{place}: {name}: {error}")
        return None


def _scripts(text: str, place: str, skipped: list[str]) -> tuple[str, ...]:
    """Console and GUI scripts of ``entry_points.txt``, the first of each name."""
    scripts: dict[str, str] = {}
    for group, name, value in parse_entry_points(text):
        if group not in SCRIPT_GROUPS:
            continue
        target = _SCRIPT_TARGET.fullmatch(value)
        if target is None or not _SCRIPT_NAME.fullmatch(name):
            skipped.append(f"{place}: script {f'{name} = {value}'!r} is not valid")
            continue
        scripts.setdefault(name, f"{name} = {target[1]}:{target[2]}")
    return tuple(scripts.values())


def _direct_url(text: str | None, place: str, skipped: list[str]) -> str | None:
    """Where it was installed from, in the form that a requirement (PEP 508) would name it."""
    if text is None:
        return None
    from xinference_venv.planning.pylock import strip_credentials

    try:
        data = json.loads(text)
        url = strip_credentials(data["url"])
        vcs = data.get("vcs_info")
        return url if vcs is None else f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    except (ValueError, LookupError, TypeError, AttributeError):
        skipped.append(f"{place}: direct_url.json is not valid")
        return None
