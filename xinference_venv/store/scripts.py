"""What of a shown host distribution lies outside the host's site directories: scripts, data.

The layer is of importable files. Console scripts are generated, since the host's own start the
host's interpreter; data files are linked. What the environment has itself stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from xinference_venv.host import HostDistribution, Interpreter
from xinference_venv.store.disk import Disk

# Finds the interpreter beside itself, whatever the directory is called (as uv writes them).
_SCRIPT = """\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
import sys
from {module} import {root}
sys.exit({attribute}())
"""


def add_scripts(disk: Disk, env: Path, shown: Iterable[HostDistribution]) -> None:
    """Generate the console scripts of inherited distributions."""
    for each in shown:
        for script in each.scripts:
            name, _, place = script.partition(" = ")
            module, _, attribute = place.partition(":")
            path = env / "bin" / name
            if "/" in name or not attribute or path.exists():
                continue
            text = _SCRIPT.format(
                module=module, root=attribute.partition(".")[0], attribute=attribute
            )
            disk.write(path, text.encode(), durable=False, mode=0o755)


def link_data_files(
    disk: Disk, env: Path, host: Interpreter, shown: Iterable[HostDistribution]
) -> None:
    """Link the data files of inherited distributions at their places."""
    prefix = Path(host.executable).parent.parent
    for each in shown:
        for name in each.data_files:
            path, source = env / name, prefix / name
            if not path.is_symlink() and not path.exists() and source.is_file():
                disk.swap_link(path, source)
