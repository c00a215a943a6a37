"""The error of an output of this process that takes no more."""

from __future__ import annotations

from xinference_venv.errors import StoreError


def unwritable(name: str, error: OSError) -> StoreError:
    """The error where standard output or standard error, its `name`, can't be written."""
    return StoreError(
        f"{name} can't be written: {error.strerror}",
        {"hint": "see where it is redirected to: `df -h`, `ulimit -f`"},
    )
