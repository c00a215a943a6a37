"""The end of a command by a signal."""

from __future__ import annotations


class Stopped(BaseException):
    """The signal of this number ended the work; as `KeyboardInterrupt` it is no `Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
