"""Where the files of a wheel may lie, and what is said of those that lie elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wheels import fake_distribution
from xinference_venv.errors import InstallFailed
from xinference_venv.store.envs.layer import PTH_NAME
from xinference_venv.store.envs.placement import check_placement, refusal

BASE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    "path",
    [
        "../outside.txt",
        "/etc/passwd",
        "inherited/0/victim/__init__.py",
        "inherited",
        "Inherited/0/victim/__init__.py",
        "view/victim/__init__.py",
        "pycache/root/victim.pyc",
        "pyvenv.cfg",
        "PyVenv.cfg",
        "bin/xinference-venv-python",
        "xinference-venv.json",
        "xinference-venv.lock.json",
        "xinference-venv.files.json",
        "xinference-venv-broken.json",
        f"{BASE}/{PTH_NAME}",
        f"lib64/python3.11/site-packages/{PTH_NAME}",
        "lib/python3.0/site-packages/x.py",
        "lib64/python3.0/site-packages/x.py",
    ],
)
def test_what_is_ours_or_outside_is_refused(path: str) -> None:
    assert refusal(path, BASE) is not None


@pytest.mark.parametrize(
    "path",
    [
        f"{BASE}/victim/__init__.py",
        f"{BASE}/inherited/__init__.py",
        f"{BASE}/view/pyvenv.cfg",
        "lib64/python3.11/site-packages/x.py",
        "lib/libx.so",
        "lib/pythonic/x.txt",
        "bin/inherited",
        "share/view/x.txt",
        "viewer/x.txt",
    ],
)
def test_a_wheel_may_put_its_files_anywhere_else(path: str) -> None:
    assert refusal(path, BASE) is None


def _environment(env: Path, row: str) -> Path:
    site_packages = env / BASE
    fake_distribution(site_packages, "My-Lib", "1.0", files={"my_lib.py": "", row: "x"})
    return site_packages


@pytest.mark.parametrize("row", ["../../../bin/tool", "../../../share/my/x.txt", "a..b/x"])
def test_programs_and_data_of_a_wheel_are_accepted(tmp_path: Path, row: str) -> None:
    check_placement(tmp_path, _environment(tmp_path, row))


@pytest.mark.parametrize(
    "row", ["../../../inherited/0/x.py", PTH_NAME, "my_lib-1.0.data/purelib/../../x"]
)
def test_the_refusal_names_the_package_and_the_file(tmp_path: Path, row: str) -> None:
    with pytest.raises(InstallFailed, match="my-lib is refused") as caught:
        check_placement(tmp_path, _environment(tmp_path, row))
    assert caught.value.details["package"] == "my-lib"
    assert caught.value.details["path"] in str(caught.value)


def test_a_file_of_ours_that_no_record_names_is_refused(tmp_path: Path) -> None:
    site_packages = _environment(tmp_path, "other.py")
    (site_packages / PTH_NAME).write_text("import evil\n")
    with pytest.raises(InstallFailed, match=PTH_NAME):
        check_placement(tmp_path, site_packages)
