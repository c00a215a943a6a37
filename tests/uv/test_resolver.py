"""Resolving with the real uv, a local index and a host in sight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.fakes import distribution
from tests.index import Index, dead_port
from tests.uv.conftest import Bench, line, this_interpreter
from tests.wheels import build_sdist, build_wheel
from xinference_venv.errors import DeadlineExceeded, ResolutionFailed
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.sources import PackageSources
from xinference_venv.settings import InheritMode
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


def installed(resolution: Resolution) -> dict[str, str | None]:
    return dict(resolution.installed)


def inherited(resolution: Resolution) -> dict[str, str]:
    return dict(resolution.inherited)


async def failure(bench: Bench, *lines: str, sources: PackageSources | None = None) -> str:
    """All that a failing resolution tells, as it crosses a process boundary."""
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve(*lines, sources=sources)
    error = caught.value
    assert error.details["command"]
    return error.message + json.dumps(error.to_dict())


# What the host has is kept


async def test_no_request_is_made_when_the_host_satisfies_all(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "torch", "9.0")
    host = [
        distribution("torch", "2.4.0", "numpy"),
        distribution("numpy", "1.26.4"),
        distribution("six", "1.0"),
    ]
    found = await bench.resolve("torch>=2", host=host)
    assert index.requests == []
    assert bench.uv.calls == 1
    assert installed(found) == {}
    assert inherited(found) == {"torch": "2.4.0", "numpy": "1.26.4"}


async def test_the_host_version_is_kept_although_the_index_has_a_newer_one(
    bench: Bench, wheels: Path
) -> None:
    for version in ("1.26.4", "2.1.0"):
        build_wheel(wheels, "numpy", version)
    build_wheel(wheels, "app", "1.0", requires=["numpy>=1.20"])
    found = await bench.resolve("app", "numpy", host=[distribution("numpy", "1.26.4")])
    assert installed(found) == {"app": "1.0"}
    assert inherited(found) == {"numpy": "1.26.4"}


async def test_nothing_is_inherited_when_the_host_is_not_looked_at(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "numpy", "2.1.0")
    found = await bench.resolve(
        "numpy",
        host=[distribution("numpy", "1.26.4")],
        skip_installed=False,
        inherit=InheritMode.NONE,
    )
    assert (installed(found), inherited(found)) == ({"numpy": "2.1.0"}, {})


async def test_only_what_the_request_contradicts_gives_way(bench: Bench, wheels: Path) -> None:
    for name in ("numpy", "scipy", "pandas"):
        build_wheel(wheels, name, "1.0")
        build_wheel(wheels, name, "2.0")
    host = [distribution(name, "1.0") for name in ("numpy", "scipy", "pandas")]
    found = await bench.resolve("numpy>=2", "scipy", "pandas", host=host)
    assert installed(found) == {"numpy": "2.0"}
    assert inherited(found) == {"scipy": "1.0", "pandas": "1.0"}


async def test_a_contradiction_further_down_relaxes_as_little_as_possible(
    bench: Bench, wheels: Path
) -> None:
    names = [f"lib{number}" for number in range(12)]
    for name in names:
        build_wheel(wheels, name, "1.0")
        build_wheel(wheels, name, "2.0", requires=["lib7>=2"] if name == "lib3" else [])
    build_wheel(wheels, "app", "1.0", requires=[*names, "lib3>=2"])
    found = await bench.resolve("app", host=[distribution(name, "1.0") for name in names])
    assert installed(found) == {"app": "1.0", "lib3": "2.0", "lib7": "2.0"}
    assert inherited(found) == {name: "1.0" for name in names if name not in ("lib3", "lib7")}


async def test_a_host_package_that_requires_the_old_version_gives_way_with_it(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "tokenizers", "2.0")
    build_wheel(wheels, "transformers", "2.0", requires=["tokenizers>=2"])
    host = [distribution("tokenizers", "1.0"), distribution("transformers", "1.0", "tokenizers<2")]
    found = await bench.resolve("transformers", "tokenizers>=2", host=host)
    assert installed(found) == {"transformers": "2.0", "tokenizers": "2.0"}


async def test_a_package_that_no_index_has_is_inherited(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "app", "1.0", requires=["inhouse-tools", "numpy>=2"])
    build_wheel(wheels, "numpy", "2.0")
    host = [distribution("inhouse-tools", "0.3"), distribution("numpy", "1.0")]
    found = await bench.resolve("app", host=host)
    assert installed(found) == {"app": "1.0", "numpy": "2.0"}
    assert inherited(found) == {"inhouse-tools": "0.3"}


async def test_a_stranger_of_the_same_name_does_not_take_the_place_of_a_private_package(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["inhouse-tools"])
    build_wheel(wheels, "inhouse-tools", "99.0")
    found = await bench.resolve("app", host=[distribution("inhouse-tools", "0.3")])
    assert inherited(found) == {"inhouse-tools": "0.3"}


@pytest.mark.parametrize(
    "version", ["2.8.0a0+34c6371d24.nv25.8", "2.8.0.dev20250101", "2.4.1+cu124", "2!1.0.post3"]
)
async def test_a_build_that_no_index_has_is_inherited(
    bench: Bench, wheels: Path, version: str
) -> None:
    for other in ("2.4.1", "2.7.0", "2.9.0rc1"):
        build_wheel(wheels, "torch", other)
    build_wheel(wheels, "app", "1.0", requires=["torch>=2.0"])
    build_wheel(wheels, "numpy", "2.0")
    host = [distribution("torch", version), distribution("numpy", "1.0")]
    # By hard constraints, then where numpy gives way, then by `#system_torch#`.
    for lines in (["app"], ["app", "numpy>=2"], ["app", f"torch=={version}"]):
        found = await bench.resolve(*lines, host=host)
        assert inherited(found) == {"torch": version}


async def test_a_build_that_no_index_has_is_kept_when_another_gives_way_further_down(
    bench: Bench, wheels: Path
) -> None:
    version = "2.8.0a0+34c6371d24.nv25.8"
    build_wheel(wheels, "torch", "2.7.0")
    build_wheel(wheels, "numpy", "2.0")
    build_wheel(wheels, "app", "1.0", requires=["torch>=2.0", "numpy>=2"])
    found = await bench.resolve(
        "app", host=[distribution("torch", version), distribution("numpy", "1.0")]
    )
    assert installed(found) == {"app": "1.0", "numpy": "2.0"}
    assert inherited(found) == {"torch": version}


async def test_the_metadata_of_the_host_counts_and_not_the_index_wheels_of_the_same_version(
    bench: Bench, wheels: Path
) -> None:
    best = this_interpreter().tags[1]
    build_wheel(wheels, "torch", "2.4.0", requires=["nvidia-cublas"], tag=best)
    build_wheel(wheels, "nvidia-cublas", "12.0")
    build_wheel(wheels, "app", "1.0", requires=["torch"])
    found = await bench.resolve("app", "torch==2.4.0", host=[distribution("torch", "2.4.0")])
    assert installed(found) == {"app": "1.0"}
    assert inherited(found) == {"torch": "2.4.0"}


async def test_the_copy_of_a_version_serves_that_requires_what_can_be_had(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "ant", "1.0")
    build_wheel(wheels, "bee", "1.0")
    build_wheel(wheels, "dog", "1.0", requires=["ant>=1.1"])
    host = [distribution("bee", "1.0", "ant>=1.1"), distribution("dog", "1.0")]
    found = await bench.resolve("bee", "dog", host=host)
    assert installed(found) == {"bee": "1.0"}
    assert inherited(found) == {"dog": "1.0"}


async def test_a_conflict_that_the_host_lives_with_shadows_nothing(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "numpy", "1.26.4")
    build_wheel(wheels, "app", "1.0", requires=["numba"])
    host = [distribution("numba", "0.59", "numpy<2"), distribution("numpy", "2.1.0")]
    found = await bench.resolve("numba", host=host)
    assert inherited(found) == {"numba": "0.59", "numpy": "2.1.0"}
    assert index.requests == []
    found = await bench.resolve("app", host=host)
    assert installed(found) == {"app": "1.0"}


async def test_an_extra_of_a_host_package_brings_what_it_lacks_and_nothing_else(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "uvicorn", "2.0")
    build_wheel(wheels, "httptools", "1.0")
    requires = 'httptools ; extra == "standard"'
    host = [distribution("uvicorn", "1.0", requires, extras=("standard",))]
    found = await bench.resolve("uvicorn[standard]", host=host)
    assert installed(found) == {"httptools": "1.0"}
    assert inherited(found) == {"uvicorn": "1.0"}


async def test_what_a_model_process_needs_of_the_host_is_inherited(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["cloudpickle>=1.5"])
    build_wheel(wheels, "cloudpickle", "1.5")
    host = [distribution("xoscar", "0.9", "cloudpickle"), distribution("cloudpickle", "1.0")]
    found = await bench.resolve("app", host=host, roots=("xoscar",))
    assert installed(found) == {"app": "1.0", "cloudpickle": "1.5"}
    assert inherited(found) == {"xoscar": "0.9"}


async def test_a_direct_url_replaces_the_host_package_even_of_the_same_version(
    bench: Bench, wheels: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wheel = build_wheel(elsewhere, "lib", "1.0")
    build_wheel(wheels, "other", "2.0")
    host = [distribution("lib", "1.0"), distribution("other", "1.0")]
    found = await bench.resolve(f"lib @ {wheel.as_uri()}", "other", host=host)
    assert installed(found) == {"lib": "1.0"}
    assert inherited(found) == {"other": "1.0"}


async def test_no_stub_is_ever_among_what_is_to_be_installed(bench: Bench, wheels: Path) -> None:
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lib", version)
    build_wheel(wheels, "app", "1.0", requires=["lib>=2", "other"])
    host = [distribution("lib", "1.0"), distribution("other", "1.0")]
    for lines in (["lib"], ["app"], ["lib>=2"], ["other", "lib==2.0"]):
        found = await bench.resolve(*lines, host=host)
        urls = [wheel["url"] for package in found.packages for wheel in package["wheels"]]
        assert [url for url in urls if f"-{STUB_BUILD_TAG}-" in url] == []


async def test_the_log_says_that_a_way_without_a_solution_is_no_failure_yet(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib>=2"])
    build_wheel(wheels, "lib", "2.0")
    notes: list[str] = []
    bench.note = notes.append
    # Both ways are to be tried.
    bench.head_start = 0.0
    await bench.resolve("app", host=[distribution("lib", "1.0")])
    [at] = [number for number, each in enumerate(notes) if "No solution found" in each]
    assert any("fails when none has a solution" in each for each in notes[at:])


# What has no solution, and what does not answer


async def test_a_contradiction_fails_with_the_explanation_of_uv(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib<2"])
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lib", version)
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve("app", "lib>=2", host=[distribution("lib", "1.5")])
    explanation = " ".join(caught.value.message.split())
    assert "No solution found" in explanation
    assert "app" in explanation
    assert "lib<2" in explanation
    assert "lib>=2" in explanation
    assert caught.value.details["exit_status"] == 1


async def test_a_package_that_does_not_exist_is_named(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    words = await failure(bench, "lib", "no-such-package")
    assert "no-such-package was not found in the package registry" in words


async def test_a_version_that_does_not_exist_is_named(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    assert "there is no version of lib==7.0" in await failure(bench, "lib==7.0")


async def test_an_index_that_fails_is_named(bench: Bench, index: Index, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    index.fail("/simple/lib/", 500)
    words = await failure(bench, "lib")
    assert "/simple/lib/" in words
    assert "500" in words


async def test_an_index_that_hangs_up_is_named(bench: Bench, index: Index, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    index.cut("/simple/lib/", 20)
    assert "/simple/lib/" in await failure(bench, "lib")


async def test_an_index_that_does_not_listen_is_named(bench: Bench) -> None:
    port = dead_port()
    sources = PackageSources(index_url=f"http://user:hunter22@127.0.0.1:{port}/simple/")
    words = await failure(bench, "lib", sources=sources)
    assert f"127.0.0.1:{port}/simple/lib/" in words
    assert "hunter22" not in words


async def test_an_index_that_fails_does_not_pass_for_a_host_without_solution(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib>=2"])
    build_wheel(wheels, "lib", "2.0")
    index.fail("/simple/lib/", 503)
    with pytest.raises(ResolutionFailed, match="503"):
        await bench.resolve("app", host=[distribution("lib", "1.0")])


async def test_an_index_that_hangs_ends_with_the_deadline(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    index.hang("/simple/lib/")
    bench.deadline = 0.5
    with pytest.raises(DeadlineExceeded, match="uv took longer"):
        await bench.resolve("lib")
    assert "GET /simple/lib/" in index.requests


# Indexes and folders


async def test_an_index_with_a_password_is_asked_with_it_and_the_resolution_has_none(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    url = index.require_auth("me", "p@ss/word%22")
    found = await bench.resolve("lib", sources=PackageSources(index_url=url))
    assert installed(found) == {"lib": "1.0"}
    stored = json.dumps([dict(package) for package in found.packages])
    assert "127.0.0.1" in stored
    assert "@" not in stored
    assert "ss" not in stored.replace("hashes", "")
    [package] = found.packages
    assert package["index"] == index.url


async def test_a_refused_password_is_reported_and_not_shown(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    index.require_auth("me", "right-password")
    url = index.url.replace("//", "//me:wrong-password@")
    words = await failure(bench, "lib", sources=PackageSources(index_url=url))
    assert "401" in words
    assert "wrong-password" not in words


async def test_a_source_distribution_is_taken_where_there_is_nothing_else(
    bench: Bench, wheels: Path
) -> None:
    build_sdist(wheels, "legacy", "1.0", requires=["lib"])
    build_wheel(wheels, "lib", "2.0")
    found = await bench.resolve("legacy", host=[distribution("lib", "1.0")])
    assert installed(found) == {"legacy": "1.0"}
    [package] = found.packages
    assert package["sdist"]["hashes"]["sha256"]
    assert inherited(found) == {"lib": "1.0"}


async def test_a_source_distribution_is_refused_where_sources_are_forbidden(
    bench: Bench, wheels: Path
) -> None:
    build_sdist(wheels, "legacy", "1.0")
    with pytest.raises(ResolutionFailed, match="legacy"):
        await bench.resolve("legacy", allow_source_builds=False)


@pytest.mark.parametrize("name", ["links", "with a space", "with#hash", "${HOME}", "a+b&c"])
async def test_a_folder_of_wheels_is_looked_into_whatever_its_name(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    wheel = build_wheel(folder, "lib", "1.0")
    sources = PackageSources(no_index=True, find_links=(str(folder),))
    found = await bench.resolve("lib", sources=sources)
    [package] = found.packages
    [locked] = package["wheels"]
    assert unquote(locked["url"]) == f"file://{wheel}"
    assert "path" not in locked


async def test_a_page_of_links_never_learns_what_stands_in_our_environment(
    bench: Bench, index: Index
) -> None:
    bench.uv.door.environment = {**bench.uv.door.environment, "OF_OUR_OWN": "a-password"}
    curious = f"{index.url}${{OF_OUR_OWN}}/"
    for sources in (
        PackageSources(no_index=True, find_links=(curious,)),
        PackageSources(index_url=curious),
        PackageSources(index_url=curious, extra_index_urls=(curious,)),
    ):
        index.clear()
        with pytest.raises(ResolutionFailed):
            await bench.resolve("lib", sources=sources)
        assert index.requests
        assert "a-password" not in str(index.requests)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[tuple[Index, Path]]:
    folder = tmp_path / "second"
    folder.mkdir()
    with Index(folder) as running:
        yield running, folder


async def test_the_best_version_of_all_indexes_is_taken_only_where_that_is_wanted(
    bench: Bench, index: Index, wheels: Path, second: tuple[Index, Path]
) -> None:
    extra, folder = second
    build_wheel(folder, "lib", "1.0")
    build_wheel(wheels, "lib", "2.0")
    sources = PackageSources(index_url=index.url, extra_index_urls=(extra.url,))
    assert installed(await bench.resolve("lib", sources=sources)) == {"lib": "1.0"}
    best = PackageSources(
        index_url=index.url,
        extra_index_urls=(extra.url,),
        index_strategy="unsafe-best-match",
    )
    found = await bench.resolve("lib", sources=best)
    assert installed(found) == {"lib": "2.0"}


async def test_each_package_is_locked_with_the_index_it_came_from(
    bench: Bench, index: Index, wheels: Path, second: tuple[Index, Path]
) -> None:
    extra, folder = second
    build_wheel(folder, "private", "1.0")
    build_wheel(wheels, "public", "1.0")
    sources = PackageSources(index_url=index.url, extra_index_urls=(extra.url,))
    found = await bench.resolve("private", "public", sources=sources)
    indexes = {package["name"]: package["index"] for package in found.packages}
    assert indexes == {"private": extra.url, "public": index.url}


async def test_a_forbidden_index_is_not_asked_for_what_the_host_has_not(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "lib", "1.0")
    with pytest.raises(ResolutionFailed, match="lib"):
        await bench.resolve("lib", sources=PackageSources(no_index=True))
    assert index.requests == []


# Bounds, and what uv only says in its log


async def test_constraints_overrides_and_exclusions_hold_for_whatever_is_resolved(
    bench: Bench, wheels: Path
) -> None:
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lib", version)
        build_wheel(wheels, "tool", version)
    build_wheel(wheels, "app", "1.0", requires=["lib", "tool<2", "heavy"])
    host = [distribution("lib", "2.0")]
    found = await bench.resolve(
        "app", host=host, constraints=("lib<2",), overrides=("tool>=2",), excludes=("heavy",)
    )
    assert installed(found) == {"app": "1.0", "lib": "1.0", "tool": "2.0"}


async def test_an_unknown_extra_is_a_warning(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    found = await bench.resolve("lib[full]")
    assert found.warnings == ("The package `lib==1.0` does not have an extra named `full`",)
    host = [distribution("lib", "2.0+local")]
    build_wheel(wheels, "app", "1.0", requires=["lib[full]"])
    found = await bench.resolve("app", host=host)
    assert found.warnings == ("the host's lib 2.0+local has no extra named `full`",)


async def test_a_yanked_release_is_a_warning(bench: Bench, index: Index, wheels: Path) -> None:
    build_wheel(wheels, "lib", "1.0")
    build_wheel(wheels, "lib", "2.0")
    index.yank("lib-2.0-py3-none-any.whl", "it loses data")
    assert installed(await bench.resolve("lib")) == {"lib": "1.0"}
    found = await bench.resolve("lib==2.0")
    [warning] = found.warnings
    assert "`lib==2.0` is yanked" in warning
    assert "it loses data" in warning


# What is built as torch is


async def test_companions_of_torch_come_in_the_build_of_the_hosts_torch(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "torchvision", "0.28.0", requires=["torch==2.13.0"])
    build_wheel(wheels, "torch", "2.13.0")
    host = [distribution("torch", "2.13.0+cpu")]
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve("torchvision", host=host)
    assert "torch 2.13.0+cpu works only with torchvision==0.28.0+cpu" in caught.value.message
    assert "on the host from https://download.pytorch.org/whl/cpu" in str(caught.value.hint)
    build_wheel(wheels, "torchvision", "0.28.0+cpu", requires=["torch==2.13.0"])
    found = await bench.resolve("torchvision", host=host)
    assert installed(found) == {"torchvision": "0.28.0+cpu"}
    assert inherited(found) == {"torch": "2.13.0+cpu"}
    # A build that no index names so is of whoever made the host's torch.
    found = await bench.resolve("torchvision==0.28.0", host=[distribution("torch", "2.13.0")])
    assert inherited(found) == {"torch": "2.13.0"}


async def test_a_build_that_is_missing_is_the_reason_whatever_else_has_no_solution_with_it(
    bench: Bench, wheels: Path
) -> None:
    # sentence-transformers of the host allows no such transformers; that one gives way.
    build_wheel(wheels, "torchvision", "0.28.0", requires=["torch==2.13.0"])
    build_wheel(wheels, "torchaudio", "2.11.0+cpu")
    build_wheel(wheels, "torchaudio", "2.11.0")
    build_wheel(wheels, "transformers", "4.52")
    build_wheel(wheels, "sentence-transformers", "5.0", requires=["transformers<5"])
    host = [
        distribution("torch", "2.13.0+cpu"),
        distribution("sentence-transformers", "6.2", "transformers>=5"),
        distribution("transformers", "5.17"),
    ]
    lines = ("sentence-transformers", "transformers==4.52", "torchvision", "torchaudio==2.11.0")
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve(*lines, host=host)
    message = caught.value.message
    assert "works only with torchvision==0.28.0+cpu, which no index" in message
    assert "there is no version of torchvision==0.28.0+cpu" in message
    assert "transformers" not in message
    # Nothing kept, and all where that takes long; what fits best; the builds by themselves.
    assert bench.uv.calls <= 4


async def test_a_release_that_does_without_a_missing_build_is_taken(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "torchcodec", "0.17.0")
    build_wheel(wheels, "app", "1.0")
    build_wheel(wheels, "app", "1.1", requires=["torchcodec"])
    host = [distribution("torch", "2.13.0+cpu")]
    found = await bench.resolve("app", host=host)
    assert installed(found) == {"app": "1.0"}
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve("app>=1.1", host=host)
    assert "there is no version of torchcodec==0.17.0+cpu" in caught.value.message
    assert "app" not in caught.value.message


@pytest.mark.parametrize("name", ["torchcodec", "torchaudio", "torchtext"])
async def test_every_companion_that_links_against_torch_is_as_strict(
    bench: Bench, wheels: Path, name: str
) -> None:
    build_wheel(wheels, name, "0.8.0")
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve(name, host=[distribution("torch", "2.13.0+cpu")])
    assert f"torch 2.13.0+cpu works only with {name}==0.8.0+cpu" in caught.value.message


async def test_an_assumed_build_of_torch_gives_way_where_its_index_cannot_be_reached(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "torch", "2.13.0")
    unreachable = {"HTTPS_PROXY": f"http://127.0.0.1:{dead_port()}"}
    bench.uv.door.environment = {**bench.uv.door.environment, **unreachable}
    sources = PackageSources(index_url=index.url, torch_backend="cpu")
    found = await bench.resolve("torch", sources=sources, assumed_backend=True)
    assert installed(found) == {"torch": "2.13.0"}
    [warning] = found.warnings
    assert "may be a build for CUDA" in warning
    with pytest.raises(ResolutionFailed) as caught:
        await bench.resolve("torch", sources=sources)
    assert "download.pytorch.org/whl/cpu, which can't be reached" in caught.value.message
    assert "XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND=none" in str(caught.value.hint)
    with pytest.raises(ResolutionFailed) as caught:
        host = [distribution("torch", "2.13.0+cpu")]
        await bench.resolve("torchvision", host=host, sources=sources)
    assert "builds that fit the host's torch 2.13.0+cpu are at" in caught.value.message
    assert "--inherit none" in str(caught.value.hint)


# The wire


async def test_what_cannot_talk_to_the_worker_is_refused_with_the_reason(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "cloudpickle", "2.2.1")
    build_wheel(wheels, "cloudpickle", "3.2")
    build_wheel(wheels, "xoscar", "0.12.3")
    build_wheel(wheels, "xoscar", "0.13.0")
    host = [distribution("cloudpickle", "3.1"), distribution("xoscar", "0.12.2", "cloudpickle")]
    for pin in ("cloudpickle==2.2.1", "xoscar==0.13.0"):
        with pytest.raises(ResolutionFailed) as caught:
            await bench.resolve(pin, host=host)
        name = pin.partition("=")[0]
        assert f"which has {name}" in caught.value.message
    found = await bench.resolve("cloudpickle==3.2", "xoscar==0.12.3", host=host)
    assert installed(found) == {"cloudpickle": "3.2", "xoscar": "0.12.3"}


# Placeholders


async def test_a_placeholder_gives_way_to_what_contradicts_it(bench: Bench, wheels: Path) -> None:
    for version in ("2.3", "2.4"):
        build_wheel(wheels, "numpy", version)
    build_wheel(wheels, "vllm", "0.11", requires=["numpy<2.4"])
    pinned = replace(line("numpy==2.4"), written="#system_numpy#")
    spec_lines = (pinned, line("vllm>=0.11"))
    found = await bench.resolve_lines(spec_lines, host=[distribution("numpy", "2.4")])
    assert installed(found) == {"numpy": "2.3", "vllm": "0.11"}
    assert found.warnings == (
        "#system_numpy#: the host's numpy 2.4 gives way to 2.3, since vllm requires numpy<2.4",
    )


async def test_all_placeholders_that_are_contradicted_give_way_at_once(
    bench: Bench, wheels: Path
) -> None:
    for version in ("1.0", "2.0"):
        for name in ("one", "two", "three"):
            build_wheel(wheels, name, version)
    build_wheel(wheels, "app", "1.0", requires=["one<2"])
    build_wheel(wheels, "other", "1.0", requires=["two<2", "three"])
    pins = [
        replace(line(f"{name}==2.0"), written=f"#system_{name}#")
        for name in ("one", "two", "three")
    ]
    host = [distribution(name, "2.0") for name in ("one", "two", "three")]
    found = await bench.resolve_lines((*pins, line("app"), line("other")), host=host)
    assert installed(found) == {"one": "1.0", "two": "1.0", "app": "1.0", "other": "1.0"}
    assert inherited(found) == {"three": "2.0"}
    assert [each.partition(":")[0] for each in found.warnings] == ["#system_one#", "#system_two#"]
    # Nothing kept; all kept, where that takes long; then without the placeholders.
    assert bench.uv.calls <= 3


# Age


async def test_what_is_asked_for_is_not_made_ancient_to_keep_the_host(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "datasets", "2.14")
    build_wheel(wheels, "datasets", "4.4", requires=["dill>=0.4", "fsspec"])
    build_wheel(wheels, "dill", "0.4")
    host = [distribution("dill", "0.3"), distribution("fsspec", "2025.1")]
    found = await bench.resolve("datasets", host=host)
    assert installed(found) == {"datasets": "4.4", "dill": "0.4"}
    assert inherited(found) == {"fsspec": "2025.1"}


async def test_what_is_slightly_older_to_keep_the_host_is_a_warning(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib"])
    build_wheel(wheels, "app", "1.1", requires=["lib>=2"])
    build_wheel(wheels, "lib", "2.0")
    found = await bench.resolve("app", host=[distribution("lib", "1.0")])
    assert installed(found) == {"app": "1.0"}
    assert found.warnings == (
        "app 1.0 is taken although there is 1.1, since the host's lib 1.0 is kept; ask for"
        " app>=1.1 to have it, or launch with --inherit none",
    )
    found = await bench.resolve("app", host=[distribution("lib", "1.0")], max_age_gap=-1.0)
    assert installed(found) == {"app": "1.0"}  # without dates two minor versions are allowed


@pytest.mark.parametrize("extra", ["", "[io]"])
async def test_what_goes_with_a_large_package_of_the_host_is_kept_with_it(
    bench: Bench, wheels: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    # As an index tells them that has sizes.
    sizes = property(lambda found: {name: int(name == "torch") * 10**9 for name in found.installed})
    monkeypatch.setattr(Resolution, "sizes", sizes)
    for old, new in (("1.0", "1.0"), ("1.1", "2.0")):
        # What an extra of the host's requires only a resolver can tell.
        needs = [f"torch=={new}", f"torchvision=={new}", "numpy<2", f"six{extra}"]
        build_wheel(wheels, "vllm", old, requires=needs)
        build_wheel(wheels, "torchvision", new, requires=[f"torch=={new}"])
    build_wheel(wheels, "torch", "2.0")
    build_wheel(wheels, "numpy", "1.0")
    host = [
        distribution("six", "1.0", "numpy; extra == 'io'"),
        distribution("torch", "1.0"),
        distribution("torchvision", "1.0", "torch==1.0"),
        distribution("numpy", "2.0"),
    ]
    found = await bench.resolve("vllm", host=host)
    assert installed(found) == {"vllm": "1.0", "numpy": "1.0"}
    assert inherited(found) == {"six": "1.0", "torch": "1.0", "torchvision": "1.0"}


async def test_an_old_release_is_found_although_its_search_was_cut_short(
    bench: Bench, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "app", "2.0", requires=["lib>=2"])
    build_wheel(wheels, "app", "1.0", requires=["lib<2", "slow"])
    for name, version in (("lib", "1.0"), ("lib", "2.0"), ("slow", "1.0")):
        build_wheel(wheels, name, version)
    index.hang("/simple/slow/")

    def release(message: str) -> None:
        if message.endswith("without old versions"):
            index.release()

    bench.say = release
    host = [distribution("inhouse", "1.0", "lib<2")]
    found = await bench.resolve("app", host=host, roots=("inhouse",))
    assert installed(found) == {"app": "1.0", "lib": "1.0", "slow": "1.0"}
    assert inherited(found) == {"inhouse": "1.0"}


async def test_nothing_is_kept_older_for_the_installer_tools_of_the_host(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["setuptools"])
    build_wheel(wheels, "app", "1.1", requires=["setuptools>=80"])
    build_wheel(wheels, "setuptools", "80.0")
    found = await bench.resolve("app", host=[distribution("setuptools", "65.0")])
    assert installed(found) == {"app": "1.1", "setuptools": "80.0"}


async def test_what_is_asked_for_and_old_on_the_host_stays_with_a_warning(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0")
    build_wheel(wheels, "lib", "2.0")
    found = await bench.resolve("app", "lib", host=[distribution("lib", "1.0")])
    assert inherited(found) == {"lib": "1.0"}
    [warning] = found.warnings
    assert warning.startswith("the host's lib 1.0 is kept although there is 2.0; ask for lib>=2.0")
    found = await bench.resolve("app", "lib==1.0", host=[distribution("lib", "1.0")])
    assert found.warnings == ()


# Passes


@pytest.mark.parametrize("asked", ["app", "app==1.0"])
async def test_one_process_is_enough_where_all_of_the_host_fits_or_certainly_does_not(
    bench: Bench, wheels: Path, asked: str
) -> None:
    bench.head_start = 60.0
    needs = ["numpy>=2"] if asked == "app==1.0" else ["numpy"]
    build_wheel(wheels, "app", "1.0", requires=[*needs, "six"])
    for name in ("numpy", "six"):
        build_wheel(wheels, name, "2.0")
    host = [distribution("numpy", "1.0"), distribution("six", "1.0")]
    found = await bench.resolve(asked, host=host)
    assert inherited(found) == {"six": "1.0"} | ({"numpy": "1.0"} if asked == "app" else {})
    assert installed(found) == {"app": "1.0"} | ({} if asked == "app" else {"numpy": "2.0"})
    assert bench.uv.calls == 1


async def test_two_processes_are_enough_where_what_gives_way_takes_others_of_the_host_with_it(
    bench: Bench, wheels: Path
) -> None:
    bench.head_start = 60.0
    build_wheel(wheels, "app", "1.0", requires=["numpy>=2"])
    build_wheel(wheels, "numpy", "2.0")
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "pandas", version, requires=[f"numpy=={version}"])
    # The host's pandas is needed, too, and does not work with another numpy.
    host = [distribution("numpy", "1.0"), distribution("pandas", "1.0", "numpy<2")]
    found = await bench.resolve("app==1.0", host=host, roots=("pandas",))
    assert installed(found) == {"app": "1.0", "numpy": "2.0", "pandas": "2.0"}
    assert bench.uv.calls == 2


@pytest.mark.parametrize("yielding", [{}, {"click": "click<8.2"}])
async def test_no_part_of_the_host_is_tried_where_a_bound_is_in_the_way_that_is_taken_back(
    bench: Bench, wheels: Path, yielding: dict[str, str]
) -> None:
    bench.yielding = yielding
    build_wheel(wheels, "tower", "5.24", requires=["hub>=2"])
    build_wheel(wheels, "hub", "2.0", requires=["click>=8.4"])
    build_wheel(wheels, "click", "8.4")
    host = [distribution("hub", "1.0", "click"), distribution("click", "8.1")]
    with pytest.raises(ResolutionFailed, match=r"hub"):
        await bench.resolve("tower", host=host, roots=("hub",), constraints=("click<8.2",))
    assert (bench.uv.calls == 2) is bool(yielding)


@pytest.mark.parametrize("head_start", [0.0, 60.0])
async def test_all_of_the_host_is_asked_for_where_an_older_release_may_fit_it(
    bench: Bench, wheels: Path, head_start: float
) -> None:
    bench.head_start = head_start
    build_wheel(wheels, "app", "1.0", requires=["numpy"])
    build_wheel(wheels, "app", "1.1", requires=["numpy>=2"])
    build_wheel(wheels, "numpy", "2.0")
    found = await bench.resolve("app", host=[distribution("numpy", "1.0")])
    assert installed(found) == {"app": "1.0"}
    assert inherited(found) == {"numpy": "1.0"}
    assert bench.uv.calls == 2


@pytest.mark.parametrize("tools", [[], ["pip", "setuptools"]])
async def test_a_bare_host_takes_one_process_of_uv(
    bench: Bench, wheels: Path, tools: list[str]
) -> None:
    for name, requires in (("app", ["setuptools", "lib"]), ("lib", []), ("setuptools", [])):
        build_wheel(wheels, name, "2.0", requires=requires)
    host = [distribution(name, "1.0") for name in tools]
    found = await bench.resolve("app", host=host, roots=("lib",))
    assert bench.uv.calls == 1
    assert installed(found).keys() | inherited(found).keys() == {"app", "lib", "setuptools"}
    # What the host has of it serves.
    assert inherited(found).keys() == {"setuptools"} & {*tools}


async def test_what_a_bare_host_alone_has_is_found_with_it(bench: Bench, wheels: Path) -> None:
    build_wheel(wheels, "app", "1.0", requires=["wheel==7.0"])
    found = await bench.resolve("app", host=[distribution("wheel", "7.0")])
    assert installed(found) == {"app": "1.0"}
    assert inherited(found) == {"wheel": "7.0"}


async def test_what_of_the_host_gives_way_for_the_newest_takes_no_further_process(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib>=2", "other", "tool"])
    build_wheel(wheels, "lib", "2.0", requires=["leaf"])
    for name in ("other", "tool", "leaf"):
        build_wheel(wheels, name, "3.0")
    host = [
        distribution("lib", "1.0"),
        distribution("other", "1.0", "lib<2"),
        distribution("tool", "1.0", "leaf"),
        distribution("leaf", "1.0"),
    ]
    found = await bench.resolve("app", host=host)
    assert installed(found) == {"app": "1.0", "lib": "2.0", "other": "3.0"}
    assert inherited(found) == {"leaf": "1.0", "tool": "1.0"}
    assert bench.uv.calls == 2
    assert found.requirers["leaf"] == ("lib", "tool")


async def test_what_an_extra_of_a_host_package_requires_only_uv_can_tell(
    bench: Bench, wheels: Path
) -> None:
    build_wheel(wheels, "app", "1.0", requires=["lib>=2", "uvicorn[standard]"])
    build_wheel(wheels, "lib", "2.0")
    build_wheel(wheels, "uvicorn", "2.0")
    build_wheel(wheels, "httptools", "1.0")
    requires = 'httptools ; extra == "standard"'
    host = [
        distribution("lib", "1.0"),
        distribution("uvicorn", "1.0", requires, extras=("standard",)),
    ]
    found = await bench.resolve("app", host=host)
    assert installed(found) == {"app": "1.0", "lib": "2.0", "httptools": "1.0"}
    assert inherited(found) == {"uvicorn": "1.0"}
