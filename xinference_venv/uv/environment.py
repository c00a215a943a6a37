"""The environment of uv's processes, as data: variables that change its results are dropped."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from xinference_venv.settings import WIRE_KEY_VARIABLE

# What of uv's own variables says how to reach the network or where interpreters are, and not
# what to resolve.
_KEPT_UV_VARIABLES = frozenset(
    {
        "UV_CONCURRENT_BUILDS",
        "UV_CONCURRENT_DOWNLOADS",
        "UV_HTTP_RETRIES",
        "UV_HTTP_TIMEOUT",
        "UV_INSECURE_HOST",
        "UV_KEYRING_PROVIDER",
        "UV_CREDENTIALS_DIR",
        "UV_GIT_LFS",
        "UV_GITHUB_TOKEN",
        "UV_LOCK_TIMEOUT",
        "UV_REQUEST_TIMEOUT",
        "UV_SKIP_WHEEL_FILENAME_CHECK",
        "UV_NATIVE_TLS",
        "UV_OFFLINE",
        "UV_PYTHON_DOWNLOADS_JSON_URL",
        "UV_PYTHON_INSTALL_DIR",
        "UV_PYTHON_INSTALL_MIRROR",
        "UV_SYSTEM_CERTS",
    }
)
LINK_MODE_VARIABLE = "UV_LINK_MODE"
"""How uv brings files from its cache to an environment."""
# Not symlink: a tree of links into uv's cache ends with `uv cache prune`,
# https://github.com/astral-sh/uv/issues/12003
_LINK_MODES = frozenset({"clone", "copy", "hardlink"})
_DROPPED_PREFIXES = ("UV_", "PIP_", "PYTHON", "CONDA_")
_DROPPED_VARIABLES = frozenset({"VIRTUAL_ENV", WIRE_KEY_VARIABLE, "__PYVENV_LAUNCHER__"})


def scrubbed_environment(
    environ: Mapping[str, str],
    *,
    cache_dir: str | None,
    temporary: str | None = None,
    python_directories: Sequence[str] = (),
) -> dict[str, str]:
    """The environment for a uv process.

    Variables that change what uv resolves and the cluster's wire key are dropped; those of
    proxies, certificates and compilers stay. Shims of version managers leave `PATH`, since uv
    fails on a shim whose version is not selected; `python_directories` take their place.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT_UV_VARIABLES
        or not (name.startswith(_DROPPED_PREFIXES) or name in _DROPPED_VARIABLES)
    }
    if (mode := environ.get(LINK_MODE_VARIABLE)) in _LINK_MODES:
        kept[LINK_MODE_VARIABLE] = mode
    # An empty entry would mean the working directory.
    path = [
        each for each in environ.get("PATH", "").split(":") if each and not each.endswith("/shims")
    ]
    kept["PATH"] = ":".join([*path, *python_directories])
    kept["NO_COLOR"] = "1"
    if cache_dir is not None:
        kept["UV_CACHE_DIR"] = cache_dir
    if temporary is not None:
        kept["TMPDIR"] = temporary
    return kept


def version_manager_directories(environ: Mapping[str, str], home: str) -> list[str]:
    """The folders in which pyenv keeps its interpreters, the newest first.

    uv fails on pyenv's shims of versions that are not selected, so the real interpreters are
    put on its search path instead.
    """
    root = Path(environ.get("PYENV_ROOT") or Path(home, ".pyenv"), "versions")
    try:
        names = os.listdir(root)
    except OSError:
        # Not there, or not for this user: pyenv is another one's.
        return []
    # 3.6 and 2.7 make uv's own questions fail: https://github.com/astral-sh/uv/issues/3474
    modern = [each for each in names if re.match(r"3\.(?![0-7](\.|$))", each)]
    modern.sort(
        key=lambda each: [int(number) for number in re.findall("[0-9]+", each)], reverse=True
    )
    folders = [os.path.join(root, each, "bin") for each in modern]
    return list(filter(os.path.isdir, folders))
