"""Files of a private folder: a path and content come in, a file or an error with its path out."""

from __future__ import annotations

from pathlib import Path


def write_private_file(path: Path, content: bytes) -> None:
    """Write a file of a folder that is not published yet; an `OSError` has its path.

    One of open(2) has it; one of write(2), as on a full disk, does not.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
