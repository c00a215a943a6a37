"""Names that anybody may have written, checked and brought to their normal form."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import InvalidName as InvalidPackageName
from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidName


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
