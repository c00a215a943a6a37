"""Clocks that a test sets, so that none waits for real seconds and none patches a constant."""

from __future__ import annotations

import asyncio
import time

import pytest


class FakeClock:
    """A clock that stands still until it is set, or someone waits by it."""

    def __init__(self, now: float = 1_000_000_000.0, *, tick: float = 0.0) -> None:
        self.now = now
        self.tick = tick

    def time(self) -> float:
        self.now += self.tick
        return self.now

    def time_ns(self) -> int:
        return int(self.time() * 1_000_000_000)

    def monotonic(self) -> float:
        return self.time()

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


class ClockAhead:
    """The real clock, `seconds` ahead: what has just happened is long ago."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def time(self) -> float:
        return time.time() + self.seconds

    def time_ns(self) -> int:
        return time.time_ns() + int(self.seconds * 1_000_000_000)

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)


class LoopClock:
    """The clock of the running event loop, which a test sets forward.

    Timers that are due by then run in the next rounds of the loop; all else goes on as it does.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", self._time)

    def _time(self) -> float:
        return time.monotonic() + self._ahead

    async def advance(self, seconds: float) -> None:
        """Set the clock forward once what is about to start has started; what is due then runs."""
        await asyncio.sleep(0)
        self._ahead += seconds
        # Not with a time of zero: the loop looks at its timers between two of its rounds.
        await asyncio.sleep(0.001)
