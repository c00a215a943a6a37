"""Folders of sources among the packages of a call, with real builds."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import eventually
from tests.wheels import build_sdist, build_wheel, unpack
from tests.xinference.conftest import Place
from tests.xinference.test_manager import running_in

pytestmark = pytest.mark.uv


def sources(folder: Path, name: str, version: str, **more: Any) -> Path:
    """A folder of sources, at `folder`, that builds without network."""
    packed = folder.with_name(f"{folder.name}-packed")
    packed.mkdir(exist_ok=True)
    unpack(build_sdist(packed, name, version, **more), packed)
    shutil.rmtree(folder, ignore_errors=True)
    (packed / f"{name}-{version}").rename(folder)
    return folder


def test_a_folder_of_sources_is_installed_with_what_it_requires(
    place: Place, tmp_path: Path
) -> None:
    folder = sources(tmp_path / "a lamp", "lamp", "1.0", requires=["lantern<2"])
    url = folder.as_uri()
    line = f'lamp @ {url} ; #engine# == "vllm"'
    manager = place.launch("oil")
    processed = manager.process_packages([line], engine="vllm")
    assert processed == [f"lamp @ {url}"]
    assert manager._resolve_install_plan(processed, {}, place.index.url) == [
        "lamp==1.0",
        "lantern==1.0",
    ]
    place.launch(line, skip_installed=False)
    assert place.visible().items() >= {"lamp": "1.0", "lantern": "1.0", "oil": "1.0"}.items()
    place.launch("lantern==1.0")
    assert place.visible()["lamp"] == "1.0"


def test_a_folder_without_a_name_is_installed(place: Place, tmp_path: Path) -> None:
    place.launch(sources(tmp_path / "here", "lamp", "1.0").as_uri())
    assert place.visible()["lamp"] == "1.0"


def test_a_folder_is_built_again_only_when_it_has_changed(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sources(tmp_path / "sources", "lamp", "1.0")
    line = f"lamp @ {folder.as_uri()}"
    caplog.set_level(logging.INFO)
    place.launch(line)
    assert "installing 1 package\n" in caplog.text
    # What builds leave there.
    (folder / "build").mkdir()
    (folder / "build" / "left.py").write_text("")
    place.launch(line)
    assert "has all of it already" in caplog.text
    sources(folder, "lamp", "1.1")
    place.launch(line)
    assert place.visible()["lamp"] == "1.1"


def test_a_folder_is_built_once_to_plan_an_install_and_for_the_install(
    place: Place, tmp_path: Path
) -> None:
    built = tmp_path / "built"
    line = f"lamp @ {(tmp_path / 'sources').as_uri()}"
    for version in ("1.0", "1.1"):
        note = f"open({str(built)!r}, 'a').write('built')"
        sources(tmp_path / "sources", "lamp", version, backend=note)
        built.write_text("")
        # First one that is just made, then one that is there.
        manager = place.launch()
        planned = manager.process_packages([line], engine="vllm")
        new = manager._resolve_install_plan(planned, {}, place.index.url)
        assert new == [f"lamp=={version}"]
        once = built.read_text()
        assert once
        place.install(manager, line)
        assert place.visible()["lamp"] == version
        assert built.read_text() == once
    [wheels] = place.path.parents[3].glob("store/wheels")
    eventually(lambda: not any(wheels.iterdir()))


def test_what_is_built_again_is_not_put_under_a_running_model(place: Place, tmp_path: Path) -> None:
    folder = sources(tmp_path / "sources", "lamp", "1.0")
    line = f"lamp @ {folder.as_uri()}"
    place.launch(line)
    with running_in(place) as process:
        place.launch(line)
        sources(folder, "lamp", "1.1")
        with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
            place.launch(line)
        assert process.stdin is not None
        process.stdin.close()
    assert place.visible()["lamp"] == "1.0"


def test_the_build_finds_what_it_needs_on_the_index_of_the_call(
    place: Place, tmp_path: Path
) -> None:
    build_wheel(place.wheels, "matches", "1.0", modules={"matches.py": ""})
    folder = sources(tmp_path / "sources", "lamp", "1.0", build_requires=["matches"])
    place.launch(f"lamp @ {folder.as_uri()}")
    assert place.visible()["lamp"] == "1.0"
    assert "matches" not in place.visible()


def test_a_build_without_isolation_sees_the_environment(place: Place, tmp_path: Path) -> None:
    place.launch("oil")
    folder = sources(
        tmp_path / "sources", "lamp", "1.0", backend="import oil", build_requires=["matches"]
    )
    place.launch(f"lamp @ {folder.as_uri()}", no_build_isolation=True)
    assert place.visible()["lamp"] == "1.0"


def test_an_error_says_what_is_wrong_with_a_folder(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"gone is not a folder of sources .*: No such file"):
        place.launch(f"lamp @ {(tmp_path / 'gone').as_uri()}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match="does not appear to be a Python project"):
        place.launch(f"lamp @ {(tmp_path / 'empty').as_uri()}")
    folder = sources(tmp_path / "sources", "lamp", "1.0")
    with pytest.raises(RuntimeError, match="has the sources of lamp, not of torch"):
        place.launch(f"torch @ {folder.as_uri()}")
    broken = sources(tmp_path / "broken", "wreck", "1.0", backend="raise OSError('no compiler')")
    with pytest.raises(RuntimeError, match="no compiler"):
        place.launch(f"wreck @ {broken.as_uri()}")
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES", "0")
    with pytest.raises(RuntimeError, match="source builds are forbidden"):
        place.launch(f"lamp @ {folder.as_uri()}")
