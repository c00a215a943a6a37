"""Make an environment of a plan: a virtual environment (PEP 405) and the view that it shows.

Comes in: a `ViewPlan`, and a folder of the store's staging. Comes out there: ``venv``, with an
interpreter, programs and data files, and ``view``, with one link for each name that can be
imported. Nothing is started for it. The view lies apart from the environment's own
site-packages, since installers write through links that they meet there. Links into the store
are relative, so that a home can be moved; those to the host are absolute. Where the plan asks for
files instead, the same names lie in the environment's own site-packages, and there is no view.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.package import PackageRecord
from xinference_venv.planning.view import (
    VIEW_PTH_NAME,
    Place,
    PrefixFile,
    Script,
    ViewLink,
    ViewPlan,
)
from xinference_venv.sentences import sentence
from xinference_venv.settings import ViewKind
from xinference_venv.store.atomic import Disk, details_of
from xinference_venv.store.copies import copy_file
from xinference_venv.store.envs.launcher import write_launcher
from xinference_venv.store.envs.real_files import (
    Placed,
    Placing,
    Source,
    missing_files,
    place_file,
    place_files,
)
from xinference_venv.store.envs.view_record import ViewRecord, read_view
from xinference_venv.store.packages.joined_tree import place_file as place_tree_file
from xinference_venv.store.packages.record_file import metadata_name, written_paths
from xinference_venv.store.paths import (
    BYTECODE,
    VENV_NAME,
    VIEW_NAME,
    VIEW_RECORD_NAME,
    StorePaths,
)

# A program or data file of the host that is larger than this is a link to it.
_COPIED_BYTES = 4 << 20
# Of what is no program, so much is copied where the file system has no hard links.
_SMALL_BYTES = 64 << 10
# To start a process takes as long as to place some hundred files. A fork takes whole names: those
# of the largest package are placed no sooner. Of the host the files are not known: in 402 popular
# packages a name has a hundred.
_LEAST_FILES = 2_000
# Who cancels a launch waits for a thread, but not for a process.
_MOST_FILES = 10_000
_FILES_OF_A_NAME = 100

_CONFIGURATION = """\
home = {home}
implementation = CPython
version_info = {version}
include-system-site-packages = false
relocatable = true
"""

# Runs in the interpreter before any package. `site.venv` sets PREFIXES back after this line ran
# for the first time, and runs it again; then `site.getsitepackages()` names the view alone. Python
# 3.14 sets nothing back, and adds the folders of PREFIXES again, but for those in `known_paths`, a
# variable of the function that runs this line: without the view in it, the view would be in the
# path twice. The real path: `sys.prefix` may be the link of a key, which leads to the next
# environment one day.
_PTH = (
    "import os, site, sys;"
    " view = os.path.join(os.path.dirname(os.path.realpath(sys.prefix)), {view!r});"
    " site.PREFIXES[:] = [view];"
    " folder = os.path.join(view, *{library!r});"
    " folder in sys.path or site.addsitedir(folder, locals().get('known_paths'))\n"
)

# Finds the interpreter by its own place, whatever the directory is called, as uv does:
# https://github.com/astral-sh/uv/issues/8058
_START = """\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"""
# A process that `multiprocessing` spawns runs the program once more, under another name.
_CALL = (
    f"{_START}import sys\nfrom {{module}} import {{root}}\n"
    "if __name__ == '__main__':\n    sys.exit({attribute}())\n"
)
# A docstring or an import from __future__ must be the first of a program, so one that a package
# brings is compiled by itself: https://github.com/astral-sh/uv/issues/8920
_RUN = _START + "exec(compile({text!r}, __file__, 'exec', dont_inherit=True))\n"

_PYTHON_LINE = re.compile(rb"#!.*python[0-9.]*[ \t\r]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Composed:
    """A composed environment: its virtual environment, the folder that has its packages, and what
    it has by itself. `linked_bytes` are those of its files that are hard links to the store's.
    """

    venv: Path
    view: Path
    record: ViewRecord
    linked_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the environment's own files."""
        files = sum(self.record.files.values()) - self.linked_bytes
        return files + self.record.placed.size_bytes

    @property
    def files(self) -> int:
        """How many files the environment has by itself."""
        return len(self.record.files) + self.record.placed.files


def library_of(interpreter: Interpreter) -> str:
    """Where packages lie below the prefix of a virtual environment."""
    return f"lib/python{interpreter.minor_version}/site-packages"


def make_venv(venv: Path, interpreter: Interpreter) -> None:
    """Make an empty virtual environment, as `venv` would; raises `OSError`.

    Its folder of packages may be there. Nothing is started for it.
    """
    programs = venv / "bin"
    os.makedirs(venv / library_of(interpreter), exist_ok=True)
    os.makedirs(programs)
    os.symlink(interpreter.base_executable, programs / "python")
    os.symlink("python", programs / "python3")
    os.symlink("python", programs / f"python{interpreter.minor_version}")
    os.symlink("lib", venv / "lib64")
    home = os.path.dirname(interpreter.base_executable)
    text = _CONFIGURATION.format(home=home, version=interpreter.version)
    write_private_file(venv / "pyvenv.cfg", text.encode("utf-8", "surrogateescape"))


def placing_of(
    layout: StorePaths,
    env: Path,
    plan: ViewPlan,
    interpreter: Interpreter,
    records: Iterable[PackageRecord],
    forks: int,
) -> Placing | None:
    """The files of an environment, to be placed by a process before it is composed; None where
    there are none or too few for that next to the largest package. `records` are those of its
    packages.
    """
    files = {each.key.folder: each.files for each in records}
    of_host = sum(link.place is Place.HOST for link in plan.links)
    count = sum(files.values()) + _FILES_OF_A_NAME * of_host
    others = count - max(files.values(), default=0)
    if plan.kind is ViewKind.LINKS or forks < 2 or (others < _LEAST_FILES and count < _MOST_FILES):
        return None
    largest_first = sorted(plan.links, key=lambda link: -files.get(link.tree, 0))
    return Placing(
        sources=_sources(largest_first, layout),
        folder=str(env / VENV_NAME / library_of(interpreter)),
        forks=forks,
    )


def not_composed(env: Path, error: OSError) -> StoreError:
    """What the system refused while an environment was made."""
    message = sentence("could not compose the environment {env}: {error}", env=env, error=error)
    return StoreError(message, details_of(error, env))


def packages_of(env: Path, record: ViewRecord) -> Path:
    """The folder of a composed environment that has its packages."""
    return env / _place_of(record.plan) / record.library


def _place_of(plan: ViewPlan) -> str:
    return VIEW_NAME if plan.kind is ViewKind.LINKS else VENV_NAME


def view_faults(disk: Disk, layout: StorePaths, env: Path) -> Iterator[str]:
    """What of a composed environment is not as it was made; its trees are not looked into."""
    try:
        record = read_view(disk, env)
    except (InvalidRecord, StoreError) as error:
        yield str(error)
        return
    if record is None:
        yield f"{env / VIEW_RECORD_NAME} is missing"
        return
    folder = packages_of(env, record)
    is_linked = record.plan.kind is ViewKind.LINKS
    by_hand = cache(partial(_changed_by_hand, layout, env, record))
    if not is_linked:
        below = os.path.relpath(folder, env)
        for path in missing_files(_sources(record.plan.links, layout), folder):
            if f"{below}/{path}" not in by_hand():
                yield f"{below}/{path} is missing"
    for link in record.plan.links if is_linked else ():
        path = f"{folder}/{link.name}"
        target = target_of(link, layout, folder)
        if link.has_directories:
            for below in _not_placed(folder / target, Path(path)):
                yield f"{os.path.relpath(path, env)}{below} is missing"
            continue
        try:
            found = os.readlink(path)
        except OSError:
            yield f"{os.path.relpath(path, env)} is not a link"
            continue
        if found != target:
            yield f"{os.path.relpath(path, env)} leads to {found}, it was made for {target}"
        elif not os.path.lexists(os.path.join(folder, target)):
            owner = "the host" if link.place is Place.HOST else "the store"
            yield f"{link.name} leads nowhere: {target} was removed from {owner}"
    for name, size in record.files.items():
        try:
            found_size = os.lstat(env / name).st_size
        except OSError:
            if name not in by_hand():
                yield f"{name} is missing"
            continue
        if found_size != size and name not in by_hand():
            yield f"{name} has {found_size} bytes, it was built with {size}"


def _changed_by_hand(layout: StorePaths, env: Path, record: ViewRecord) -> Collection[str]:
    """The programs and data files in whose place pip or uv, run by hand, put those of what they
    installed; and what they took away of a package that they installed in another version, which
    they can where files are no links.
    """
    plan = record.plan
    shown = {each.path for each in plan.prefix_files}
    shown |= {f"bin/{each.name}" for each in plan.scripts}
    folder = env / VENV_NAME / record.library
    there = list(folder.glob("*.dist-info"))
    changed = {path for each in there for path in _in_prefix(record, each) if path in shown}
    if plan.kind is ViewKind.FILES:
        installed = {metadata_name(each.name)[0] for each in there}
        for name, source in _sources(plan.links, layout).items():
            is_metadata = name.endswith(".dist-info") and not os.path.lexists(folder / name)
            if is_metadata and metadata_name(name)[0] in installed:
                changed.update(_in_prefix(record, source.path))
                # Of the host only names are looked for.
                changed.add(f"{record.library}/{name}")
    return {f"{VENV_NAME}/{path}" for path in changed}


def _in_prefix(record: ViewRecord, metadata: str | os.PathLike[str]) -> Iterator[str]:
    """What a RECORD names, by the paths in the prefix of an environment."""
    for path in written_paths(metadata):
        yield posixpath.normpath(f"{record.library}/{path}")


def target_of(link: ViewLink, layout: StorePaths, folder: Path) -> str:
    """Where a link of a view leads, which lies in `folder`."""
    return os.path.join(_roots(layout, folder)[link.place].format(link.tree), link.name)


def _sources(links: Iterable[ViewLink], layout: StorePaths) -> dict[str, Source]:
    """Where the names of a view lead, by absolute paths."""
    roots = {
        Place.PACKAGE: os.path.join(layout.packages, "{}", "site"),
        Place.JOINED: os.path.join(layout.joined, "{}", "site"),
        Place.HOST: "{}",
    }
    return {
        link.name: Source(
            path=os.path.join(roots[link.place].format(link.tree), link.name),
            of_host=link.place is Place.HOST,
        )
        for link in links
    }


def _roots(layout: StorePaths, folder: Path) -> dict[Place, str]:
    return {
        Place.PACKAGE: os.path.join(os.path.relpath(layout.packages, folder), "{}", "site"),
        Place.JOINED: os.path.join(os.path.relpath(layout.joined, folder), "{}", "site"),
        Place.HOST: "{}",
    }


@dataclass(kw_only=True, slots=True)
class Composition:
    """The environment of a plan while it is made at `env`, which must not be there yet: first what
    its interpreter sees, then all else.

    Links into the store hold at every place that lies as deep in it as `env`.
    """

    disk: Disk
    layout: StorePaths
    env: Path
    plan: ViewPlan
    interpreter: Interpreter
    _library: str = field(init=False)
    _venv: Path = field(init=False)
    _data: dict[str, str] = field(default_factory=dict, init=False)
    _folders: set[str] = field(default_factory=set, init=False)
    _files: dict[str, int | None] = field(default_factory=dict, init=False)
    """With the bytes, where they are known already."""
    _placed: list[Placed] = field(default_factory=list, init=False)
    _linked_bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._library = library_of(self.interpreter)
        self._venv = self.env / VENV_NAME

    def begin(self, placed: Placed | None = None) -> None:
        """Make the interpreter, and what it can import; raises `StoreError`.

        Where files are asked for, `placed` is what was placed of them before, see `placing_of`.
        """
        try:
            self._make_venv()
            if self.plan.kind is ViewKind.LINKS:
                self._make_view()
            else:
                self._make_files(placed)
        except OSError as error:
            raise not_composed(self.env, error) from error

    def complete(self) -> Composed:
        """Make the programs, scripts and data files, and the record; raises `StoreError`."""
        try:
            self._make_prefix()
            files = dict(sorted(self._own_files()))
        except OSError as error:
            raise not_composed(self.env, error) from error
        placed = Placed(
            files=sum(each.files for each in self._placed),
            size_bytes=sum(each.size_bytes for each in self._placed),
        )
        record = ViewRecord(plan=self.plan, library=self._library, files=files, placed=placed)
        self.disk.write_json(self.env / VIEW_RECORD_NAME, record.to_dict(), durable=False)
        return Composed(
            venv=self._venv,
            view=packages_of(self.env, record),
            record=record,
            linked_bytes=self._linked_bytes,
        )

    def _make_venv(self) -> None:
        """Make an empty virtual environment with a launcher."""
        programs = self._venv / "bin"
        make_venv(self._venv, self.interpreter)
        self._files["pyvenv.cfg"] = None
        write_launcher(self.disk, self._venv, self.interpreter)
        for name in os.listdir(programs):
            if name.startswith("xinf"):
                self._files[f"bin/{name}"] = None

    def _make_view(self) -> None:
        """Make the links of the view."""
        pth = _PTH.format(view=VIEW_NAME, library=tuple(self._library.split("/")))
        self._write(f"{self._library}/{VIEW_PTH_NAME}", pth)
        view = self.env / VIEW_NAME
        folder = view / self._library
        os.makedirs(folder)
        roots = _roots(self.layout, folder)
        for link in self.plan.links:
            target = os.path.join(roots[link.place].format(link.tree), link.name)
            if link.has_directories:
                _place(folder / target, folder / link.name)
            else:
                os.symlink(target, f"{folder}/{link.name}")
        for written in self.plan.written:
            write_private_file(folder / written.name, written.text.encode())
        for name in {"bin", *(_shown_in_prefix(each.path) for each in self.plan.prefix_files)}:
            up = "../" * (name.count("/") + 1)
            os.symlink(f"{up}{VENV_NAME}/{name}", view / name)

    def _make_files(self, placed: Placed | None) -> None:
        """Make the same as files of the environment's own, in its own site-packages."""
        folder = self._venv / self._library
        if placed is None:
            placed = place_files(_sources(self.plan.links, self.layout), folder)
        self._placed.append(placed)
        for written in self.plan.written:
            write_private_file(folder / written.name, written.text.encode())

    def _make_prefix(self) -> None:
        """Make the programs, scripts and data files."""
        for file in self.plan.prefix_files:
            self._make_folder(os.path.dirname(file.path))
            of_host = file.place is Place.HOST
            makes_script = file.python_script or (of_host and file.executable)
            if self.plan.kind is ViewKind.FILES and not makes_script:
                self._place(file)
            elif of_host:
                self._show_of_host(file)
            else:
                self._put(file)
        for script in self.plan.scripts:
            self._write(f"bin/{script.name}", script_text(script), mode=0o755)

    def _own_files(self) -> Iterator[tuple[str, int]]:
        """The regular files that were made, by their paths in the environment, with their bytes."""
        for name, size in self._files.items():
            if size is None:
                size = os.lstat(f"{self._venv}/{name}").st_size
            yield f"{VENV_NAME}/{name}", size

    def _place(self, file: PrefixFile) -> None:
        """A file that the model may write into."""
        of_host = file.place is Place.HOST
        root = file.tree if of_host else self._data_of(file.tree)
        source = Source(path=os.path.join(root, file.path), of_host=of_host)
        with suppress(FileNotFoundError):
            # The host's owner's list of files may be wrong.
            self._placed.append(place_file(source, self._venv, file.path))

    def _data_of(self, tree: str) -> str:
        """The folder of a package's files of the prefix, of which it may have hundreds."""
        if tree not in self._data:
            self._data[tree] = str(self.layout.package(tree) / "data")
        return self._data[tree]

    def _put(self, file: PrefixFile) -> None:
        source = f"{self._data_of(file.tree)}/{file.path}"
        target = f"{self._venv}/{file.path}"
        if file.python_script:
            text = Path(source).read_text("utf-8", "surrogateescape")
            self._write(file.path, _RUN.format(text=text), mode=0o755)
            return
        size = os.lstat(source).st_size
        try:
            os.link(source, target)
            self._linked_bytes += size
        except OSError:
            # The file system has no hard links, no more of this file, or none of another user's.
            if size > _SMALL_BYTES and not file.executable:
                os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
                return
            copy_file(source, target)
        self._files[file.path] = size

    def _show_of_host(self, file: PrefixFile) -> None:
        """A program of the host starts this environment's interpreter; all else is copied.

        Never hard links: whoever wrote into one would write into the host's file. A link is what
        is too large: servers of static files refuse one that leads out of their folder.
        """
        source, target = Path(file.tree, file.path), self._venv / file.path
        try:
            found = os.stat(source)
        except OSError:
            # Its owner's list of files is wrong.
            return
        if not stat.S_ISREG(found.st_mode) or found.st_size > _COPIED_BYTES:
            os.symlink(source, target)
            return
        if file.executable:
            content = source.read_bytes()
            first, _, _ = content.partition(b"\n")
            if _PYTHON_LINE.match(first):
                text = content.decode("utf-8", "surrogateescape")
                self._write(file.path, _RUN.format(text=text), mode=0o755)
                return
        copy_file(source, target)
        self._files[file.path] = None

    def _make_folder(self, name: str) -> None:
        if name not in self._folders:
            os.makedirs(self._venv / name, exist_ok=True)
            self._folders.add(name)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of an environment that no process uses yet."""
        path = os.fspath(self._venv / name)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(opened, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        self._files[name] = None


def _place(source: Path, target: Path) -> None:
    """Make a tree's entry once more: hard links in directories, which share its bytecode."""
    if source.is_symlink() or not source.is_dir():
        place_tree_file(source, target, final=target)
    elif source.name == BYTECODE:
        target.symlink_to(os.path.relpath(source, target.parent))
    else:
        target.mkdir()
        for name in os.listdir(source):
            _place(source / name, target / name)


def _not_placed(source: Path, target: Path) -> Iterator[str]:
    """What of a tree's entry is not at its second place, by its path below that."""
    if not os.path.lexists(target):
        yield ""
    elif source.is_dir() and not source.is_symlink() and source.name != BYTECODE:
        for name in sorted(os.listdir(source)):
            yield from (f"/{name}{path}" for path in _not_placed(source / name, target / name))


def _shown_in_prefix(path: str) -> str:
    """The entry of a view that is a link to the environment's prefix, for a file of that.

    RECORD and programs name it from the folder of packages, as ``../../../share/x``. The view has
    a ``lib`` of its own.
    """
    parts = path.split("/")
    return "/".join(parts[:2] if parts[0] == "lib" else parts[:1])


def script_text(script: Script) -> str:
    """The text of a program that calls an entry point with the interpreter of its own folder."""
    return _CALL.format(
        module=script.module,
        root=script.attribute.partition(".")[0],
        attribute=script.attribute,
    )
