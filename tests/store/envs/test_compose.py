"""A composed environment on disk: its interpreter, its links, its prefix, and what a look finds."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.planning.test_joins import folder
from tests.store.conftest import REAL_PYTHON
from tests.store.envs.composing import compose
from tests.uv.conftest import this_interpreter
from tests.wheels import fake_distribution
from xinference_venv.errors import StoreError
from xinference_venv.planning.view import Place, PrefixFile, Script, ViewLink, ViewPlan, WrittenFile
from xinference_venv.store.envs import compose as compose_module
from xinference_venv.store.envs.compose import Composed, view_faults
from xinference_venv.store.envs.view_record import read_view
from xinference_venv.store.paths import VIEW_RECORD_NAME
from xinference_venv.store.store import Store

TREE = folder("one")
_SCRIPT = """\
#!python
'''Doc.'''
from __future__ import annotations
import one, sys
print(one.x, __doc__, sys.argv[1:])
"""


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> ViewPlan:
    """A view of a package and a module of the host, with programs and data of both."""
    tree = store.layout.package(TREE)
    host = tmp_path / "host"
    for path, text in {
        tree / "site" / "one" / "__init__.py": "x = 'package'\n",
        tree / "data" / "bin" / "shell": "#!/bin/sh\necho shell\n",
        tree
        / "data"
        / "bin"
        / "script": '#!python\n"""Doc."""\nfrom __future__ import annotations\n'
        "import one, sys\nprint(one.x, __doc__, sys.argv[1:])\n",
        tree / "data" / "share" / "one.txt": "data",
        tree / "data" / "lib" / "libone.so": "library",
        host / "lib" / "two.py": "x = 'host'\n",
        host / "bin" / "tool": "#!/srv/host/bin/python3\nimport two\nprint(two.x)\n",
        host / "etc" / "two.conf": "conf",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)

    def file(path: str, place: Place, **more: Any) -> PrefixFile:
        where = str(host) if place is Place.HOST else TREE
        executable = path.startswith("bin/")
        kinds = {"executable": executable, "python_script": False, **more}
        return PrefixFile(path=path, place=place, tree=where, **kinds)

    return ViewPlan(
        links=(
            ViewLink(name="one", place=Place.PACKAGE, tree=TREE),
            ViewLink(name="two.py", place=Place.HOST, tree=str(host / "lib")),
        ),
        written=(WrittenFile(name="more.pth", text="import sys; sys.more = True\n"),),
        prefix_files=(
            file("bin/shell", Place.PACKAGE),
            file("bin/script", Place.PACKAGE, python_script=True),
            file("share/one.txt", Place.PACKAGE),
            file("lib/libone.so", Place.PACKAGE),
            file("bin/tool", Place.HOST),
            file("etc/two.conf", Place.HOST),
            file("share/gone.txt", Place.HOST),
        ),
        scripts=(Script(name="call", module="one", attribute="x.upper"),),
        trees=(TREE,),
        joined=(),
        reasons={},
        warnings=(),
    )


@pytest.fixture
def composed(store: Store, plan: ViewPlan) -> Composed:
    interpreter = replace(this_interpreter(), base_executable=os.path.realpath(REAL_PYTHON))
    return compose(store, plan, interpreter)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def faults(store: Store) -> list[str]:
    return list(view_faults(store.disk, store.layout, store.layout.env("e1")))


def test_the_interpreter_imports_from_the_view_and_knows_it_as_its_one_folder(
    composed: Composed,
) -> None:
    program = (
        "import one, os, two, site, sys; print(one.x, two.x, sys.more, one.__file__);"
        "print(*filter(os.path.isdir, site.getsitepackages())); print(sys.prefix)"
    )
    view, venv = composed.view, composed.venv
    expected = f"package host True {view}/one/__init__.py\n{view}\n{venv}\n"
    for flags in ((), ("-I",), ("-E", "-s"), ("-P",) if sys.version_info >= (3, 11) else ()):
        assert run(venv / "bin" / "python", *flags, "-c", program) == expected


def test_links_into_the_store_are_relative_and_those_to_the_host_absolute(
    composed: Composed, tmp_path: Path
) -> None:
    assert not os.path.isabs(os.readlink(composed.view / "one"))
    assert os.readlink(composed.view / "two.py") == f"{tmp_path}/host/lib/two.py"


def test_programs_run_from_the_prefix_with_the_environments_interpreter(composed: Composed) -> None:
    programs = composed.venv / "bin"
    assert run(programs / "shell") == "shell\n"
    assert run(programs / "script", "a") == "package Doc. ['a']\n"
    assert run(programs / "tool") == "host\n"
    done = subprocess.run([programs / "call"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "PACKAGE\n")


def test_files_of_a_package_are_linked_and_those_of_the_host_never(
    store: Store, composed: Composed, tmp_path: Path
) -> None:
    data = store.layout.package(TREE) / "data"
    venv = composed.venv
    assert (venv / "share" / "one.txt").samefile(data / "share" / "one.txt")
    assert not (venv / "bin" / "script").samefile(data / "bin" / "script")
    # A server of static files refuses a link out of their folder.
    assert not (venv / "etc" / "two.conf").is_symlink()
    assert not (venv / "etc" / "two.conf").samefile(tmp_path / "host" / "etc" / "two.conf")
    assert (venv / "etc" / "two.conf").read_text() == "conf"
    assert not (venv / "bin" / "tool").samefile(tmp_path / "host" / "bin" / "tool")
    assert not os.path.lexists(venv / "share" / "gone.txt")


def test_the_views_prefix_leads_to_the_programs_as_lists_of_files_say(composed: Composed) -> None:
    assert (composed.view / "../../../bin/shell").samefile(composed.venv / "bin" / "shell")
    assert (composed.view / "../../../share/one.txt").exists()
    assert (composed.view / "../../libone.so").read_text() == "library"


def test_an_entry_with_directories_has_hard_links_and_shares_the_bytecode(
    store: Store, plan: ViewPlan
) -> None:
    site = store.layout.package(TREE) / "site"
    (site / "one" / "__pycache__").mkdir()
    (site / "one" / "lib").mkdir()
    (site / "one" / "lib" / "libone.so").write_text("library")
    links = tuple(replace(each, has_directories=each.name == "one") for each in plan.links)
    changed = replace(plan, links=links)
    made = compose(store, changed, this_interpreter())
    one = made.view / "one"
    assert not one.is_symlink()
    assert (one / "lib" / "libone.so").samefile(site / "one" / "lib" / "libone.so")
    assert (one / "lib" / "../../../../libone.so").read_text() == "library"
    assert (one / "__pycache__").samefile(site / "one" / "__pycache__")
    assert not os.path.isabs(os.readlink(one / "__pycache__"))
    assert faults(store) == []
    (one / "lib" / "libone.so").unlink()
    below = one.relative_to(store.layout.env("e1"))
    assert faults(store) == [f"{below}/lib/libone.so is missing"]


def test_a_large_data_file_of_the_host_is_a_link(
    store: Store, plan: ViewPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compose_module, "_COPIED_BYTES", 3)
    made = compose(store, plan, this_interpreter())
    assert os.readlink(made.venv / "etc" / "two.conf") == f"{tmp_path}/host/etc/two.conf"


def test_what_was_made_is_on_record_and_without_fault(store: Store, composed: Composed) -> None:
    assert read_view(store.disk, store.layout.env("e1")) == composed.record
    assert faults(store) == []


def test_its_size_is_that_of_files_that_no_one_else_has(composed: Composed) -> None:
    found = [each.lstat() for each in composed.venv.rglob("*")]
    files = [each for each in found if stat.S_ISREG(each.st_mode)]
    linked = [each for each in files if each.st_nlink > 1]
    assert sum(each.st_size for each in linked) == composed.linked_bytes > 0
    own = sum(each.st_size for each in files if each.st_nlink == 1)
    assert composed.size_bytes == own > 0


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link gone": (lambda env: next(env.glob("view/lib/*/*/one")).unlink(), "one is not a link"),
    "a program gone": (lambda env: (env / "venv/bin/call").unlink(), "venv/bin/call is missing"),
    "a program cut": (lambda env: (env / "venv/bin/call").write_text(""), "has 0 bytes, it was"),
    "the configuration gone": (lambda env: (env / "venv/pyvenv.cfg").unlink(), "pyvenv.cfg is mis"),
    "the record gone": (lambda env: (env / VIEW_RECORD_NAME).unlink(), "is missing"),
    "the record damaged": (lambda env: (env / VIEW_RECORD_NAME).write_text("{"), "is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damage_is_a_fault(store: Store, composed: Composed, kind: str) -> None:
    damage, expected = DAMAGES[kind]
    damage(store.layout.env("e1"))
    [fault] = faults(store)
    assert expected in fault


def test_a_program_in_whose_place_pip_put_its_own_is_no_fault(
    store: Store, composed: Composed
) -> None:
    for path in ("bin/call", "share/one.txt", "bin/tool", "pyvenv.cfg"):
        (composed.venv / path).unlink()
        (composed.venv / path).write_text("of what was installed by hand")
    fake_distribution(
        composed.venv / composed.record.library,
        "one",
        "2.0",
        files={f"../../../{path}": "more" for path in ("bin/call", "share/one.txt", "pyvenv.cfg")},
    )
    cut = [fault.partition(" has ")[0] for fault in faults(store)]
    assert cut == ["venv/bin/tool", "venv/pyvenv.cfg"]


def test_a_link_that_leads_elsewhere_or_nowhere_is_a_fault(
    store: Store, composed: Composed, tmp_path: Path
) -> None:
    (composed.view / "one").unlink()
    (composed.view / "one").symlink_to("/tmp")
    (tmp_path / "host" / "lib" / "two.py").unlink()
    first, second = faults(store)
    assert "one leads to /tmp, it was made for ../../" in first
    assert second.startswith("two.py leads nowhere: ")
    assert second.endswith("was removed from the host")


def test_an_environment_that_is_there_is_not_composed_over(
    store: Store, composed: Composed, plan: ViewPlan
) -> None:
    with pytest.raises(StoreError, match="could not compose the environment"):
        compose(store, plan, this_interpreter())


def test_a_file_that_can_not_be_linked_is_copied_or_where_it_is_large_a_link(
    store: Store, plan: ViewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = store.layout.package(TREE) / "data" / "share" / "one.txt"
    large.write_bytes(bytes(100_000))

    def refuse(*_: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    made = compose(store, plan, this_interpreter())
    assert run(made.venv / "bin" / "shell") == "shell\n"
    assert (made.venv / "share" / "one.txt").is_symlink()
    assert (made.venv / "share" / "one.txt").stat().st_size == 100_000
