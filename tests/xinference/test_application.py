"""What Xinference itself requires, where a model's packages contradict it; a local index."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.wheels import build_wheel
from tests.xinference.conftest import Place

pytestmark = pytest.mark.uv


@pytest.fixture
def application(place: Place) -> Place:
    """A host with an Xinference that requires an old click, in whose place any other works."""
    place.host.add("click", "8.1")
    place.host.add("fastapi", "0.1")
    place.host.add(
        "xinference",
        "4.1",
        "click<8.2",
        "fastapi<1",
        "hub>=0.1",
        files={
            "xinference/__init__.py": "",
            "xinference/core/__init__.py": "",
            "xinference/core/model.py": "import click, fastapi\nfastapi.routing = fastapi\n",
        },
    )
    for version in ("8.1", "8.4"):
        build_wheel(place.wheels, "click", version)
    broken = {"fastapi.py": "raise ImportError('fastapi has no routing any more')\n"}
    build_wheel(place.wheels, "fastapi", "1.0", modules=broken)
    return place


def test_what_xinference_requires_bounds_what_a_models_packages_bring(application: Place) -> None:
    build_wheel(application.wheels, "hub", "1.0", requires=["click"])
    application.launch("hub")
    assert application.visible()["click"] == "8.1"


def test_it_gives_way_with_a_warning_where_a_models_packages_need_another_and_xinference_works(
    application: Place, caplog: pytest.LogCaptureFixture
) -> None:
    build_wheel(application.wheels, "hub", "1.0", requires=["click==8.4"])
    application.launch("hub", "oil")
    assert application.visible().items() >= {"click": "8.4", "hub": "1.0", "oil": "1.0"}.items()
    warning = (
        "Xinference requires click<8.2; the model gets click 8.4, since hub requires click==8.4"
    )
    assert warning in caplog.text


def test_it_gives_way_where_only_what_a_model_needs_in_turn_needs_another(
    application: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    application.host.add("hub", "1.0")
    for version in ("1.31", "1.32", "2.4"):
        build_wheel(application.wheels, "hub", version, requires=["click>=8.4"])
    for version in ("5.19", "5.24"):
        build_wheel(application.wheels, "tower", version, requires=["hub>=1.31,<3"])
    application.launch("tower>=5.19")
    assert application.visible().items() >= {"click": "8.4", "hub": "2.4", "tower": "5.24"}.items()
    without = [each for each in caplog.messages if "what Xinference requires of" in each]
    assert without == ["resolving without what Xinference requires of click"]


def test_an_index_that_is_not_reached_is_not_asked_again_without_what_xinference_requires(
    application: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(RuntimeError, match="tower"):
        application.launch("tower>=5.19", index_url="http://127.0.0.1:9/simple")
    assert "resolving" in caplog.text
    assert "resolving without what Xinference requires" not in caplog.text


def test_a_build_that_is_missing_is_looked_for_once_and_the_hint_is_for_users_of_xinference(
    application: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    application.host.add("torch", "2.13.0+cpu")
    build_wheel(application.wheels, "torchvision", "0.28.0", requires=["torch==2.13.0"])
    with pytest.raises(RuntimeError, match=r"no version of torchvision==0\.28\.0") as failed:
        application.launch("torchvision")
    assert "resolving without what Xinference requires" not in caplog.text
    hint = str(failed.value).rpartition("Hint: ")[2]
    assert hint.startswith("install the package on the host from https://download.pytorch.org")
    assert "--inherit" not in hint


@pytest.mark.parametrize("line", ["click==8.4", "click>=8.3"])
def test_a_model_that_names_another_version_itself_gets_it_with_a_warning(
    application: Place, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    application.launch(line)
    assert application.visible()["click"] == "8.4"
    warning = "requires click<8.2; the model gets click 8.4, since the model asks for it"
    assert warning in caplog.text


def test_a_version_with_which_xinference_does_not_work_is_refused_with_the_reason(
    application: Place,
) -> None:
    manager = application.launch("oil")
    with pytest.raises(RuntimeError) as caught:
        application.install(manager, "fastapi==1.0")
    assert "Xinference requires fastapi<1; the model gets fastapi 1.0" in str(caught.value)
    assert "fastapi has no routing any more" in str(caught.value)
    assert "virtual_env_packages" in str(caught.value)
    assert application.visible().items() >= {"fastapi": "0.1", "oil": "1.0"}.items()


def test_what_gave_way_stays_so_when_something_is_added(application: Place) -> None:
    build_wheel(application.wheels, "hub", "1.0", requires=["click>=8.4"])
    manager = application.launch("hub")
    application.install(manager, "oil")
    assert application.visible().items() >= {"click": "8.4", "hub": "1.0", "oil": "1.0"}.items()


def test_nothing_of_what_xinference_requires_is_asked_of_the_index(application: Place) -> None:
    for number in range(5):
        application.host.add(f"need-{number}", "1.0")
    application.host.add("xinference", "4.1", *(f"need-{number}" for number in range(5)), files={})
    application.launch("lantern==2.0")
    assert application.visible()["wick"] == "2.0"
    assert not [each for each in application.index.requests if "need-" in each]


def test_a_failure_says_what_a_user_of_xinference_can_do(place: Place) -> None:
    build_wheel(place.wheels, "wind", "1.0", requires=["wick<2"])
    with pytest.raises(RuntimeError) as caught:
        place.launch("wind", "lantern==2.0")
    assert "--inherit" not in str(caught.value)
    assert "--virtual-env-package" in str(caught.value)


def test_a_call_that_is_satisfied_already_builds_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manager = place.launch("lantern<2", "oil")
    inode = Path(manager.env_path).stat().st_ino
    place.install(manager, "oil", "wick")
    assert Path(manager.env_path).stat().st_ino == inode
    place.install(manager, "lantern>=2")
    assert Path(manager.env_path).stat().st_ino != inode
    assert place.visible()["lantern"] == "2.0"


def test_old_releases_of_what_is_asked_for_are_not_all_tried_to_keep_the_hosts_packages(
    place: Place,
) -> None:
    build_wheel(place.wheels, "lamp", "3.0", requires=["wick>=2"])
    build_wheel(place.wheels, "lamp", "1.0", requires=["wick<2", "slow"])
    place.index.hang("/simple/slow/")
    place.launch("lamp")
    assert place.visible().items() >= {"lamp": "3.0", "wick": "2.0"}.items()


def test_what_the_host_lacks_itself_is_installed_only_where_a_model_asks_for_it(
    application: Place,
) -> None:
    application.host.add("frame", "1.0", "glass", "pane")
    application.host.add("glass", "1.0")
    application.host.add("xinference", "4.2", "frame", "click<8.2")
    manager = application.launch("oil")
    assert not list(Path(manager.get_lib_path()).glob("pane*"))
    assert application.visible().items() >= {"frame": "1.0", "oil": "1.0"}.items()
    build_wheel(application.wheels, "pane", "1.0")
    application.launch("frame")
    assert application.visible()["pane"] == "1.0"
