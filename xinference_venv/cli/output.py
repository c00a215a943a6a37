"""The output of this process, with the error of one that takes no more."""

from __future__ import annotations

import click

from xinference_venv.errors import StoreError


def unwritable(name: str, error: OSError) -> StoreError:
    """The error where standard output or standard error, its `name`, can't be written."""
    return StoreError(
        f"{name} can't be written: {error.strerror}",
        {"hint": "see where it is redirected to: `df -h`, `ulimit -f`"},
    )


def write(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text as it is; raises `StoreError` where the output takes no more."""
    try:
        click.echo(text, err=err, nl=nl)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable("standard error" if err else "standard output", error) from None
