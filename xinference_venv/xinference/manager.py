"""The manager of one environment, with the interface that Xinference knows.

Its methods block, and may be called from any thread; each is one call of the engine.
"""

from __future__ import annotations

import logging
import os
import sysconfig
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import xoscar.virtualenv
from xoscar.virtualenv.core import VirtualEnvManager
from xoscar.virtualenv.uv import SKIP_INSTALLED

from xinference_venv._util.redact import redact_url
from xinference_venv.errors import JobCancelled, NotFound
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.uv.program import find_uv
from xinference_venv.xinference import operations
from xinference_venv.xinference.background_loop import CANCEL_SECONDS, BackgroundCall
from xinference_venv.xinference.builtin_errors import built_in_errors
from xinference_venv.xinference.engine import InstallOptions
from xinference_venv.xinference.launches import follow_launches

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_EXISTS = ("error", "clear", "ignore")


class InPlaceEnvManager(VirtualEnvManager):  # type: ignore[misc]
    """A `xoscar.virtualenv.VirtualEnvManager` over our engine; `env_path` is the environment.

    Bad input is a `ValueError`, every other failure a `RuntimeError`; their text says what to do
    and holds no credentials.
    """

    def __init__(self, env_path: Path) -> None:
        super().__init__(env_path)
        self.is_cancelled: Callable[[], bool] = _never
        """Whether the launch that the manager is for was cancelled."""
        self._running: set[BackgroundCall[Any]] = set()
        # Until something was installed: after that anybody may have started a process in it.
        self._just_made = False

    @classmethod
    def is_available(cls) -> bool:
        """Whether there is a uv."""
        try:
            cls._get_uv_path()
        except NotFound:
            return False
        return True

    @staticmethod
    def _get_uv_path() -> str:
        """The path of uv, which Xinference starts itself after an install."""
        return find_uv(os.environ.get("XOSCAR_UV_PATH"))

    def exists_env(self) -> bool:
        """Whether an environment is at the path."""
        return os.path.exists(self.env_path / "pyvenv.cfg")

    def create_env(self, python_path: Path | None = None, exists: str = "ignore") -> None:
        """Make an environment without packages, by default of the host's own interpreter.

        One that is there: ``ignore`` leaves it, ``clear`` replaces it, ``error`` raises
        `FileExistsError`. One that is left has what the host has become since, or, where that
        takes an install, is reported to Xinference as not set up.
        """
        if exists not in _EXISTS:
            raise ValueError(
                f"Invalid exists option: {exists}. Must be one of: {', '.join(_EXISTS)}"
            )
        if exists == "error" and self.exists_env():
            raise FileExistsError(f"Virtual environment already exists at {self.env_path}")
        python = None if python_path is None else str(python_path)
        follow_launches()
        clear = exists == "clear"
        self._just_made = self._do(
            "create", lambda: operations.create(self.env_path, os.environ, python, clear=clear)
        )

    def install_packages(self, packages: list[str], **kwargs: Any) -> None:
        """Install packages in addition to what is there, which stays unless they contradict it.

        Keywords: `index_url`, `extra_index_url`, `find_links`, `trusted_host`, `index_strategy`,
        `no_build_isolation`; `skip_installed`, which has the host's packages serve where they
        fit; `engine` and `model_engine` for markers. Others are ignored, and the log says so.
        """
        if not packages:
            return
        with built_in_errors(f"Could not install into {self.env_path}"):
            if self.is_cancelled():
                raise JobCancelled("the launch was cancelled")
            options = InstallOptions.of(kwargs, skip_installed=SKIP_INSTALLED)
            shown = ", ".join(redact_url(str(each)) for each in packages)
        _log.info("Installing into %s: %s", self.env_path, shown)
        just_made, self._just_made = self._just_made, False
        self._do(
            "install into",
            lambda: operations.install(
                self.env_path, os.environ, packages, options, just_made=just_made
            ),
        )

    @staticmethod
    def process_packages(packages: list[str], **variables: Any) -> list[str]:
        """What to install on this host for packages with placeholders and markers."""
        with built_in_errors("Could not read the packages"):
            options = InstallOptions.of(variables, skip_installed=False)
            asked = BackgroundCall(
                lambda: operations.process_packages(os.environ, packages, options), "reading them"
            )
            return _ReadPackages(asked.result(), packages, options)

    def _filter_packages_not_installed(
        self, packages: list[str], index_url: str | None = None, **sources: Any
    ) -> list[str]:
        """What an install that skips what is installed would add, as ``name==version``.

        Xinference asks for it before an install, and shows how many packages that has.
        """
        return self._plan(packages, {**sources, "index_url": index_url, "skip_installed": True})

    def _resolve_install_plan(
        self,
        packages: list[str],
        pinned: dict[str, str],
        index_url: str | None = None,
        **sources: Any,
    ) -> list[str]:
        """The same of an install that does not; Xinference has no versions that are `pinned`."""
        return self._plan(packages, {**sources, "index_url": index_url, "skip_installed": False})

    def _plan(self, packages: list[str], given: dict[str, Any]) -> list[str]:
        with built_in_errors(f"Could not plan an install into {self.env_path}"):
            options = InstallOptions.of(given, skip_installed=False)
        if isinstance(packages, _ReadPackages):
            # As the install will ask, so that this answer serves it.
            options = replace(options, engine=packages.options.engine)
            packages = packages.read_from
        return self._do(
            "plan an install into",
            lambda: operations.plan(self.env_path, os.environ, packages, options),
        )

    def cancel_install(self) -> None:
        """End what another thread does with this manager; returns when its uv has ended, or after
        30 s when the disk does not answer.

        There the call raises; the environment is what it was before.
        """
        for running in tuple(self._running):
            if not running.cancel():
                _log.warning(
                    "what was cancelled of %s has not ended within %.0f s; it ends when the disk"
                    " has answered",
                    self.env_path,
                    CANCEL_SECONDS,
                )

    def get_python_path(self) -> str | None:
        """The interpreter of the environment, or None when there is none."""
        return str(self.env_path / "bin" / "python") if os.path.exists(self.env_path) else None

    def get_lib_path(self) -> str:
        """The site-packages of the environment."""
        if self.exists_env():
            return str(site_packages_of(self.env_path))
        return sysconfig.get_path("purelib", vars={"base": str(self.env_path)})

    def remove_env(self) -> None:
        """Delete the environment; refused while processes run in it."""
        self._do("remove", lambda: operations.remove(self.env_path, os.environ))

    def _do(self, verb: str, what: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        with built_in_errors(f"Could not {verb} {self.env_path}"):
            running = BackgroundCall(what, "it")
            self._running.add(running)
            try:
                return running.result()
            finally:
                self._running.discard(running)


class _ReadPackages(list[str]):
    """What is to be installed for packages, and what these were: Xinference plans by the one what
    it installs by the other.
    """

    def __init__(
        self, lines: Sequence[str], read_from: Sequence[str], options: InstallOptions
    ) -> None:
        super().__init__(lines)
        self.read_from = list(read_from)
        self.options = options


def _never() -> bool:
    return False


def install() -> None:
    """Let ``xoscar.virtualenv.get_virtual_env_manager("uv", path)`` give our manager from now on.

    In this process, also to modules that imported that function before.
    """
    xoscar.virtualenv._name_to_managers["uv"] = InPlaceEnvManager
