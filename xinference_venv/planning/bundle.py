"""An environment in one file: its lock with the wheels, to carry to where no index is.

The format, version 1, is a plain tar archive (POSIX ustar; pax headers for names over 100 bytes):

1. ``bundle.json``, first: the `Bundle` as JSON, with the request, the lock, and the name, size and
   sha256 of every file that follows;
2. ``pylock.toml`` (PEP 751), which names the wheels by their paths in the archive, so that any
   installer can use the unpacked archive; it is not read back;
3. ``wheels/FILE``, each wheel as it came, and two blocks of zeros.

Pure: bytes go in and out as they come, and no file is held. Whether a lock serves on another host
is decided here too.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xinference_venv._util.humanize import quoted
from xinference_venv._util.records import Record
from xinference_venv._util.redact import redact_url
from xinference_venv.errors import InvalidInput, InvalidRecord, VerificationFailed
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pylock import pylock_of
from xinference_venv.planning.relay import is_wheel
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import EnvSpec

MANIFEST = "bundle.json"
PYLOCK = "pylock.toml"
WHEELS = "wheels/"
FORMAT = "xinference-venv environment bundle"
MAX_MANIFEST_BYTES = 64 << 20
MAX_FILES = 10_000
BLOCK = 512
END = bytes(2 * BLOCK)
_MAX_PAX_BYTES = 64 << 10
_SHA256 = re.compile("[0-9a-f]{64}")
_OCTAL = re.compile(b"[0-7]+")
_CHECKSUM = slice(148, 156)


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile(Record, name="file of a bundle"):
    """A file of the archive: its path there, its size in bytes, and its sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand(Record, name="demand of a bundle"):
    """What the lock answers: what a launch asks for, credentials left out."""

    requirements: tuple[str, ...]
    roots: tuple[str, ...]
    constraints: tuple[str, ...]
    overrides: tuple[str, ...]
    excludes: tuple[str, ...]
    inherit: str
    skip_installed: bool

    @classmethod
    def of(cls, spec: EnvSpec) -> Demand:
        """Of what a launch means on a host."""
        return cls(
            requirements=tuple(sorted(redact_url(line.text) for line in spec.requirements)),
            roots=tuple(sorted(spec.roots)),
            constraints=tuple(sorted(spec.constraints)),
            overrides=tuple(sorted(spec.overrides)),
            excludes=tuple(sorted(spec.excludes)),
            inherit=spec.inherit.value,
            skip_installed=spec.skip_installed,
        )


@dataclass(frozen=True, kw_only=True)
class Bundle(Record, name="environment bundle", version=1):
    """What an archive holds; `interpreter` is without the paths of the host that wrote it."""

    format: str = FORMAT
    created_by: str
    request: LaunchRequest
    interpreter: Interpreter
    demand: Demand
    lock: EnvLock
    files: tuple[BundleFile, ...]

    @property
    def wheels(self) -> dict[str, BundleFile]:
        """The file of each package of the lock, by the package's name."""
        by_hash = {each.sha256: each for each in self.files if each.path.startswith(WHEELS)}
        return {each["name"]: by_hash[sha256_of(each)] for each in self.lock.packages}

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(each.size for each in self.files)

    def check_record(self) -> None:
        """Refuse what is of another format, has unsafe or double names, or lacks a wheel."""
        if self.format != FORMAT:
            raise InvalidRecord(f"{self.record_name}: its format is {quoted(self.format)}")
        if len(self.files) > MAX_FILES:
            raise InvalidRecord(f"{self.record_name}: it has more than {MAX_FILES} files")
        for each in self.files:
            name = each.path.removeprefix(WHEELS)
            if each.path != PYLOCK and not (each.path != name and is_wheel(name)):
                raise InvalidRecord(
                    f"{self.record_name}: {quoted(each.path)} is no name that a file of it may have"
                )
            if each.size < 0 or not _SHA256.fullmatch(each.sha256):
                raise InvalidRecord(f"{self.record_name}: {each.path} has no size or no sha256")
        if len({each.path for each in self.files}) < len(self.files):
            raise InvalidRecord(f"{self.record_name}: it has two files of one name")
        there = {each.sha256 for each in self.files}
        missing = [each["name"] for each in self.lock.packages if sha256_of(each) not in there]
        if missing:
            raise InvalidRecord(
                f"{self.record_name}: it has no wheel with the lock's hash of {', '.join(missing)}"
            )


def wheel_table(package: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The PEP 751 table of the wheel that a package of a lock is installed from."""
    files = [*package.get("wheels", []), *filter(None, [package.get("archive")])]
    return files[0] if files else None


def sha256_of(package: Mapping[str, Any]) -> str:
    """The sha256 that a lock has of a package's wheel; empty where it has none."""
    return str(((wheel_table(package) or {}).get("hashes") or {}).get("sha256", ""))


def pylock_in_bundle(lock: EnvLock, paths: Mapping[str, str]) -> dict[str, Any]:
    """The PEP 751 document whose packages, by name, are the wheels at these paths."""
    packages = []
    for package in lock.packages:
        table = wheel_table(package) or {}
        kept = {key: table[key] for key in ("size", "hashes") if key in table}
        wheel = {"path": paths[package["name"]], **kept}
        named = {key: package[key] for key in ("name", "version") if key in package}
        packages.append({**named, "wheels": [wheel]})
    return pylock_of(packages)


def without_paths(interpreter: Interpreter) -> Interpreter:
    """The same without what only its own host knows."""
    return replace(interpreter, executable="", base_executable="", search_path=())


# The archive


def tar_header(path: str, size: int) -> bytes:
    """What stands before a file of an archive; the same for equal files."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """What stands behind a file of an archive."""
    return bytes(-size % BLOCK)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileBegan:
    """A file of an archive begins; its bytes come next."""

    path: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEnded:
    """The file has ended."""


@dataclass(kw_only=True)
class TarReader:
    """Reads an archive as it comes, and holds no more than a header of it.

    Names mean nothing to it: what they may be is for the caller. `ended` once it is whole.
    """

    ended: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _left: int = 0
    """So many bytes of a file are still to come,"""
    _skipped: int = 0
    """so many behind it that fill a block,"""
    _pax: int = 0
    """or so many of a pax header."""
    _path: str | None = None

    def feed(self, data: bytes) -> Iterator[FileBegan | bytes | FileEnded]:
        """What comes to light with the next bytes.

        Raises `InvalidInput` for what is no archive, or holds anything but regular files.
        """
        self._buffer += data
        while not self.ended:
            if self._left:
                if not self._buffer:
                    return
                part = self._take(min(self._left, len(self._buffer)))
                self._left -= len(part)
                yield part
                if not self._left:
                    yield FileEnded()
                continue
            needed = self._pax + -self._pax % BLOCK if self._pax else self._skipped + BLOCK
            if len(self._buffer) < needed:
                return
            taken = self._take(needed)
            if self._pax:
                self._path, self._pax = _path_of_pax(taken[: self._pax]), 0
                continue
            block, self._skipped = taken[self._skipped :], 0
            if not any(block):
                self.ended = True
            else:
                yield from self._header(block)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _header(self, block: bytes) -> Iterator[FileBegan | FileEnded]:
        blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
        if _number(block[_CHECKSUM]) != sum(blank):
            raise InvalidInput("it is no bundle, or it is damaged: there is no header of a file")
        kind, size = block[156:157], _number(block[124:136])
        if kind == b"x" and size <= _MAX_PAX_BYTES and self._path is None:
            self._pax = size
            return
        if kind not in (b"0", b"\0"):
            raise InvalidInput(f"it holds something that is no regular file (type {kind!r})")
        path, self._path = self._path or _text(block[:100]), None
        if prefix := _text(block[345:500]):
            path = f"{prefix}/{path}"
        self._left, self._skipped = size, -size % BLOCK
        yield FileBegan(path=path, size=size)
        if not size:
            yield FileEnded()


def _number(octal: bytes) -> int:
    # `int` takes signs too, and of a size below zero no end would come.
    digits = octal.strip(b"\0 ")
    if not _OCTAL.fullmatch(digits):
        raise InvalidInput("it is no bundle, or it is damaged: a number is none")
    return int(digits, 8)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="backslashreplace")


def _path_of_pax(records: bytes) -> str:
    """The path that a pax header gives to the next file; all else that it may say is refused."""
    length, _, rest = records.partition(b" ")
    key, _, value = rest.partition(b"=")
    if length != str(len(records)).encode() or key != b"path" or value[-1:] != b"\n":
        raise InvalidInput("it holds a header of a file that no bundle has")
    return _text(value[:-1])


@dataclass(kw_only=True)
class BundleReader:
    """Reads a bundle as it comes, and checks all of it.

    `bundle` is known once the first file has come.
    """

    bundle: Bundle | None = None
    _tar: TarReader = field(default_factory=TarReader)
    _manifest: bytearray = field(default_factory=bytearray)
    _missing: dict[str, BundleFile] = field(default_factory=dict)
    _file: BundleFile | None = None
    _hash: Any = None

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The parts of files that come to light, each with its path in the archive.

        Raises `InvalidInput` for what is no bundle, `VerificationFailed` for a file with another
        hash than it says.
        """
        for each in self._tar.feed(data):
            if isinstance(each, FileBegan):
                self._begin(each)
            elif isinstance(each, FileEnded):
                self._end()
            elif self._file is None:
                self._manifest += each
            else:
                self._hash.update(each)
                yield self._file.path, each

    def check_whole(self) -> Bundle:
        """What came; raises `InvalidInput` where something is missing."""
        if self.bundle is None or self._missing or not self._tar.ended:
            missing = ", ".join([*self._missing][:3]) or "its end"
            raise InvalidInput(
                f"the bundle is cut off: it lacks {missing if self.bundle else MANIFEST}",
                {"hint": "copy it again, and compare the sha256 that its export printed"},
            )
        return self.bundle

    def _begin(self, began: FileBegan) -> None:
        if self.bundle is None:
            if began.path != MANIFEST:
                raise InvalidInput(f"it is no bundle: it does not begin with {MANIFEST}")
            if began.size > MAX_MANIFEST_BYTES:
                raise InvalidInput(f"its {MANIFEST} has {began.size} bytes, which is too large")
            return
        self._file = self._missing.pop(began.path, None)
        if self._file is None:
            raise InvalidInput(f"it has a file {quoted(began.path)} that its {MANIFEST} has not")
        if self._file.size != began.size:
            raise InvalidInput(
                f"{began.path} has {began.size} bytes, and its {MANIFEST} says {self._file.size}"
            )
        self._hash = hashlib.sha256()

    def _end(self) -> None:
        if self._file is None:
            self.bundle = _manifest_of(bytes(self._manifest))
            self._missing = {each.path: each for each in self.bundle.files}
            return
        file, self._file = self._file, None
        if self._hash.hexdigest() != file.sha256:
            raise VerificationFailed(
                f"{file.path} of the bundle has sha256 {self._hash.hexdigest()}, and its {MANIFEST}"
                f" says {file.sha256}",
                {"hint": "copy it again, and compare the sha256 that its export printed"},
            )


def _manifest_of(content: bytes) -> Bundle:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"its {MANIFEST} is no JSON: {error}") from None
    return Bundle.from_dict(data)
