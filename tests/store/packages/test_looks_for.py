"""What sources look for outside of their own package, evaluated over their syntax trees."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xinference_venv.planning.package import LooksFor, Way
from xinference_venv.store.packages.looks_for import looks_for

_HEAD = (
    "import os, os.path as osp, pathlib\n"
    "from pathlib import Path\n"
    "here = os.path.dirname(__file__)\n"
)


def found(tmp_path: Path, source: str, path: str = "finder/__init__.py") -> list[tuple[str, Way]]:
    """What a module of the package ``finder`` looks for, without repetition."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(_HEAD + source)
    return [(each.name, each.way) for each in looks_for(tmp_path, [path], {"finder"})]


@pytest.mark.parametrize(
    ("source", "way"),
    [
        ("open(os.path.join(here, '..', 'weights', 'w.bin'))", Way.PARENT),
        ("open(here + '/../weights/w.bin')", Way.PARENT),
        ("open(f'{here}/../weights/w.bin')", Way.PARENT),
        ("open(os.path.join(here, 'sub', '..', os.pardir, 'weights'))", Way.PARENT),
        ("open(os.path.join(__path__[0], '..', 'weights'))", Way.PARENT),
        ("x = Path(here) / '..' / 'weights'", Way.PARENT),
        ("x = os.path.join(os.path.dirname(osp.realpath(here)), 'weights')", Way.REALPATH),
        ("x = osp.abspath(osp.join(osp.realpath(here), '..', 'weights'))", Way.REALPATH),
        ("x = Path(__file__).resolve().parents[1] / 'weights' / 'w.bin'", Way.RESOLVE),
        ("x = pathlib.Path(here).resolve().parent.joinpath('weights', 'w')", Way.RESOLVE),
        ("x = list(Path(here).resolve().parent.glob('weights/*.bin'))", Way.RESOLVE),
        ("def f():\n    b = Path(here).resolve().parent\n    (b / 'weights').stat()", Way.RESOLVE),
        (
            "class A:\n    def f(self):\n        self.root = Path(here).resolve().parent\n"
            "        return self.root / 'weights'",
            Way.RESOLVE,
        ),
        ("if os.path.exists(os.path.join(here, '..', 'weights')):\n    pass", Way.PARENT),
        ("import ctypes\nctypes.CDLL(os.path.join(here, '..', 'weights', 'lib.so'))", Way.PARENT),
    ],
)
def test_a_path_that_the_system_resolves_looks_for_its_first_name(
    tmp_path: Path, source: str, way: Way
) -> None:
    assert found(tmp_path, source) == [("weights", way)]


@pytest.mark.parametrize(
    "source",
    [
        # By text alone the view is not left.
        "x = os.path.join(os.path.dirname(here), 'weights')",
        "x = Path(__file__).parent.parent / 'weights'",
        "x = Path(__file__).absolute().parents[1] / 'weights'",
        "x = os.path.abspath(os.path.join(here, '..', 'weights'))",
        "x = os.path.normpath(here + '/../weights')",
        # What stays in the package, or is not known.
        "x = os.path.join(here, '..', 'finder', 'data')",
        "x = Path(__file__).resolve().parent / 'data'",
        "x = Path(__file__).resolve().parents[1]",
        "def f(name):\n    return Path(__file__).resolve().parents[1] / name",
        "x = os.path.join('..', 'weights')",
        "x = os.path.join(here, '..', '/weights')",
        "x = os.path.realpath(os.getcwd()) + '/weights'",
        # Text that only looks like it.
        "'''os.path.join(here, '..', 'weights')'''",
        "x = Path(__file__).resolve().parents[n] / 'weights'",
    ],
)
def test_what_stays_in_the_view_or_in_the_package_looks_for_nothing(
    tmp_path: Path, source: str
) -> None:
    assert found(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = os.path.join(here, *[os.pardir] * 1, 'weights')",
        "x = os.path.join(here, *(['..'] * 1), 'weights')",
        "x = os.path.join(*[here, '..', 'weights'])",
        "x = os.path.join(here, '..', 'weights', unknown)",
        "def f(name):\n    return Path(__file__).resolve().parents[1] / 'weights' / name",
        "x = '%s/../weights' % here",
        "x = '{}/../weights'.format(here)",
        "x = os.path.dirname(__file__)\nx += '/../weights'",
        "x = Path(__file__).resolve().parent.parent\nx /= 'weights'",
        "x, y = here, '..'\nz = os.path.join(x, y, 'weights')",
        "x = os.path.join(os.path.split(os.path.split(osp.realpath(__file__))[0])[0], 'weights')",
        "from os import pardir\nx = os.path.join(here, pardir, 'weights')",
        "from os import pardir as up\nx = os.path.join(here, up, 'weights')",
        "from os.path import join as pjoin\nx = pjoin(here, '..', 'weights')",
        "pjoin = os.path.join\nx = pjoin(here, '..', 'weights')",
        "def f():\n    return osp.realpath(os.path.dirname(__file__))\n"
        "x = os.path.join(f(), '..', 'weights')",
        "class A:\n    def f(self):\n        return Path(__file__).resolve().parent\n"
        "    def g(self):\n        return self.f().parent / 'weights'",
        "class A:\n    f = Path(__file__).resolve().parent\n"
        "    def g(self):\n        return self.f.parent / 'weights'",
        "def f(place=os.path.join(here, '..', 'weights')):\n    pass",
        "def f(*, place=here):\n    return os.path.join(place, '..', 'weights')",
        "x = os.path.join(here if y else z, '..', 'weights')",
        "x = os.path.join(os.environ.get('X') or here, '..', 'weights')",
        "import finder\nx = os.path.join(os.path.dirname(finder.__file__), '..', 'weights')",
        "x = os.path.join(os.path.dirname(__spec__.origin), '..', 'weights')",
    ],
)
def test_the_ways_in_which_a_path_is_written_are_understood(tmp_path: Path, source: str) -> None:
    assert "weights" in {name for name, _ in found(tmp_path, source)}


def test_the_file_of_the_frame_that_runs_is_the_source_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text(
        "import inspect, os\n"
        "place = os.path.realpath(inspect.getfile(inspect.currentframe()))\n"
        "other = os.path.realpath(inspect.getfile(object))\n"
        "x = os.path.join(os.path.dirname(place), '..', 'weights')\n"
        "y = os.path.join(os.path.dirname(other), '..', 'others')\n"
    )
    [looks] = looks_for(tmp_path, ["a/b.py"], {"a"})
    assert (looks.name, looks.way) == ("weights", Way.REALPATH)


def test_what_a_method_of_another_object_returns_is_not_known(tmp_path: Path) -> None:
    source = "def f():\n    return osp.realpath(here)\nx = os.path.join(y.f(), '..', 'weights')"
    assert found(tmp_path, source) == []


def test_deeper_modules_climb_further(tmp_path: Path) -> None:
    source = "x = Path(__file__).resolve().parents[2] / 'weights'"
    assert found(tmp_path, source, "finder/sub/a.py") == [("weights", Way.RESOLVE)]


def test_what_lies_above_site_packages_is_named_from_there(tmp_path: Path) -> None:
    source = "x = Path(__file__).resolve().parents[3] / 'cmake' / 'x.cmake'"
    assert found(tmp_path, source) == [("../../cmake/x.cmake", Way.RESOLVE)]
    [looks] = looks_for(tmp_path, ["finder/__init__.py"], {"finder"})
    assert looks.is_above


@pytest.mark.parametrize("source", ["def f(:\n", "x = 1\n" * 3 + "\0", "(" * 5000])
def test_a_source_that_is_none_looks_for_nothing(tmp_path: Path, source: str) -> None:
    text = "__file__ = '..'\nrealpath\n" + source
    (tmp_path / "a.py").write_text(text)
    assert looks_for(tmp_path, ["a.py", "gone.py"], set()) == ()


def test_a_module_at_the_top_has_its_neighbours_one_step_up(tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text(_HEAD + "open(os.path.join(here, 'weights', '..', 'w'))\n")
    assert looks_for(tmp_path, ["single.py"], {"single.py"}) == (
        LooksFor(name="w", way=Way.PARENT, path="single.py"),
    )


def test_many_threads_may_look_at_once(tmp_path: Path) -> None:
    """CPython 3.11 mixes up the depths of syntax trees that several threads make, where a
    collection of garbage lets another thread run in the middle of one.
    """
    source = "open(os.path.join(here, '..', 'weights'))\n" + "x = ((1,), (2,))\n" * 500
    paths = [f"finder/m{number}.py" for number in range(16)]
    (tmp_path / "finder").mkdir()
    for path in paths:
        (tmp_path / path).write_text(_HEAD + source)

    def let_others_run(*_: object) -> None:
        time.sleep(1e-6)

    thresholds = gc.get_threshold()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as threads:
            looks = threads.map(lambda path: looks_for(tmp_path, [path], {"finder"}), paths)
            assert [each.name for found in looks for each in found] == ["weights"] * len(paths)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_run)


@pytest.mark.parametrize(
    ("source", "way"),
    [
        # A step that has a name is used more than once.
        ("UP = '..'\nopen(os.path.join(here, UP, UP, 'weights'))", Way.PARENT),
        ("up = os.pardir\nopen(os.path.join(here, up, up, 'weights'))", Way.PARENT),
        ("open(here + '/../../weights')", Way.PARENT),
        ("open(os.path.join(__path__[0], '..', '..', 'weights'))", Way.PARENT),
        ("open(os.path.realpath(here) + '/../../weights')", Way.REALPATH),
        ("x = Path(here).resolve().parents[ 1 ] / 'weights'", Way.RESOLVE),
        ("x = Path(__file__).resolve().with_name('x').parent.parent / '../weights'", Way.RESOLVE),
    ],
)
def test_a_deep_module_takes_a_step_for_each_directory(
    tmp_path: Path, source: str, way: Way
) -> None:
    assert found(tmp_path, source, "finder/a/b.py") == [("weights", way)]


@pytest.mark.parametrize(
    "definition",
    [
        "class A:\n    def f(self):\n        return open(root + '/weights')",
        "@found_in(root + '/weights')\nclass A:\n    pass",
        "class A:\n    def f(self):\n        return open(__file__ + '/../../weights')",
    ],
)
def test_a_definition_is_judged_that_names_a_path(tmp_path: Path, definition: str) -> None:
    source = f"root = os.path.join(here, '..')\n{definition}\n"
    assert found(tmp_path, source) == [("weights", Way.PARENT)]


@pytest.mark.parametrize(
    "before",
    [
        # Lines at the margin that begin no definition, and end none.
        "TEMPLATE = '''\ndef f():\n    pass\n'''\n",
        "def f():\n    '''\nUsage:\n  g()\n    '''\n    return here\n",
        "def f():\n    x = '''\ndef g(\nUsage:\n'''\n    return here\n",
        "def f(\n    a,\n):\n# of g\n    return a\n",
        "@wrap\n@wrap(\n    here\n)\ndef f():\n    pass\n",
        "class A: pass\nclass B: x = here\n",
        "async def f():\n    async with here:\n        pass\n",
        # Names that begin as definitions do.
        "definition = classes = asynchronous = here\n",
        "def f():\n    return '\\xe9', here\n",
    ],
)
def test_what_follows_a_definition_is_judged_wherever_that_ends(
    tmp_path: Path, before: str
) -> None:
    source = f"{before}up = os.path.join(here, '..')\ndef last():\n    open(up + '/weights')\n"
    assert found(tmp_path, source) == [("weights", Way.PARENT)]


def test_a_source_in_an_encoding_of_its_own_is_judged(tmp_path: Path) -> None:
    head = "# -*- coding: latin-1 -*-\n" + _HEAD + "def f():\n    return here, '\xe9'\n"
    source = head + "open(os.path.join(here, '..', 'weights'))\n"
    (tmp_path / "finder").mkdir()
    (tmp_path / "finder" / "a.py").write_bytes(source.encode("latin-1"))
    assert [each.name for each in looks_for(tmp_path, ["finder/a.py"], {"finder"})] == ["weights"]
