"""Each phrase that we read, said by the real uv.

`scripts/test-ranges` runs this with the oldest and the newest uv that setup.cfg allows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from packaging.version import Version
from uv import find_uv_bin

from tests import fakes
from tests.index import Index, dead_port
from tests.tls import self_signed, serving
from tests.uv.conftest import Bench
from tests.wheels import build_sdist, build_wheel
from xinference_venv.errors import ResolutionFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.pylock import REQUEST, Resolution
from xinference_venv.planning.sources import PackageSources
from xinference_venv.uv.messages import (
    LOG_OF_RESOLVER,
    InstallProgress,
    ResolverLog,
    error_in,
    failed_builds,
    has_no_solution,
    hint_for,
    is_unknown_issuer,
    missing_in,
    uncached_name,
    way_out,
)
from xinference_venv.uv.program import version_in

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves, with ``lantern`` and what it needs."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "wick", "1.0")
    build_wheel(folder, "lantern", "1.0", requires=["wick<2"])
    build_wheel(folder, "lamp", "1.0", requires=["wick>=2"])
    build_wheel(folder, "wick", "2.0")
    return folder


def said(
    *arguments: str | Path,
    status: int | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[str], str]:
    """The lines of stderr of a run of uv without configuration, and its output."""
    done = subprocess.run(
        [find_uv_bin(), *arguments, "--no-config"],
        env={
            "PATH": os.environ["PATH"],
            "UV_HTTP_RETRIES": "0",
            "UV_PYTHON": sys.executable,
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert status is None or done.returncode == status, done.stderr
    return done.stderr.splitlines(), done.stdout


def compiled(
    folder: Path, index: Index, *lines: str, options: tuple[str, ...] = (), **variables: str
) -> list[str]:
    """What uv says while it resolves lines."""
    file = folder / "lines.txt"
    file.write_text("\n".join(lines))
    places = ("--default-index", index.url, "--cache-dir", str(folder / "cache"), *options)
    return said("pip", "compile", file, *places, variables=variables)[0]


def test_uv_says_its_version() -> None:
    found = version_in(said("--version", status=0)[1])
    assert found is not None
    assert found >= Version("0.13")


def test_requirements_that_contradict_each_other_have_no_solution(
    tmp_path: Path, index: Index, wheels: Path
) -> None:
    words = error_in(compiled(tmp_path, index, "lantern", "lamp"))
    assert has_no_solution(words)
    assert words.startswith("No solution found")
    assert missing_in(words) == frozenset()
    assert "--inherit none" in (way_out(words, over_host=True) or "")


def test_a_name_that_no_index_has_is_missing(tmp_path: Path, index: Index, wheels: Path) -> None:
    words = error_in(compiled(tmp_path, index, "lantern", "wax"))
    assert has_no_solution(words)
    assert missing_in(words) == {"wax"}
    assert (way_out(words, over_host=True) or "").startswith("check name and version")


def test_a_version_that_no_index_has_is_missing(tmp_path: Path, index: Index, wheels: Path) -> None:
    words = error_in(compiled(tmp_path, index, "wick==9"))
    assert has_no_solution(words)
    assert {each.partition("==")[0] for each in missing_in(words)} == {"wick"}
    assert (way_out(words, over_host=True) or "").startswith("check name and version")


def test_a_name_that_no_folder_has_is_missing(tmp_path: Path, index: Index, wheels: Path) -> None:
    options = ("--no-index", "--find-links", str(wheels))
    words = error_in(compiled(tmp_path, index, "wax", options=options))
    assert has_no_solution(words)
    assert missing_in(words) == {"wax"}


def test_what_uv_advises_itself_is_known_as_a_hint(
    tmp_path: Path, index: Index, wheels: Path
) -> None:
    words = error_in(compiled(tmp_path, index, "wax", options=("--offline",)))
    assert has_no_solution(words)
    assert "hint:" in words
    assert way_out(words, over_host=True) is None


def test_a_build_that_fails_is_named(tmp_path: Path, index: Index, wheels: Path) -> None:
    build_sdist(wheels, "candle", "1.0", backend="raise SystemExit('no wax')")
    words = error_in(compiled(tmp_path, index, "candle"))
    assert failed_builds(words) == {"candle"}


def test_the_log_of_the_resolver_says_what_requires_what_and_what_is_missing(
    tmp_path: Path, index: Index, wheels: Path
) -> None:
    build_wheel(wheels, "torchlight", "2.0", requires=["wax"])
    build_wheel(wheels, "torchlight", "1.0", requires=["wick<2"])
    log = ResolverLog()
    lines = compiled(tmp_path, index, "torchlight", "lantern", RUST_LOG=LOG_OF_RESOLVER)
    assert [line for line in lines if log.read(line)]
    assert log.missing == {"wax"}
    found = [fakes.wheel_package(name) for name in ("torchlight", "lantern", "wick")]
    resolution = Resolution(packages=tuple(found), inherited={}, uploaded={})
    requires = {
        name: {f"{each.name}{each.ranges}" for each in needs}
        for name, needs in log.requires(resolution).items()
    }
    assert requires["torchlight"] == requires["lantern"] == {"wick<2"}
    assert requires[REQUEST] == {"torchlight*", "lantern*"}


def test_an_extra_that_does_not_exist_is_a_warning(
    tmp_path: Path, index: Index, wheels: Path
) -> None:
    log = ResolverLog()
    for line in compiled(tmp_path, index, "lantern[oil]", RUST_LOG=LOG_OF_RESOLVER):
        log.read(line)
    assert [each for each in log.warnings if "does not have an extra named `oil`" in each]


async def test_an_extra_that_a_package_of_the_host_has_not_is_named_without_its_stub(
    bench: Bench, wheels: Path
) -> None:
    resolution = await bench.resolve("lantern[oil]", host=[fakes.distribution("lantern", "1.0")])
    assert resolution.warnings == ("the host's lantern 1.0 has no extra named `oil`",)


def test_an_install_says_what_it_downloads_builds_prepares_and_installs(
    tmp_path: Path, index: Index, wheels: Path
) -> None:
    # uv names large downloads only.
    build_wheel(wheels, "stove", "1.0", data={"stove/iron": os.urandom(3 << 20)})
    build_sdist(wheels, "candle", "1.0")
    target = ("--target", str(tmp_path / "target"), "--cache-dir", str(tmp_path / "cache"))
    names = ("stove", "candle", "wick")
    lines, _ = said(*("pip", "install", "--default-index", index.url, *target, *names), status=0)
    progress = InstallProgress(total=3, sizes={"stove": 3 << 20})
    steps = [step for line in lines if (step := progress.read(line)) is not None]
    words = " / ".join(step.message for step in steps)
    for each in ("Downloading stove", "Downloaded stove", "Building candle", "Prepared 3", "Inst"):
        assert each in words
    assert (steps[-1].phase, steps[-1].done) == (Phase.INSTALLING, 3)
    assert progress.fetched_bytes == 3 << 20


def test_what_is_not_in_the_cache_is_named(tmp_path: Path, index: Index, wheels: Path) -> None:
    target = ("--target", str(tmp_path / "target"), "--cache-dir", str(tmp_path / "cache"))
    place = ("--default-index", index.url, *target)
    said("pip", "install", "wick==1.0", *place, status=0)
    lines, _ = said("pip", "install", "lantern", *place, "--dry-run", "-v", status=0)
    assert {*filter(None, map(uncached_name, lines))} == {"lantern"}


def test_an_index_that_can_not_be_reached_is_known(tmp_path: Path) -> None:
    place = ("--default-index", f"http://127.0.0.1:{dead_port()}/simple/")
    lines, _ = said("pip", "install", "wick", *place, "--target", str(tmp_path / "target"))
    words = error_in(lines)
    assert not has_no_solution(words)
    assert "xinference-venv doctor" in (hint_for(lines) or "")


def test_a_certificate_of_an_unknown_authority_is_known(tmp_path: Path) -> None:
    with serving(self_signed(tmp_path)) as port:
        place = ("--default-index", f"https://127.0.0.1:{port}/simple/")
        lines, _ = said("pip", "install", "wick", *place, "--target", str(tmp_path / "target"))
    assert is_unknown_issuer("\n".join(lines))
    assert "SSL_CERT_FILE" in (hint_for(lines) or "")


def test_a_full_disk_is_known(tmp_path: Path, index: Index, wheels: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    build_wheel(wheels, "stove", "1.0", data={"stove/iron": os.urandom(3 << 20)})
    full = tmp_path / "full"
    full.mkdir()
    command = [find_uv_bin(), "pip", "install", "stove", "--no-config", "--link-mode", "copy"]
    command += ["--default-index", index.url, "--python", sys.executable]
    command += ["--target", str(full / "target"), "--cache-dir", str(full / "cache")]
    script = f'mount -t tmpfs -o size=1m none {full} || exit 99; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", *command],
        env={"PATH": os.environ["PATH"], "UV_HTTP_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99:
        pytest.skip(f"this machine lets nobody mount: {done.stderr}")
    assert done.returncode != 0
    assert "free some space" in (hint_for(done.stderr.splitlines()) or "")


def test_a_cache_that_can_not_be_locked_is_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "cache" / ".lock").mkdir(parents=True)
    command = [find_uv_bin(), "pip", "compile", "-", "--no-config"]
    command += ["--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "UV_CACHE_DIR" in (hint_for(done.stderr.splitlines()) or "")


def test_a_file_that_is_not_there_or_is_damaged_is_hinted_at(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "wax", "1.0")
    asked = ("pip", "install", f"wax @ {wheel.as_uri()}", "--target", str(tmp_path / "target"))
    content = wheel.read_bytes()
    wheel.write_bytes(content[: len(content) // 2])
    lines, _ = said(*asked)
    assert "uv cache clean" in (hint_for(lines) or ""), lines
    wheel.unlink()
    lines, _ = said(*asked)
    assert "correct its path" in (hint_for(lines) or ""), lines


async def test_an_explanation_reaches_the_one_who_asked(bench: Bench, wheels: Path) -> None:
    with pytest.raises(ResolutionFailed, match="No solution found") as caught:
        await bench.resolve("wax", sources=PackageSources(index_url=bench.index.url))
    assert (caught.value.hint or "").startswith("check name and version")
