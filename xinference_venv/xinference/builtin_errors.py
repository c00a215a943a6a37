"""Our errors as callers of ``xoscar.virtualenv`` can take them.

They catch built-in exceptions, and send them to processes that may not have this package: what
leaves the drop-in is nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xinference_venv.errors import InvalidInput, VirtualEnvError


@contextmanager
def built_in_errors(what: str) -> Iterator[None]:
    """Raise `ValueError` for bad input and `RuntimeError` for all other errors of ours.

    The text says `what` failed, why, and what to do; it holds no credentials.
    """
    try:
        yield
    except VirtualEnvError as error:
        kind = ValueError if isinstance(error, InvalidInput) else RuntimeError
        hint = "" if error.hint is None else f"\nHint: {error.hint}"
        raise kind(f"{what}: {error}{hint}") from None
