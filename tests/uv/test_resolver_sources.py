"""Wheels or sources, as the real uv resolves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import distribution
from tests.index import Index
from tests.uv.conftest import Bench
from tests.wheels import build_sdist, build_wheel, git_repository
from xinference_venv.planning.sources import PackageSources

pytestmark = pytest.mark.uv

NO_WHEEL = "no index that is asked has a wheel of this version that fits"


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


async def test_an_older_wheel_is_not_taken_for_a_newer_source(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "speed", "0.3.1")
    build_sdist(wheels, "speed", "0.19.8")
    found = await bench.resolve("speed")
    assert found.installed == {"speed": "0.19.8"}
    assert found.warnings == (f"speed 0.19.8 is built from source: {NO_WHEEL}",)


async def test_an_older_parent_is_not_taken_to_avoid_a_source(bench: Bench, wheels: Path) -> None:
    build_sdist(wheels, "legacy", "1.0")
    build_wheel(wheels, "app", "1.0")
    build_wheel(wheels, "app", "2.0", requires=["legacy"])
    found = await bench.resolve("app")
    assert found.installed == {"app": "2.0", "legacy": "1.0"}
    assert found.warnings == (f"legacy 1.0 is built from source: {NO_WHEEL}",)


# A build in a version stays out of the bounds: uv knows no ``>=2.9.1+cpu``.
@pytest.mark.parametrize("version", ["1.0", "2.9.1+cpu"])
async def test_newer_wheels_are_taken_where_sources_lead_back_to_an_ancient_release(
    bench: Bench, wheels: Path, version: str
) -> None:
    build_wheel(wheels, "app", version, requires=["parent"])
    build_wheel(wheels, "parent", "2.1", requires=["tokens<1"])
    build_wheel(wheels, "parent", "2.0", requires=["tokens"])
    build_sdist(wheels, "tokens", "0.1")
    build_wheel(wheels, "tokens", "5.0")
    found = await bench.resolve("app")
    assert found.installed == {"app": version, "parent": "2.0", "tokens": "5.0"}
    assert found.warnings == ()
    # Not at the price of an older release of what is asked for.
    found = await bench.resolve("app", "parent")
    assert found.installed == {"app": version, "parent": "2.1", "tokens": "0.1"}
    assert found.warnings == (f"tokens 0.1 is built from source: {NO_WHEEL}",)


async def test_a_wheel_of_another_platform_is_none(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "foreign", "1.0", tag="cp311-cp311-win_amd64")
    build_sdist(wheels, "foreign", "1.0")
    found = await bench.resolve("foreign")
    assert found.warnings == (f"foreign 1.0 is built from source: {NO_WHEEL}",)


async def test_what_is_inherited_stays_inherited_next_to_what_is_built(
    bench: Bench, wheels: Path
) -> None:
    build_sdist(wheels, "legacy", "2.0", requires=["lib"])
    build_wheel(wheels, "legacy", "1.0", requires=["lib>=2"])
    build_wheel(wheels, "lib", "2.0")
    found = await bench.resolve("legacy", host=[distribution("lib", "1.0")])
    assert found.installed == {"legacy": "2.0"}
    assert found.inherited == {"lib": "1.0"}


async def test_a_repository_and_an_archive_stay_what_was_asked_for(
    bench: Bench, wheels: Path, tmp_path: Path
) -> None:
    repository = git_repository(build_sdist(tmp_path, "tool", "1.0"), tmp_path / "repository")
    build_sdist(wheels, "legacy", "2.0")
    build_wheel(wheels, "legacy", "2.5", requires=["absent"])
    archive = build_sdist(tmp_path, "packed", "1.0")
    found = await bench.resolve(
        f"tool @ git+{repository.as_uri()}", f"packed @ {archive.as_uri()}", "legacy"
    )
    assert found.installed == {"legacy": "2.0", "packed": "1.0", "tool": "1.0"}
    legacy, packed, tool = found.warnings
    assert legacy == f"legacy 2.0 is built from source: {NO_WHEEL}"
    assert packed.startswith("packed 1.0 is built from source: it is asked for as ")
    assert tool.startswith(
        f"tool 1.0 is built from source: it is asked for as {repository.as_uri()}@"
    )


async def test_a_build_without_isolation_sees_the_host_while_it_is_resolved(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_sdist(wheels, "seeing", "1.0", backend="import hypothesis\n")
    sources = PackageSources(index_url=index.url, no_build_isolation=True)
    found = await bench.resolve("seeing", sources=sources)
    assert found.installed == {"seeing": "1.0"}


# What a build sees


BUILDING = "import lib\nassert lib.__version__ == '{version}', lib.__version__\n"


@pytest.mark.parametrize("needed", ["lib", "lib==2.0", "lib>=1"])
async def test_a_stub_of_the_host_never_reaches_a_build(
    bench: Bench, wheels: Path, needed: str
) -> None:
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lib", version)
    backend = BUILDING.format(version="2.0")
    build_sdist(wheels, "legacy", "1.0", backend=backend, build_requires=[needed])
    host = [distribution("lib", "2.0"), distribution("other", "1.0")]
    # With all of the host kept, where some of it gives way, and where it satisfies all but one.
    build_wheel(wheels, "other", "2.0")
    for lines in (["legacy"], ["legacy", "other>=2"], ["legacy", "lib"]):
        found = await bench.resolve(*lines, host=host)
        assert found.installed["legacy"] == "1.0"
        assert "lib" not in found.installed
