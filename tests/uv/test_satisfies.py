from __future__ import annotations

import pytest

from tests.fakes import line
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.uv.satisfies import contradicted


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], False),
        ([line("torch", "torch")], False),
        ([line("numpy", "numpy")], False),
        ([line("numpy>=1.26", "numpy")], False),
        ([line("numpy==1.26.4", "numpy")], False),
        ([line("numpy[extra]==1.26.4", "numpy")], False),
        ([line("numpy>=2", "numpy")], True),
        ([line("numpy==1.26.3", "numpy")], True),
        ([line("numpy>=1", "numpy"), line("numpy<1.20", "numpy")], True),
        ([line("NumPy>=2", "numpy")], True),
        ([line("torch>=3", "torch")], False),
        ([line("numpy @ https://host.example/numpy.zip", "numpy")], True),
        ([line("numpy @ file:/wheels/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("https://host.example/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("file:/wheels/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("git+https://host.example/numpy.git", None)], False),
    ],
)
def test_a_request_contradicts_the_hosts_version_if_it_excludes_it(
    lines: list[RequirementLine], expected: bool
) -> None:
    assert contradicted("numpy", "1.26.4", lines) is expected


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.8.0a0+34c6371d24.nv25.8", ">=2.7", False),
        ("2.8.0a0+34c6371d24.nv25.8", ">=2.8", True),
        ("2.8.0a0+34c6371d24.nv25.8", "==2.8.0a0+34c6371d24.nv25.8", False),
        ("2.8.0+cu128", "==2.8.0", False),
        ("2.8.0+cu128", "==2.8.0+cpu", True),
        ("2.8.0rc1", ">2", False),
    ],
)
def test_local_and_pre_release_builds_of_the_host_count_as_what_they_are(
    version: str, specifier: str, expected: bool
) -> None:
    assert contradicted("torch", version, [line(f"torch{specifier}", "torch")]) is expected
