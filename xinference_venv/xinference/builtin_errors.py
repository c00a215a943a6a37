"""Our errors as callers of ``xoscar.virtualenv`` can take them.

They catch built-in exceptions, and send them to processes that may not have this package: what
leaves the drop-in is nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.store.atomic import store_error
from xinference_venv.uv.messages import ASK_FOR_OTHER_VERSIONS
from xinference_venv.xinference.application import OTHER_VERSIONS

# What only a launch through our own command or client has. Options of other programs that a hint
# names (of `xinference-venv gc`, pip, docker) are within reach.
_OURS = re.compile(r"(?<!\w)--(?:inherit|any-engine|no-proof)\b|\bmust_import\b")
_OURS_AS_WELL = re.compile(r"[,;] or launch with --inherit none$")
_WITH_OURS = re.compile(r"\blaunch with --refresh$")
_EXTRA_INDEXES = re.compile(r"the extra index URLs(?: \(pip's extra-index-url counts\))?")
# Where there is no CUDA, Xinference drops the extra indexes of a model and of pip's configuration.
_UV_INDEXES = "UV_INDEX, with UV_INDEX_STRATEGY=unsafe-best-match, in the variables of the worker"


@contextmanager
def built_in_errors(what: str) -> Iterator[None]:
    """Raise `ValueError` for bad input and `RuntimeError` for all other errors of ours.

    The text says `what` failed, why, and what to do; it holds no credentials.
    """
    try:
        try:
            yield
        except OSError as error:
            raise store_error(error) from error
    except VirtualEnvError as error:
        kind = ValueError if isinstance(error, InvalidInput) else RuntimeError
        hint = error.hint
        if hint is not None:
            hint = without_ours(hint)
            # A hint that says too little here.
            too_little = hint == ASK_FOR_OTHER_VERSIONS
            hint = f"\nHint: {OTHER_VERSIONS if too_little or _OURS.search(hint) else hint}"
        raise kind(f"{what}: {error}{hint or ''}") from None


def without_ours(text: str) -> str:
    """A hint or a warning with the ways out that Xinference's users have."""
    text = _WITH_OURS.sub("launch again", _OURS_AS_WELL.sub("", text))
    return _EXTRA_INDEXES.sub(_UV_INDEXES, text)
