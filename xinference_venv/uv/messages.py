"""What uv says in English, the one place that reads it.

Comes in: lines of stderr, or the words of a failure. Comes out: phase, packages and bytes of an
install; names of distributions; the dependencies of a resolution; why something failed, and a hint
where uv gives none. uv writes for people and promises no words: a line that can't be read here is
shown as it is and changes no count, and `tests/uv/test_messages_real.py` lets the real uv say each
phrase, with the oldest and the newest one that setup.cfg allows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution
from xinference_venv.sentences import sentence
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG

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
_DEPENDENCY = re.compile(
    r"(?P<name>[^\s\[{*<>=!@]+)(?P<extras>\[[^\]]*\])?(?:\{.*\})?(?P<ranges>.*)"
)
# The line of an interpreter has "(download)" before the size.
_DOWNLOADING = re.compile(
    r"^\s*Downloading (?P<name>\S+)(?: \(download\))?(?: \((?P<size>[^)]+)\))?$"
)
_DOWNLOADED = re.compile(r"^\s*Downloaded (?P<name>\S+)$")
_BUILDING = re.compile(r"^\s*Building (?P<name>\S+)")
_PREPARED = re.compile(r"^Prepared (?P<count>\d+) packages?")
_UNCACHED = re.compile(r"Identified uncached distribution: ([A-Za-z0-9._-]+)(?:==|\s|$)")
_INSTALLED = re.compile(r"^Installed (?P<count>\d+) packages?")
# The words for an unknown extra of a stub.
_EXTRA_OF_STUB = re.compile(
    rf"The package `(?P<name>\S+) @ file:\S+?-(?P<version>[^-/]+)-{STUB_BUILD_TAG}-\S+`"
    r" does not have an extra named `(?P<extra>[^`]+)`"
)
# Of a failed resolution or build.
_NO_SOLUTION = ("No solution found", "unsatisfiable")
_NOT_THERE = re.compile(
    r"was\s+not\s+found\s+in\s+the\s+(?:package\s+registry|provided)"
    r"|there\s+(?:is|are)\s+no\s+versions?\s+of\s+(?P<line>\S+)\s+and\s+you\s+require\s+(?P=line)"
)
_MISSING = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s+was\s+not\s+found\s+in\s+the\s"
    r"|there\s+(?:is|are)\s+no\s+versions?\s+of\s+(?P<versioned>[A-Za-z0-9][A-Za-z0-9._-]*)"
)
_FAILED_BUILD = re.compile(r"Failed to build `(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)(?:==| @ |@|`)")
_WHERE_TO_LOOK = sentence(
    "check name and version, and whether an index in use has them:"
    " `xinference-venv doctor` lists the indexes"
)
ASK_FOR_OTHER_VERSIONS = sentence("ask for other versions")
"""The hint where a request has no solution by itself."""
_WAYS_OUT = sentence(
    "ask for other versions; where a package of the host is in the way,"
    " launch with --inherit none, or, if nothing in the request needs it,"
    " take it out of must_import"
)
# Of any failure: where uv's account of it begins, and causes that are the host's.
_ERROR = ("error:", "×")
_HINT = "hint:"
_NO_SPACE = "No space left on device"
_NOT_LOCKED = "Could not acquire lock"
_QUOTA = "Disk quota exceeded"
_TOO_LARGE = "File too large"
FILE_SIZE_HINT = sentence(
    "this process may not write files of this size: raise its limit (`ulimit -f`), or put"
    " the home on a file system that can hold them"
)
"""What to do where a file grows beyond what the system lets a process write (SIGXFSZ, EFBIG)."""
_NO_SUCH_FILE = "Distribution not found at: file:"
_DAMAGED = ("Failed to extract archive", "Failed to read from zip file")
_UNKNOWN_ISSUER = "invalid peer certificate"
_UNREACHABLE = "error sending request"
_TOO_MANY = "429 Too Many Requests"
_NOT_FETCHED = "Failed to fetch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of an install; counts are of packages, bytes are of wheels.

    In a download bytes are of what is fetched, as they arrive; else of all that is installed.
    """

    phase: Phase
    message: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int


@dataclass(kw_only=True, slots=True)
class InstallProgress:
    """Reads the lines of one install; `sizes` are the wheels' sizes in bytes by name, if known.

    It also hears how many bytes uv has received.
    """

    total: int
    sizes: Mapping[str, int]
    _there: frozenset[str] = frozenset()
    _prepared: int = 0
    _done: int = 0
    _message: str = "Downloading"
    _announced: dict[str, int] = field(default_factory=dict)
    _fetched: set[str] = field(default_factory=set)
    _received: int = 0

    def came(self, names: Collection[str]) -> None:
        """Note that these are files on this host, so that uv has to fetch nothing of them."""
        self._there |= frozenset(names)

    def read(self, line: str) -> Progress | None:
        """The step that this line reports, or None when it reports none."""
        if found := _DOWNLOADING.match(line):
            self._announce(found["name"], found["size"])
            return self._step(Phase.DOWNLOADING, line)
        if found := _BUILDING.match(line):
            return self._step(Phase.DOWNLOADING, line)
        if found := _DOWNLOADED.match(line):
            name = found["name"].split("==")[0]
            self._announce(name, None)
            self._fetched.add(name)
            return self._step(Phase.DOWNLOADING, line)
        if found := _PREPARED.match(line):
            self._prepared = int(found["count"])
            return self._step(Phase.INSTALLING, line)
        if found := _INSTALLED.match(line):
            self._done = int(found["count"])
            return self._step(Phase.INSTALLING, line)
        return None

    def received(self, count: int) -> Progress | None:
        """The step that uv has received so many bytes, None when that is nothing new."""
        if self._prepared or self._done or count <= self._received:
            return None
        self._received = count
        return self._step(Phase.DOWNLOADING, self._message)

    def _announce(self, name: str, shown: str | None) -> None:
        """Note that something is fetched, which may be no package of the lock."""
        size = self.sizes.get(name) or bytes_in(shown or "")
        self._announced[name] = max(size, self._announced.get(name, 0))

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
            return sum(size for name, size in self.sizes.items() if name not in self._there)
        return sum(self.sizes.get(name, 0) for name in self._fetched)

    def _step(self, phase: Phase, line: str) -> Progress:
        self._message = line.strip()
        # What uv calls downloaded is, whatever was counted of it.
        done_bytes = sum(self._announced[name] for name in self._fetched)
        total_bytes = sum(self._announced.values())
        if phase is Phase.INSTALLING:
            done_bytes = total_bytes = sum(self.sizes.values())
        else:
            # What is small is fetched without a word.
            total_bytes = max(total_bytes, self._received if self._received else done_bytes)
            done_bytes = max(done_bytes, min(self._received, total_bytes))
        return Progress(
            phase=phase,
            message=self._message,
            # What a source build needs is fetched as well, and is no package of the lock.
            done=min(self.total, max(self._done, len(self._fetched))),
            total=self.total,
            done_bytes=done_bytes,
            total_bytes=total_bytes,
        )


_SHOWN_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[KMGT]?)(?:iB|B)")


def bytes_in(shown: str) -> int:
    """A size as uv shows it, like ``17.2MiB``, in bytes; 0 for what is none."""
    found = _SHOWN_SIZE.fullmatch(shown.strip())
    if found is None:
        return 0
    return round(float(found["number"]) * 1024.0 ** " KMGT".index(found["unit"] or " "))


def interpreter_size(line: str) -> int | None:
    """The bytes of an interpreter that a line says is being downloaded; None for other lines."""
    found = _DOWNLOADING.match(line)
    return None if found is None else bytes_in(found["size"] or "")


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
    return Dependency(
        name=canonicalize_name(found["name"]),
        ranges=found["ranges"].strip() or "*",
        extras=found["extras"] is not None,
    )


def readable_warning(warning: str) -> str:
    """A warning of uv without the places of our stubs."""
    return _EXTRA_OF_STUB.sub(
        r"the host's \g<name> \g<version> has no extra named `\g<extra>`", warning
    )


def has_no_solution(words: str) -> bool:
    """Whether the requirements are what failed, rather than an index or uv itself."""
    return any(each in words for each in _NO_SOLUTION)


def missing_in(words: str) -> frozenset[str]:
    """The names of which no place that was asked has any version, or none that fits."""
    found = _MISSING.finditer(words)
    return frozenset(match["name"] or match["versioned"] for match in found)


def failed_builds(words: str) -> frozenset[str]:
    """The names of what could not be built, or whose metadata could not be, while resolving."""
    return frozenset(canonicalize_name(match["name"]) for match in _FAILED_BUILD.finditer(words))


def way_out(words: str, *, over_host: bool, unusable: bool = False) -> str | None:
    """What to do when there is no solution, unless uv says it itself.

    `over_host`: there may be a solution without the host. `unusable`: something that the host has
    can't be used, and so was looked for elsewhere.
    """
    if _HINT in words or not has_no_solution(words):
        return None
    if not unusable and _NOT_THERE.search(words):
        return _WHERE_TO_LOOK
    return _WAYS_OUT if over_host else ASK_FOR_OTHER_VERSIONS


def is_log(line: str) -> bool:
    """Whether a line is of uv's log, which explains no failure."""
    return line.lstrip().startswith(_LOGGED)


def error_in(tail: Sequence[str]) -> str:
    """What uv says of its error: all from the first line that marks it."""
    for start, line in enumerate(tail):
        if line.lstrip().startswith(_ERROR):
            return "\n".join(tail[start:]).strip().removeprefix("error: ")
    return "\n".join(tail).strip()


def is_unreachable(words: str, place: str) -> bool:
    """Whether something at a place could not be fetched."""
    return _NOT_FETCHED in words and place in words


def could_not_fetch(error: VirtualEnvError) -> bool:
    """Whether something failed since uv could not fetch what it needed."""
    return _NOT_FETCHED in f"{error} {error.details.get('output', '')}"


def is_unknown_issuer(words: str) -> bool:
    """Whether a certificate is what failed, by an authority that uv does not know."""
    return _UNKNOWN_ISSUER in words


def hint_for(tail: Sequence[str]) -> str | None:
    """What to do about an error that is the host's, not of the packages."""
    words = "\n".join(tail)
    if _NO_SPACE in words:
        return sentence(
            "free some space, or some inodes, on the file systems of the home and of"
            " uv's cache: `xinference-venv doctor` says which of them is missing"
        )
    if _QUOTA in words:
        return sentence(
            "the quota of this user or folder is used up: have it raised, or free"
            " some space; `xinference-venv gc` deletes what is not needed"
        )
    if _TOO_LARGE in words:
        return FILE_SIZE_HINT
    if _NO_SUCH_FILE in words:
        return sentence(
            "the file is not there, or not any more: correct its path; where an index or a folder"
            " of wheels lists it, bring it back and launch with --refresh"
        )
    if any(each in words for each in _DAMAGED):
        return sentence(
            "the file is damaged, or not what its name says: check it where it comes from, and"
            " empty uv's cache of it (`uv cache clean NAME`)"
        )
    if _NOT_LOCKED in words and "Timeout" not in words:
        return sentence(
            "uv can't lock files of its cache there: let UV_CACHE_DIR name a folder that this user"
            " may write to, best on a local file system"
        )
    if is_unknown_issuer(words):
        return sentence(
            "name the file of your authority's certificate with SSL_CERT_FILE, or"
            " trust those of the system with UV_SYSTEM_CERTS=1"
        )
    if _TOO_MANY in words:
        return sentence(
            "the index takes no more requests from here for a while: wait and launch"
            " again, name a mirror, or let uv ask less at once with"
            " UV_CONCURRENT_DOWNLOADS"
        )
    if _UNREACHABLE in words:
        return sentence("`xinference-venv doctor` says of every index whether it can be reached")
    return None
