"""Whether a process, or a download, still makes progress, as a state.

Comes in: what it has done so far. Comes out: for how long it has made no progress.

A byte every few seconds, from an index that is overloaded or means harm, is no progress.
"""

from __future__ import annotations

from dataclasses import dataclass

# What tells work from waking up to look: of a download's blocks, of a compiler's seconds.
_LEAST_BYTES = 64 << 10
_LEAST_CPU_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a process and its children have done since they started.

    `heard` are the bytes of output read from it, `written` those that it wrote to files, as far
    as the system tells; `cpu` is in seconds.
    """

    heard: int = 0
    written: int = 0
    cpu: float = 0.0


@dataclass(kw_only=True, eq=False)
class StallWatch:
    """Watches a process that started at `since`, in seconds of a monotonic clock."""

    since: float
    _then: Done = Done()

    def looked(self, done: Done, now: float) -> float:
        """What the process has done by `now`; for how many seconds it has made no progress."""
        then = self._then
        if (
            done.heard > then.heard
            or done.written - then.written >= _LEAST_BYTES
            or done.cpu - then.cpu >= _LEAST_CPU_SECONDS
            # A child that ended without being waited for is counted no more: begin at what is left.
            or done.written < then.written
            or done.cpu < then.cpu
        ):
            self._then, self.since = done, now
        return now - self.since
