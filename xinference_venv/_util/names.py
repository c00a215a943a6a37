"""Names and bounds of versions that anybody may have written, checked and in their normal form."""

from __future__ import annotations

from collections.abc import Iterable

from packaging import requirements as pep508
from packaging.utils import InvalidName as InvalidPackageName
from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidName, InvalidRequirement


def check_distribution_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of distributions, normalized (PEP 503); raises `InvalidName`."""
    checked = []
    for name in names:
        try:
            checked.append(str(canonicalize_name(name, validate=True)))
        except InvalidPackageName:
            raise InvalidName(
                f"Invalid distribution name {quoted(name)}",
                {"hint": "Allowed are letters, digits and, between them, '-', '_' and '.'."},
            ) from None
    return tuple(dict.fromkeys(checked))


def check_version_bounds(lines: Iterable[str]) -> tuple[str, ...]:
    """Requirements (PEP 508) that bound versions, in their normal form.

    A URL is none: it would bring a package from a place that is not allowed. Raises
    `InvalidRequirement`.
    """
    checked = []
    for line in lines:
        try:
            requirement = pep508.Requirement(line)
        except pep508.InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url is not None:
            raise InvalidRequirement(
                f"Invalid bound {quoted(line)}",
                {"hint": "Allowed is a name with versions, like setuptools<81."},
            )
        checked.append(str(requirement))
    return tuple(dict.fromkeys(checked))
