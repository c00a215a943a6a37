"""The program of uv: where it is, and which version it says it is."""

from __future__ import annotations

import shutil
from contextlib import suppress

from packaging.version import InvalidVersion, Version
from uv import find_uv_bin

from xinference_venv.errors import UvNotFound
from xinference_venv.sentences import sentence


def find_uv(override: str | None) -> str:
    """The path of uv: `override` (XOSCAR_UV_PATH), else the one of the `uv` package, else the one
    on PATH, as xoscar has it: some distributions have the program in a package of its own.
    """
    if override is not None:
        found = shutil.which(override)
        if found is None:
            raise UvNotFound(
                sentence(
                    "XOSCAR_UV_PATH names {override}, which is not a program",
                    override=repr(override),
                ),
                {"hint": sentence("correct the variable, or unset it to use the uv package's own")},
            )
        return found
    try:
        return find_uv_bin()
    except FileNotFoundError:
        if (found := shutil.which("uv")) is not None:
            return found
        raise UvNotFound(
            sentence("the uv package has no uv program for this interpreter"),
            {"hint": sentence("pip install --force-reinstall uv, or set XOSCAR_UV_PATH")},
        ) from None


def is_of_package(program: str) -> bool:
    """Whether a program is the one of the `uv` package, which fits by what pip knows of us."""
    with suppress(FileNotFoundError):
        return program == find_uv_bin()
    return False


def version_in(output: str) -> Version | None:
    """The version in what uv says of itself, ``uv 0.13.1 (...)``; None of what is no uv."""
    match output.split():
        case ["uv", version, *_]:
            try:
                return Version(version)
            except InvalidVersion:
                return None
    return None
