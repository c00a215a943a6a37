"""Trees made by a process of its own and its forks are those that threads make."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.store.packages.conftest import Unpack, finish
from tests.wheels import build_wheel
from xinference_venv.errors import InstallFailed, VerificationFailed
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.finish_trees import Filled, finish_trees
from xinference_venv.store.packages.package_tree import Installed, MovedTree
from xinference_venv.store.packages.record_file import RecordRow
from xinference_venv.store.packages.tree_files import StagedTree

KEY = PackageKey(name="lamp", version="1.0", digest="a" * 64)


def run(filled: Filled, forks: int) -> tuple[Sequence[StagedTree], Sequence[str]] | None:
    """What the process gives that takes an environment apart."""
    done = subprocess.run(
        filled.command(forks), capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode in (0, 3), done.stderr
    return filled.result(done.returncode, done.stdout)


@pytest.mark.uv
@pytest.mark.parametrize("forks", [1, 2, 8])
@pytest.mark.parametrize("keys", [{}, {"lamp": KEY}])
def test_a_process_gives_the_same_trees_as_threads(
    unpack: Unpack, wheels: Path, keys: Mapping[str, PackageKey], forks: int
) -> None:
    build_wheel(
        wheels,
        "lamp",
        "1.0",
        modules={"lamp/__init__.py": "open(__file__ + '/../../wick/a')\n"},
        entry_points={"lamp": "lamp:main"},
        requires=["wick>=1"],
    )
    build_wheel(wheels, "wick", "1.0")
    filled = unpack.fill(*wheels.iterdir(), keys=keys)
    assert filled.names == "lamp, wick"
    made = run(filled, forks)
    assert made is not None
    trees, contested = made
    assert by_name(trees) == by_name(unpack.split(*wheels.iterdir(), keys=keys).trees.values())
    assert contested == []
    # They can go into the store as they are.
    records = unpack.store.packages.add(trees)
    assert {each.key.name for each in records} == {"lamp", "wick"}
    assert all(unpack.store.packages.get(each.key) == each for each in records)


def by_name(trees: Iterable[StagedTree]) -> dict[str, PackageRecord]:
    return {each.record.key.name: each.record for each in trees}


@pytest.mark.uv
def test_packages_that_own_a_path_together_are_named(unpack: Unpack, wheels: Path) -> None:
    for name in ("lamp", "wick"):
        build_wheel(wheels, name, "1.0", modules={"shared.py": f"# {name}\n"})
    build_wheel(wheels, "oil", "1.0")
    made = run(unpack.fill(*wheels.iterdir()), 2)
    assert made is not None
    trees, contested = made
    assert by_name(trees).keys() == {"oil"}
    assert contested == ["lamp", "wick"]


@pytest.mark.uv
def test_what_a_process_refuses_is_raised_as_threads_raise_it(unpack: Unpack, wheels: Path) -> None:
    evil = build_wheel(wheels, "evil", "1.0", modules={"sitecustomize.py": "x = 1\n"})
    good = build_wheel(wheels, "good", "1.0")
    with pytest.raises(InstallFailed) as by_threads:
        finish(unpack.fill(evil).split())
    with pytest.raises(InstallFailed, match="Python would run it at every start") as by_process:
        run(unpack.fill(evil, good), 2)
    assert by_process.value.to_dict() == by_threads.value.to_dict()


@pytest.mark.uv
def test_what_is_found_before_there_are_forks_is_raised_too(unpack: Unpack, wheels: Path) -> None:
    filled = unpack.fill(build_wheel(wheels, "lamp", "1.0"))
    os.unlink(next(Path(filled.site_packages).glob("lamp-*/RECORD")))
    with pytest.raises(VerificationFailed, match="RECORD can't be read"):
        run(filled, 2)


FILLED = Filled(env="env", site_packages="env/lib", into="trees", packages=("lamp",), keys={})


@pytest.mark.parametrize(
    ("exit_status", "output"), [(-9, "[]\n"), (1, ""), (0, ""), (3, ""), (0, "[]\n")]
)
def test_a_process_that_was_ended_gives_nothing(exit_status: int, output: str) -> None:
    assert FILLED.result(exit_status, output) is None


@pytest.mark.uv
def test_a_fork_that_is_killed_ends_the_process_as_a_shell_says_it(
    unpack: Unpack, wheels: Path
) -> None:
    filled = unpack.fill(*(build_wheel(wheels, name, "1.0") for name in ("lamp", "wick")))
    command = filled.command(2)
    killing = command[4].replace("import sys\n", f"import sys\n{_KILL_THE_LAST}", 1)
    done = subprocess.run(
        [*command[:4], killing, *command[5:]], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert filled.result(done.returncode, done.stdout) is None


_KILL_THE_LAST = """
import os, signal
fork, forks = os.fork, []
def killed():
    forks.append(fork())
    if len(forks) == 2 and forks[1] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return forks[-1]
os.fork = killed
"""


@pytest.mark.uv
def test_a_process_is_worth_its_start_where_records_name_many_files_of_several_packages(
    unpack: Unpack, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = unpack.fill(*(build_wheel(wheels, name, "1.0") for name in ("lamp", "wick")))
    assert not several.is_much()
    monkeypatch.setattr("xinference_venv.store.packages.finish_trees._LEAST_RECORD_BYTES", 1)
    assert several.is_much()


@pytest.mark.uv
def test_no_fork_helps_one_that_takes_apart_a_single_package(
    unpack: Unpack, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xinference_venv.store.packages.finish_trees._LEAST_RECORD_BYTES", 1)
    alone = unpack.fill(build_wheel(wheels, "lamp", "1.0"))
    assert not alone.is_much()
    # But it can be ended when its launch is cancelled.
    monkeypatch.setattr("xinference_venv.store.packages.finish_trees._MOST_RECORD_BYTES", 1)
    assert alone.is_much()


def test_the_trees_that_take_longest_are_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(MovedTree, "finish", lambda each: begun.append(each.installed.name))
    monkeypatch.setattr("xinference_venv.store.packages.finish_trees.usable_processors", lambda: 1)
    finish_trees(
        [
            tree("few-files", 10),
            tree("large-files", 10, 2**30),
            tree("many-bytes", 100, 1024 * 1024),
            tree("many-files", 1000),
        ]
    )
    assert begun[:2] == ["many-bytes", "many-files"]


def tree(name: str, files: int, size: int = 0) -> MovedTree:
    site = {f"{name}/{number}.py": RecordRow("", "", size) for number in range(files)}
    installed = Installed(
        name=name,
        version="1",
        metadata=f"{name}-1.dist-info",
        site=site,
        data={},
        elsewhere=(),
        unpacked_ns=0,
    )
    return MovedTree(folder=Path(name), env=Path("env"), key=None, installed=installed)
