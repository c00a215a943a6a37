"""What the tests with the real uv share: uv without ambient configuration, and specs to try."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from tests import fakes
from tests.index import Index
from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.uv.environment import scrubbed_environment
from xinference_venv.uv.passes import Passes
from xinference_venv.uv.resolver import Resolver
from xinference_venv.uv.stub_wheels import write_stubs
from xinference_venv.uv.subprocess import ProcessRunner, Uv


def this_interpreter() -> Interpreter:
    """The running interpreter as a fact, without asking it; it sees no packages."""
    return Interpreter(
        executable=sys.executable,
        base_executable=os.path.realpath(sys.executable),
        version=platform.python_version(),
        markers={key: str(each) for key, each in default_environment().items() if key != "extra"},
        tags=tuple(str(tag) for tag in sys_tags()),
        search_path=(),
    )


def line(text: str) -> RequirementLine:
    """A line of the request, with its name."""
    return fakes.line(text, canonicalize_name(Requirement(text).name))


@dataclass(kw_only=True)
class Bench:
    """Resolves lines over a host with the real uv, from one index unless told otherwise."""

    uv: Uv
    folder: Path
    index: Index
    deadline: float = 60.0
    head_start: float = 1.0
    yielding: Mapping[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    _resolved: int = 0

    def spec(
        self, lines: Sequence[str], sources: PackageSources | None = None, **changes: Any
    ) -> EnvSpec:
        """The spec of these lines."""
        return fakes.spec(
            *map(line, lines),
            sources=sources or PackageSources(index_url=self.index.url),
            **{"interpreter": this_interpreter(), "roots": (), **changes},
        )

    async def resolve(
        self,
        *lines: str,
        host: Sequence[HostDistribution] = (),
        sources: PackageSources | None = None,
        **changes: Any,
    ) -> Resolution:
        """The resolution of these lines over a host with these distributions."""
        return await self.resolve_lines(
            tuple(map(line, lines)), host=host, sources=sources, **changes
        )

    async def resolve_lines(
        self,
        lines: Sequence[RequirementLine],
        *,
        host: Sequence[HostDistribution] = (),
        sources: PackageSources | None = None,
        **changes: Any,
    ) -> Resolution:
        """The same of lines that are read already."""
        self._resolved += 1
        scratch = self.folder / f"resolution-{self._resolved}"
        scratch.mkdir(parents=True)
        stubs = scratch / "stubs"
        stubs.mkdir()
        facts = fakes.host(*host, interpreter=this_interpreter())
        write_stubs(facts, stubs)
        spec = replace(self.spec((), sources, **changes), requirements=tuple(lines))
        passes = Passes(
            uv=self.uv,
            spec=spec,
            host=facts,
            stubs=stubs if spec.skip_installed else None,
            scratch=scratch,
            deadline=self.deadline,
            note=self.note,
        )
        resolver = Resolver(
            passes=passes, head_start=self.head_start, yielding=self.yielding, say=self.say
        )
        return (await resolver.resolve())[0]


@pytest.fixture
def uv(environ: dict[str, str]) -> Uv:
    """The real uv, which gives up at the first failure of the network."""
    environment = scrubbed_environment(environ, cache_dir=environ["UV_CACHE_DIR"])
    door = ProcessRunner(environment={**environment, "UV_HTTP_RETRIES": "0"}, slots=2)
    return Uv(program=find_uv_bin(), door=door)


@pytest.fixture
def bench(uv: Uv, index: Index, tmp_path: Path) -> Bench:
    """A bench over the test's own index."""
    return Bench(uv=uv, folder=tmp_path / "scratch", index=index)
