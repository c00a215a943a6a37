"""Building with the real uv: exactly the lock, hashes checked, from a cache, anywhere."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from tests.fakes import distribution, lock
from tests.index import Index
from tests.uv.conftest import Bench, this_interpreter
from tests.wheels import build_sdist, build_wheel
from xinference_venv.errors import BuildFailed, InstallFailed
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.sources import PackageSources
from xinference_venv.settings import InheritMode
from xinference_venv.store.envs.inspect import inspect_env, site_packages_of
from xinference_venv.uv.installer import Builder, split_into_stretches, with_credentials

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


def lock_of(resolution: Resolution) -> EnvLock:
    made = lock(*resolution.packages, inherit=InheritMode.NONE)
    # As another process, or another host, gets it.
    return EnvLock.from_dict(json.loads(json.dumps(made.to_dict())))


@dataclass(kw_only=True)
class Builds:
    """Makes builders, each with an environment and a scratch folder of its own."""

    bench: Bench
    folder: Path
    _made: int = 0

    def __call__(self, *lines: str, sources: PackageSources | None = None, **more: Any) -> Builder:
        self._made += 1
        scratch = self.folder / str(self._made)
        scratch.mkdir(parents=True)
        return Builder(
            uv=self.bench.uv,
            spec=self.bench.spec(lines, sources, **more),
            env=scratch / "env",
            scratch=scratch,
            deadline=60,
        )


@pytest.fixture
def builds(bench: Bench, tmp_path: Path) -> Builds:
    return Builds(bench=bench, folder=tmp_path / "builds")


async def build(
    builder: Builder, made: EnvLock, on_line: Callable[[str], None] = lambda _: None
) -> Mapping[str, str]:
    """Build, and return what is installed; that files and records agree is asserted."""
    await builder.make_empty()
    await builder.install(made, on_line)
    found = inspect_env(builder.env, site_packages_of(builder.env))
    assert found.faults == ()
    return found.installed


def run(program: Path, *arguments: str) -> str:
    command = [str(program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def test_exactly_the_lock_is_installed(bench: Bench, builds: Builds, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0", requires=["not-in-the-lock"])
    build_wheel(wheels, "not-in-the-lock", "1.0")
    host = [distribution("not-in-the-lock", "1.0"), distribution("other", "1.0")]
    made = lock_of(await bench.resolve("lib", "other", host=host))
    build_wheel(wheels, "lib", "1.1")
    builder = builds("lib")
    lines: list[str] = []
    assert await build(builder, made, lines.append) == {"lib": "1.0"}
    assert run(builder.env / "bin" / "python", "-Ic", "import lib; print(lib.__version__)") == "1.0"
    assert "Installed 1 package" in "\n".join(lines)


async def test_a_lock_that_installs_nothing_takes_no_uv(builds: Builds) -> None:
    builder = builds()
    await builder.make_empty()
    calls = builder.uv.calls
    await builder.install(lock(), lambda _: None)
    assert builder.uv.calls == calls
    assert run(builder.env / "bin" / "python", "-Ic", "print('works')") == "works"


async def test_a_wheel_that_is_cut_off_is_refused_and_the_next_try_heals_it(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "severed", "1.0")
    made = lock_of(await bench.resolve("severed"))
    index.cut("/files/severed-*.whl", 100)
    builder = builds("severed")
    with pytest.raises(InstallFailed, match="severed"):
        await build(builder, made)
    index.heal()
    assert await build(builds("severed"), made) == {"severed": "1.0"}


async def test_a_lock_whose_hash_was_forged_is_refused_also_from_the_cache(
    bench: Bench, builds: Builds, wheels: Path
) -> None:
    build_wheel(wheels, "forged", "1.0")
    made = lock_of(await bench.resolve("forged"))
    await build(builds("forged"), made)
    data = json.loads(json.dumps(made.to_dict()))
    data["packages"][0]["wheels"][0]["hashes"] = {"sha256": "0" * 64}
    with pytest.raises(InstallFailed, match="Hash mismatch"):
        await build(builds("forged"), EnvLock.from_dict(data))


async def test_a_lock_of_an_index_with_a_password_has_none_and_is_installed_with_it(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "guarded", "1.0")
    build_wheel(wheels, "guarded-too", "1.0")
    url = index.require_auth("me", "p@ss/word")
    sources = PackageSources(index_url=url)
    made = lock_of(await bench.resolve("guarded", "guarded-too", sources=sources))
    assert "ss" not in json.dumps(made.to_dict()["packages"]).replace("hashes", "")
    builder = builds("guarded", "guarded-too", sources=sources)
    assert await build(builder, made) == {"guarded": "1.0", "guarded-too": "1.0"}
    assert "p@ss" not in "".join(index.requests)
    left = [path for path in builder.env.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in left if b"p%40ss" in path.read_bytes()] == []


async def test_a_password_that_is_refused_at_the_install_is_not_shown(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "locked-out", "1.0")
    good = PackageSources(index_url=index.require_auth("me", "right-password"))
    made = lock_of(await bench.resolve("locked-out", sources=good))
    bad = PackageSources(index_url=index.url.replace("//", "//me:wrong-password@"))
    builder = builds("locked-out", sources=bad)
    await builder.make_empty()
    with pytest.raises(InstallFailed, match="401") as caught:
        await builder.install(made, lambda _: None)
    assert "-password" not in json.dumps(caught.value.to_dict())


async def test_a_second_environment_comes_from_the_cache_with_the_index_gone(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    build_sdist(wheels, "source", "1.0")
    made = lock_of(await bench.resolve("lib", "source"))
    first = builds("lib", "source")
    installed = await build(first, made)
    index.clear()
    index.fail("*", 500)
    second = builds("lib", "source")
    assert await build(second, made) == installed == {"lib": "1.0", "source": "1.0"}
    assert index.requests == []


async def test_an_ordinary_resolution_and_a_lock_share_what_was_fetched(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    made = lock_of(await bench.resolve("lib"))
    await build(builds("lib"), made)
    files = [each for each in index.requests if each.endswith(".whl")]
    assert files == ["GET /files/lib-1.0-py3-none-any.whl"]


async def test_an_index_that_fails_at_the_install_is_named(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "failing", "1.0")
    made = lock_of(await bench.resolve("failing"))
    index.fail("/files/failing-*.whl", 503)
    with pytest.raises(InstallFailed, match="503"):
        await build(builds("failing"), made)


async def test_an_environment_works_wherever_it_is_moved_to(
    bench: Bench, builds: Builds, wheels: Path, tmp_path: Path
) -> None:
    build_wheel(
        wheels,
        "lib",
        "1.0",
        modules={"lib.py": "import sys\ndef main(): print(sys.prefix)\n"},
        entry_points={"lib-command": "lib:main"},
    )
    made = lock_of(await bench.resolve("lib"))
    builder = builds("lib")
    await build(builder, made)
    moved = tmp_path / "moved" / "there"
    moved.parent.mkdir()
    builder.env.rename(moved)
    assert run(moved / "bin" / "python", "-Ic", "import lib; lib.main()") == str(moved)
    assert run(moved / "bin" / "lib-command") == str(moved)


async def test_a_wheel_of_a_folder_is_installed_by_another_job(
    bench: Bench, builds: Builds, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder #1"
    folder.mkdir()
    build_wheel(folder, "foldered", "1.0")
    build_sdist(folder, "foldered-source", "1.0")
    sources = PackageSources(no_index=True, find_links=(str(folder),))
    lines = ("foldered", "foldered-source")
    made = lock_of(await bench.resolve(*lines, sources=sources))
    expected = {"foldered": "1.0", "foldered-source": "1.0"}
    assert await build(builds(*lines, sources=sources), made) == expected


async def test_a_direct_url_with_a_token_is_locked_without_and_fetched_with_it(
    bench: Bench, builds: Builds, index: Index, wheels: Path
) -> None:
    wheel = build_wheel(wheels, "direct", "1.0")
    base = index.url.removesuffix("simple/")
    login = index.require_auth("me", "hunter22").partition("//")[2].partition("@")[0]
    direct = f"{base.replace('//', f'//{login}@')}files/{wheel.name}"
    found = await bench.resolve(f"direct @ {direct}")
    assert "hunter22" not in str(found)
    builder = builds(f"direct @ {direct}")
    assert await build(builder, lock_of(found)) == {"direct": "1.0"}
    record = site_packages_of(builder.env) / "direct-1.0.dist-info" / "direct_url.json"
    assert not record.exists() or "hunter22" not in record.read_text()


async def test_an_interpreter_that_is_gone_makes_no_environment(
    builds: Builds, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone" / "python3")
    builder = builds(interpreter=replace(this_interpreter(), base_executable=gone))
    with pytest.raises(BuildFailed, match="gone/python3"):
        await builder.make_empty()


@given(st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 10**9) | st.none()))
def test_all_are_installed_whatever_their_sizes_and_the_largest_are_in_no_one_stretch(
    found: dict[str, int | None],
) -> None:
    packages = [{"name": name} for name in found]
    sizes = {name: size for name, size in found.items() if size is not None}
    order = [each["name"] for each in split_into_stretches(packages, sizes)]
    assert sorted(order) == sorted(found)
    stretch = -(-len(order) // 4)
    largest = sorted(sizes, key=lambda name: -sizes[name])[:4]
    if len(set(sizes.values())) == len(sizes) and len(largest) == 4:
        places = sorted(order.index(name) for name in largest)
        assert all(later - earlier >= stretch - 1 for earlier, later in itertools.pairwise(places))


def test_only_places_of_the_same_server_get_a_password_back() -> None:
    document = {
        "packages": [
            {"name": "a", "wheels": [{"url": "https://index.example/a.whl", "size": 1}]},
            {"name": "b", "wheels": [{"url": "http://index.example/b.whl"}]},
            {"name": "c", "wheels": [{"url": "https://index.example:8443/c.whl"}]},
            {"name": "d", "wheels": [{"url": "https://evil.example/index.example/d.whl"}]},
            {"name": "e", "archive": {"url": "https://store.example/e.zip", "note": "https://x"}},
        ]
    }
    completed = with_credentials(
        document, ["https://me:secret@index.example/simple/", "https://store.example/e.zip?sig=1"]
    )
    urls = [
        each["wheels"][0]["url"] if "wheels" in each else each["archive"]["url"]
        for each in completed["packages"]
    ]
    assert urls == [
        "https://me:secret@index.example/a.whl",
        "http://index.example/b.whl",
        "https://index.example:8443/c.whl",
        "https://evil.example/index.example/d.whl",
        "https://store.example/e.zip?sig=1",
    ]


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
