"""The program ``xinference-venv``, also as ``python -m xinference_venv``.

What a signal does from its first moment on is decided here: to import a command takes a tenth of a
second and more, and who ends it meanwhile gets no traceback.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

from xinference_venv.errors import JobCancelled

_Handler: TypeAlias = "Callable[[int, FrameType | None], object] | signal.Handlers"
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run() -> int:
    """Run the command line of this process; returns its exit code."""
    # What is ignored stays so: nohup(1) has SIGHUP ignored, a shell SIGINT of what is behind "&".
    numbers = [each for each in _NUMBERS if signal.getsignal(each) is not signal.SIG_IGN]
    _handle(numbers, _end_now)
    from xinference_venv._util.own_process import collect_cycles_seldom
    from xinference_venv.cli import main
    from xinference_venv.cli.stopped import Stopped

    def stop(number: int, _: FrameType | None) -> None:
        # A second signal must not disturb the cleaning up that the first one began.
        _handle(numbers, signal.SIG_IGN)
        raise Stopped(number)

    collect_cycles_seldom()
    # What runs in an event loop has handlers of its own, and none afterwards: what comes then is
    # too late to change how the command ended.
    _handle(numbers, stop)
    code = main()
    _handle(numbers, lambda *_: os._exit(code))
    return code


def _handle(numbers: list[signal.Signals], handler: _Handler) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _end_now(number: int, _: FrameType | None) -> None:
    """End with the words and the exit code of a command that a signal cancels."""
    error = JobCancelled.by_signal(signal.Signals(number).name)
    with suppress(OSError):
        if "--json" in sys.argv:
            os.write(1, f"{json.dumps({'error': error.to_dict()}, indent=2)}\n".encode())
        else:
            os.write(2, f"error: {error.message}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(run())
