"""What pip and uv are configured to on this host: by their files, and by variables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace

from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import PipConfig, parse_pip_config, pip_config_paths
from xinference_venv.planning.uv_files import (
    UvFiles,
    check_present,
    is_project_of_uv,
    read_uv_files,
    uv_file_paths,
    with_uv_files,
)
from xinference_venv.planning.uv_variables import with_uv_variables
from xinference_venv.sentences import sentence
from xinference_venv.service.places import user_home
from xinference_venv.store.host_files import read_present

# What may follow a requirement in a file.
_OPTIONS = re.compile(r"\s+(?:#|--)")


def pip_config_of(environ: Mapping[str, str]) -> PipConfig:
    """What pip and uv are configured to on this host; blocks, raises `InvalidSource`."""
    paths = pip_config_paths(
        environ,
        prefix=sys.prefix,
        home=user_home(environ),
        platform=sys.platform,
        present=os.path.exists,
    )
    return _with_uv(parse_pip_config(read_present(paths), environ), environ)


def uv_files_of(environ: Mapping[str, str], working_directory: str) -> UvFiles:
    """What uv's files say to a process in a working directory; blocks, raises `InvalidSource`."""

    def is_project(path: str) -> bool:
        return any(is_project_of_uv(text) for _, text in read_present([path]))

    paths = uv_file_paths(
        environ,
        working_directory=working_directory,
        home=user_home(environ),
        present=os.path.isfile,
        is_project=is_project,
    )
    files = read_present(paths)
    check_present(paths, files)
    return read_uv_files(files)


def uv_config_of(environ: Mapping[str, str], files: UvFiles) -> PipConfig:
    """What uv alone is configured to by variables and files, where a caller says what pip is;
    blocks, raises `InvalidSource`.
    """
    return with_uv_files(_with_uv(PipConfig(), environ), files, environ)


def _with_uv(pip: PipConfig, environ: Mapping[str, str]) -> PipConfig:
    found = with_uv_variables(pip, environ)
    return replace(
        found,
        constraints=_lines_of(found.constraint),
        overrides=_lines_of(found.override),
        build_constraints=_lines_of(found.build_constraint),
    )


def _lines_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The requirements in files, without comments, hashes and other options; those of URLs are not
    read. Raises `InvalidSource` for a file that can't be.
    """
    here = [each for each in paths if each.startswith("/")]
    files = read_present(here)
    missing = [each for each in here if each not in dict(files)]
    if missing:
        raise InvalidSource(
            sentence("{path}, a file of constraints or overrides, can't be read", path=missing[0]),
            {
                "hint": sentence(
                    "correct its permissions, or the setting of pip or uv that names it"
                )
            },
        )
    whole = (text.replace("\\\n", " ") for _, text in files)
    lines = (_OPTIONS.split(line, maxsplit=1)[0] for text in whole for line in text.splitlines())
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith(("#", "-")))
