"""Who this process is, and where it may write: home, uv's cache, temporary files, sockets.

Comes in: the variables of a process. Comes out: `Places`, or an error that names the variable to
set. Every command decides it here, so that all of them mean the same folders: in a container a
user may have no entry in the list of users, no home directory, a ``HOME`` that is ``/`` or may
not be written to, a ``TMPDIR`` that is missing or too long for a socket.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidInput, StoreError
from xinference_venv.sentences import sentence
from xinference_venv.settings import Settings
from xinference_venv.store.atomic import Disk
from xinference_venv.store.file_system import kept_file_system, try_file_system
from xinference_venv.store.host_files import (
    SHARED_MEMORY,
    may_write,
    nearest_existing,
    same_file_system,
)
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.visit import open_regular

NO_HOME = "/nonexistent"
"""The home directory of who has none, as Debian calls it: nothing is read or written there."""
SOCKET_VARIABLE = "XOSCAR_DIR"
_TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")
_TEMPORARY_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108 (as `tempfile` has them)
# The longest path of a unix socket, with its end: sun_path of <sys/un.h>.
_SOCKET_PATH = 108 if sys.platform == "linux" else 104
# What xoscar adds to its folder for a socket: xoscar/constants.py, backends/.../socket.py.
_SOCKET_NAME = len("/.xoscar/socket/") + 32 + 1
SOCKET_FOLDER_BYTES = _SOCKET_PATH - _SOCKET_NAME
"""So long the path of the folder may be that `SOCKET_VARIABLE` names, in bytes."""
_PREFIX = "xv-"
# The file that a process locks as long as it uses the folder.
_HELD = "held"
# So long after it was made a folder is not swept: its process may not have locked it yet.
_BEING_MADE_SECONDS = 60.0
# What `tempfile.mkdtemp` adds to a folder: a slash, our prefix and eight characters.
_PRIVATE_NAME = 1 + len(_PREFIX) + 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The settings of a process, and the folders that it uses; all paths are absolute."""

    settings: Settings
    user_home: str
    """Where the user's own configuration lies; `NO_HOME` for a user without one."""
    uv_cache: str
    """As configured, else uv's own if its files can be linked to environments, or if those of
    no cache can, else a folder of the store."""
    temporary: str
    """Where uv and builds put temporary files."""

    @property
    def root(self) -> Path:
        """The folder that the store lives under."""
        return Path(self.settings.virtualenv_dir)


def find_places(environ: Mapping[str, str]) -> Places:
    """The places of a process with these variables; looks at the disk and leaves nothing there.

    Raises `InvalidInput`, naming the variable that is wrong or has to be set.
    """
    return places_with(read_settings(environ), environ)


def places_with(settings: Settings, environ: Mapping[str, str]) -> Places:
    """The same for settings that were read already."""
    root = Path(settings.virtualenv_dir)
    return Places(
        settings=settings,
        user_home=user_home(environ),
        uv_cache=_uv_cache(settings, environ),
        temporary=temporary_folder(environ) or str(StorePaths(root).temporary),
    )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings; raises `InvalidInput`, also for a user that has no place for a home."""
    settings = Settings.from_environ(environ, home_directory=_writable_home(environ))
    # PATH can't name such a folder: the host's programs would run in place of an environment's.
    # `venv` refuses it as well: https://github.com/python/cpython/pull/24530
    if os.pathsep in os.path.realpath(settings.virtualenv_dir):
        raise InvalidInput(
            sentence(
                "The home {home} has a colon in its path, which separates the folders of PATH:"
                " no program of an environment would be found",
                home=quoted(settings.home, 200),
            ),
            {
                "hint": sentence("Let XINFERENCE_HOME name a folder without a colon in its path."),
                "variable": "XINFERENCE_HOME",
            },
        )
    return settings


def user_home(environ: Mapping[str, str]) -> str:
    """The home directory by ``HOME``, else by the list of users, else `NO_HOME`.

    `Path.home` raises for who has neither, as with ``docker run --user 54321``.
    """
    named = environ.get("HOME", "")
    if named.startswith("/"):
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_dir or NO_HOME
    except KeyError:
        return NO_HOME


def _writable_home(environ: Mapping[str, str]) -> str | None:
    """The home directory, if there is or can be a home of ours in it."""
    home = user_home(environ)
    if os.path.lexists(os.path.join(home, ".xinference")):
        return home
    # OpenShift and ``docker run --user`` give a user without entry the root as home directory.
    return home if os.path.isdir(home) and may_write(home) else None


def temporary_folder(environ: Mapping[str, str]) -> str | None:
    """The first folder for temporary files that is there and may be written to, or None.

    The order is that of `tempfile`, without its last resort, the working directory.
    """
    return next(filter(may_write, _temporary_folders(environ)), None)


def _temporary_folders(environ: Mapping[str, str]) -> list[str]:
    named = [environ.get(name, "") for name in _TEMPORARY_VARIABLES]
    return [each for each in (*named, *_TEMPORARY_FOLDERS) if each.startswith("/")]


def _uv_cache(settings: Settings, environ: Mapping[str, str]) -> str:
    """Across file systems uv silently copies every file instead of linking it.

    The cache of another user, as root has one that runs ``sudo`` with the user's ``HOME``, is
    not touched: what root writes there, the user could not replace any more.
    """
    if settings.uv_cache_dir is not None:
        return settings.uv_cache_dir
    root = Path(settings.virtualenv_dir)
    default = Path(environ.get("XDG_CACHE_HOME") or Path(user_home(environ), ".cache"), "uv")
    if _is_ours(default) and (same_file_system(default, root) or not _shares_files(root)):
        return str(default)
    ours = StorePaths(root).uv_cache
    return f"{ours}-{os.geteuid()}" if _is_anothers(ours) else str(ours)


def _shares_files(root: Path) -> bool:
    """Whether files of a cache next to the environments could be linked into these.

    A file system without links (sshfs, object stores) mostly has nothing that uv's locks are made
    by either, and is a slow place for a cache.
    """
    try:
        tried = kept_file_system(StorePaths(root).store, Disk())
        return (tried or try_file_system(nearest_existing(root))).shares_files
    except OSError:
        return True


def _is_ours(folder: Path) -> bool:
    """Whether a folder is of this user and may be written to, or can be made so."""
    place = nearest_existing(folder)
    return may_write(str(place)) and (
        (place != folder and os.geteuid() != 0) or not _is_anothers(place)
    )


def _is_anothers(folder: Path) -> bool:
    """Whether a folder is there, and of another user."""
    return os.path.exists(folder) and folder.stat().st_uid != os.geteuid()


@contextmanager
def socket_folder(environ: Mapping[str, str]) -> Iterator[str]:
    """A private folder for the sockets between this host's processes, deleted at the end.

    A folder that `SOCKET_VARIABLE` names is taken as it is. Raises `InvalidInput` for one that
    can't be used, `StoreError` when there is no place for one of our own.
    """
    named = environ.get(SOCKET_VARIABLE)
    if named:
        if (fault := socket_folder_fault(named)) is not None:
            raise InvalidInput(
                sentence(
                    "{socket_variable} names {named}: {fault}",
                    socket_variable=SOCKET_VARIABLE,
                    named=named,
                    fault=fault,
                ),
                {"hint": _SOCKET_HINT, "variable": SOCKET_VARIABLE},
            )
        yield named
        return
    import tempfile

    place = _place_for_sockets(environ)
    _sweep_sockets(place)
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    try:
        with open(os.path.join(folder, _HELD), "xb") as held:
            # The system releases it when this process dies, however that is.
            fcntl.flock(held, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep_sockets(place: str) -> None:
    """Delete the folders for sockets that dead processes of this user left in a place."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                _sweep_folder(entry)


def _sweep_folder(entry: os.DirEntry[str]) -> None:
    with suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return
        if time.time() - found.st_mtime < _BEING_MADE_SECONDS:
            return
        with open_regular(os.path.join(entry.path, _HELD)) as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)


_SOCKET_HINT = sentence(
    "let {socket_variable} name a folder that this user may write to, of at"
    " most {socket_folder_bytes} bytes, for every process of the cluster",
    socket_variable=SOCKET_VARIABLE,
    socket_folder_bytes=SOCKET_FOLDER_BYTES,
)


def socket_folder_fault(folder: str) -> str | None:
    """Why sockets can't lie in a folder, or None when they can."""
    if len(os.fsencode(folder)) > SOCKET_FOLDER_BYTES:
        return "its path is too long for that of a socket"
    if not may_write(str(nearest_existing(Path(folder)))):
        return "this user may not write there"
    return None


def _place_for_sockets(environ: Mapping[str, str]) -> str:
    # XDG_RUNTIME_DIR goes away when its user logs out, so it is not the first.
    more = (environ.get("XDG_RUNTIME_DIR", ""), SHARED_MEMORY, user_home(environ))
    candidates = [each for each in (*_temporary_folders(environ), *more) if each]
    candidates.append(environ.get("XINFERENCE_HOME", ""))
    for each in candidates:
        fits = len(os.fsencode(each)) + _PRIVATE_NAME <= SOCKET_FOLDER_BYTES
        if fits and may_write(each):
            return each
    raise StoreError(
        sentence(
            "there is no folder for the sockets between this host's processes: none"
            " of {folders} may be written to and is short enough",
            folders=", ".join(dict.fromkeys(filter(None, candidates))),
        ),
        {"hint": _SOCKET_HINT},
    )
