"""What uv says of itself and which interpreters it finds, kept until something of it may differ.

Comes in: the program, and the environment of its processes. Comes out: `UvFacts`, without a
process where they are known: from an earlier call in the same boot, by the same user, with the
same limits and variables, while the program, the folders in which uv looks for interpreters, and
the programs in them that may be one, are as they were.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xinference_venv._util.clock import Clock
from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import StoreError
from xinference_venv.service.host_answers import answer_path, load_answer, save_answer
from xinference_venv.store.atomic import Disk
from xinference_venv.store.host.scan import renew_all
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import boot
from xinference_venv.store.stamp import Stamp, stamp_of
from xinference_venv.store.stat_cache import SETTLED_NANOSECONDS
from xinference_venv.uv.program import version_in

if TYPE_CHECKING:
    from xinference_venv.uv.subprocess import Uv

_QUESTION = "uv and its interpreters"
# Which of the variables of its processes say where uv looks, or whether a program starts.
_PREFIXES = ("UV_", "XDG_", "LD_", "DYLD_")
_VARIABLES = ("PATH", "HOME", "TMPDIR")
# Without enough of these no program starts.
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_NPROC)
# As programs of interpreters begin: uv asks no others.
_NAMES = ("python", "pypy", "graalpy")
# uv looks into the environment of its working directory as well, which is the root.
_ENVIRONMENT = "/.venv"


@dataclass(frozen=True, kw_only=True, slots=True)
class UvFacts(Record, name="facts of uv"):
    """What ``uv --version`` prints, and the versions of CPython that uv finds."""

    asked: str
    """The digest of what the answer depends on and no stamp tells."""
    version: str
    pythons: tuple[str, ...]


async def ask_uv(uv: Uv) -> UvFacts:
    """What uv says now; raises what its processes raise."""
    from xinference_venv.uv.interpreters import installed_pythons

    version = await uv.version()
    found = tuple(await installed_pythons(uv))
    return UvFacts(asked=_asked(uv.program, uv.door.environment), version=version, pythons=found)


def remembered_uv(
    layout: StorePaths, program: str, environment: Mapping[str, str]
) -> UvFacts | None:
    """What uv answered earlier, None where that is not known to be so still; blocks on the disk."""
    try:
        stamps, answer = load_answer(Disk(), answer_path(layout, _QUESTION), UvFacts)
    except StoreError:
        return None
    if (
        isinstance(answer, UvFacts)
        and answer.asked == _asked(program, environment)
        and os.access(program, os.X_OK)
        and stamps.keys() == set(_paths(program, environment))
        and renew_all(stamps) is not None
    ):
        return answer
    return None


def stamps_of_uv(program: str, environment: Mapping[str, str]) -> dict[str, Stamp]:
    """The stamps that what uv says depends on; to be taken before it is asked."""
    return {path: stamp_of(path) for path in _paths(program, environment)}


def remember_uv(
    layout: StorePaths, stamps: Mapping[str, Stamp], facts: UvFacts, clock: Clock = time
) -> None:
    """Keep what uv answered for `remembered_uv`, where there is a store that can be written to.

    What has just changed may change again within the resolution of its times: it is asked again.
    """
    settled = clock.time_ns() - SETTLED_NANOSECONDS
    lasting = all(max(each[2:], default=0) < settled for each in stamps.values())
    if lasting and version_in(facts.version) is not None and os.path.isdir(layout.store):
        # A disk that is full or read-only is no reason not to answer.
        with suppress(StoreError):
            save_answer(Disk(), answer_path(layout, _QUESTION), stamps, facts)


def _asked(program: str, environment: Mapping[str, str]) -> str:
    variables = {
        name: value
        for name, value in environment.items()
        if name in _VARIABLES or name.startswith(_PREFIXES)
    }
    limits = [list(resource.getrlimit(each)) for each in _LIMITS]
    return digest_of([program, platform.node(), boot(), os.geteuid(), limits, variables])


def _paths(program: str, environment: Mapping[str, str]) -> Iterator[str]:
    """The program, where uv looks for interpreters, and what there may be one."""
    yield from dict.fromkeys([program, *_interpreter_paths(environment)])


def _interpreter_paths(environment: Mapping[str, str]) -> Iterator[str]:
    data = environment.get("XDG_DATA_HOME") or f"{environment.get('HOME', '')}/.local/share"
    managed = environment.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"
    yield managed
    folders = [f"{managed}/{name}/bin" for name in _names_in(managed)]
    for folder in (*environment.get("PATH", "").split(":"), f"{_ENVIRONMENT}/bin", *folders):
        yield folder
        for name in _names_in(folder):
            if name.startswith(_NAMES):
                yield f"{folder}/{name}"


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
