"""What tells the time: the module `time`, which a test replaces by a clock that it sets."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The clocks of the module `time`, and its way to let a thread wait."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let the thread wait."""
        ...
