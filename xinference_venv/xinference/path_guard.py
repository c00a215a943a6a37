"""The guard of an environment: its interpreter sees the host through the layer alone.

Whoever uses the environment writes a ``.pth`` file of their own into it that adds the host's
site-packages, and with it all that the layer hides. ``.pth`` files run in the order of their
names: the guard's first one has the host's folders left out from then on, its last one, just
before that of the layer, takes out what came in all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from xinference_venv.store.atomic import Disk

_MODULE = "_xinference_venv_guard"
_FIRST = "00-xinference-venv-guard.pth"
_LAST = "zzzy-xinference-venv-guard.pth"
GUARD_NAMES = frozenset({f"{_MODULE}.py", _FIRST, _LAST})

_SOURCE = '''\
"""Written by xinference_venv: shows the host's packages through ``inherited/`` alone."""

import os
import site
import sys

HOST = frozenset({host!r})

_addsitedir = site.addsitedir


def begin():
    """Leave out the host's own folders, and the .pth files in them, from now on."""

    def addsitedir(sitedir, known_paths=None):
        if os.path.realpath(sitedir) in HOST:
            return known_paths
        return _addsitedir(sitedir, known_paths)

    site.addsitedir = addsitedir


def end():
    """Take out those that came in as plain paths."""
    site.addsitedir = _addsitedir
    sys.path[:] = [path for path in sys.path if not path or os.path.realpath(path) not in HOST]
'''


def write_guard(disk: Disk, site_packages: Path, search_path: Iterable[str]) -> None:
    """Let an environment leave out the entries of the host's search path."""
    host = sorted({os.path.realpath(entry) for entry in search_path})
    disk.write(site_packages / f"{_MODULE}.py", _SOURCE.format(host=host).encode(), durable=False)
    for name, step in ((_FIRST, "begin"), (_LAST, "end")):
        line = f"import {_MODULE}; {_MODULE}.{step}()\n"
        disk.write(site_packages / name, line.encode(), durable=False)
