"""How Xinference's own processes get our managers: an extension, in Xinference's sense.

Xinference starts its worker in processes of its own. It loads what ``XINFERENCE_EXTENSIONS``
names in every one of them, before anything else happens there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xinference_venv.xinference.manager import install

EXTENSIONS_VARIABLE = "XINFERENCE_EXTENSIONS"
EXTENSION = "xinference_venv.xinference:extension"


class _Extension:
    """Does nothing but be there; its methods are those that Xinference calls."""

    name = "xinference_venv"
    api_version = 1

    def configure_api(self, context: object) -> None:
        """The API stays as it is."""

    def worker_metadata(self) -> dict[str, Any]:
        """There is nothing to tell of a worker."""
        return {}

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
