"""A built environment: under which key it is found, what it is, in which state.

An `EnvKey` is what a launch asks for by name. An `EnvRecord` lies inside the environment that
it describes and never changes. A `KeyRecord` says where a key's link last led: it is written
before the link is swapped and counts only while it names the environment that the link names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from xinference_venv._util.records import Record
from xinference_venv.planning.key import EnvKey

if TYPE_CHECKING:
    from xinference_venv.planning.lock import EnvLock


class EnvState(StrEnum):
    """`IN_PLACE`: an environment of the drop-in for Xinference, which changes it in its place.
    `UNMANAGED`: a directory that an older version left; it is never modified.
    """

    READY = "ready"
    BUILDING = "building"
    BROKEN = "broken"
    IN_PLACE = "in-place"
    UNMANAGED = "unmanaged"


@dataclass(frozen=True, kw_only=True)
class EnvRecord(Record, name="environment record", version=1):
    """The record inside an environment; its lock is a file next to it.

    `installed` and `inherited` count the lock's distributions, `files` and `size_bytes` regular
    files of the environment itself, links not followed. `created` is in seconds since the epoch;
    `interpreter` holds facts of the base interpreter (path, size, modification time in
    nanoseconds) by which a replaced one is noticed. `contents` is equal for environments that
    show the same from the same places, empty for one without a view; `trees` and `joined` name
    the trees of packages and the joined trees that its view leads into.
    """

    env_id: str
    lock_digest: str
    python_version: str
    installed: int
    inherited: int
    warnings: tuple[str, ...] = ()
    size_bytes: int
    files: int
    created: float
    interpreter: Mapping[str, Any]
    contents: str = ""
    trees: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        lock: EnvLock,
        *,
        warnings: tuple[str, ...] = (),
        size_bytes: int,
        files: int,
        created: float,
        interpreter: Mapping[str, Any],
        contents: str = "",
        trees: tuple[str, ...] = (),
        joined: tuple[str, ...] = (),
    ) -> Self:
        """The record of an environment that was built from a lock."""
        # Who reads records alone needs no locks.
        from xinference_venv.planning.lock import Role

        return cls(
            env_id=lock.env_id,
            lock_digest=lock.digest,
            python_version=lock.python_version,
            installed=len(lock.with_role(Role.INSTALLED)),
            inherited=len(lock.with_role(Role.INHERITED)),
            warnings=(*lock.warnings, *warnings),
            size_bytes=size_bytes,
            files=files,
            created=created,
            interpreter=interpreter,
            contents=contents,
            trees=trees,
            joined=joined,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRecord(Record, name="key record", version=1):
    """What a key referred to when it was last launched; times are in seconds since the epoch.

    `last_used` is the time of the record's own file. `host_fingerprint` is the state of the
    host for which the environment's lock was last found sound: the one it was locked over, or a
    later one that changed nothing the environment shows. `request` is the launch to repeat when
    the environment is to be made again (`LaunchRequest.to_keep`), None when it can't be kept.
    """

    key: EnvKey
    env_id: str
    spec_digest: str
    host_fingerprint: str
    created: float
    last_used: float
    request: Mapping[str, Any] | None = None
