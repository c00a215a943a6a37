"""What is built from source, once, for a lock: which entries, and whether wheels would do instead.

Comes in: resolutions, PEP 751 package tables, wheels that were built here. Goes out: the choice
between two resolutions, with what the lock says about it; and the lock whose entries are the
built wheels, each with the source that it was built from, so that another host can build it too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name, parse_wheel_filename

from xinference_venv._util.records import digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.pylock import (
    ANY_LATER,
    Resolution,
    file_name_of,
    identity_of,
    pylock_of,
    release_of,
)
from xinference_venv.sentences import sentence

TOOL = "xinference-venv"
"""The table of ours in a lock's entry (PEP 751, ``packages.tool``)."""

_ORIGIN = "built-from"


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel that was built here; `size` in bytes."""

    file_name: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The normalized name of the distribution."""
        return canonicalize_name(self.file_name.partition("-")[0])

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return str(parse_wheel_filename(self.file_name)[1])


def is_source(package: Mapping[str, Any]) -> bool:
    """Whether to install a PEP 751 entry means to build it."""
    if "archive" in package:
        return not file_name_of(package["archive"]).endswith(".whl")
    return "vcs" in package or ("sdist" in package and not package.get("wheels"))


def sources_by_choice(resolution: Resolution) -> list[str]:
    """The names of what is to be built of which an index may have wheels of other versions."""
    return [each["name"] for each in resolution.packages if is_source(each) and "sdist" in each]


def older_in(other: Resolution, than: Resolution) -> dict[str, str]:
    """What a resolution has in an older release than another one, whatever the builds: its
    version, by name.
    """
    newer = {**than.inherited, **than.installed}
    older = {}
    for name, version in {**other.inherited, **other.installed}.items():
        against = newer.get(name)
        if version is None or against is None:
            continue
        if release_of(version) < release_of(against):
            older[name] = version
    return older


def serves_instead(other: Resolution, found: Resolution, *, asked: Collection[str]) -> bool:
    """Whether a resolution may take the place of one that builds more from source.

    Nothing that is asked for may be older, nor what would be built. What would be built may be
    gone only if nothing at all is older: an older parent is no way around a build.
    """
    older = older_in(other, than=found)
    to_build = set(sources_by_choice(found))
    if older.keys() & {*asked, *to_build}:
        return False
    return not older or to_build <= {*other.inherited, *other.installed}


def avoidable_sources(resolution: Resolution, *, asked: Collection[str]) -> set[str]:
    """The names of what is built by choice and might come as a newer wheel.

    uv takes the newest release that is allowed, and a wheel of it where one fits. So of what
    nothing holds back there is none, nor of what the request or the host holds back.
    """
    movable = resolution.installed.keys() - {*asked}
    held = {
        dependency.name
        for requirer in movable
        for dependency in resolution.requires.get(requirer, ())
        if not dependency.allows(ANY_LATER)
    }
    return held & {*sources_by_choice(resolution)}


def source_warnings(resolution: Resolution) -> tuple[str, ...]:
    """What a lock says of each distribution that is built from source."""
    by_choice = sources_by_choice(resolution)
    warnings = []
    for package in filter(is_source, resolution.packages):
        name, version = package["name"], package.get("version")
        reason = (
            sentence("no index that is asked has a wheel of this version that fits")
            if name in by_choice
            else sentence("it is asked for as {package}", package=_source_text(package))
        )
        shown = name if version is None else f"{name} {version}"
        warnings.append(
            sentence("{shown} is built from source: {reason}", shown=shown, reason=reason)
        )
    return tuple(warnings)


def _source_text(package: Mapping[str, Any]) -> str:
    source = package.get("vcs") or package["archive"]
    place = source.get("url") or source.get("path")
    commit = source.get("commit-id")
    return f"{place}@{commit}" if commit else str(place)


def origins_of(lock: EnvLock) -> dict[str, Mapping[str, Any]]:
    """The entries to build, and what was built already as the entry it was built from; by name."""
    origins = {}
    for package in lock.packages:
        origin = _origin(package)
        if origin is not None:
            origins[package["name"]] = origin
        elif is_source(package):
            origins[package["name"]] = package
    return origins


def built_hashes(lock: EnvLock) -> dict[str, str]:
    """The sha256 of each wheel of a lock that was built from source; by name."""
    return {
        package["name"]: wheel["hashes"]["sha256"]
        for package in lock.packages
        if _origin(package) is not None
        for wheel in package["wheels"]
    }


def build_digest(
    origin: Mapping[str, Any],
    lock: EnvLock,
    *,
    isolated: bool,
    build_constraints: Sequence[str] = (),
) -> str:
    """Equal for builds that give the same wheel: source, platform, bounds and, unless isolated, all
    that the build sees.
    """
    seen: list[Any] = []
    if not isolated:
        rest = without_sources(lock).packages
        seen = [lock.host_digest, sorted(identity_of(package) for package in rest)]
    bounds = [sorted(build_constraints)] if build_constraints else []
    return digest_of([identity_of(origin), lock.platform_digest, seen, *bounds])


def without_sources(lock: EnvLock) -> EnvLock:
    """The lock that installs only what was not built from source, nor is to be."""
    origins = origins_of(lock)
    kept = tuple(package for package in lock.packages if package["name"] not in origins)
    return replace(lock, packages=kept)


def with_built(lock: EnvLock, wheels: Iterable[BuiltWheel]) -> EnvLock:
    """The lock that has built wheels in the place of the sources of the same names."""
    origins = origins_of(lock)
    entries = {each.name: _entry(each, origins[each.name]) for each in wheels}
    packages = [entries.get(package["name"], package) for package in lock.packages]
    distributions = [
        replace(each, version=entry["version"], size=entry["wheels"][0]["size"])
        if each.role is Role.INSTALLED and (entry := entries.get(each.name)) is not None
        else each
        for each in lock.distributions
    ]
    return replace(lock, packages=tuple(packages), distributions=tuple(distributions))


def with_places(lock: EnvLock, folder: str) -> EnvLock:
    """The lock for an install on this host: built wheels lie in `folder`, each below its sha256.

    What a lock says of their place is not looked at, since a lock may come from anywhere.
    """
    hashes = built_hashes(lock)

    def placed(package: Mapping[str, Any]) -> Mapping[str, Any]:
        if package["name"] not in hashes:
            return package
        [wheel] = package["wheels"]
        file = file_name_of(wheel)
        return {
            **package,
            "wheels": [{**wheel, "path": f"{folder}/{hashes[package['name']]}/{file}"}],
        }

    return replace(lock, packages=tuple(map(placed, lock.packages)))


def _entry(wheel: BuiltWheel, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The PEP 751 entry of a wheel that was built; its path is relative to the store."""
    return {
        "name": wheel.name,
        "version": wheel.version,
        "wheels": [
            {
                "name": wheel.file_name,
                "path": f"wheels/{wheel.sha256}/{wheel.file_name}",
                "size": wheel.size,
                "hashes": {"sha256": wheel.sha256},
            }
        ],
        "tool": {TOOL: {_ORIGIN: dict(origin)}},
    }


def _origin(package: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry of what an entry was built from, or None; raises `InvalidRecord`.

    A lock may come from another host, and a tool's table in it is not checked yet.
    """
    table = package.get("tool", {}).get(TOOL)
    if not isinstance(table, Mapping) or _ORIGIN not in table:
        return None
    origin = table[_ORIGIN]
    if not isinstance(origin, Mapping):
        raise InvalidRecord(
            sentence("what {package} was built from is not a table", package=package["name"])
        )
    try:
        Pylock.from_dict(pylock_of([origin]))
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise InvalidRecord(
            sentence("what {package} was built from: {error}", package=package["name"], error=error)
        ) from None
    if origin["name"] != package["name"] or not is_source(origin):
        raise InvalidRecord(
            sentence("what {package} was built from is not a source of it", package=package["name"])
        )
    if [list(wheel["hashes"]) for wheel in package.get("wheels", [])] != [["sha256"]]:
        raise InvalidRecord(
            sentence(
                "{package} was built from source to more or less than a wheel",
                package=package["name"],
            )
        )
    return dict(origin)
