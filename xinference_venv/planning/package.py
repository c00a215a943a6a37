"""What a package in the store is, and what a joined tree is: nouns that are written once.

Comes in: what the store finds when a package is unpacked. Goes out: all that a plan of a view
needs, so that a plan is read and not derived from lists of files. Paths are relative to the
``site`` (what goes into site-packages) or ``data`` (what goes into the prefix) of a tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Self

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.sentences import sentence

_DIGEST_LENGTH = 32
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_SHA256 = re.compile("[0-9a-f]{64}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+!-]")


class EntryKind(StrEnum):
    """What an entry of site-packages is.

    `PACKAGE`: a directory with an ``__init__``; `NAMESPACE`: one without, which may as well be a
    folder of data such as ``numpy.libs``; `MODULE`: source or bytecode of one module;
    `EXTENSION`: a compiled one; `METADATA`: a ``.dist-info``; `FILE`: anything else.
    """

    PACKAGE = "package"
    NAMESPACE = "namespace"
    MODULE = "module"
    EXTENSION = "extension"
    PTH = "pth"
    METADATA = "metadata"
    FILE = "file"


@dataclass(frozen=True, kw_only=True, slots=True)
class TopLevelName(Record, name="top-level name"):
    """An entry of a folder of packages; `entries` are the names in it where it is a namespace."""

    name: str
    kind: EntryKind
    entries: tuple[str, ...] = ()

    @property
    def import_name(self) -> str | None:
        """By what it is imported: ``x`` for ``x/``, ``x.py`` and ``x.abi3.so``; None for others."""
        if self.kind in (EntryKind.PACKAGE, EntryKind.NAMESPACE):
            return self.name if self.name.isidentifier() else None
        if self.kind in (EntryKind.MODULE, EntryKind.EXTENSION):
            return self.name.partition(".")[0]
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile(Record, name="data file"):
    """A file for the prefix of an environment: ``bin/ruff``, ``share/man/man1/x.1``.

    The first line of a `python_script` is ``#!python`` or ``#!pythonw``, as in the wheel: each
    environment writes it with a first line of its own.
    """

    path: str
    executable: bool = False
    python_script: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryPoint(Record, name="entry point"):
    """A program that a package declares: it calls ``attribute`` of ``module``."""

    name: str
    module: str
    attribute: str
    gui: bool = False


class Way(StrEnum):
    """How code looks for a file outside of its own package.

    `PARENT`: through ``..`` that the kernel resolves; `REALPATH` and `RESOLVE`: from the real
    path of its own file; `RUN_PATH`: a shared object, by its RUNPATH or RPATH.
    """

    PARENT = "parent"
    REALPATH = "realpath"
    RESOLVE = "resolve"
    RUN_PATH = "run path"


_ABOVE = ".."


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LooksFor(Record, name="name looked for"):
    """A top-level name that the file at `path` looks for next to its own package.

    For what lies above site-packages it is the path from there: ``../..`` is the prefix's ``lib``.
    """

    name: str
    way: Way
    path: str

    @property
    def is_above(self) -> bool:
        """Whether it is looked for above site-packages."""
        return self.name.partition("/")[0] == _ABOVE


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class PackageKey(Record, name="key of a package"):
    """Which build of a distribution: `digest` is the wheel's sha256 where the lock has one."""

    name: str
    version: str
    digest: str
    folder: str = field(init=False, repr=False, compare=False)
    """The name of the package's folder in the store."""

    def __post_init__(self) -> None:
        # A version of an index may be anything; what it is called is for people to read.
        version = _NOT_IN_A_NAME.sub("_", self.version)
        folder = f"{self.name}-{version}-{self.digest[:_DIGEST_LENGTH]}"
        object.__setattr__(self, "folder", folder)

    @classmethod
    def of(cls, package: Mapping[str, object]) -> Self | None:
        """The key of what a PEP 751 package table installs.

        None where the table gives no sha256 of a wheel, or no version: it is known only once it
        is installed.
        """
        from packaging.utils import canonicalize_name

        name, version = package.get("name"), package.get("version")
        sha256 = _sha256_of(package)
        if not isinstance(name, str) or not isinstance(version, str) or sha256 is None:
            return None
        archive = package.get("archive")
        if isinstance(archive, Mapping):
            from xinference_venv.planning.pylock import strip_credentials

            # Installers note where it came from (PEP 610), so this is a part of what it is.
            sha256 = digest_of(["archive", strip_credentials(str(archive.get("url"))), sha256])
        return cls(name=canonicalize_name(name), version=version, digest=sha256)

    def check_record(self) -> None:
        """Raise `InvalidRecord` where the folder's name would be none."""
        if not _FOLDER_NAME.fullmatch(self.folder) or not _SHA256.fullmatch(self.digest):
            raise InvalidRecord(
                sentence(
                    "key of a package: {folder} names no folder", folder=repr(self.folder[:100])
                )
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageRecord(Record, name="package record", version=1):
    """What lies in a package's tree.

    `metadata` is the name of its ``.dist-info``; `requires` are the normalized names in its
    ``Requires-Dist``, whatever their markers say, `requires_python` is what it says of the
    interpreter, if it does; `files` and `size_bytes` count what the package
    brought, bytecode not included. `record_sha256` is of its RECORD, which names every file.
    `compiled` says whether it has shared objects, `libraries` which of them others may load, and
    `needed_libraries` what its extension modules load that neither it nor every system has;
    `linked_libraries` is the same for all of its shared objects, plug-ins that may be optional
    included.
    `notes` say what had to be corrected.
    """

    key: PackageKey
    metadata: str
    top_level: tuple[TopLevelName, ...]
    data_files: tuple[DataFile, ...] = ()
    entry_points: tuple[EntryPoint, ...] = ()
    looks_for: tuple[LooksFor, ...] = ()
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    files: int
    size_bytes: int
    record_sha256: str
    compiled: bool = False
    libraries: tuple[str, ...] = ()
    needed_libraries: tuple[str, ...] = ()
    linked_libraries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def allows_python(self, version: str) -> bool:
        """Whether the package may be used with this Python, by both bounds that it gives."""
        return _allows(self.requires_python or "", version)


@lru_cache(maxsize=256)
def _allows(requires_python: str, version: str) -> bool:
    # Few packages differ in what they give.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(requires_python)
    except InvalidSpecifier:
        # What is none says nothing, to pip and uv as well.
        return True
    return allowed.contains(version)


Release = tuple[str, str]
"""A distribution's normalized name and its version."""


def unfit_for(python: str, packages: Iterable[PackageRecord]) -> dict[Release, str]:
    """Those of some packages that do not allow this Python, with their ``Requires-Python``."""
    return {
        (each.key.name, each.key.version): str(each.requires_python)
        for each in packages
        if not each.allows_python(python)
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class HostPart(Record, name="part of the host"):
    """What of a host's folder of packages goes into a joined tree.

    `name` names the distributions that the `files` belong to, for people; `files` are relative
    to `location`. `identity` differs when the host's distributions do.
    """

    name: str
    location: str
    files: tuple[str, ...]
    identity: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinMember(Record, name="member of a joined tree"):
    """A package of the store, by its folder's name, or a part of the host."""

    tree: str | None = None
    host: HostPart | None = None

    @property
    def label(self) -> str:
        """By what a person knows it."""
        if self.host is not None:
            return f"{self.host.name} of the host"
        return str(self.tree)

    def check_record(self) -> None:
        """Raise `InvalidRecord` unless it is exactly one of the two."""
        if (self.tree is None) == (self.host is None):
            raise InvalidRecord(
                sentence("member of a joined tree: it is of the store or of the host")
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinPlan(Record, name="plan of a joined tree", version=1):
    """What is joined, in the order of installers: of two owners of a path the later one has it."""

    members: tuple[JoinMember, ...]

    @property
    def folder(self) -> str:
        """The name of the joined tree's folder: equal combinations share one."""
        identities = [
            each.tree
            if each.host is None
            else [each.host.name, each.host.location, each.host.identity, each.host.files]
            for each in self.members
        ]
        return digest_of(identities)[:_DIGEST_LENGTH]

    @property
    def trees(self) -> tuple[str, ...]:
        """The folders' names of the members that are of the store."""
        return tuple(each.tree for each in self.members if each.tree is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedPath(Record, name="shared path"):
    """A file that several members have: the winner's is there. Members go by their labels."""

    path: str
    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedRecord(Record, name="record of a joined tree", version=1):
    """What lies in a joined tree; `size_bytes` is of what is not a hard link to a member's file.

    `linked_files` are files of the host that are one link each, since copying them would take too
    much.
    """

    plan: JoinPlan
    top_level: tuple[TopLevelName, ...]
    shared_paths: tuple[SharedPath, ...] = ()
    files: int
    size_bytes: int
    linked_files: tuple[str, ...] = ()


def _sha256_of(package: Mapping[str, object]) -> str | None:
    """The sha256 of the one wheel that a PEP 751 package table names."""
    wheels = package.get("wheels")
    files = wheels if isinstance(wheels, list | tuple) else [package.get("archive")]
    if len(files) != 1 or not isinstance(files[0], Mapping):
        return None
    hashes = files[0].get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, Mapping) else None
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None
