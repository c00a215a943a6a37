"""uv's lock file (PEP 751), taken apart: what is to be installed, what the host serves.

Comes in: the parsed document, which names stubs where the host serves. Comes out: a
`Resolution`, whose package tables are without credentials and name one file each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import VERSION_PATTERN, Version

from xinference_venv.errors import InvalidRecord, ResolutionFailed
from xinference_venv.sentences import sentence

REQUEST = "-r"
"""Stands among those that require a distribution for the request itself."""

ANY_LATER = "1000000!0"
"""A version behind all that there are."""

# As uv's resolver prints the bounds of versions.
_BOUND = re.compile(
    rf"\s*(?P<operator>>=|<=|==|>|<)\s*(?P<limit>{VERSION_PATTERN})(?P<locals>\+?)\s*",
    re.VERBOSE | re.IGNORECASE,
)
# "2.0+" stands behind all local versions of 2.0, and is no version itself.
_ONE_VERSION = re.compile(r">=([^\s,|+]+), <\1\+(?![\w.])")
_ALL_BUT_ONE = re.compile(r"<([^\s,|+]+) \| >=\1\+(?![\w.])")
_BEHIND_LOCALS = re.compile(r"(<|>=?)([^\s,|+]+)\+(?![\w.])")
_WITH_LOCALS = {"<": "<=", ">": ">", ">=": ">"}


def release_of(version: str) -> Version:
    """A version without its build, as in ``+cpu``: PEP 440 knows none behind ``>=``."""
    return Version(Version(version).public)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependency:
    """What one distribution of a resolution requires of another.

    `ranges` is the set of versions as uv's resolver prints it: ``>=1.0, <1.5 | >=2``, ``*``.
    `extras` says whether it asks for extras of the other.
    """

    name: str
    ranges: str
    extras: bool = False

    @property
    def specifier(self) -> str:
        """The set as PEP 440 writes it: uv's ``>=1.0, <1.0+`` is ``==1.0``."""
        text = _ONE_VERSION.sub(r"==\1", _ALL_BUT_ONE.sub(r"!=\1", self.ranges))
        return _BEHIND_LOCALS.sub(lambda found: f"{_WITH_LOCALS[found[1]]}{found[2]}", text)

    def allows(self, version: str) -> bool:
        """Whether a version is in the set; where the set can't be read, it is."""
        parsed = Version(version)
        return any(
            all(_in_bound(parsed, bound) for bound in part.split(","))
            for part in self.ranges.split("|")
        )


def _in_bound(version: Version, bound: str) -> bool:
    found = _BOUND.fullmatch(bound)
    if found is None:
        return True
    limit = Version(found["limit"])
    if found["locals"]:
        after = Version(version.public) > limit
        return after if found["operator"].startswith(">") else not after
    return {
        ">=": version >= limit,
        "<=": version <= limit,
        ">": version > limit,
        "<": version < limit,
        "==": version == limit,
    }[found["operator"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """uv's lock file, taken apart: PEP 751 tables to install, and versions by inherited name.

    `warnings` are what the lock must say of it. `uploaded` says when the file of a distribution
    came to its index, where that tells. `requires` is what each requires of the others, and
    under `REQUEST` what the request asks for. `reasons` say why each has the version that it has.
    """

    packages: tuple[Mapping[str, Any], ...]
    inherited: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    uploaded: Mapping[str, datetime] = field(default_factory=dict)
    requires: Mapping[str, tuple[Dependency, ...]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> dict[str, str | None]:
        """Version by name of what is to be installed."""
        return {package["name"]: package.get("version") for package in self.packages}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes to download by name, where known."""
        sizes = {package["name"]: size_of(package) for package in self.packages}
        return {name: size for name, size in sizes.items() if size is not None}

    @property
    def requirers(self) -> dict[str, tuple[str, ...]]:
        """Who requires each distribution of it, `REQUEST` for the request."""
        present = {*self.installed, *self.inherited}
        found: dict[str, dict[str, None]] = {name: {} for name in sorted(present)}
        for requirer in sorted(self.requires):
            for dependency in self.requires[requirer]:
                if dependency.name in found and requirer != dependency.name:
                    found[dependency.name][requirer] = None
        return {name: tuple(requirers) for name, requirers in found.items()}


def read_resolution(
    document: Mapping[str, Any],
    *,
    stub_build_tag: str,
    tags: Sequence[str],
    indexes: Sequence[str],
) -> Resolution:
    """Take uv's parsed lock file apart.

    A package is inherited if and only if its entry is a file with the stub's build tag.
    Of the others one wheel is kept, the best by `tags`; dates, markers (decided already) and
    credentials go, and each gets the credential-free index of `indexes` that it most likely came
    from, without which uv caches it apart from ordinary use. Raises `ResolutionFailed` for a
    local directory, which has neither version nor hash.
    """
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    entries = document.get("packages")
    if isinstance(entries, list):
        document = {**document, "packages": list(map(_without_unused_source, entries))}
    try:
        Pylock.from_dict(document)
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise InvalidRecord(sentence("uv's lock file: {error}", error=error)) from None
    packages: list[Mapping[str, Any]] = []
    inherited: dict[str, str] = {}
    uploaded: dict[str, datetime] = {}
    for package in document["packages"]:
        if "directory" in package:
            raise ResolutionFailed(
                sentence(
                    "{package} is a local directory, which cannot be locked",
                    package=package["name"],
                ),
                {"hint": sentence("build a wheel of it and put that into a find-links folder")},
            )
        if _build_tag(package.get("archive", {})) == stub_build_tag:
            inherited[package["name"]] = package["version"]
            continue
        packages.append(_clean(package, tags, indexes))
        if (time := _upload_time(package)) is not None:
            uploaded[package["name"]] = time
    return Resolution(packages=tuple(packages), inherited=inherited, uploaded=uploaded)


def _without_unused_source(package: Any) -> Any:
    """A package without its source where it has wheels, one of which is installed.

    uv locks a source as indexes have it, be it a ``.tar.bz2`` or a ``.tgz``, which PEP 751 does not
    know (PEP 625 came later).
    """
    if isinstance(package, Mapping) and package.get("wheels"):
        return {key: value for key, value in package.items() if key != "sdist"}
    return package


def pylock_of(packages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The PEP 751 document of these package tables."""
    return {
        "lock-version": "1.0",
        "created-by": "xinference_venv",
        "packages": [dict(package) for package in packages],
    }


def strip_credentials(url: str) -> str:
    """A URL without user, password and query: what may be stored."""
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", parts.fragment))


def _clean(
    package: Mapping[str, Any], tags: Sequence[str], indexes: Sequence[str]
) -> dict[str, Any]:
    clean = {key: package[key] for key in ("name", "version", "vcs", "archive") if key in package}
    files = _best_wheel(package.get("wheels", []), tags)
    if files:
        clean["wheels"] = [_clean_file(wheel) for wheel in files]
    elif "sdist" in package:
        clean["sdist"] = _clean_file(package["sdist"])
    for key in ("vcs", "archive"):
        if key in clean:
            clean[key] = _clean_file(clean[key])
    place = [*clean.get("wheels", []), clean.get("sdist", {})][0].get("url", "")
    if place.startswith(("http:", "https:")) and indexes:
        clean["index"] = _index_of(place, indexes)
    return clean


def _upload_time(package: Mapping[str, Any]) -> datetime | None:
    """When the first file of a package that would do came to its index."""
    files = [*package.get("wheels", []), package.get("sdist", {})]
    times = [file["upload-time"] for file in files if isinstance(file.get("upload-time"), datetime)]
    return min(times, default=None)


def _clean_file(file: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in file.items() if key != "upload-time"}
    if "url" in kept:
        kept["url"] = strip_credentials(kept["url"])
    return kept


def _best_wheel(
    wheels: Sequence[Mapping[str, Any]], tags: Sequence[str]
) -> list[Mapping[str, Any]]:
    rank = {tag: place for place, tag in enumerate(tags)}

    def badness(wheel: Mapping[str, Any]) -> int:
        try:
            _, _, _, wheel_tags = parse_wheel_filename(file_name_of(wheel))
        except InvalidWheelFilename:
            return len(rank)
        return min(rank.get(str(tag), len(rank)) for tag in wheel_tags)

    return [min(wheels, key=badness)] if wheels else []


def _index_of(url: str, indexes: Sequence[str]) -> str:
    """The index on the server of the file, else the last one, which is the default index."""
    server = urlsplit(url).netloc.lower()
    for index in indexes:
        if urlsplit(strip_credentials(index)).netloc.lower() == server:
            return strip_credentials(index)
    return strip_credentials(indexes[-1])


def file_name_of(file: Mapping[str, Any]) -> str:
    """The name of a wheel, an archive or a source distribution of a PEP 751 entry."""
    name = file.get("name")
    if isinstance(name, str):
        return name
    place = str(file.get("path") or urlsplit(str(file.get("url", ""))).path)
    return unquote(place.rpartition("/")[2])


def _build_tag(wheel: Mapping[str, Any]) -> str | None:
    parts = file_name_of(wheel).split("-")
    return parts[2] if len(parts) == 6 else None


def size_of(package: Mapping[str, Any]) -> int | None:
    """The bytes of the file that a package table names, where it tells."""
    files = [*package.get("wheels", []), package.get("sdist", {}), package.get("archive", {})]
    return next((file["size"] for file in files if "size" in file), None)


def identity_of(package: Mapping[str, Any]) -> list[Any]:
    """What makes two entries the same: name, version and content, not where it lies."""
    files = [*package.get("wheels", []), package.get("sdist"), package.get("archive")]
    source = package.get("vcs") or package.get("archive") or {}
    return [
        package["name"],
        package.get("version"),
        [dict(file["hashes"]) for file in files if file],
        source.get("commit-id"),
        source.get("subdirectory"),
    ]
