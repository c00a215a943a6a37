"""A Python environment for every model of a serving cluster, on every host.

What programs use: `local_client` and `connect` give a `Client`, which launches a `LaunchRequest`
and gives a `PreparedEnvironment`, in which `start_model_process` starts a process; `install` puts
our engine behind Xinference's own virtual environments. Every error is a `VirtualEnvError`.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from xinference_venv.client import Client, connect, local_client
    from xinference_venv.errors import (
        BuildFailed,
        DeadlineExceeded,
        IncompatibleVersion,
        InstallFailed,
        InUse,
        InvalidInput,
        InvalidModelSpec,
        InvalidName,
        InvalidPythonVersion,
        InvalidRecord,
        InvalidRequirement,
        InvalidSource,
        JobCancelled,
        ModelStartFailed,
        NoProgress,
        NotFound,
        PythonNotFound,
        ResolutionFailed,
        StoreError,
        UnknownEngine,
        UnknownFormat,
        UnknownJob,
        UnknownModel,
        UvFailed,
        UvNotFound,
        VerificationFailed,
        VirtualEnvError,
        WorkerUnavailable,
    )
    from xinference_venv.inventory.jobs import PreparedEnvironment
    from xinference_venv.planning.request import LaunchRequest
    from xinference_venv.runtime.model_process import start_model_process
    from xinference_venv.xinference import install

    __version__: str

__all__ = [
    "BuildFailed",
    "Client",
    "DeadlineExceeded",
    "InUse",
    "IncompatibleVersion",
    "InstallFailed",
    "InvalidInput",
    "InvalidModelSpec",
    "InvalidName",
    "InvalidPythonVersion",
    "InvalidRecord",
    "InvalidRequirement",
    "InvalidSource",
    "JobCancelled",
    "LaunchRequest",
    "ModelStartFailed",
    "NoProgress",
    "NotFound",
    "PreparedEnvironment",
    "PythonNotFound",
    "ResolutionFailed",
    "StoreError",
    "UnknownEngine",
    "UnknownFormat",
    "UnknownJob",
    "UnknownModel",
    "UvFailed",
    "UvNotFound",
    "VerificationFailed",
    "VirtualEnvError",
    "WorkerUnavailable",
    "__version__",
    "connect",
    "install",
    "local_client",
    "start_model_process",
]

# Loaded when they are used, all others being errors: xoscar alone takes most of a second, and the
# errors more than all else that a light process imports.
_MODULES = {
    "Client": "client",
    "LaunchRequest": "planning.request",
    "PreparedEnvironment": "inventory.jobs",
    "connect": "client",
    "install": "xinference",
    "local_client": "client",
    "start_model_process": "runtime.model_process",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("xinference-venv")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
