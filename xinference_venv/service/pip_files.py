"""What pip and uv are configured to on this host: by their files, and by variables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from xinference_venv._util.redact import redact_url
from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import (
    PipConfig,
    check_requirements,
    parse_pip_config,
    pip_config_paths,
)
from xinference_venv.planning.uv_files import (
    IndexSettings,
    UvFiles,
    check_present,
    choosing_settings,
    index_key,
    is_project_of_uv,
    read_uv_files,
    talking_settings,
    uv_file_paths,
    with_uv_files,
)
from xinference_venv.planning.uv_variables import with_uv_variables
from xinference_venv.sentences import sentence
from xinference_venv.service.places import user_home
from xinference_venv.store.host_files import read_present

# What may follow a requirement in a file.
_AFTER_REQUIREMENT = re.compile(r"\s+(?:#|--)")
_OPTION = re.compile(r"(?P<option>--[^\s=]*|-.?)[\s=]*(?P<value>.*)")
_REQUIREMENT_OPTIONS = frozenset({"-r", "--requirement"})
_FILE_OPTIONS = _REQUIREMENT_OPTIONS | {"-c", "--constraint"}


def pip_config_of(environ: Mapping[str, str]) -> PipConfig:
    """What pip and uv are configured to on this host; blocks, raises `InvalidSource`."""
    paths = pip_config_paths(
        environ,
        prefix=sys.prefix,
        home=user_home(environ),
        platform=sys.platform,
        present=os.path.exists,
    )
    pip = _with_uv(parse_pip_config(read_present(paths), environ), environ)
    indexes = {index_key(url) for url in (pip.index_url or "", *pip.extra_index_url)}
    return replace(
        pip, uv_settings_not_honoured=choosing_settings(_shared_uv_files(environ), indexes)
    )


def talking_settings_of(environ: Mapping[str, str]) -> IndexSettings:
    """How uv is to talk to single indexes, as its user's and system's files say; blocks."""
    return talking_settings(_shared_uv_files(environ))


def _shared_uv_files(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The user's and the system's file of uv, as (path, text)."""
    if environ.get("UV_CONFIG_FILE"):
        # The variable is named itself.
        return []
    paths = uv_file_paths(
        environ,
        working_directory="/",
        home=user_home(environ),
        present=os.path.isfile,
        is_project=lambda _: False,
    )
    return read_present(paths)


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
    constraints = _read_lines(found.constraint)
    # A file of overrides that names constraints has none of them override, as uv has it.
    overrides = _read_lines(found.override, followed=_REQUIREMENT_OPTIONS)
    builds = _read_lines(found.build_constraint)
    unread = (*constraints.unread, *overrides.unread, *builds.unread)
    return replace(
        found,
        constraints=constraints.requirements,
        overrides=overrides.requirements,
        build_constraints=builds.requirements,
        not_honoured=(*found.not_honoured, *dict.fromkeys(unread)),
    )


@dataclass(kw_only=True, slots=True)
class _Lines:
    """What files of requirements have: requirements, and options that count for nothing here."""

    requirements: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def _read_lines(paths: Iterable[str], followed: Collection[str] = _FILE_OPTIONS) -> _Lines:
    """The requirements in files, without comments and hashes, and in the files that these name by
    the options `followed`, from their own folder on; those of URLs are not read.

    Raises `InvalidSource` for a file that can't be read, and for what is no requirement.
    """
    found = _Lines()
    waiting = [each for each in paths if each.startswith("/")]
    known = set(waiting)
    while waiting:
        path = waiting.pop(0)
        lines = _lines_of(path)
        requirements = tuple(line for line in lines if not line.startswith("-"))
        check_requirements(requirements, path)
        found.requirements += requirements
        for line in (each for each in lines if each.startswith("-")):
            option, value = _option_of(line)
            named = os.path.normpath(os.path.join(os.path.dirname(path), value))
            if option not in followed or not value or "://" in value:
                shown = f"{option} {redact_url(value)}" if option in _FILE_OPTIONS else option
                found.unread += (f"{shown} in {path}",)
            elif named not in known:
                # Files may name each other.
                known.add(named)
                waiting.append(named)
    return found


def _lines_of(path: str) -> list[str]:
    """The lines of a file that are none of comments."""
    texts = dict(read_present([path]))
    if path not in texts:
        raise InvalidSource(
            sentence("{path}, a file of constraints or overrides, can't be read", path=path),
            {
                "hint": sentence(
                    "correct its permissions, or the setting of pip or uv that names it"
                )
            },
        )
    lines = texts[path].replace("\\\n", " ").splitlines()
    whole = (_AFTER_REQUIREMENT.split(line.strip(), maxsplit=1)[0] for line in lines)
    return [line for line in whole if line and not line.startswith("#")]


def _option_of(line: str) -> tuple[str, str]:
    """The option of a line and its value, which pip also takes without anything in between."""
    match = _OPTION.match(line)
    assert match is not None
    return match["option"], match["value"].strip("\"'")
