"""Launches of a worker of the shape that Xinference 4.1 has."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.xinference.conftest import Place
from xinference_venv.errors import StoreError
from xinference_venv.xinference import launches

pytestmark = pytest.mark.uv


@dataclass
class Launch:
    cancel_event: threading.Event = field(default_factory=threading.Event)
    virtual_env_manager: Any = None


class WorkerActor:
    """What of Xinference's worker takes part, with its names."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._model_uid_launching_guard: dict[str, Launch] = {}

    def launch(self, uid: str, *packages: str) -> None:
        self._model_uid_launching_guard[uid] = Launch()
        manager = self.place.manager
        manager.create_env()
        self._prepare_virtual_env(
            manager,
            list(packages),
            model_uid=uid,
            reserve_usage=self._reserve_virtual_env_usage,
            install=self.place.install,
        )

    def cancel_launch_model(self, uid: str) -> None:
        launch = self._model_uid_launching_guard[uid]
        launch.cancel_event.set()
        if launch.virtual_env_manager:
            launch.virtual_env_manager.cancel_install()

    def _reserve_virtual_env_usage(self) -> None:
        pass

    @classmethod
    def _prepare_virtual_env(
        cls, manager: Any, packages: list[str], *, install: Any, model_uid: str, reserve_usage: Any
    ) -> None:
        reserve_usage()
        install(manager, *packages)


@pytest.fixture
def worker(place: Place, monkeypatch: pytest.MonkeyPatch) -> WorkerActor:
    module = ModuleType("xinference.core.worker")
    kind = type("WorkerActor", (WorkerActor,), dict(WorkerActor.__dict__))
    module.__dict__["WorkerActor"] = kind
    monkeypatch.setitem(sys.modules, "xinference.core.worker", module)
    made: WorkerActor = kind(place)
    return made


def test_cancelling_a_launch_ends_its_install(worker: WorkerActor, place: Place) -> None:
    place.index.hang("/simple/lantern/")
    with ThreadPoolExecutor() as threads:
        launching = threads.submit(worker.launch, "first", "lantern")
        place.index.wait_for_request("/simple/lantern/")
        worker.cancel_launch_model("first")
        with pytest.raises(RuntimeError, match="was cancelled"):
            launching.result(timeout=60)
    place.index.heal()
    worker.launch("second", "lantern<2")
    assert place.visible()["lantern"] == "1.0"


def test_a_launch_that_waits_for_its_turn_installs_nothing_once_it_is_cancelled(
    worker: WorkerActor, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_first(self: WorkerActor) -> None:
        self.cancel_launch_model("first")

    monkeypatch.setattr(type(worker), "_reserve_virtual_env_usage", cancel_first)
    with pytest.raises(RuntimeError, match="the launch was cancelled"):
        worker.launch("first", "oil")
    assert "oil" not in place.visible()


def test_a_launch_whose_environment_is_changed_without_end_fails(
    worker: WorkerActor, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object, folder: Path) -> int:
        raise StoreError(f"another process has been changing {folder}", {"hint": "end it"})

    monkeypatch.setattr(launches, "take_use_lock", never)
    with pytest.raises(RuntimeError, match=r"Could not use .*: another process(?s:.*)Hint: end it"):
        worker.launch("first", "oil")


def test_until_a_launch_has_ended_its_worker_uses_the_environment(
    worker: WorkerActor, place: Place
) -> None:
    worker.launch("first", "lantern<2")
    with pytest.raises(RuntimeError, match="is in use by process"):
        place.launch("lantern==2.0")
    assert place.visible()["lantern"] == "1.0"
    del worker._model_uid_launching_guard["first"]
    place.launch("lantern==2.0")
    assert place.visible()["lantern"] == "2.0"
