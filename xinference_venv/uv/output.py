"""What uv's output lines say: how far an install is, what is not in uv's cache, what requires what.

Comes in: lines of stderr. Comes out: phase, packages and bytes of an install; names of
distributions; the dependencies of a resolution. uv writes for people: a line that can't be read
here is shown as it is and changes no count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution

LOG_OF_RESOLVER = "uv_resolver::resolver=debug"
"""The value of ``RUST_LOG`` with which uv says what it considers."""

_LOGGED = "DEBUG "
_WARNING = "warning: "
_TRANSITIVE = re.compile(
    r"Adding transitive dependency for (?P<name>[^\s\[{=]+)(?:\[[^\]]*\])?(?:\{[^}]*\})?"
    r"==(?P<version>[^:\s]+): (?P<dependency>.+)"
)
_DIRECT = re.compile(r"Adding direct dependency: (?P<dependency>.+)")
_NO_VERSION = re.compile(r"No compatible version found for: (?P<name>[^\s\[{]+)")
_DEPENDENCY = re.compile(r"(?P<name>[^\s\[{*<>=!@]+)(?:\[[^\]]*\])?(?:\{.*\})?(?P<ranges>.*)")
_DOWNLOADING = re.compile(r"^\s*Downloading (?P<name>\S+)(?: \((?P<size>[^)]+)\))?$")
_DOWNLOADED = re.compile(r"^\s*Downloaded (?P<name>\S+)$")
_BUILDING = re.compile(r"^\s*Building (?P<name>\S+)")
_PREPARED = re.compile(r"^Prepared (?P<count>\d+) packages?")
_UNCACHED = re.compile(r"Identified uncached distribution: ([A-Za-z0-9._-]+)(?:==|\s|$)")
_INSTALLED = re.compile(r"^Installed (?P<count>\d+) packages?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of an install; counts are of packages, bytes are of wheels."""

    phase: Phase
    message: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int


@dataclass(kw_only=True, slots=True)
class InstallProgress:
    """Reads the lines of one install; `sizes` are the wheels' sizes in bytes by name, if known."""

    total: int
    sizes: Mapping[str, int]
    _prepared: int = 0
    _done: int = 0
    _fetched: set[str] = field(default_factory=set)
    _done_bytes: int = 0

    def read(self, line: str) -> Progress | None:
        """The step that this line reports, or None when it reports none."""
        if found := _DOWNLOADING.match(line) or _BUILDING.match(line):
            return self._step(Phase.DOWNLOADING, line)
        if found := _DOWNLOADED.match(line):
            name = found["name"].split("==")[0]
            if name not in self._fetched:
                self._fetched.add(name)
                self._done_bytes += self.sizes.get(name, 0)
            return self._step(Phase.DOWNLOADING, line)
        if found := _PREPARED.match(line):
            self._prepared = int(found["count"])
            self._done_bytes = sum(self.sizes.values())
            return self._step(Phase.INSTALLING, line)
        if found := _INSTALLED.match(line):
            self._done = int(found["count"])
            self._done_bytes = sum(self.sizes.values())
            return self._step(Phase.INSTALLING, line)
        return None

    @property
    def was_cached(self) -> bool:
        """Whether uv had every package in its cache."""
        return not self._prepared and not self._fetched

    @property
    def fetched_bytes(self) -> int:
        """Bytes of the wheels that uv's cache lacked, as far as it names them.

        It names large ones only; when it prepared as many as there are, it was all of them.
        """
        if self._prepared >= self.total:
            return sum(self.sizes.values())
        return sum(self.sizes.get(name, 0) for name in self._fetched)

    def _step(self, phase: Phase, line: str) -> Progress:
        return Progress(
            phase=phase,
            message=line.strip(),
            # What a source build needs is fetched as well, and is no package of the lock.
            done=min(self.total, max(self._done, len(self._fetched))),
            total=self.total,
            done_bytes=self._done_bytes,
            total_bytes=sum(self.sizes.values()),
        )


def uncached_name(line: str) -> str | None:
    """The name of the distribution that a line of uv's debug output says is not in its cache."""
    found = _UNCACHED.search(line)
    return None if found is None else found[1]


@dataclass(kw_only=True, slots=True)
class ResolverLog:
    """Reads the lines of one resolution that ran with `LOG_OF_RESOLVER`.

    `warnings` are uv's own: a yanked release, an extra that does not exist. `missing` is what
    some version would have needed and no place has.
    """

    warnings: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    _asked: dict[str, Dependency] = field(default_factory=dict)
    _requires: dict[tuple[str, str], dict[Dependency, None]] = field(default_factory=dict)

    def read(self, line: str) -> bool:
        """Whether a line was of the log, and is of no interest to people."""
        text = line.lstrip()
        if text.startswith(_WARNING):
            self.warnings.append(text.removeprefix(_WARNING).strip())
        if not text.startswith(_LOGGED):
            return False
        text = text.removeprefix(_LOGGED)
        if found := _TRANSITIVE.match(text):
            requirer = (canonicalize_name(found["name"]), found["version"])
            self._requires.setdefault(requirer, {})[_dependency(found["dependency"])] = None
        elif found := _DIRECT.match(text):
            dependency = _dependency(found["dependency"])
            self._asked.setdefault(dependency.name, dependency)
        elif found := _NO_VERSION.match(text):
            self.missing.add(canonicalize_name(found["name"]))
        return True

    def requires(self, resolution: Resolution) -> dict[str, tuple[Dependency, ...]]:
        """What each distribution of a resolution requires, and `REQUEST` of all of them."""
        versions = {**resolution.installed, **resolution.inherited}
        requires = {REQUEST: tuple(self._asked.values())}
        for (name, version), dependencies in self._requires.items():
            # What is built from a repository may have a version that only its build tells.
            if name in versions and versions[name] in (version, None):
                requires[name] = (*requires.get(name, ()), *dependencies)
        return requires


def _dependency(text: str) -> Dependency:
    found = _DEPENDENCY.fullmatch(text.strip())
    assert found is not None  # it matches any text
    return Dependency(name=canonicalize_name(found["name"]), ranges=found["ranges"].strip() or "*")
