"""From an environment that uv has just filled to the trees of its packages.

Comes in: a private virtual environment, which nothing else uses, and the keys of what was
installed into it. Comes out: a folder for each package with ``site`` (what goes into
site-packages), ``data`` (what goes into the prefix) and its `PackageRecord`, every file checked
against RECORD. Trees are made by renames; only what several packages share is taken apart. They
are finished one by one, by threads here or in other processes (`finish_trees`).

What RECORD gets wrong in ways that pip and uv accept is corrected, and noted. Refused by name is
what could act where it must not: links that leave the tree, ``sitecustomize``, paths that are too
long for tools to walk, files that are none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv._util.records import digest_of
from xinference_venv.errors import InstallFailed, VerificationFailed
from xinference_venv.planning.package import (
    DataFile,
    EntryPoint,
    LooksFor,
    PackageKey,
    PackageRecord,
)
from xinference_venv.sentences import sentence
from xinference_venv.store.envs.file_copies import is_shared_object
from xinference_venv.store.host.elf import linkage_of
from xinference_venv.store.metadata_files import (
    SCRIPT_GROUPS,
    read_entry_points,
    read_fields,
    required_name,
)
from xinference_venv.store.packages.looks_for import looks_of
from xinference_venv.store.packages.record_file import (
    RecordRow,
    digest_fits,
    encode_digest,
    format_record,
    metadata_name,
    read_record,
)
from xinference_venv.store.packages.tree_files import (
    DATA,
    DIRECTORY_MODE,
    SITE,
    StagedTree,
    top_level_names,
    walk_folders,
)
from xinference_venv.store.paths import BYTECODE, PACKAGE_RECORD_NAME

_MOST_PATH_LENGTH = 1000
_LARGE_BYTES = 1024 * 1024
# What takes about as long as all that is done for an empty file, 15 µs, and what a source and a
# package take more than that: fitted over 241 packages with 39,000 files.
_BYTES_AS_A_FILE = 8 * 1024
_SOURCE_EFFORT = 2.5
_PACKAGE_EFFORT = 60.0
_SHA256_DIGEST = re.compile("sha256=[A-Za-z0-9_-]{43}")
# What Python runs at every start, whoever put it there.
_CUSTOMIZATION = re.compile(r"(site|user)customize(?![^./])")
# What differs from install to install of one wheel: nothing reads them in an environment.
_OF_THE_INSTALL = frozenset({"REQUESTED", "uv_cache.json"})
_FILE_MODE = 0o444
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
# As `importlib.metadata.EntryPoint` reads it.
_NAMED_BY_ENTRY_POINT = re.compile(
    r"(?P<module>[\w.]+)\s*(:\s*(?P<attribute>[\w.]+)\s*)?((\[.*\])\s*)?$"
)
_LIB64 = re.compile(r"\Alib64(?=/)")
# What uv puts in the place of ``#!python`` where a path would be too long or is relative:
# https://github.com/astral-sh/uv/pull/5515
_TRAMPOLINE = re.compile(rb"\A#!/bin/sh\n'''exec' [^\n]*\n' '''\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class MovedTree:
    """A package whose files are in a tree, at `folder`, and were not looked at yet.

    `key` is None where only its content tells it, `env` is where uv had installed it. With
    `fetched_now` its files are those of the wheel, whatever RECORD says of them.
    """

    folder: Path
    env: Path
    key: PackageKey | None
    installed: Installed
    fetched_now: bool = False

    def finish(self) -> StagedTree:
        """Check every file, write RECORD and the package's record, and close the tree; blocks on
        the disk.

        Raises `InstallFailed` for what is refused or can't be unpacked, `VerificationFailed` where
        a file is not what its RECORD says and may have been changed since it was unpacked.
        """
        finishing = _Finishing(
            tree=self.folder,
            env=self.env,
            key=self.key,
            installed=self.installed,
            fetched_now=self.fetched_now,
        )
        try:
            return finishing.run()
        except OSError as error:
            raise _not_unpacked(self.installed.name, error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """What became of an environment: its trees by name of the package.

    `contested` are packages that own a path together: only the file of one of them is there, so
    each has to be installed by itself.
    """

    trees: Mapping[str, MovedTree]
    contested: tuple[str, ...]


def split_environment(
    env: Path,
    site_packages: Path,
    keys: Mapping[str, PackageKey | None],
    into: Path,
    *,
    fetched_now: bool = False,
) -> Split:
    """Move the packages of an environment into trees below `into`, which is made.

    `keys` has each package that was to be installed, None where only its content tells the key.
    Raises `VerificationFailed` where other packages are there, and `InstallFailed` where they
    can't be moved. Blocks on the disk.
    """
    try:
        return _split(env, site_packages, keys, into, fetched_now=fetched_now)
    except OSError as error:
        raise _not_unpacked(", ".join(sorted(keys)), error) from error


def _not_unpacked(names: str, error: OSError) -> InstallFailed:
    """A wheel may have a file in the place of another one, even of its own RECORD."""
    return InstallFailed(
        sentence("{keys} can't be unpacked: {error}", keys=names, error=error),
        {"errno": error.errno},
    )


def _split(
    env: Path,
    site_packages: Path,
    keys: Mapping[str, PackageKey | None],
    into: Path,
    *,
    fetched_now: bool,
) -> Split:
    found = {
        each.name: each
        for each in (
            Installed.read(metadata, env, site_packages)
            for metadata in sorted(site_packages.glob("*.dist-info"))
        )
    }
    if unexpected := sorted(found.keys() ^ keys.keys()):
        raise VerificationFailed(
            sentence(
                "what was installed is not what was asked for: {unexpected}",
                unexpected=", ".join(unexpected),
            ),
            {"faults": unexpected},
        )
    contested = _contested(found.values())
    trees = {name: into / name for name in found if name not in contested}
    for name, tree in trees.items():
        (tree / SITE).mkdir(parents=True)
        (tree / DATA).mkdir()
        found[name].move_data(env, tree / DATA)
    _move(
        str(site_packages),
        {name: f"{tree}/{SITE}" for name, tree in trees.items()},
        {name: each.site for name, each in found.items()},
    )
    moved = {
        name: MovedTree(
            folder=tree,
            env=env,
            key=keys[name],
            installed=found[name],
            fetched_now=fetched_now,
        )
        for name, tree in trees.items()
    }
    return Split(trees=moved, contested=tuple(sorted(contested)))


# Who owns what


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """A package as uv has left it: the rows of its RECORD by path below ``site`` and ``data``.

    `elsewhere` are paths that lead out of the environment, where nothing was written;
    `unpacked_ns` is when uv had unpacked the wheel, in nanoseconds since the epoch.
    """

    name: str
    version: str
    metadata: str
    site: Mapping[str, RecordRow]
    data: Mapping[str, RecordRow]
    elsewhere: tuple[str, ...]
    unpacked_ns: int

    @classmethod
    def read(cls, metadata: Path, env: Path, site_packages: Path) -> Installed:
        try:
            rows = read_record(metadata)
        except (OSError, ValueError) as error:
            raise VerificationFailed(
                sentence("{name}: RECORD can't be read: {error}", name=metadata.name, error=error)
            ) from None
        base = os.path.relpath(site_packages, env)
        site, data, elsewhere = {}, {}, []
        for row in rows:
            if not row.path.startswith(("../", "/")):
                site[row.path] = row
                continue
            path = _LIB64.sub("lib", os.path.normpath(os.path.join(base, row.path)))
            if path.startswith(("../", "/")):
                elsewhere.append(row.path)
            elif path.startswith(f"{base}/"):
                site[path[len(base) + 1 :]] = row
            else:
                data[path] = row
        name, version = metadata_name(metadata.name)
        return cls(
            name=name,
            version=version,
            metadata=metadata.name,
            site=site,
            data=data,
            elsewhere=tuple(elsewhere),
            unpacked_ns=_modified_ns(metadata / "METADATA"),
        )

    @property
    def effort(self) -> float:
        """What it takes to finish its tree, in parts of what an empty file takes."""
        sizes = [row.size or 0 for row in (*self.site.values(), *self.data.values())]
        return (
            _PACKAGE_EFFORT
            + len(sizes)
            + _SOURCE_EFFORT * sum(path.endswith(".py") for path in self.site)
            + sum(size for size in sizes if size <= _LARGE_BYTES) / _BYTES_AS_A_FILE
        )

    def move_data(self, env: Path, target: Path) -> None:
        """Move what goes into the prefix: file by file, since the environment has its folders."""
        for path in self.data:
            if os.path.lexists(env / path):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (env / path).rename(target / path)


def _contested(found: Collection[Installed]) -> set[str]:
    """The packages that own a path together with another one."""
    owners: dict[str, str] = {}
    contested: set[str] = set()
    for each in found:
        for path in (*each.site, *(f"../{path}" for path in each.data)):
            first = owners.setdefault(path, each.name)
            if first != each.name and f"{BYTECODE}/" not in path:
                contested |= {first, each.name}
    return contested


def _move(source: str, targets: Mapping[str, str], paths: Mapping[str, Collection[str]]) -> None:
    """Move what each package owns below a directory: what one alone owns is one rename.

    `paths` are relative to `source`; who has no target stays where it is.
    """
    owners: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, own in paths.items():
        for path in own:
            entry, _, rest = path.partition("/")
            owners[entry][name].append(rest)
    for entry, below in owners.items():
        place = f"{source}/{entry}"
        if len(below) > 1:
            if any("" in rests for rests in below.values()):
                # One file of several: whoever owns it gets its own by another install.
                continue
            inner = {name: f"{targets[name]}/{entry}" for name in below if name in targets}
            _move(place, inner, below)
            continue
        [name] = below
        if name in targets and os.path.lexists(place):
            os.makedirs(targets[name], exist_ok=True)
            os.rename(place, f"{targets[name]}/{entry}")


# One tree


@dataclass(kw_only=True, slots=True)
class _Finishing:
    """A tree whose files are in place: checks them, writes RECORD and the package's own record."""

    tree: Path
    env: Path
    key: PackageKey | None
    installed: Installed
    fetched_now: bool
    notes: list[str] = field(default_factory=list)
    _folders: list[str] = field(default_factory=list, init=False)
    _looks: set[LooksFor] = field(default_factory=set, init=False)

    def run(self) -> StagedTree:
        site, data = self.tree / SITE, self.tree / DATA
        metadata = site / self.installed.metadata
        fields = read_fields(metadata)
        entry_points = _entry_points(metadata)
        self._drop_what_is_made_for_each(entry_points)
        scripts = {path for path in _scripts(data) if self._restore_first_line(data / path)}
        files = self._check(site, self.installed.site)
        data_rows = {**self.installed.data, **{path: RecordRow(path) for path in scripts}}
        data_files = self._check(data, data_rows)
        self._note_rows_without_file(files, data_files, entry_points)
        key = self.key or self._key_of_content(files)
        record_sha256 = self._write_record(files, data_files, entry_points)
        own = set(os.listdir(site))
        objects = [f"{site}/{path}" for path in sorted(files) if is_shared_object(path)]
        linkage = linkage_of(objects)
        record = PackageRecord(
            key=key,
            metadata=self.installed.metadata,
            top_level=top_level_names(site),
            data_files=tuple(
                DataFile(
                    path=path,
                    executable=os.access(data / path, os.X_OK),
                    python_script=path in scripts,
                )
                for path in sorted(data_files)
            ),
            entry_points=entry_points,
            requires=tuple(
                sorted({*filter(None, map(required_name, fields.all("Requires-Dist")))})
            ),
            # Of several such lines the first, as pip reads it.
            requires_python=fields.first("Requires-Python"),
            looks_for=tuple(sorted(each for each in self._looks if each.name not in own)),
            compiled=bool(objects),
            libraries=linkage.provided,
            needed_libraries=linkage.needed,
            linked_libraries=linkage.linked,
            files=len(files) + len(data_files) + 1,
            size_bytes=sum(row.size or 0 for row in (*files.values(), *data_files.values()))
            + (metadata / "RECORD").stat().st_size,
            record_sha256=record_sha256,
            notes=tuple(self.notes),
        )
        for folder in self._folders:
            os.chmod(folder, DIRECTORY_MODE)
        content = json.dumps(record.to_dict(), separators=(",", ":")).encode()
        write_private_file(self.tree / PACKAGE_RECORD_NAME, content)
        return StagedTree(folder=self.tree, record=record)

    def _drop_what_is_made_for_each(self, entry_points: Sequence[EntryPoint]) -> None:
        for each in entry_points:
            (self.tree / DATA / "bin" / each.name).unlink(missing_ok=True)
        for name in _OF_THE_INSTALL:
            (self.tree / SITE / self.installed.metadata / name).unlink(missing_ok=True)

    def _restore_first_line(self, script: Path) -> bool:
        """Give a script the first line that its wheel has, in a file of its own."""
        content = script.read_bytes()
        first, _, rest = content.partition(b"\n")
        if (found := _TRAMPOLINE.match(content)) is not None:
            rest = content[found.end() :]
        elif not first.startswith(b"#!" + os.fsencode(self.env / "bin" / "python")):
            return False
        script.unlink()
        write_private_file(script, b"#!python\n" + rest)
        script.chmod(0o755)
        return True

    def _check(self, root: Path, rows: Mapping[str, RecordRow]) -> dict[str, RecordRow]:
        """A row for every file below a directory but RECORD; raises what is wrong with one.

        Each file is read once, for its digest and for what it looks for. Every directory with
        sources gets one for bytecode, see `close_directories`.
        """
        checked = {}
        base = os.path.join(root, "")
        is_site = root.name == SITE
        record = f"{self.installed.metadata}/RECORD"
        for prefix, folders, entries in walk_folders(base):
            is_bytecode = prefix.endswith(f"{BYTECODE}/")
            has_sources = False
            for entry in entries:
                name = entry.name
                path = prefix + name
                if (reason := _refusal(path, entry, is_site=is_site)) is not None:
                    raise self._refused(path, reason)
                if entry.is_symlink():
                    continue
                if is_bytecode and name.endswith(".pyc"):
                    # It is compiled here, for the Python that runs it.
                    os.unlink(entry.path)
                    continue
                if path == record:
                    continue
                checked[path], content = self._check_file(path, entry, rows.get(path))
                if is_site:
                    self._looks.update(looks_of(base, path, content))
                has_sources = has_sources or name.endswith(".py")
            if has_sources and BYTECODE not in folders and not is_bytecode:
                os.mkdir(f"{base}{prefix}{BYTECODE}")
            if not is_bytecode:
                self._folders.append(base + prefix)
        return checked

    def _check_file(
        self, path: str, entry: os.DirEntry[str], row: RecordRow | None
    ) -> tuple[RecordRow, bytes | None]:
        """The right row of a file, and its content unless that is large."""
        found = entry.stat(follow_symlinks=False)
        mode = stat.S_IMODE(found.st_mode)
        if mode & _SPECIAL_BITS:
            _copy_in_place(entry.path, mode & 0o555)
        elif found.st_nlink == 1 and mode & 0o222:
            # A hard link shares its mode, as its content, with uv's cache:
            # https://github.com/astral-sh/uv/issues/10896
            os.chmod(entry.path, mode & 0o555)
        if row is not None and not self.fetched_now and self._is_as_unpacked(row, found):
            return row._replace(path=path), None
        content = None
        if found.st_size > _LARGE_BYTES:
            digest = _sha256_of(entry.path)
        else:
            content = _read(entry.path, found.st_size)
            digest = hashlib.sha256(content).digest()
        encoded = encode_digest(digest)
        if row is None:
            self._note(f"RECORD does not name {path}")
        elif row.path == path and row.digest == encoded and row.size == found.st_size:
            return row, content
        elif row.digest and not self._fits(row, entry.path, digest):
            if self.fetched_now:
                # Libraries that were changed after the wheel was built: pip and uv install it.
                self._note(f"RECORD has the digest of another content for {path}")
                return RecordRow(path, encoded, found.st_size), content
            raise VerificationFailed(
                sentence(
                    "{name} has other content than its RECORD says: {path}",
                    name=self.installed.name,
                    path=path,
                ),
                {"package": self.installed.name, "faults": [path]},
            )
        elif row.size is not None and row.size != found.st_size:
            self._note(f"RECORD has {row.size} bytes for {path}, not {found.st_size}")
        return RecordRow(path, encoded, found.st_size), content

    def _is_as_unpacked(self, row: RecordRow, found: os.stat_result) -> bool:
        """Whether a large file needs no look at its content now: of gigabytes that takes seconds.

        uv compared the wheel's hash when it unpacked it, the metadata last; who wrote into a file
        in place did so later, unless that one hides it. The next check compares all contents.
        """
        return (
            found.st_size > _LARGE_BYTES
            and row.size == found.st_size
            and _SHA256_DIGEST.fullmatch(row.digest) is not None
            and found.st_mtime_ns <= self.installed.unpacked_ns
        )

    def _fits(self, row: RecordRow, path: str, sha256: bytes) -> bool:
        algorithm, is_digest, _ = row.digest.partition("=")
        if algorithm == "sha256" and is_digest:
            return digest_fits(row.digest, algorithm, sha256)
        if not is_digest or algorithm not in ("sha384", "sha512"):
            return True
        with open(path, "rb", buffering=0) as file:
            other = hashlib.file_digest(file, algorithm).digest()
        return digest_fits(row.digest, algorithm, other)

    def _refused(self, path: str, reason: str) -> InstallFailed:
        shown = path if len(path) < 200 else f"{path[:200]}..."
        return InstallFailed(
            sentence(
                "{name} is refused: it has {shown}, and {reason}",
                name=self.installed.name,
                shown=repr(shown),
                reason=reason,
            ),
            {
                "package": self.installed.name,
                "path": shown,
                "hint": sentence(
                    "ask for another version of it, or for a package without this file"
                ),
            },
        )

    def _note_rows_without_file(
        self,
        files: Collection[str],
        data_files: Collection[str],
        entry_points: Sequence[EntryPoint],
    ) -> None:
        known = {*files, *(f"{self.installed.metadata}/{each}" for each in _OF_THE_INSTALL)}
        known.add(f"{self.installed.metadata}/RECORD")
        made = {f"bin/{each.name}" for each in entry_points}
        for path in self.installed.site:
            if path not in known and not path.endswith(".pyc"):
                self._note(f"RECORD names {path}, which is not there")
        for path in self.installed.data:
            if path not in data_files and path not in made:
                self._note(f"RECORD names {path}, which is not there")
        for path in self.installed.elsewhere:
            self._note(f"RECORD names {path}, which is outside of the environment")

    def _note(self, text: str) -> None:
        self.notes.append(text)

    def _key_of_content(self, files: Mapping[str, RecordRow]) -> PackageKey:
        own = f"{self.installed.metadata}/INSTALLER"
        content = sorted([path, row.digest] for path, row in files.items() if path != own)
        return PackageKey(
            name=self.installed.name, version=self.installed.version, digest=digest_of(content)
        )

    def _write_record(
        self,
        files: Mapping[str, RecordRow],
        data_files: Mapping[str, RecordRow],
        entry_points: Sequence[EntryPoint],
    ) -> str:
        """Write RECORD in a file of its own; programs that are made for each have bare rows."""
        path = f"{self.installed.metadata}/RECORD"
        climb = "../../../"
        rows = [
            *files.values(),
            *(row._replace(path=f"{climb}{row.path}") for row in data_files.values()),
            *(RecordRow(f"{climb}bin/{each.name}") for each in entry_points),
            RecordRow(path),
        ]
        content = format_record(sorted(rows)).encode("utf-8", "surrogateescape")
        record = self.tree / SITE / path
        record.unlink(missing_ok=True)
        write_private_file(record, content)
        record.chmod(_FILE_MODE)
        return hashlib.sha256(content).hexdigest()


def _entry_points(metadata: Path) -> tuple[EntryPoint, ...]:
    """The programs that a package declares; what is none is left out, as uv does."""
    found = []
    for group, name, value in read_entry_points(metadata):
        if group in SCRIPT_GROUPS and "/" not in name:
            match = _NAMED_BY_ENTRY_POINT.match(value)
            if match is not None and match["attribute"]:
                found.append(
                    EntryPoint(
                        name=name,
                        module=match["module"],
                        attribute=match["attribute"],
                        gui=group == "gui_scripts",
                    )
                )
    return tuple(found)


def _scripts(data: Path) -> list[str]:
    try:
        names = sorted(os.listdir(data / "bin"))
    except FileNotFoundError:
        return []
    return [f"bin/{name}" for name in names if (data / "bin" / name).is_file()]


def _refusal(path: str, entry: os.DirEntry[str], *, is_site: bool) -> str | None:
    """Why a package with this entry is refused; None for what may be there."""
    if len(path) > _MOST_PATH_LENGTH:
        return sentence(
            "paths have at most {most_path_length} characters",
            most_path_length=_MOST_PATH_LENGTH,
        )
    if is_site and _CUSTOMIZATION.match(path) is not None:
        return sentence("Python would run it at every start")
    if entry.is_file(follow_symlinks=False):
        return None
    if not entry.is_symlink():
        return sentence("it is neither a file nor a directory")
    if not _stays_inside(path, os.readlink(entry.path)):
        return sentence("it is a link that leads out of the package")
    return None


def _stays_inside(path: str, target: str) -> bool:
    place = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return not target.startswith("/") and not place.startswith("..")


def _read(path: str, size: int) -> bytes:
    """The content of a file that has `size` bytes."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        content = os.read(opened, size + 1)
        while len(content) < size and (more := os.read(opened, size)):
            content += more
        return content
    finally:
        os.close(opened)


def _sha256_of(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _modified_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _copy_in_place(path: str, mode: int) -> None:
    """Give a file an inode of its own with this mode."""
    # What unpacks archives comes with it.
    import shutil

    shutil.copyfile(path, f"{path}.xinference-venv")
    os.chmod(f"{path}.xinference-venv", mode)
    os.replace(f"{path}.xinference-venv", path)
