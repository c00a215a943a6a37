"""The guard of an environment: its interpreter sees the host through the layer alone.

Whoever uses the environment writes a ``.pth`` file of their own into it that adds the host's
site-packages, and with it all that the layer hides. ``.pth`` files run in the order of their
names: the guard's first one has the host's folders left out from then on, its last one, just
before that of the layer, takes out what came in all the same.

It also knows which copies of the host's those of the environment replace: Xinference takes a copy
out of an environment (``uv pip uninstall``), and expects the host's to be seen then.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from xinference_venv.errors import StoreError
from xinference_venv.planning.host import HostDistribution
from xinference_venv.store.atomic import Disk, details_of
from xinference_venv.store.paths import LAYER_NAME

_MODULE = "_xinference_venv_guard"
_FIRST = "00-xinference-venv-guard.pth"
_LAST = "zzzy-xinference-venv-guard.pth"
_REPLACED = "replaced"
GUARD_NAMES = frozenset({f"{_MODULE}.py", _FIRST, _LAST})

_SOURCE = '''\
"""Written by xinference_venv: shows the host's packages through ``inherited/`` alone."""

import os
import site
import sys

HOST = frozenset({host!r})
# The host's copies that show again when the environment's own metadata is gone.
REPLACED = {replaced!r}

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
    here = os.path.dirname(os.path.abspath(__file__))
    for metadata, name in REPLACED.items():
        if not os.path.isdir(os.path.join(here, metadata)):
            sys.path.append(os.path.join(sys.prefix, {layer!r}, {folder!r}, name))
'''


def write_guard(
    disk: Disk, site_packages: Path, search_path: Iterable[str], replaced: dict[str, str]
) -> None:
    """Let an environment leave out the entries of the host's search path.

    `replaced` is what `link_replaced` gave.
    """
    host = sorted({os.path.realpath(entry) for entry in search_path})
    source = _SOURCE.format(host=host, replaced=replaced, layer=LAYER_NAME, folder=_REPLACED)
    disk.write(site_packages / f"{_MODULE}.py", source.encode(), durable=False)
    for name, step in ((_FIRST, "begin"), (_LAST, "end")):
        line = f"import {_MODULE}; {_MODULE}.{step}()\n"
        disk.write(site_packages / name, line.encode(), durable=False)


def link_replaced(
    disk: Disk,
    env: Path,
    own: Mapping[str, str],
    host: Iterable[HostDistribution],
) -> dict[str, str]:
    """Link the host's copies of what an environment has itself, to be shown should that go.

    `own` are the names of its distributions by their metadata folders. Gives for each of these
    folders the name under which the links lie. Left out is what shares a name in the host's folder
    with others: it would bring these along.
    """
    every = tuple(host)
    owners = Counter((each.location, entry) for each in every for entry in each.entries)
    by_name = {each.name: each for each in every}
    linked = {}
    for metadata, own_name in own.items():
        copy = by_name.get(own_name)
        if copy is None or not copy.entries:
            continue
        names = {*copy.entries, copy.metadata} - {"__pycache__"}
        if any(owners[copy.location, name] > 1 for name in names):
            continue
        folder = env / LAYER_NAME / _REPLACED / own_name
        try:
            disk.make_directory(folder)
            for name in names:
                os.symlink(os.path.join(copy.location, name), folder / name)
        except OSError as error:
            message = f"could not link the host's packages: {error}"
            raise StoreError(message, details_of(error, env)) from error
        linked[metadata] = own_name
    return linked
