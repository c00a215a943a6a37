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
    older_in,
    serves_instead,
    source_warnings,
    sources_by_choice,
    sources_by_request,
)


async def fewest_builds(
    found: Resolution,
    building: Callable[[Sequence[str]], Awaitable[Resolution | UvFailed]],
    *,
    asked: Collection[str],
) -> Resolution:
    """What builds less from source than `found` and serves instead of it, else `found` itself.

    `asked` are the names that the request asks for. `building` resolves with nothing built but
    the named, or says why that has no solution: of what it names there are no wheels, so it is
    not asked without them again. The warnings say what stays to be built, and why.
    """
    by_choice, by_request = sources_by_choice(found), sources_by_request(found)
    built: set[str] = set()
    wheels_alone: Resolution | None = None
    best = found
    while built < {*by_choice}:
        other = await building([*by_request, *sorted(built)])
        if not built and isinstance(other, Resolution):
            wheels_alone = other
        if isinstance(other, UvFailed):
            more = {*by_choice} & names_in(str(other)) - built
        elif serves_instead(other, found, asked=asked):
            best = other
            break
        else:
            more = {*by_choice} & older_in(other, than=found).keys() - built
        built |= more or {*by_choice}
    warnings = (*found.warnings, *source_warnings(best, wheels_alone))
    return replace(best, warnings=tuple(dict.fromkeys(warnings)))
