"""Work of many pieces, shared out to forks of a light process, which has one thread.

Comes in: how many pieces there are, and what is to be done for one. Comes out: a line for each; and
the command that starts such a process, which a file tells what to do. Threads take turns at what
Python itself does, and lose twice as much by waking each other.

What a light process imports is paid each time: five times of what an interpreter's start takes, if
it is ``dataclasses``, ``pathlib``, ``re`` and ``json``. So this module does without ``typing``.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BYTES = 4
# From a pipe each fork takes the next one when it has done one. As many as fit are put in: a user
# with very many pipes gets small ones.
_MOST_TICKETS = 16_000
ERROR_STATUS = 3
"""With which a light process ends that has printed its error."""
_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# It ends soon, and makes few cycles of garbage.
_PROGRAM = """\
import gc
import sys
gc.disable()
folder, module, function, file = sys.argv[1:]
sys.path.append(folder)
__import__(module)
sys.exit(getattr(sys.modules[module], function)(file))
"""


def light_process(function: Callable[[str], int], file: Path) -> tuple[str, ...]:
    """The command of a process that imports a module's `function` and what that needs, calls it
    with the path of a file and exits with the status that it returns.
    """
    words = (_PARENT, function.__module__, function.__name__, str(file))
    return (sys.executable, "-I", "-S", "-c", _PROGRAM, *words)


def share_out(pieces: int, work: Callable[[int], str], *, forks: int) -> tuple[int, list[str]]:
    """Do the work of each piece in one of so many forks, in their order as far as can be.

    Returns 0 and what `work` returned for each, in any order; or the status of a fork that failed,
    as shells say that a signal ended it, and what that fork has printed: `work` may exit with a
    status of its own after it has printed why. Other forks may run on then, so the caller ends.
    """
    waiting, giving = os.pipe()
    os.set_blocking(giving, False)
    wanted = range(min(pieces, _MOST_TICKETS))
    tickets = os.write(giving, b"".join(each.to_bytes(_BYTES) for each in wanted)) // _BYTES
    os.close(giving)
    started = []
    for _ in range(max(1, min(forks, pieces))):
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.dup2(writing, sys.stdout.fileno())
            done: list[str] = []
            while taken := os.read(waiting, _BYTES):
                done += map(work, range(int.from_bytes(taken), pieces, tickets))
            # At once: of a pipe that is full the other end may not be read yet.
            print("\n".join(done), flush=True)
            os._exit(0)
        os.close(writing)
        started.append((pid, reading))
    os.close(waiting)
    lines: list[str] = []
    for pid, reading in started:
        with open(reading, encoding="utf-8") as pipe:
            printed = pipe.read().splitlines()
        if (status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) != 0:
            return status if status > 0 else 128 - status, printed
        lines += filter(None, printed)
    return 0, lines
