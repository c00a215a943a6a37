"""What of the host an environment shows, and whether a lock still holds over a changed host.

Pure, over facts alone. Shown = the host's distributions without those that the environment
shadows or hides.
"""

from __future__ import annotations

from collections.abc import Collection

from xinference_venv.host import HostFacts
from xinference_venv.lock import EnvLock, LockedDistribution, Role


def shadowed_by(installed: Collection[str], host: HostFacts) -> list[LockedDistribution]:
    """The host distributions that installed ones of the same name replace."""
    return sorted(
        LockedDistribution(
            name=each.name,
            role=Role.SHADOWED,
            version=each.version,
            why="another one is installed in the environment",
        )
        for each in host.distributions
        if each.name in installed
    )


def hidden_names(lock: EnvLock) -> frozenset[str]:
    """The host distributions that the environment's layer does not show."""
    return frozenset(
        each.name for each in lock.distributions if each.role in (Role.SHADOWED, Role.HIDDEN)
    )


def still_sound(lock: EnvLock, then: HostFacts, now: HostFacts) -> bool:
    """Whether an environment that was locked over the host `then` is right over the host `now`.

    It is when all that its layer shows is still there, unmoved and unchanged; what was added to
    the host since is simply not shown.
    """
    if now.interpreter.platform_digest != then.interpreter.platform_digest:
        return False
    hidden = hidden_names(lock)
    return all(
        now.by_name.get(each.name) == each for each in then.distributions if each.name not in hidden
    )
