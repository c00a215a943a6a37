"""The launches of Xinference's worker, whose step that installs is wrapped in the worker's process.

Xinference 4.1 has a launch's manager at hand when the launch is cancelled only once the install
has ended: a cancel then takes as long as the install. Here the launch knows its manager from the
beginning of that step. And between the end of the step and the start of the model's process no
process of the environment shows that it is used: until the launch has ended its worker does.
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from xinference_venv.store.atomic import Disk
from xinference_venv.store.use_lock import take_use_lock
from xinference_venv.xinference.builtin_errors import built_in_errors

_WORKER = "xinference.core.worker"
_MARK = "_xinference_venv"


class LaunchManager(Protocol):
    """A manager that asks whether the launch that it is for was cancelled."""

    env_path: Path
    is_cancelled: Callable[[], bool]


def follow_launches() -> None:
    """Wrap the worker's step, once; elsewhere than in a worker's process there is nothing to do."""
    worker: Any = getattr(sys.modules.get(_WORKER), "WorkerActor", None)
    prepare: Callable[..., Any] | None = getattr(worker, "_prepare_virtual_env", None)
    if prepare is None or hasattr(prepare, _MARK):
        return

    @functools.wraps(prepare)
    def prepare_known(manager: LaunchManager, *args: Any, **kwargs: Any) -> Any:
        launch = _launch_of(kwargs.get("reserve_usage"), kwargs.get("model_uid"))
        if launch is None:
            return prepare(manager, *args, **kwargs)
        manager.is_cancelled = launch.cancel_event.is_set
        launch.virtual_env_manager = manager
        prepared = prepare(manager, *args, **kwargs)
        if manager.env_path.exists():
            with built_in_errors(f"Could not use {manager.env_path}"):
                lock = take_use_lock(Disk(), manager.env_path)
            # The worker drops its note of a launch when that has ended.
            weakref.finalize(launch, os.close, lock)
        return prepared

    prepare_known.__dict__[_MARK] = True
    worker._prepare_virtual_env = staticmethod(prepare_known)


def _launch_of(reserve_usage: object, model_uid: object) -> Any | None:
    """The worker's note of a launch that goes on; `reserve_usage` is a method of the worker."""
    launches = getattr(getattr(reserve_usage, "__self__", None), "_model_uid_launching_guard", None)
    launch = launches.get(model_uid) if isinstance(launches, dict) else None
    return launch if hasattr(launch, "cancel_event") else None
