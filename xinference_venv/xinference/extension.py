"""How Xinference's own processes get our managers: an extension, in Xinference's sense.

Xinference starts its worker in processes of its own. It loads what ``XINFERENCE_EXTENSIONS``
names in every one of them, before anything else happens there. Each shows by a lock that it has
done so, and the worker's log says it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from xinference_venv._util.redact import redact_text
from xinference_venv.errors import VirtualEnvError
from xinference_venv.service.places import find_places
from xinference_venv.store.atomic import Disk
from xinference_venv.store.drop_in import EXTENSION, hold_drop_in
from xinference_venv.xinference.compiling import COMPILING
from xinference_venv.xinference.manager import install

# Of Xinference's own loggers, so that its console and its file have it.
_log = logging.getLogger("xinference.xinference_venv")
_SETTINGS = "XINFERENCE_VIRTUAL_ENV_"


class _Extension:
    """Shows that it is there; its methods are those that Xinference calls.

    `lock` is held as long as the process lives.
    """

    name = "xinference_venv"
    api_version = 1

    def __init__(self) -> None:
        self.version = importlib.metadata.version("xinference_venv")
        self.root = ""
        self.lock: int | None = None
        try:
            root = find_places(os.environ).root
            self.root = str(root)
            self.lock = hold_drop_in(Disk(), root)
        except (VirtualEnvError, OSError) as error:
            # A launch says what is wrong, and what to do.
            _log.warning("xinference_venv: %s", error)

    def configure_api(self, context: object) -> None:
        """The API stays as it is."""

    def worker_metadata(self) -> dict[str, Any]:
        """What the supervisor keeps of a worker, asked for when that registers; it is logged.

        From then on this process compiles what is installed.
        """
        settings = {
            name: redact_text(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(_SETTINGS)
        }
        shown = ", ".join(f"{name}={value}" for name, value in settings.items())
        _log.info(
            "xinference_venv %s makes the virtual environments of models, below %s; settings: %s",
            self.version,
            self.root,
            shown or "the defaults",
        )
        COMPILING.start(os.environ)
        return {"version": self.version, "settings": settings}

    def filter_worker_resources(
        self, worker: Mapping[str, Any], workers: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """Every device may be used."""
        return list(worker["gpu_devices"])

    def control_operation(self, operation: str, payload: Mapping[str, Any]) -> None:
        """There are no operations: raises `ValueError`."""
        raise ValueError(f"{self.name} has no operation {operation!r}")


def extension() -> _Extension:
    """Give this process our managers; called by Xinference."""
    install()
    return _Extension()


def with_extension(configured: str) -> str:
    """The value of ``XINFERENCE_EXTENSIONS`` that names ours after what it names already."""
    entries = [each.strip() for each in configured.split(",") if each.strip()]
    return ",".join(entries if EXTENSION in entries else [*entries, EXTENSION])
