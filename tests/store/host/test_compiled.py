"""Which distributions of a host have no bytecode."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

from tests.fakes import interpreter
from tests.uv.conftest import this_interpreter
from tests.wheels import fake_distribution
from xinference_venv.planning.host import Interpreter
from xinference_venv.store.host.compiled import Uncompiled, uncompiled_distributions
from xinference_venv.store.host.scan import scan_distributions


def _found(site: Path) -> list[Uncompiled]:
    here: Interpreter = interpreter(search_path=(str(site),), version=this_interpreter().version)
    distributions, _ = scan_distributions(here)
    return uncompiled_distributions(here, distributions)


def test_a_distribution_is_compiled_or_named_with_its_sources(tmp_path: Path) -> None:
    files = {"one/__init__.py": "", "one/a.py": "x = 1\n", "one/b.py": "x = 2\n"}
    fake_distribution(tmp_path, "one", "1.0", files=files)
    fake_distribution(tmp_path, "single", "1.0", files={"single.py": "x = 1\n"})
    fake_distribution(tmp_path, "empty", "1.0", files={"empty/__init__.py": ""})
    assert _found(tmp_path) == [
        Uncompiled(name="one", sources=2, size_bytes=12),
        Uncompiled(name="single", sources=1, size_bytes=6),
    ]
    compileall.compile_dir(tmp_path / "one", quiet=2)
    assert [each.name for each in _found(tmp_path)] == ["single"]
    # Bytecode of another version is none.
    for path in (tmp_path / "one" / "__pycache__").iterdir():
        path.rename(path.with_name(path.name.replace("cpython-3", "cpython-9")))
    assert [each.name for each in _found(tmp_path)] == ["one", "single"]


def test_a_distribution_of_many_sources_is_judged_by_more_than_the_first(tmp_path: Path) -> None:
    files = {f"many/m{number:03}.py": "x = 1\n" for number in range(100)}
    fake_distribution(tmp_path, "many", "1.0", files=files)
    compileall.compile_dir(tmp_path / "many", quiet=2)
    bytecode = sorted((tmp_path / "many" / "__pycache__").iterdir())
    for path in bytecode[-60:-50]:
        path.unlink()
    assert _found(tmp_path) == []
    for path in bytecode[-50:]:
        path.unlink()
    assert _found(tmp_path) == [Uncompiled(name="many", sources=100, size_bytes=600)]


def test_scripts_and_what_an_image_left_out_do_not_count(tmp_path: Path) -> None:
    files = {"one/__init__.py": "x = 1\n", "two/__init__.py": "x = 1\n"}
    files |= {f"one/tests/t{number}.py": "x = 1\n" for number in range(9)}
    one = fake_distribution(tmp_path, "one", "1.0", files=files)
    with (one / "RECORD").open("a") as record:
        record.writelines(f"../../bin/s{number}.py,,9\n" for number in range(9))
    compileall.compile_dir(tmp_path / "one", quiet=2, maxlevels=0)
    assert _found(tmp_path) == [Uncompiled(name="one", sources=11, size_bytes=66)]
    shutil.rmtree(tmp_path / "one" / "tests")
    assert _found(tmp_path) == []


def test_lists_without_sizes_and_of_older_kinds_serve_as_well(tmp_path: Path) -> None:
    one = fake_distribution(tmp_path, "one", "1.0", files={"one.py": "x = 1\n"})
    (one / "RECORD").write_text("one.py,,\n")
    old = fake_distribution(tmp_path, "old", "1.0", files={"old.py": "xyz = 1\n"})
    (old / "RECORD").unlink()
    (old / "installed-files.txt").write_text("../old.py\n../gone.py\n")
    assert _found(tmp_path) == [
        Uncompiled(name="old", sources=1, size_bytes=8),
        Uncompiled(name="one", sources=1, size_bytes=6),
    ]
    compileall.compile_dir(tmp_path, quiet=2)
    assert _found(tmp_path) == []
