"""The host gets other packages while an environment over it is there, or runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.xinference.conftest import Place
from tests.xinference.test_use import model_process, says
from xinference_venv.planning.lock import LockedDistribution
from xinference_venv.store.atomic import Disk
from xinference_venv.store.in_place import packages_in_place
from xinference_venv.xinference.carry_over import SETUP_MARK

pytestmark = pytest.mark.uv


def take_from_host(place: Place, name: str) -> None:
    """Uninstall a distribution of one module from the host, as pip does."""
    [metadata] = place.host.site.glob(f"{name}-*.dist-info")
    shutil.rmtree(metadata)
    (place.host.site / f"{name}.py").unlink()


def replace_on_host(place: Place, name: str, version: str) -> None:
    """Install another version of it there."""
    take_from_host(place, name)
    place.host.add(name, version)


def test_what_changed_on_the_host_is_shown_without_another_setup(place: Place) -> None:
    manager = place.launch("lantern<2")
    mark = manager.env_path / SETUP_MARK
    mark.write_text('{"of": "Xinference"}')
    place.host.add("unrelated", "1.0")
    manager.create_env()
    assert mark.read_text() == '{"of": "Xinference"}'
    replace_on_host(place, "wick", "1.5")
    manager.create_env()
    assert mark.read_text() == '{"of": "Xinference"}'
    assert place.visible().items() >= {"lantern": "1.0", "wick": "1.5"}.items()
    assert place.says("import wick; print(wick.__version__)") == "1.5"


def test_what_it_inherits_is_known_after_a_change_of_the_host_too(place: Place) -> None:
    manager = place.launch("lantern<2", "oil")
    before = by_name(place)
    replace_on_host(place, "wick", "1.5")
    manager.create_env()
    assert by_name(place) == {**before, "wick": replace(before["wick"], version="1.5")}


def by_name(place: Place) -> dict[str, LockedDistribution]:
    """What the tools of this package show of the environment."""
    return {each.name: each for each in packages_in_place(Disk(), place.path)}


def test_a_second_instance_starts_over_the_changed_host_while_the_first_one_runs(
    place: Place,
) -> None:
    place.launch("lantern<2")
    with model_process(place) as first:
        replace_on_host(place, "wick", "1.5")
        place.host.add("wind", "1.0")
        place.launch("lantern<2")
        assert place.visible().items() >= {"lantern": "1.0", "wick": "1.5"}.items()
        with model_process(place) as second:
            assert says(second, "import wick; print(wick.__version__)") == "1.5"
        assert says(first, "import wick; print(lantern.__version__)") == "1.0"
        # It is a user of the completed one as well.
        with pytest.raises(RuntimeError, match=f"in use by process {first.pid}"):
            place.install(place.manager, "lantern==2.0")


def test_what_the_host_has_no_more_is_installed_at_the_next_setup(place: Place) -> None:
    manager = place.launch("lantern<2")
    mark = manager.env_path / SETUP_MARK
    mark.write_text("{}")
    take_from_host(place, "wick")
    manager.create_env()
    assert not mark.exists()
    place.install(manager, "lantern<2")
    assert place.visible()["wick"] == "2.0"


def test_a_launch_over_what_is_broken_under_a_running_model_fails_with_the_reason(
    place: Place, index: Index
) -> None:
    place.launch("lantern<2")
    with model_process(place) as process:
        take_from_host(place, "wick")
        with pytest.raises(
            RuntimeError, match=f"in use by process {process.pid}.*it needs wick>=1 now"
        ):
            place.manager.create_env()
    place.launch("lantern<2")
    assert place.visible()["wick"] == "2.0"


def test_an_environment_of_packages_that_need_nothing_of_the_host_is_left_as_it_is(
    place: Place,
) -> None:
    manager = place.launch("oil")
    before = Path(manager.get_lib_path(), "oil.py").stat().st_ino
    take_from_host(place, "wick")
    manager.create_env()
    assert "wick" not in place.visible()
    assert Path(manager.get_lib_path(), "oil.py").stat().st_ino == before


def other_installation(place: Place, wick: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same place, as another installation of Xinference on the same home uses it from now on;
    it has another `wick`.
    """
    environ: dict[str, str] = {}
    other = Host.make(place.host.prefix.with_name("other"), environ)
    other.add("wick", wick)
    other.add("stand", "1.0", "wick<2")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return replace(place, host=other)


def test_another_installation_replaces_nothing_under_a_running_model_of_the_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process has not imported yet it would get of the other's packages."""
    place.launch("lantern<2")
    with model_process(place) as first:
        other = other_installation(place, "1.5", monkeypatch)
        with pytest.raises(RuntimeError, match=f"in use by process {first.pid}.* and wick would"):
            other.launch("lantern<2")
        assert says(first, "import wick; print(wick.__version__)") == "1.0"
    other.launch("lantern<2")
    assert other.says("import wick; print(wick.__version__)") == "1.5"


def test_another_installation_with_the_same_versions_shares_an_environment_in_use(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.launch("lantern<2")
    with model_process(place) as first:
        other_installation(place, "1.0", monkeypatch).launch("lantern<2")
        assert says(first, "import wick; print(wick.__version__)") == "1.0"
