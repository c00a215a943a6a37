"""What extension modules were built for, over real shared objects that the compiler makes here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fakes import interpreter
from tests.wheels import fake_distribution
from xinference_venv.store.host.built_for import built_with, numpy_range
from xinference_venv.store.host.scan import scan_distributions

# As numpy/__multiarray_api.h has it since 2.0, and before.
SINCE_2_0 = "module was compiled against NumPy C-API version 0x%x (NumPy {}) but the running NumPy"
BEFORE_2_0 = "module compiled against API version 0x%x but this version of numpy is 0x%x"


def shared_object(path: Path, *constants: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    texts = "".join(f'const char text_{n}[] = "{text}";\n' for n, text in enumerate(constants))
    source.write_text(f"int answer(void) {{ return 1; }}\n{texts}")
    command = ["cc", "-shared", "-nostdlib", "-fPIC", "-o", str(path), str(source)]
    subprocess.run(command, check=True)
    source.unlink()
    return str(path)


def test_who_uses_another_module_names_it(tmp_path: Path) -> None:
    others = {"numpy": {"numpy"}, "scikit-learn": {"sklearn"}}
    path = shared_object(tmp_path / "a.so", "numpy._core.multiarray")
    assert built_with([path], others) == ("numpy",)
    assert built_with([path, shared_object(tmp_path / "b.so", "sklearn.tree")], others) == (
        "numpy",
        "scikit-learn",
    )
    assert built_with([shared_object(tmp_path / "c.so")], others) == ()
    assert built_with([], others) == ()


def test_what_cannot_be_read_may_be_built_for_anything(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"\x7fELF and no more")
    for path in (str(damaged), str(tmp_path / "absent.so")):
        assert built_with([path], {"numpy": {"numpy"}}) == ("numpy",)
        assert numpy_range([path], "2.1.0") is None


@pytest.mark.parametrize(
    ("lowest", "here", "serving"),
    [
        (["1.23"], "2.4.6", ">=2,<3"),
        (["1.23", "2.3"], "2.4.6", ">=2.3,<3"),
        (["2.10", "2.9"], "2.10.0", ">=2.10,<3"),
        (["1.23"], "1.26.4", ">=1.23,<2"),
        ([], "2.4.6", ">=2,<3"),
    ],
)
def test_the_oldest_numpy_is_what_its_headers_left_in_the_module(
    tmp_path: Path, lowest: list[str], here: str, serving: str
) -> None:
    paths = [
        shared_object(tmp_path / f"{number}.so", SINCE_2_0.format(version))
        for number, version in enumerate(lowest)
    ]
    assert numpy_range([*paths, shared_object(tmp_path / "other.so")], here) == serving


def test_headers_before_numpy_2_do_not_tell(tmp_path: Path) -> None:
    new = shared_object(tmp_path / "new.so", SINCE_2_0.format("1.23"))
    old = shared_object(tmp_path / "old.so", BEFORE_2_0)
    assert numpy_range([new, old], "1.26.4") is None


def test_a_scan_tells_it_of_compiled_distributions_that_require_compiled_ones(
    tmp_path: Path,
) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    files = {"numpy": [], "scipy": ["numpy", SINCE_2_0.format("2.1")], "xoscar": ["json"]}
    for name, constants in files.items():
        requires = [] if name == "numpy" else ["numpy"]
        fake_distribution(site, name, "2.4.6", requires=requires, files={f"{name}/_c.so": ""})
        shared_object(site / name / "_c.so", *constants)
    fake_distribution(site, "pure", "1.0", requires=["numpy"], files={"pure.py": ""})
    found, _ = scan_distributions(interpreter(search_path=(str(site),)))
    assert {each.name: (each.built_with, each.numpy_range) for each in found} == {
        "numpy": ((), None),
        "scipy": (("numpy",), ">=2.1,<3"),
        "xoscar": ((), None),
        "pure": ((), None),
    }
