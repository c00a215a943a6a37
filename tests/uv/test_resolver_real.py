"""What real users ask for, resolved from the public index; nothing is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from tests.fakes import distribution
from tests.index import Index
from tests.uv.conftest import Bench, line
from xinference_venv.errors import ResolutionFailed
from xinference_venv.planning.sources import PackageSources

pytestmark = [pytest.mark.uv, pytest.mark.network]

# docopt has no wheel, and its build needs setuptools: the host has what the build would pick.
BUILD_TOOLS = ("setuptools", "wheel", "numpy", "cython")


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_source_of_pypi_is_built_on_a_host_with_the_newest_build_tools(
    bench: Bench, index: Index, tmp_path: Path, *, pinned: bool
) -> None:
    newest = await bench.resolve(*BUILD_TOOLS, sources=PackageSources())
    host = [distribution(name, version or "0") for name, version in newest.installed.items()]
    lines = ["docopt", *(f"{each.name}=={each.version}" for each in host if pinned)]
    found = await bench.resolve(*lines, host=host, sources=PackageSources())
    assert found.installed == {"docopt": "0.6.2"}
    assert index.requests == []


async def test_vllm_is_planned_on_a_host_whose_numpy_is_too_new_for_it(bench: Bench) -> None:
    # It pins numba, which allows no numpy 2.4; Xinference's specs ask for the host's.
    system = replace(line("numpy==2.4.6"), written="#system_numpy#")
    host = [distribution("numpy", "2.4.6", compiled=True)]
    found = await bench.resolve_lines(
        (line("vllm==0.11.2"), system), host=host, sources=PackageSources()
    )
    assert found.installed["vllm"] == "0.11.2"
    assert Version(found.installed["numpy"] or "0") < Version("2.4")
    [warning] = [each for each in found.warnings if each.startswith("#system_numpy#")]
    assert "the host's numpy 2.4.6 gives way" in warning
    assert "numba requires numpy" in warning
    # Where the pins have no wheels, it is asked twice more whether other versions have.
    assert bench.uv.calls <= (3 if sys.version_info < (3, 14) else 5)


async def test_torchvision_of_pypi_is_not_taken_next_to_a_torch_for_cpus(bench: Bench) -> None:
    # PyPI's is built for CUDA, and fails at import: "operator torchvision::nms does not exist".
    host = [distribution("torch", "2.13.0+cpu", compiled=True), distribution("numpy", "2.4.6")]
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve("torchvision", host=host, sources=PackageSources())
    words = str(caught.value)
    assert "the host's torch 2.13.0+cpu works only with torchvision==0.28.0+cpu" in words
    assert "download.pytorch.org/whl/cpu" in str(caught.value.details["hint"])
