"""The one way to visit many items of a store: what can't be visited is kept, all else goes on.

Comes in: paths, and what is done with each. Comes out: what could be done, and `SkippedItem` for
what could not: another user's file, an immutable one, a folder without permission, a loop of
links, a device. Listing, sweeping, collecting, verifying and reading records go through here, so
that one odd item never stops the others, and none is skipped without a word.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from xinference_venv.errors import DeadlineExceeded, InvalidRecord, StoreError
from xinference_venv.inventory.skipped import SkippedItem

_KEPT = 1000


class SkippedItems:
    """What could not be visited when it was last tried, by path; may be shared by threads."""

    def __init__(self) -> None:
        # By path: the reason, and which of all that were kept it is.
        self._found: dict[str, tuple[str, int]] = {}
        self._numbers = itertools.count()

    @contextmanager
    def visiting(self, path: str | Path) -> Iterator[None]:
        """Do something with an item; when the system refuses it, that is kept, and not raised.

        An item that is gone is none. What went well forgets what was kept of the item.
        """
        before = self._found.get(str(path))
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, StoreError, InvalidRecord, DeadlineExceeded) as error:
            self.keep(path, error)
        # What was kept of it meanwhile counts.
        if before is not None and self._found.get(str(path)) == before:
            self._found.pop(str(path), None)

    def keep(self, path: str | Path, error: Exception) -> None:
        """Keep that an item could not be visited; of very many the first are kept."""
        if len(self._found) >= _KEPT:
            # In the months that a worker runs much of it is gone.
            for each in [*self._found]:
                if not _may_be_there(each):
                    self._found.pop(each, None)
        if len(self._found) < _KEPT:
            reason = getattr(error, "strerror", None) or str(error)
            self._found[str(path)] = (reason, next(self._numbers))

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """The entries of a folder by name; none of one that can't be read, which is kept."""
        found: list[os.DirEntry[str]] = []
        with self.visiting(folder), os.scandir(folder) as entries:
            found.extend(sorted(entries, key=lambda entry: entry.name))
        return found

    def names(self, folder: str | Path) -> list[str]:
        """The names in a folder, sorted; none of one that can't be read, which is kept."""
        found: list[str] = []
        with self.visiting(folder):
            found.extend(sorted(os.listdir(folder)))
        return found

    def all(self) -> list[SkippedItem]:
        """What is there still, by path."""
        return [
            SkippedItem(path=path, reason=reason)
            for path, (reason, _) in sorted(self._found.items())
            if _may_be_there(path)
        ]


def _may_be_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def open_regular(
    path: str | os.PathLike[str], *, follow: bool = True, directory: int | None = None
) -> BufferedReader:
    """Open a regular file for reading; raises `OSError`, also for what is none.

    To open a pipe would wait for another process to write into it, a device may never end. What is
    a link is refused unless `follow`; `directory` is what a relative path begins at.
    """
    # Opened so that nothing waits, whatever it is; a terminal does not become ours.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    opened = os.open(path, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise IsADirectoryError(errno.EISDIR, "it is not a regular file", str(path))
    return os.fdopen(opened, "rb")


def read_regular(path: str | os.PathLike[str], *, follow: bool = True) -> bytes:
    """The content of a regular file; raises `OSError` like `open_regular`."""
    with open_regular(path, follow=follow) as file:
        return file.read()


def read_text(path: str | os.PathLike[str], *, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8; raises `OSError` like `open_regular`."""
    with TextIOWrapper(open_regular(path), encoding="utf-8", errors=errors) as file:
        return file.read()
