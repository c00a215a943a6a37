"""Which wheels one worker fetches for another, from whom, and what it may fetch at all.

Comes in: a lock, what the places of its files answered, the workers that can fetch from there.
Comes out: the wheels to ask for, the order in which workers are asked, and the lock with the files
that came. No relay has to be trusted: a wheel is named by the sha256 that the lock has of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from xinference_venv._util.records import Record
from xinference_venv._util.redact import redact_url
from xinference_venv.errors import InvalidRecord, InvalidSource
from xinference_venv.planning.index_answers import IndexAnswer
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.pylock import file_name_of
from xinference_venv.planning.sources import PUBLIC_HOSTS
from xinference_venv.sentences import sentence
from xinference_venv.settings import ALLOWED_HOSTS_VARIABLE, RelayMode

_SHA256 = re.compile("[0-9a-f]{64}")
_PORTS = {"http": 80, "https": 443}
# What a host answers that gives nothing to who asked; one that has not this very file may have
# others.
_REFUSALS = (401, 402, 403, 407, 429, 451)
# It does not know HEAD, and is there.
_NO_HEAD = 501


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile(Record, name="wheel of a lock"):
    """A wheel as a lock names it: `url` is without credentials, `size` in bytes where known."""

    file_name: str
    url: str
    sha256: str
    size: int | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port that it comes from."""
        return origin_of(self.url)

    def check_record(self) -> None:
        """Raise `InvalidRecord` for what is no wheel on a web server with a sha256."""
        if not is_wheel(self.file_name) or not _SHA256.fullmatch(self.sha256):
            raise InvalidRecord(
                sentence("wheel of a lock: it has no name of a wheel, or no sha256")
            )
        if not origin_of(self.url) or "@" in urlsplit(self.url).netloc:
            raise InvalidRecord(
                sentence("wheel of a lock: it has no http or https URL without a login")
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelPart(Record, name="part of a wheel"):
    """An answer of a worker that relays: the bytes from where it was asked on.

    Without any it has not fetched the wheel yet: `fetched` bytes of it so far. `size` is that of
    the whole wheel, None until it is known.
    """

    data: bytes = b""
    size: int | None = None
    fetched: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour(Record, name="neighbour"):
    """Another worker of the cluster, in one incarnation, that can reach what was asked for."""

    address: str
    incarnation: str


def is_wheel(file_name: str) -> bool:
    """Whether a name is that of a wheel, without a folder."""
    try:
        parse_wheel_filename(file_name)
    except InvalidWheelFilename:
        return False
    return "/" not in file_name and file_name.isprintable()


def origin_of(url: str) -> str:
    """``scheme://host:port`` of an http or https URL; empty for any other place."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def wheels_of(lock: EnvLock) -> dict[str, WheelFile]:
    """What of a lock can be relayed, by name: wheels with a sha256 on a web server."""
    found = {}
    for package in lock.packages:
        wheel = _wheel_of(package)
        if wheel is not None:
            found[package["name"]] = wheel
    return found


def _wheel_of(package: Mapping[str, Any]) -> WheelFile | None:
    # A lock names one file of each package.
    file = (package.get("wheels") or [package.get("archive")])[0]
    if file is None or "path" in file:
        return None
    # A URL or a hash that is absent is refused like one that is wrong.
    wheel = WheelFile(
        file_name=file_name_of(file),
        url=str(file.get("url")),
        sha256=str(file["hashes"].get("sha256")),
        size=file.get("size"),
    )
    try:
        wheel.check_record()
    except InvalidRecord:
        return None
    return wheel


def with_files(lock: EnvLock, files: Mapping[str, str]) -> EnvLock:
    """The lock for an install in which these packages, by name, are the files at these paths.

    The hashes stay, so that uv checks the files against them.
    """

    def placed(package: Mapping[str, Any]) -> Mapping[str, Any]:
        path = files.get(package["name"])
        if path is None:
            return package
        key = "wheels" if package.get("wheels") else "archive"
        [file] = package["wheels"] if key == "wheels" else [package["archive"]]
        local = {name: each for name, each in file.items() if name != "url"} | {"path": path}
        rest = {name: each for name, each in package.items() if name != "index"}
        return {**rest, key: [local] if key == "wheels" else local}

    return replace(lock, packages=tuple(map(placed, lock.packages)))


def relayed_by_choice(
    mode: RelayMode, wheels: Mapping[str, WheelFile], unreachable: Collection[str]
) -> dict[str, WheelFile]:
    """Which wheels a worker asks others for, by name, before it fetches anything itself.

    `unreachable` are the origins that it can't fetch from.
    """
    match mode:
        case RelayMode.OFF:
            return {}
        case RelayMode.ON:
            return dict(wheels)
    return {name: each for name, each in wheels.items() if each.origin in unreachable}


def gives_files(answer: IndexAnswer) -> bool:
    """Whether a place that answered so gives files to who asked."""
    if answer.failure is not None or answer.login:
        return False
    status = answer.status
    return status is None or status == _NO_HEAD or (status < 500 and status not in _REFUSALS)


def in_order(sha256: str, neighbours: Iterable[Neighbour]) -> list[Neighbour]:
    """The workers in the order in which they are asked for a wheel.

    It is the same for all who ask, so that one of them fetches it, and another one for each
    wheel, so that they share the work: rendezvous hashing.
    """

    def weight(each: Neighbour) -> str:
        return hashlib.sha256(f"{sha256} {each.address}".encode()).hexdigest()

    return sorted(neighbours, key=weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayPolicy:
    """What a worker fetches for others: from these `hosts`, and from these `origins`.

    Others name the URLs, so they are held to what its operator allows.
    """

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, allowed_hosts: Iterable[str], pip: PipConfig, *, offline: bool) -> RelayPolicy:
        """The operator's hosts, by default the public ones, and where pip's configuration leads.

        A worker that is `offline` fetches nothing from public hosts.
        """
        hosts = frozenset(allowed_hosts) or PUBLIC_HOSTS
        places = (pip.index_url or "", *pip.extra_index_url, *pip.find_links)
        origins = frozenset(filter(None, map(origin_of, places)))
        if offline:
            hosts -= PUBLIC_HOSTS
            origins = frozenset(
                each for each in origins if urlsplit(each).hostname not in PUBLIC_HOSTS
            )
        return cls(hosts=hosts, origins=origins)

    def check(self, wheel: WheelFile) -> None:
        """Raise `InvalidSource` for a wheel from elsewhere."""
        if wheel.origin in self.origins or urlsplit(wheel.url).hostname in self.hosts:
            return
        raise InvalidSource(
            sentence(
                "{url} is on a host from which this worker relays nothing",
                url=repr(redact_url(wheel.url)[:200]),
            ),
            {
                "hint": sentence(
                    "it relays from the indexes of its own configuration, and from"
                    " {allowed_hosts_variable}, by default the public hosts",
                    allowed_hosts_variable=ALLOWED_HOSTS_VARIABLE,
                )
            },
        )
