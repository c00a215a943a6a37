"""The full resolution of a spec on a host: what is installed, what comes from the host, and why.

Comes from uv's PEP 751 lock file, which names stubs where the host serves; goes into the build
(as a PEP 751 file of the installed part alone), the record, and over the wire to equal hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from xinference_venv.canonical import Fields, digest_of
from xinference_venv.errors import InvalidRecord, ResolutionFailed
from xinference_venv.request import InheritMode

LOCK_VERSION = 1


class Role(StrEnum):
    """What became of a distribution.

    `INSTALLED` in the environment; `INHERITED` from the host because the request needs it;
    `SHADOWED`: the host's is replaced by an installed one; `HIDDEN`: the host's is not shown.
    """

    INSTALLED = "installed"
    INHERITED = "inherited"
    SHADOWED = "shadowed"
    HIDDEN = "hidden"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LockedDistribution:
    """One distribution's part in the lock; `size` is of the wheel in bytes, where known.

    `why` is what forced it, as a chain from the request on. `asked`: the request itself asks
    for it. `requires` names what it requires of the others, in this resolution.
    """

    name: str
    role: Role
    version: str | None
    why: str
    size: int | None = None
    asked: bool = False
    requires: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "role": self.role.value,
            "version": self.version,
            "why": self.why,
            "size": self.size,
            "asked": self.asked,
            "requires": list(self.requires),
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("locked distribution", data)
        return cls(
            name=fields.text("name"),
            role=fields.choice("role", Role, Role),
            version=fields.optional_text("version"),
            why=fields.text("why"),
            size=fields.optional_integer("size"),
            asked=fields.flag("asked", default=False),
            requires=fields.texts("requires"),
        )


@dataclass(frozen=True, kw_only=True)
class EnvLock:
    """Everything that decides what an environment will be.

    `packages` are the PEP 751 package tables of what is installed, without credentials.
    `host_digest` is None when nothing of the host is seen. `spec_digest` says which request was
    resolved; like `uv_version` and `warnings` it is no part of the identity.
    """

    packages: tuple[Mapping[str, Any], ...]
    distributions: tuple[LockedDistribution, ...]
    python_version: str
    platform_digest: str
    inherit: InheritMode
    host_digest: str | None
    spec_digest: str
    uv_version: str
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The lock's identity."""
        return digest_of(
            [
                [identity_of(package) for package in self.packages],
                sorted([d.name, d.role, d.version] for d in self.distributions),
                self.python_version,
                self.platform_digest,
                self.inherit.value,
                self.host_digest,
            ]
        )

    @property
    def env_id(self) -> str:
        """The name of the environment's directory: equal locks share one."""
        return self.digest[:32]

    def with_role(self, role: Role) -> list[LockedDistribution]:
        """The distributions of one role, by name."""
        return sorted(each for each in self.distributions if each.role is role)

    @property
    def installed(self) -> dict[str, str | None]:
        """Version by name of what is installed; None where only the install tells it."""
        return {each.name: each.version for each in self.with_role(Role.INSTALLED)}

    @property
    def sizes(self) -> dict[str, int]:
        """Wheel size in bytes by name of what is installed, where known."""
        return {each.name: each.size for each in self.with_role(Role.INSTALLED) if each.size}

    def pylock(self) -> dict[str, Any]:
        """The PEP 751 document of the installed part."""
        return pylock_of(self.packages)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": LOCK_VERSION,
            "packages": [dict(package) for package in self.packages],
            "distributions": [each.to_dict() for each in self.distributions],
            "python_version": self.python_version,
            "platform_digest": self.platform_digest,
            "inherit": self.inherit.value,
            "host_digest": self.host_digest,
            "spec_digest": self.spec_digest,
            "uv_version": self.uv_version,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("environment lock", data)
        fields.check_version(LOCK_VERSION)
        lock = cls(
            packages=fields.each("packages", _package_table, required=True),
            distributions=fields.each("distributions", LockedDistribution.from_dict, required=True),
            python_version=fields.text("python_version"),
            platform_digest=fields.text("platform_digest"),
            inherit=fields.choice("inherit", InheritMode, InheritMode),
            host_digest=fields.optional_text("host_digest"),
            spec_digest=fields.text("spec_digest"),
            uv_version=fields.text("uv_version"),
            warnings=fields.texts("warnings"),
        )
        try:
            Pylock.from_dict(lock.pylock())
        except (PylockValidationError, PylockUnsupportedVersionError) as error:
            raise InvalidRecord(f"environment lock: {error}") from None
        parts = {(each.name, each.role) for each in lock.distributions}
        if len(parts) < len(lock.distributions):
            raise InvalidRecord("environment lock: a distribution has the same role twice")
        return lock


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """uv's lock file, taken apart: PEP 751 tables to install, and versions by inherited name.

    `warnings` are what the lock must say of it.
    """

    packages: tuple[Mapping[str, Any], ...]
    inherited: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def installed(self) -> dict[str, str | None]:
        """Version by name of what is to be installed."""
        return {package["name"]: package.get("version") for package in self.packages}

    def locked(self, why: Mapping[str, str]) -> list[LockedDistribution]:
        """The distributions of the resolution; `why` gives the reason by name where known."""
        installed = [
            LockedDistribution(
                name=package["name"],
                role=Role.INSTALLED,
                version=package.get("version"),
                why=why.get(package["name"], "required by another package"),
                size=_size(package),
            )
            for package in self.packages
        ]
        inherited = [
            LockedDistribution(
                name=name,
                role=Role.INHERITED,
                version=version,
                why=why.get(name, "required by another package"),
            )
            for name, version in self.inherited.items()
        ]
        return sorted([*installed, *inherited])


def read_resolution(
    document: Mapping[str, Any],
    *,
    stub_build_tag: str,
    tags: Sequence[str],
    indexes: Sequence[str],
) -> Resolution:
    """Take uv's parsed lock file apart.

    A package is inherited if and only if a wheel with the stub's build tag stands in its entry.
    Of the others one wheel is kept, the best by `tags`; dates, markers (decided already) and
    credentials go, and each gets the credential-free index of `indexes` that it most likely came
    from, without which uv caches it apart from ordinary use. Raises `ResolutionFailed` for a
    local directory, which has neither version nor hash.
    """
    try:
        Pylock.from_dict(document)
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise InvalidRecord(f"uv's lock file: {error}") from None
    packages: list[Mapping[str, Any]] = []
    inherited: dict[str, str] = {}
    for package in document["packages"]:
        if "directory" in package:
            raise ResolutionFailed(
                f"{package['name']} is a local directory, which cannot be locked",
                {"hint": "build a wheel of it and put that into a find-links folder"},
            )
        wheels = package.get("wheels", [])
        if any(_build_tag(wheel) == stub_build_tag for wheel in wheels):
            inherited[package["name"]] = package["version"]
        else:
            packages.append(_clean(package, tags, indexes))
    return Resolution(packages=tuple(packages), inherited=inherited)


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


def _package_table(item: object) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidRecord(f"environment lock: a package is a {type(item).__name__}")
    if "directory" in item:
        raise InvalidRecord("environment lock: a package is a local directory, which has no hash")
    return item


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
    return unquote(place.rsplit("/", 1)[-1])


def _build_tag(wheel: Mapping[str, Any]) -> str | None:
    parts = file_name_of(wheel).removesuffix(".whl").split("-")
    return parts[2] if len(parts) == 6 else None


def _size(package: Mapping[str, Any]) -> int | None:
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
