"""The small program of an environment that a model process is started through.

A sub pool is started with ``-m``, so the worker's working directory and ``PYTHONPATH`` would
come first, and its environment can only be added to. The launcher takes away what must not
reach a model and puts the environment's own variables in place; then it becomes the interpreter.
"""

from __future__ import annotations

from pathlib import Path

from xinference_venv.planning.host import Interpreter
from xinference_venv.store.atomic import Disk

LAUNCHER_NAME = "xinference-venv-python"
# Further names that the launcher unsets, given by whoever starts the process.
UNSET_VARIABLE = "XINFERENCE_VENV_UNSET"

_SCRIPT = """\
#!/bin/sh
# Starts this environment's interpreter for a model process.
here=${{0%/*}}
# A process that changes its folder still finds what these variables name.
case $here in /*) ;; *) here=$PWD/$here ;; esac
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONEXECUTABLE __PYVENV_LAUNCHER__
unset ${unset} {unset}
export VIRTUAL_ENV="${{here%/bin}}"
export PATH="$here:$PATH"
# Compiled code that numba would write next to modules, which other environments see too.
: "${{NUMBA_CACHE_DIR:=$VIRTUAL_ENV/cache/numba}}"
export NUMBA_CACHE_DIR
{start}
"""


def launcher_script(interpreter: Interpreter) -> str:
    """The launcher for an interpreter; it finds its environment by its own place."""
    major, minor = (int(part) for part in interpreter.version.split(".")[:2])
    # Before 3.11 there is no -P; the folder of scripts has no modules to find.
    safe = 'exec "$here/python" -P "$@"'
    older = 'cd "$here" && exec "$here/python" "$@"'
    return _SCRIPT.format(unset=UNSET_VARIABLE, start=safe if (major, minor) >= (3, 11) else older)


def write_launcher(disk: Disk, env: Path, interpreter: Interpreter) -> None:
    """Write the launcher into an environment."""
    script = launcher_script(interpreter).encode()
    disk.write(env / "bin" / LAUNCHER_NAME, script, durable=False, mode=0o755)
