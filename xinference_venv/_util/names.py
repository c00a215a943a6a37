"""Names and bounds of versions that anybody may have written, checked and in their normal form."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidName, InvalidPythonVersion, InvalidRequirement
from xinference_venv.sentences import sentence

MAX_NAME_BYTES = 255  # a name becomes a directory's name, and this is what file systems allow
_PYTHON_VERSION = re.compile(r"3\.(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2}))?")


def check_distribution_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of distributions, normalized (PEP 503); raises `InvalidName`."""
    if not (names := tuple(names)):
        return ()
    # What reads the settings of a process that only looks does without it.
    from packaging.utils import InvalidName as InvalidPackageName
    from packaging.utils import canonicalize_name

    checked = []
    for name in names:
        try:
            checked.append(str(canonicalize_name(name, validate=True)))
        except InvalidPackageName:
            raise InvalidName(
                sentence("Invalid distribution name {name}", name=quoted(name)),
                {
                    "hint": sentence(
                        "Allowed are letters, digits and, between them, '-', '_' and '.'."
                    )
                },
            ) from None
    return tuple(dict.fromkeys(checked))


def check_version_bounds(lines: Iterable[str]) -> tuple[str, ...]:
    """Requirements (PEP 508) that bound versions, in their normal form.

    A URL is none: it would bring a package from a place that is not allowed. Raises
    `InvalidRequirement`.
    """
    if not (lines := tuple(lines)):
        return ()
    from packaging import requirements as pep508

    checked = []
    for line in lines:
        try:
            requirement = pep508.Requirement(line)
        except pep508.InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url is not None:
            raise InvalidRequirement(
                sentence("Invalid bound {line}", line=quoted(line)),
                {"hint": sentence("Allowed is a name with versions, like setuptools<81.")},
            )
        checked.append(str(requirement))
    return tuple(dict.fromkeys(checked))


def check_python_version(value: object) -> str:
    """Return ``value`` if it is ``MAJOR.MINOR`` or ``MAJOR.MINOR.PATCH`` of Python 3.

    Raises `InvalidPythonVersion`. Whether the host has such an interpreter is not asked here.
    """
    if not isinstance(value, str) or not _PYTHON_VERSION.fullmatch(value):
        raise InvalidPythonVersion(
            sentence("Invalid Python version {value}", value=quoted(value)),
            {
                "hint": sentence(
                    "Allowed are MAJOR.MINOR and MAJOR.MINOR.PATCH of Python 3, like 3.11."
                )
            },
        )
    return value
