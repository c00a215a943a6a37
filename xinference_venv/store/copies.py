"""Copies of files and directories with their modes, and with their times where these can be set.

Some mounts refuse to set times. Bytecode that was made for an original is then made again for its
copy.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file, or what a link leads to; raises `OSError`, also for what is no file."""
    shutil.copyfile(source, target)
    keep_mode_and_times(source, target)


def copy_tree(source: str | Path, target: str | Path) -> None:
    """Copy a directory to where there is nothing, links as links; raises `OSError`."""
    os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in entries:
            place = os.path.join(target, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)
            elif entry.is_dir():
                copy_tree(entry.path, place)
            else:
                copy_file(entry.path, place)
    keep_mode_and_times(source, target)


def keep_mode_and_times(source: str | Path, target: str | Path) -> None:
    """Give a copy the mode of its original, and the times if possible; raises `OSError`."""
    shutil.copymode(source, target)
    found = os.stat(source)
    with suppress(OSError):
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
