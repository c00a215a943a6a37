"""What real users ask for, resolved from the public index; nothing is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import distribution
from tests.index import Index
from tests.uv.conftest import Bench
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
