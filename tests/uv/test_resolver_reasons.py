"""Which distribution requires which, asked of the real uv over a local index and a host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import fakes
from tests.fakes import distribution
from tests.index import Index
from tests.uv.conftest import line, this_interpreter
from tests.wheels import build_sdist, build_wheel
from xinference_venv._util.tasks import ignore
from xinference_venv.planning.host import HostDistribution
from xinference_venv.planning.pylock import REQUEST
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.planning.sources import PackageSources
from xinference_venv.uv.passes import Passes
from xinference_venv.uv.resolver import Resolver
from xinference_venv.uv.stub_wheels import write_stubs
from xinference_venv.uv.subprocess import Uv

pytestmark = pytest.mark.uv


def resolver_of(
    uv: Uv,
    index: Index,
    scratch: Path,
    lines: Sequence[RequirementLine],
    host: Sequence[HostDistribution],
) -> Resolver:
    facts = fakes.host(*host, interpreter=this_interpreter())
    stubs = scratch / "the host's, as stubs"
    stubs.mkdir(parents=True)
    write_stubs(facts, stubs)
    passes = Passes(
        uv=uv,
        spec=fakes.spec(
            *lines,
            sources=PackageSources(index_url=index.url),
            interpreter=this_interpreter(),
            roots=(),
        ),
        host=facts,
        stubs=stubs,
        scratch=scratch,
        deadline=60.0,
        note=ignore,
    )
    return Resolver(passes=passes, say=ignore)


async def test_a_resolution_says_what_requires_what(uv: Uv, index: Index, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    build_wheel(wheels, "a", "1.0", requires=["b[extra]>=1"])
    build_wheel(wheels, "b", "1.5", requires=["c"], extras={"extra": ["e"]})
    build_wheel(wheels, "c", "0.3", requires=["d>=1", "b"])
    build_sdist(wheels, "e", "1.0")
    direct = build_wheel(tmp_path, "direct", "1.0", requires=["c"])
    lines = [line("A[none]"), fakes.line(direct.as_uri(), "direct"), line("d")]
    resolver = resolver_of(
        uv, index, tmp_path / "a, b", lines, [distribution("d", "1.1+local"), distribution("x")]
    )
    resolution, _ = await resolver.resolve()
    assert resolution.inherited == {"d": "1.1+local"}

    assert resolution.requirers == {
        "a": (REQUEST,),
        "b": ("a", "c"),
        "c": ("b", "direct"),
        "d": (REQUEST, "c"),
        "direct": (REQUEST,),
        "e": ("b",),
    }


async def test_what_the_host_alone_satisfies_is_explained_by_its_metadata(
    uv: Uv, index: Index, tmp_path: Path
) -> None:
    host = [distribution("a", "1.0", "b>2"), distribution("b", "3.0a1")]
    resolver = resolver_of(uv, index, tmp_path / "scratch", [line("a")], host)
    resolution, _ = await resolver.resolve()
    assert resolution.requirers == {"a": (REQUEST,), "b": ("a",)}
    assert index.requests == []
