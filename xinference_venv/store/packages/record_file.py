"""The one reader of RECORD (PEP 376, PEP 627), as tolerant as pip and uv are.

Comes in: the text of a RECORD, or a location and the name of a metadata folder in it. Comes out:
a row for each file, and which files a distribution has, distinguished by whether they lie inside
the location. Rows may repeat, name directories, have no digest or no size or a wrong one,
hexadecimal digests, ``./`` in paths, CRLF at their ends: pip and uv install all of that.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from xinference_venv.store.envs.file_copies import is_shared_object
from xinference_venv.store.metadata_files import normalized_name
from xinference_venv.store.visit import open_regular, read_regular, read_text

if TYPE_CHECKING:
    from xinference_venv.planning.host import HostDistribution

# A part of a path that is empty, one dot or two: what makes it absolute or not in normal form.
_NOT_NORMAL = re.compile(r"(^|/)\.{0,2}(/|$)")
# With what a path begins that may be none, or be absolute or not in normal form; or with nothing.
_SELDOM_FIRST = frozenset({"", ".", "/", " ", "\t"})
# An editable project may lie in a folder with anything in it.
_WALKED_FILES = 20_000
# No system takes longer ones.
_MOST_PATH_LENGTH = 32_767
_CHUNK_BYTES = 1 << 20
_ALGORITHMS = frozenset({"md5", "sha1", "sha224", "sha256", "sha384", "sha512"})
_TO_QUOTE = re.compile(r'[,"\r\n]')
_MOST_DIGITS = 18


class RecordRow(NamedTuple):
    """One file: its path in normal form, relative to the folder of the metadata folder, its digest
    as in ``sha256=...`` (empty where there is none), its size in bytes where that is known.
    """

    path: str
    digest: str = ""
    size: int | None = None


# Rows


def parse_record(text: str) -> list[RecordRow]:
    """The rows of a RECORD's text, each path once: of several rows of one path the last counts.

    Rows without a path and rows of directories are left out. Raises `ValueError` for what is no
    CSV at all.
    """
    rows: dict[str, RecordRow] = {}
    for fields in _fields(text):
        # Some writers don't quote commas in paths.
        path = _path_of(fields[0] if len(fields) < 4 else ",".join(fields[:-2]))
        if path:
            digest, size = fields[-2:] if len(fields) > 2 else (*fields[1:], "", "")[:2]
            rows[path] = RecordRow(path, digest.strip(), _number(size.strip()))
    return list(rows.values())


def parse_paths(text: str) -> list[str]:
    """The paths of the same rows alone, which takes a third: a host has ten thousands."""
    if '"' in text:
        return [row.path for row in parse_record(text)]
    written = (line.rsplit(",", 2)[0] for line in _lines_in(text))
    return list(dict.fromkeys(filter(None, map(_path_of, written))))


def _path_of(written: str) -> str:
    """The path of a row in normal form; empty for a row that has none, or has a directory."""
    # Of ten thousands of paths, so what few have is sought without a pattern first.
    if (
        written[:1] not in _SELDOM_FIRST
        and "/." not in written
        and "//" not in written
        and written[-1] != "/"
        and len(written) <= _MOST_PATH_LENGTH
    ):
        return written
    if written.endswith("/") or not written.strip(" \t"):
        return ""
    if len(written) > _MOST_PATH_LENGTH:
        raise ValueError(f"a path has {len(written)} characters")
    return written if _NOT_NORMAL.search(written) is None else os.path.normpath(written)


def _number(text: str) -> int | None:
    is_number = text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS
    return int(text) if is_number else None


def format_record(rows: Iterable[RecordRow]) -> str:
    """The text of a RECORD with these rows."""
    return "".join(
        f"{_quoted(row.path)},{row.digest},{'' if row.size is None else row.size}\n" for row in rows
    )


def read_record(metadata: str | os.PathLike[str]) -> list[RecordRow]:
    """The rows of the RECORD in a metadata folder; raises `OSError`, or `ValueError` where it is
    no text or no CSV.
    """
    return parse_record(read_regular(os.path.join(metadata, "RECORD")).decode())


def written_paths(metadata: str | os.PathLike[str]) -> Iterator[str]:
    """The paths in a RECORD as they are written; none where it can't be read."""
    try:
        text = read_regular(os.path.join(metadata, "RECORD")).decode("utf-8", "surrogateescape")
        yield from (fields[0] for fields in _fields(text))
    except (OSError, ValueError):
        return


def recorded_bytes(metadata: str | os.PathLike[str]) -> int | None:
    """What the RECORD in a metadata folder says of the files' bytes, None where it says nothing."""
    try:
        sizes = [row.size for row in read_record(metadata)]
    except (OSError, ValueError):
        return None
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def metadata_name(folder: str) -> tuple[str, str]:
    """The normalized name and the version that a metadata folder's own name says."""
    name, _, version = folder.removesuffix(".dist-info").partition("-")
    return normalized_name(name), version


def _quoted(path: str) -> str:
    # The csv module writes a carriage return as it is, and ends a row there when it reads.
    escaped = path.replace('"', '""')
    return f'"{escaped}"' if _TO_QUOTE.search(path) else path


def _fields(text: str) -> Iterator[list[str]]:
    # Almost no RECORD quotes anything, and splitting is twice as fast as reading CSV.
    if '"' not in text:
        yield from (line.split(",") for line in _lines_in(text))
        return
    import csv

    try:
        yield from filter(None, csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _lines_in(text: str) -> Iterator[str]:
    return filter(None, text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


# Files


def go_on() -> None:
    """Let a look at many files go on."""


def check_row(
    row: RecordRow, directory: int, *, hashes: bool, pause: Callable[[], None]
) -> tuple[int | None, str]:
    """The size of a row's file below an open directory, None where it is missing, and what is
    wrong with it, empty where nothing is.

    Contents are read with `hashes`, and where the size is not the row's: wheels with wrong sizes
    install everywhere, so a digest that fits is enough. A digest that can't be compared is as
    good as none. `pause` is called again and again: it may wait, or end the look by an exception.
    """
    size = _size_at(row.path, directory)
    if size is None:
        return None, "is missing"
    other_size = row.size is not None and row.size != size
    if not (row.digest and (hashes or other_size)):
        return size, ""
    try:
        fits = _content_fits(row, directory, pause)
    except OSError as error:
        return size, f"can't be read: {error.strerror}"
    if fits:
        return size, ""
    if other_size:
        return size, f"has {size} bytes, its RECORD says {row.size}"
    return size, "has other content than its RECORD says"


def digest_fits(recorded: str, algorithm: str, digest: bytes) -> bool:
    """Whether a digest is the recorded one, in urlsafe base64 (PEP 427) or hexadecimal."""
    wanted = recorded.partition("=")[2].rstrip("=")
    encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return recorded.startswith(f"{algorithm}=") and wanted in (encoded, digest.hex())


def encode_digest(digest: bytes) -> str:
    """A sha256 as a RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _content_fits(row: RecordRow, directory: int, pause: Callable[[], None]) -> bool:
    algorithm, is_digest, _ = row.digest.partition("=")
    if not is_digest or algorithm not in _ALGORITHMS:
        return True
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(row.path, follow=False, directory=directory) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            pause()
    return digest_fits(row.digest, algorithm, digest.digest())


def _size_at(path: str, directory: int) -> int | None:
    """Size of a regular file below an open directory, None for anything else."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


# Distributions


@dataclass(frozen=True, kw_only=True, slots=True)
class FileList:
    """The files of a distribution: those `inside` its location as paths relative to it, those
    `outside` as absolute ones, in normal form.

    Where nothing is `recorded`, `inside` has the top-level modules and packages instead that go
    by its import names.
    """

    inside: tuple[str, ...]
    outside: tuple[str, ...] = ()
    recorded: bool


def read_file_list(location: str, name: str, metadata: str) -> FileList:
    """The files of a distribution, from its RECORD or older kinds of lists.

    Without any list the files can't be known; then its import names are taken from
    ``top_level.txt``, else from its own normalized name.
    """
    folder = os.path.join(location, metadata)
    paths = _recorded_paths(folder) or [
        os.path.normpath(os.path.join(metadata, line))
        for line in _lines(os.path.join(folder, "installed-files.txt"))
    ]
    if paths:
        return _split(os.path.normpath(location), paths)
    import_names = _lines(os.path.join(folder, "top_level.txt")) or [name.replace("-", "_")]
    return FileList(inside=tuple(_modules(location, import_names)), recorded=False)


def recorded_files(location: str, distribution: HostDistribution) -> list[str]:
    """A distribution's files inside a location, as `read_file_list` knows them."""
    return list(read_file_list(location, distribution.name, distribution.metadata).inside)


def shared_objects(location: str, files: FileList) -> list[str]:
    """The absolute paths of extension modules and shared libraries.

    Where nothing is recorded they are looked for below the distribution's packages.
    """
    location = os.path.normpath(location)
    if files.recorded:
        paths = [f"{location}/{path}" for path in files.inside if is_shared_object(path)]
        return [*paths, *(path for path in files.outside if is_shared_object(path))]
    below = (path for entry in files.inside for path in _walk(f"{location}/{entry}"))
    return [path for path in islice(below, _WALKED_FILES) if is_shared_object(path)]


def _recorded_paths(folder: str) -> list[str]:
    try:
        # Names of files need not be text: what comes out is what the system takes.
        text = read_regular(os.path.join(folder, "RECORD")).decode("utf-8", "surrogateescape")
        return parse_paths(text)
    except (OSError, ValueError):
        return []


def _split(location: str, paths: Iterable[str]) -> FileList:
    """The files of paths in normal form."""
    inside, outside = [], []
    for path in paths:
        if path[0] not in "./":
            inside.append(path)
            continue
        absolute = os.path.normpath(os.path.join(location, path))
        if absolute.startswith(f"{location}/"):
            inside.append(absolute[len(location) + 1 :])
        elif absolute != location:
            outside.append(absolute)
    return FileList(inside=tuple(inside), outside=tuple(outside), recorded=True)


def _modules(location: str, import_names: Iterable[str]) -> Iterator[str]:
    names = set(import_names)
    try:
        entries = sorted(os.listdir(location))
    except OSError:
        return
    for entry in entries:
        stem, _, kind = entry.partition(".")
        if entry in names or (stem in names and kind.endswith(("py", "so", "pyd"))):
            yield entry


def _walk(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _lines(file: str) -> list[str]:
    """The lines of a file list that are not blank; none where the list is missing."""
    try:
        lines = read_text(file, errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()]
