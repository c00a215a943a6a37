"""Searches among what only a resolver can tell: as little built as possible.

Comes in: what is wanted, and a function that asks the resolver. Goes out: the best that has a
solution.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from xinference_venv.errors import UvFailed
from xinference_venv.planning.displacement import names_in
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.source_builds import (
    avoidable_sources,
    serves_instead,
    source_warnings,
)

_QUESTIONS = 2


async def fewest_builds(
    found: Resolution,
    with_wheels: Callable[[Sequence[str]], Awaitable[Resolution | UvFailed | None]],
    *,
    asked: Collection[str],
) -> Resolution:
    """What builds less from source than `found` and serves instead of it, else `found` itself.

    `asked` are the names that the request asks for. `with_wheels` resolves with wheels alone of the
    names that it gets, says why that has no solution, or gives up with None. It is asked only
    where that may have one. The warnings say what stays to be built, and why.
    """
    best = found
    names = avoidable_sources(found, asked=asked)
    for _ in range(_QUESTIONS):
        if not names:
            break
        other = await with_wheels(sorted(names))
        if isinstance(other, Resolution):
            if serves_instead(other, found, asked=asked):
                best = other
            break
        if other is None:
            break
        # Where the explanation names all of them or none, there is nothing to go on with.
        names = names - names_in(str(other)) if names & names_in(str(other)) else set()
    warnings = (*found.warnings, *source_warnings(best))
    return replace(best, warnings=tuple(dict.fromkeys(warnings)))
