"""Building wheels from source with the real uv: what the build sees, and what is taken."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import lock
from tests.index import Index
from tests.uv.conftest import Bench
from tests.wheels import build_sdist, build_wheel
from xinference_venv.errors import BuildFailed
from xinference_venv.planning.sources import PackageSources
from xinference_venv.uv.installer import Builder

pytestmark = pytest.mark.uv

# The wheel tells which version of `wick` the build saw.
_SEEING = """
_copied = build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import wick, zipfile

    name = _copied(wheel_directory)
    with zipfile.ZipFile(Path(wheel_directory, name), "a") as archive:
        archive.comment = wick.__version__.encode()
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    import zipfile

    [wheel] = Path("prebuilt").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [each for each in archive.namelist() if ".dist-info/" in each]
        archive.extractall(metadata_directory, names)
    return names[0].partition("/")[0]
"""


def builder(bench: Bench, scratch: Path, *lines: str, **more: Any) -> Builder:
    scratch.mkdir(exist_ok=True)
    return Builder(
        uv=bench.uv,
        spec=bench.spec(lines, **more),
        env=scratch / "build",
        scratch=scratch,
        deadline=60,
    )


def ignore(_: str) -> None:
    """Nobody listens."""


async def test_a_build_without_isolation_is_not_taken_from_the_cache(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        build_wheel(folder, "wick", version)
    build_sdist(folder, "seeing", "1.0", backend=_SEEING)
    sources = PackageSources(no_index=True, find_links=(str(folder),), no_build_isolation=True)
    sdist = (await bench.resolve("seeing", sources=sources)).packages
    seen = []
    for version in ("1.0", "2.0"):
        wick = (await bench.resolve(f"wick=={version}", sources=sources)).packages
        making = builder(bench, tmp_path / version, "seeing", sources=sources)
        await making.make_empty()
        await making.install(lock(*wick), ignore)
        made = await making.build_wheels(sdist, isolated=False, on_line=ignore)
        with zipfile.ZipFile(made["seeing"]) as archive:
            seen.append(archive.comment.decode())
    assert seen == ["1.0", "2.0"]


async def test_a_source_is_fetched_with_credentials_that_nothing_shows(
    bench: Bench, index: Index, tmp_path: Path
) -> None:
    build_sdist(tmp_path / "wheels", "Secret.Source", "1.0")
    sources = PackageSources(index_url=index.require_auth("me", "hunter22"))
    found = await bench.resolve("secret-source", sources=sources)
    assert "hunter22" not in str(found)
    making = builder(bench, tmp_path / "scratch", "secret-source", sources=sources)
    await making.make_empty()
    lines: list[str] = []
    made = await making.build_wheels(found.packages, isolated=True, on_line=lines.append)
    assert made["secret-source"].name == "secret_source-1.0-py3-none-any.whl"
    assert "src" not in made["secret-source"].parts
    assert "hunter22" not in "".join(lines)


async def test_a_source_that_was_exchanged_since_the_lock_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    build_sdist(tmp_path / "wheels", "exchanged-source", "1.0")
    [package] = (await bench.resolve("exchanged-source")).packages
    forged = {**package, "sdist": {**package["sdist"], "hashes": {"sha256": "0" * 64}}}
    making = builder(bench, tmp_path / "scratch", "exchanged-source")
    await making.make_empty()
    with pytest.raises(BuildFailed, match="could not build exchanged-source") as caught:
        await making.build_wheels([forged], isolated=True, on_line=ignore)
    assert "Hash mismatch" in json.dumps(caught.value.to_dict())
