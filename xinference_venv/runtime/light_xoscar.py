"""Import xoscar without the libraries that it needs only to send their objects.

For processes of this project alone, which send records and nothing else: by itself xoscar imports
pandas and scipy's sparse matrices, and torch when a pool is made, half a second and several
seconds of processor time. As versioneer makes it, it also asks git for its version, in up to six
processes, and where the virtual environment lies in a repository gets that of the repository. A
process of others, a cluster's worker or a model's, imports xoscar as it is.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import sys
from types import ModuleType

_DATA_FRAMES = "pandas"
# xoscar does without these where they are missing.
_OPTIONAL = ("pandas.core.internals", "scipy.sparse")
_VERSION = "xoscar._version"


def import_xoscar_lightly() -> None:
    """Import xoscar; nothing to do where that was done already."""
    if "xoscar" in sys.modules:
        return
    if _DATA_FRAMES not in sys.modules:
        sys.modules[_DATA_FRAMES] = _Deferred(_DATA_FRAMES)
    without = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(without))  # type: ignore[arg-type]
    sys.modules[_VERSION] = _Version(_VERSION)
    try:
        import xoscar
    finally:
        for name in without:
            del sys.modules[name]
    del xoscar
    from xoscar.serialization.cuda import CudfSerializer, CupySerializer
    from xoscar.serialization.torch import TorchTensorSerializer

    # `TypeDispatcher.reload_all_lazy_handlers` imports the modules of these names for every pool,
    # and `get_handler` for every object of a class that it does not know.
    TorchTensorSerializer.unregister("torch.Tensor")
    CupySerializer.unregister("cupy.ndarray")
    for name in ("DataFrame", "Series", "Index"):
        CudfSerializer.unregister(f"cudf.{name}")
    if (3, 12) <= sys.version_info < (3, 12, 3):
        # xoscar starts the thread that closes connections as the process ends, which these refuse
        # with a traceback: https://github.com/python/cpython/issues/113964
        from xoscar.backends.core import ActorCaller

        ActorCaller._ensure_initialized()


class _Version(ModuleType):
    """Stands for the module that asks git; the version is that of the installed package."""

    @staticmethod
    def get_versions() -> dict[str, str]:
        return {"version": importlib.metadata.version("xoscar")}


class _Deferred(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Whoever imports the module looks at this, and whether it is being imported just now.
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
