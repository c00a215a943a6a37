"""An environment with files of its own: what a model writes into them nobody else sees."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.test_joins import folder
from tests.store.conftest import REAL_PYTHON
from tests.store.envs.composing import compose
from tests.uv.conftest import this_interpreter
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.planning.view import Place, PrefixFile, ViewLink, ViewPlan, WrittenFile
from xinference_venv.settings import ViewKind
from xinference_venv.store.envs import file_copies
from xinference_venv.store.envs.compose import Composed, placing_of, view_faults
from xinference_venv.store.envs.real_files import Placing
from xinference_venv.store.store import Store

TREE = folder("one")
JOINED = "j" * 32
_LARGE = b"\x7fELF" + bytes(1 << 20)


def _write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a package, whose directory of data is a link, and programs and data files."""
    place = tmp_path / "host"
    _write(place / "lib" / "two" / "__init__.py", "x = 'host'\n")
    _write(place / "lib" / "two" / "_c.so", "small")
    _write(place / "lib" / "two" / "_large.so", _LARGE)
    _write(place / "lib" / "two" / "__pycache__" / "__init__.cpython-38.pyc", "old")
    _write(place / "lib" / "three" / "three.py", "x = 'three'\n")
    _write(place / "elsewhere" / "data.txt", "data")
    (place / "lib" / "two" / "data").symlink_to(place / "elsewhere")
    _write(place / "bin" / "tool", "#!/srv/host/bin/python3\nimport two\nprint(two.x)\n")
    _write(place / "etc" / "two.conf", "conf")
    return place


@pytest.fixture
def plan(store: Store, host: Path) -> ViewPlan:
    """A package of the store, one of the host, and a joined tree with a part of the host."""
    tree = store.layout.package(TREE)
    one = tree / "site" / "one"
    _write(one / "__init__.py", "x = 'package'\n")
    _write(one / "data" / "table.json", "{}")
    _write(one / "_large.so.1", _LARGE)
    (one / "_large.so").symlink_to("_large.so.1")
    _write(one / "__pycache__" / "__init__.cpython-311.pyc", "compiled")
    _write(tree / "data" / "bin" / "shell", "#!/bin/sh\necho shell\n")
    _write(tree / "data" / "share" / "one.txt", "data")
    (tree / "data" / "bin" / "shell").chmod(0o555)
    joined = store.layout.joined_tree(JOINED) / "site" / "space"
    joined.mkdir(parents=True)
    os.link(one / "data" / "table.json", joined / "table.json")
    (joined / "three").symlink_to(host / "lib" / "three")
    for place, folders, names in os.walk(tree / "site"):
        for name in names:
            if not os.path.islink(f"{place}/{name}"):
                os.chmod(f"{place}/{name}", 0o444)
        if not place.endswith("__pycache__"):
            os.chmod(place, 0o555)
        del folders

    def file(path: str, place: Place) -> PrefixFile:
        return PrefixFile(
            path=path,
            place=place,
            tree=str(host) if place is Place.HOST else TREE,
            executable=path.startswith("bin/"),
            python_script=False,
        )

    return ViewPlan(
        links=(
            ViewLink(name="one", place=Place.PACKAGE, tree=TREE),
            ViewLink(name="space", place=Place.JOINED, tree=JOINED),
            ViewLink(name="two", place=Place.HOST, tree=str(host / "lib")),
        ),
        written=(WrittenFile(name="more.pth", text="import sys; sys.more = True\n"),),
        prefix_files=(
            file("bin/shell", Place.PACKAGE),
            file("share/one.txt", Place.PACKAGE),
            file("bin/tool", Place.HOST),
            file("etc/two.conf", Place.HOST),
            file("share/gone.txt", Place.HOST),
        ),
        scripts=(),
        trees=(TREE,),
        joined=(JOINED,),
        reasons={},
        warnings=(),
        kind=ViewKind.FILES,
    )


def composed(store: Store, plan: ViewPlan, env_id: str) -> Composed:
    interpreter = replace(this_interpreter(), base_executable=os.path.realpath(REAL_PYTHON))
    return compose(store, plan, interpreter, env_id=env_id)


def files_below(*roots: Path) -> Iterator[str]:
    for root in roots:
        for place, _, names in os.walk(root):
            yield from (os.path.join(place, name) for name in names)


def contents(paths: Iterable[str]) -> dict[str, str]:
    return {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for path in paths
        if os.path.exists(path)
    }


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_is_an_ordinary_environment_that_imports_from_its_own_site_packages(
    store: Store, plan: ViewPlan
) -> None:
    made = composed(store, plan, "e1")
    program = (
        "import one, os, two, space.three.three, site, sys; print(one.x, two.x, sys.more);"
        "print(one.__file__); print(*filter(os.path.isdir, site.getsitepackages()));"
        "print(space.three.three.x)"
    )
    site = made.venv / "lib" / f"python{this_interpreter().minor_version}" / "site-packages"
    assert made.view == site
    expected = f"package host True\n{site}/one/__init__.py\n{site}\nthree\n"
    assert run(made.venv / "bin" / "python", "-I", "-c", program) == expected
    assert run(made.venv / "bin" / "shell") == "shell\n"
    assert run(made.venv / "bin" / "tool") == "host\n"
    assert not (store.layout.env("e1") / "view").exists()


def test_whatever_a_model_writes_changes_neither_store_nor_host_nor_another_environment(
    store: Store, plan: ViewPlan, host: Path
) -> None:
    one, other = composed(store, plan, "e1"), composed(store, plan, "e2")
    watched = (store.layout.packages, store.layout.joined, host, other.venv.parent)
    before = contents(files_below(*watched))
    library = {f"{one.view}/one/_large.so.1", f"{one.view}/one/_large.so"}
    library.add(f"{one.view}/two/_large.so")
    for path in files_below(one.venv):
        bytecode_or_interpreter = path.endswith(".pyc") or "/bin/python" in path
        if path in library or bytecode_or_interpreter:
            continue
        # In place, as root whom modes don't stop; and by its owner, who may.
        assert os.stat(path).st_mode & 0o200
        with open(path, "ab") as file:
            file.write(b"# changed\n")
    for directory in (one.view / "one", one.view / "two" / "data", one.view / "space" / "three"):
        (directory / "new.txt").write_text("new")
    assert contents(files_below(*watched)) == before


def test_only_large_libraries_and_bytecode_are_not_its_own(
    store: Store, plan: ViewPlan, host: Path
) -> None:
    made = composed(store, plan, "e1")
    tree = store.layout.package(TREE) / "site" / "one"
    assert (made.view / "one" / "_large.so.1").samefile(tree / "_large.so.1")
    assert os.readlink(made.view / "one" / "_large.so") == "_large.so.1"
    assert os.readlink(made.view / "two" / "_large.so") == f"{host}/lib/two/_large.so"
    bytecode = Path("__pycache__", "__init__.cpython-311.pyc")
    assert (made.view / "one" / bytecode).samefile(tree / bytecode)
    assert not (made.view / "two" / "__pycache__").exists()
    shared = [
        path
        for path in files_below(made.view)
        if not os.path.islink(path) and os.stat(path).st_nlink > 1
    ]
    assert sorted(map(os.path.basename, shared)) == ["__init__.cpython-311.pyc", "_large.so.1"]
    # Times are kept, so bytecode stays valid.
    source = (made.view / "one" / "__init__.py").stat()
    assert source.st_mtime_ns == (tree / "__init__.py").stat().st_mtime_ns


def test_what_is_gone_is_a_fault_and_what_a_model_changed_is_none(
    store: Store, plan: ViewPlan
) -> None:
    made = composed(store, plan, "e1")
    env = store.layout.env("e1")
    (made.view / "one" / "__init__.py").write_text("x = 'patched'\n")
    (made.view / "one" / "more.py").write_text("")
    assert list(view_faults(store.disk, store.layout, env)) == []
    (made.view / "one" / "data" / "table.json").unlink()
    below = os.path.relpath(made.view, env)
    assert list(view_faults(store.disk, store.layout, env)) == [
        f"{below}/one/data/table.json is missing"
    ]


def test_its_size_is_that_of_its_own_files(store: Store, plan: ViewPlan) -> None:
    made = composed(store, plan, "e1")
    own = [
        path
        for path in files_below(made.venv)
        if not os.path.islink(path) and os.stat(path).st_nlink == 1
    ]
    # What is written in place of a path file is not counted.
    written = [path for path in own if path.endswith("more.pth")]
    assert made.size_bytes == sum(map(os.path.getsize, own)) - sum(map(os.path.getsize, written))


def placing(
    store: Store, plan: ViewPlan, env_id: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Placing, Path]:
    """What a process is asked to place, however little that is, and the environment."""
    monkeypatch.setattr("xinference_venv.store.envs.compose._LEAST_FILES", 0)
    env = store.layout.env(env_id)
    asked = placing_of(store.layout, env, plan, this_interpreter(), (), forks=2)
    assert asked is not None
    return asked, env


def test_a_process_and_its_forks_place_the_same(
    store: Store, plan: ViewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = composed(store, plan, "e1")
    asked, env = placing(store, plan, "e2", monkeypatch)
    command = asked.command(env / "files.json")
    assert os.listdir(asked.folder) == []
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    placed = asked.result(done.returncode, done.stdout)
    assert placed is not None, done.stderr
    shared = compose(store, plan, this_interpreter(), env_id="e2", placed=placed)
    assert shared.record.placed == alone.record.placed
    assert described(shared.view) == described(alone.view)
    assert list(view_faults(store.disk, store.layout, env)) == []


def described(folder: Path) -> dict[str, object]:
    """What is below a folder: directories, links, files with time, mode, names and content."""
    found: dict[str, object] = {}
    for place, folders, names in os.walk(folder):
        for path in (f"{place}/{name}" for name in (*folders, *names)):
            below = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[below] = os.readlink(path)
            elif os.path.isdir(path):
                found[below] = None
            else:
                stat = os.stat(path)
                # What the environment was given in place of a path file is as old as itself.
                time = 0 if below == "more.pth" else stat.st_mtime_ns
                content = Path(path).read_bytes()
                found[below] = (time, stat.st_mode, stat.st_nlink > 1, content)
    return found


def test_the_process_imports_next_to_nothing() -> None:
    heavy = "{'dataclasses', 'json', 'pathlib', 're', 'typing', 'xinference_venv.errors'}"
    program = (
        f"import sys; sys.path += sys.argv[1:]; import {file_copies.__name__};"
        f" print(sorted({heavy} & sys.modules.keys()))"
    )
    root = str(Path(file_copies.__file__).parents[3])
    assert run(sys.executable, "-I", "-S", "-c", program, root) == "[]\n"


def test_folders_for_bytecode_are_made_where_there_is_some(store: Store, plan: ViewPlan) -> None:
    data = store.layout.package(TREE) / "site" / "one" / "data"
    data.chmod(0o755)
    (data / "__pycache__").mkdir()
    made = composed(store, plan, "e1")
    assert (made.view / "one" / "__pycache__").is_dir()
    assert not (made.view / "one" / "data" / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *(
            (name, True)
            for name in ("a.so", "b/liba.so.1", "liba.so.1.22", "a.so.1.so", "a.1.dylib")
        ),
        *((name, False) for name in ("a.sox", "a.so.", "a.so.1.x", "a.so1", "so", "a.so/b.py")),
    ],
)
def test_shared_objects_are_known_by_their_names(name: str, is_one: bool) -> None:
    assert file_copies.is_shared_object(name) is is_one


def test_what_the_process_can_not_place_is_named(
    store: Store, plan: ViewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, env = placing(store, plan, "e1", monkeypatch)
    command = asked.command(env / "files.json")
    taken = Path(asked.folder, "one")
    taken.mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    with pytest.raises(FileExistsError) as caught:
        asked.result(done.returncode, done.stdout)
    assert caught.value.filename == str(taken)


@pytest.mark.parametrize(("exit_status", "output"), [(-9, ""), (1, ""), (0, "1\n2 3\n"), (3, "")])
def test_a_process_that_was_ended_placed_nothing(
    store: Store,
    plan: ViewPlan,
    monkeypatch: pytest.MonkeyPatch,
    exit_status: int,
    output: str,
) -> None:
    asked, _ = placing(store, plan, "e1", monkeypatch)
    assert asked.result(exit_status, output) is None


def test_a_process_is_worth_its_start_where_forks_can_share_the_files(
    store: Store, plan: ViewPlan
) -> None:
    def is_shared_out(*counts: int) -> bool:
        records = (
            PackageRecord(
                key=PackageKey(name=f"p{number}", version="1", digest="0" * 64),
                metadata="p-1.dist-info",
                top_level=(),
                files=count,
                size_bytes=0,
                record_sha256="",
            )
            for number, count in enumerate(counts)
        )
        env = store.layout.env("e1")
        made = placing_of(store.layout, env, plan, this_interpreter(), records, forks=2)
        return made is not None

    assert is_shared_out(2000, 2000)
    assert not is_shared_out(4000)
    assert not is_shared_out(4000, 100)
    # A process can be ended when its launch is cancelled.
    assert is_shared_out(10_000)


def test_little_is_placed_without_a_process_and_so_is_all_on_one_processor(
    store: Store, plan: ViewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = store.layout.env("e1")
    assert placing_of(store.layout, env, plan, this_interpreter(), (), forks=2) is None
    monkeypatch.setattr("xinference_venv.store.envs.compose._LEAST_FILES", 0)
    assert placing_of(store.layout, env, plan, this_interpreter(), (), forks=1) is None
    linked = replace(plan, kind=ViewKind.LINKS)
    assert placing_of(store.layout, env, linked, this_interpreter(), (), forks=2) is None


def test_a_copy_is_whole_where_the_system_writes_less_than_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sendfile(*_: object) -> int:
        raise OSError(errno.EINVAL, "not on this file system")

    def write_half(descriptor: int, content: bytes) -> int:
        return write(descriptor, content[: len(content) // 2 + 1])

    write = os.write
    content = bytes(range(256)) * 10
    _write(tmp_path / "package" / "table.bin", content)
    (tmp_path / "env").mkdir()
    monkeypatch.setattr(file_copies, "_clone", lambda *_: False)
    monkeypatch.setattr(os, "sendfile", no_sendfile)
    monkeypatch.setattr(os, "write", write_half)
    file_copies.place_name(str(tmp_path / "package"), False, str(tmp_path / "env"), "one")
    assert (tmp_path / "env" / "one" / "table.bin").read_bytes() == content
