"""Searches among what only a resolver can tell: as much kept, as little built as possible.

Comes in: what is wanted, and a function that asks the resolver. Goes out: the best that has a
solution.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.source_builds import (
    serves_instead,
    source_warnings,
    sources_by_choice,
    sources_by_request,
)


async def keep_most(
    stable: Sequence[str],
    candidates: Sequence[str],
    solvable: Callable[[Sequence[str]], Awaitable[bool]],
) -> list[str]:
    """Add as many of `candidates` to `stable` as stay solvable, halving where all are not.

    What is left out is needed to be: none of it can be added to the result alone. Asks about
    `k log n` times for `k` candidates that must go out of `n`.
    """
    kept = list(stable)

    async def add(group: Sequence[str]) -> None:
        if not group:
            return
        if await solvable([*kept, *group]):
            kept.extend(group)
        elif len(group) > 1:
            middle = len(group) // 2
            await add(group[:middle])
            await add(group[middle:])

    await add(candidates)
    return kept


async def fewest_builds(
    found: Resolution,
    building: Callable[[Sequence[str]], Awaitable[Resolution | None]],
    *,
    asked: Collection[str],
) -> Resolution:
    """What builds less from source than `found` and serves instead of it, else `found` itself.

    `asked` are the names that the request asks for. `building` resolves with nothing built but
    the named; None when that has no solution. The warnings say what stays to be built, and why.
    """
    by_choice, by_request = sources_by_choice(found), sources_by_request(found)
    wheels_alone = await building(by_request) if by_choice else None
    solutions = [found]

    async def solvable(names: Sequence[str]) -> bool:
        if len(names) == len(by_choice):
            other = wheels_alone
        else:
            built = [name for name in by_choice if name not in names]
            other = await building([*by_request, *built])
        if other is None or not serves_instead(other, found, asked=asked):
            return False
        solutions.append(other)
        return True

    await keep_most([], by_choice, solvable)
    best = solutions[-1]
    return replace(best, warnings=source_warnings(best, wheels_alone))
