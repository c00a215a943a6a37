"""What the real uv says of its cache, and pruning it."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.fakes import lock
from tests.index import Index
from tests.uv.conftest import Bench
from tests.wheels import build_wheel
from xinference_venv.settings import InheritMode
from xinference_venv.uv.installer import Builder
from xinference_venv.uv.subprocess import prune_cache, uncached_name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("DEBUG Identified uncached distribution: torch==2.8.0+cu128", "torch"),
        ("DEBUG Identified uncached distribution: a-b.c @ https://x/y.whl", "a-b.c"),
        ("DEBUG Registry requirement already cached: torch==2.8.0", None),
        ("Would download 3 packages", None),
        ("", None),
    ],
)
def test_a_line_names_what_is_not_in_the_cache(line: str, name: str | None) -> None:
    assert uncached_name(line) == name


@pytest.mark.uv
async def test_uv_says_offline_what_of_a_lock_it_would_have_to_fetch(
    bench: Bench, index: Index, tmp_path: Path
) -> None:
    names = {"here": "Wick.of_here", "there": "wick-of-there"}
    for name in names.values():
        build_wheel(tmp_path / "wheels", name, "1.0")
    resolution = await bench.resolve(*names.values())
    made = lock(*resolution.packages, inherit=InheritMode.NONE)
    first = lock(
        *(each for each in resolution.packages if each["name"] == canonicalize_name(names["here"]))
    )

    def builder(name: str) -> Builder:
        scratch = tmp_path / name
        scratch.mkdir()
        return Builder(
            uv=bench.uv,
            spec=bench.spec(list(names.values())),
            env=scratch / "env",
            scratch=scratch,
            deadline=60,
        )

    one = builder("one")
    await one.make_empty()
    assert await one.uncached(made) == {"wick-of-here", "wick-of-there"}
    await one.install(first, lambda _: None)
    other = builder("other")
    await other.make_empty()
    asked = len(index.requests)
    assert await other.uncached(made) == {"wick-of-there"}
    assert len(index.requests) == asked
    assert not list(other.env.glob("lib/python3*/site-packages/wick*"))


@pytest.mark.uv
async def test_pruning_leaves_what_can_be_found(bench: Bench, uv_cache: Path) -> None:
    dangling = uv_cache / "archive-v0" / "nobody-links-here"
    dangling.mkdir(parents=True)
    await prune_cache(bench.uv, deadline=60)
    assert not dangling.exists()
