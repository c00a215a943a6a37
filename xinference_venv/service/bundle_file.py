"""Bundles as files of users, anywhere on the disk: read in parts, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from xinference_venv.errors import InvalidInput, StoreError
from xinference_venv.store.atomic import store_error
from xinference_venv.store.visit import open_regular

PART_BYTES = 4 << 20


@dataclass(kw_only=True)
class BundleWriter:
    """A bundle that is being written; `size` bytes so far."""

    file: BinaryIO
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        digest: str = self._hash.hexdigest()
        return digest

    def write(self, data: bytes) -> None:
        """Add to its end; raises `StoreError`."""
        try:
            self.file.write(data)
        except OSError as error:
            raise store_error(error) from error
        self._hash.update(data)
        self.size += len(data)


@contextmanager
def writing_bundle(path: Path) -> Iterator[BundleWriter]:
    """A bundle to write; it gets its name, in the place of an earlier one, when all went well.

    Raises `InvalidInput` for a path that can't be such a file's, `StoreError`.
    """
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is no file that could be replaced")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}")
    name = path.with_name(f".xinference-venv-{secrets.token_hex(8)}")
    try:
        number = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise store_error(error) from error
    try:
        with os.fdopen(number, "wb") as file:
            yield BundleWriter(file=file)
            try:
                file.flush()
                os.fsync(file.fileno())
                os.replace(name, path)
            except OSError as error:
                raise store_error(error) from error
    finally:
        with suppress(OSError):
            os.unlink(name)


def open_bundle(path: Path) -> BinaryIO:
    """A bundle to read; raises `InvalidInput` for what is no regular file, `StoreError`."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}") from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is no regular file") from None
    except OSError as error:
        raise store_error(error) from error


def next_part(file: BinaryIO) -> bytes:
    """The next bytes of a bundle, none at its end; raises `StoreError`."""
    try:
        return file.read(PART_BYTES)
    except OSError as error:
        raise StoreError(f"the bundle can't be read: {error.strerror}") from error
