"""How fast bytes arrive, and how long the rest takes.

Comes in: how many there are at which time. Comes out: a rate over the last seconds, and the time
left. Pure: `now` is a monotonic clock in seconds, given by the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

# Long enough that one stall of a connection does not show, short enough that a slower one does.
_WINDOW_SECONDS = 10.0
_LEAST_SECONDS = 1.0


@dataclass(kw_only=True, slots=True)
class Transfer:
    """One transfer, as counts of bytes at rising times; a count never falls."""

    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    def count(self, done: int, now: float) -> None:
        """Note how many bytes have arrived by now."""
        if self._counts:
            at, before = self._counts[-1]
            # What is asked again, or a clock that was set back, is no reason for less than nothing.
            done, now = max(done, before), max(now, at)
        # One from before the window stays: it says where the window began.
        while len(self._counts) > 1 and self._counts[1][0] <= now - _WINDOW_SECONDS:
            self._counts.popleft()
        self._counts.append((now, done))

    @property
    def bytes_per_second(self) -> int | None:
        """The rate of the last seconds; None as long as too few have passed to tell."""
        if not self._counts:
            return None
        (began, first), (ended, last) = self._counts[0], self._counts[-1]
        if ended - began < _LEAST_SECONDS:
            return None
        return round((last - first) / (ended - began))

    def seconds_left(self, total: int) -> int | None:
        """How long the rest of `total` bytes takes at this rate; None where nothing arrives."""
        rate = self.bytes_per_second
        if not rate:
            return None
        return round(max(0, total - self._counts[-1][1]) / rate)
