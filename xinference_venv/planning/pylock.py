"""uv's lock file (PEP 751), taken apart: what is to be installed, what the host serves.

Comes in: the parsed document, which names stubs where the host serves. Comes out: a
`Resolution`, whose package tables are without credentials and name one file each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from xinference_venv.errors import InvalidRecord, ResolutionFailed


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
