"""``python -m xinference_venv.xinference COMMAND ...``: a command of Xinference with our managers.

COMMAND is a console script of an installed distribution, like ``xinference-local``.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

from xinference_venv.store.drop_in import EXTENSIONS_VARIABLE
from xinference_venv.xinference.extension import with_extension
from xinference_venv.xinference.manager import install

_USAGE = "usage: python -m xinference_venv.xinference COMMAND [ARGUMENTS]"


def main() -> None:
    """Run the command in this process; every process that it starts has our managers too."""
    if len(sys.argv) < 2:
        sys.exit(f"{_USAGE}\nfor example: python -m xinference_venv.xinference xinference-local")
    name = sys.argv[1]
    found = entry_points(group="console_scripts", name=name)
    if not found:
        sys.exit(f"{_USAGE}\nno installed distribution has the console script {name!r}")
    os.environ[EXTENSIONS_VARIABLE] = with_extension(os.environ.get(EXTENSIONS_VARIABLE, ""))
    install()
    sys.argv = sys.argv[1:]
    [script, *_] = found
    sys.exit(script.load()())


if __name__ == "__main__":
    main()
