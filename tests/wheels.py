"""Tiny real distributions for tests: from a description to a wheel, an sdist or a folder.

The same description always gives the same bytes. Members of a wheel are stored, not compressed,
so that `corrupt` can change one without changing the size of the file.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name
from packaging.version import Version

_TIMESTAMP = (2020, 1, 1, 0, 0, 0)

_BACKEND = """\
import shutil
from pathlib import Path


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    [wheel] = Path("prebuilt").glob("*.whl")
    shutil.copy(wheel, wheel_directory)
    return wheel.name
"""

_PYPROJECT = """\
[build-system]
requires = {requires}
build-backend = "backend"
backend-path = ["."]
"""


def build_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    modules: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
    extras: Mapping[str, Sequence[str]] | None = None,
    entry_points: Mapping[str, str] | None = None,
    data: Mapping[str, bytes] | None = None,
    requires_python: str | None = None,
    unlisted: Sequence[str] = (),
) -> Path:
    """Write a wheel into ``folder``, as the binary distribution format of PyPA describes it.

    ``modules`` (source text) and ``data`` (bytes) are keyed by their path inside the wheel;
    without ``modules`` there is one, named after the package, that knows its ``__version__``.
    ``extras`` gives the requirements of each extra, ``entry_points`` the console scripts.
    RECORD leaves out the paths in ``unlisted``.
    """
    version = str(Version(version))
    escaped = _escaped(name)
    if modules is None:
        modules = {f"{escaped}.py": f'__version__ = "{version}"\n'}
    dist_info = f"{escaped}-{version}.dist-info"
    files = {path: source.encode() for path, source in modules.items()}
    files.update(data or {})
    files[f"{dist_info}/METADATA"] = _metadata(name, version, requires, extras, requires_python)
    files[f"{dist_info}/WHEEL"] = _wheel_file(tag)
    if entry_points:
        files[f"{dist_info}/entry_points.txt"] = _entry_points_file(entry_points)
    record = f"{dist_info}/RECORD"
    listed = {path: content for path, content in files.items() if path not in unlisted}
    files[record] = _record(listed, record)
    wheel = folder / f"{escaped}-{version}-{tag}.whl"
    _write_zip(wheel, files)
    return wheel


def build_sdist(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    backend: str = "",
    build_requires: Sequence[str] = (),
) -> Path:
    """Write an sdist into ``folder`` that builds without network, by a backend of its own.

    ``backend`` is source text that is added to the backend's: a hook of PEP 517, or what is run
    whenever it is imported. ``build_requires`` are what the build needs.

    Its ``PKG-INFO`` is of metadata 2.1, which promises nothing about dependencies, so a resolver
    has to build it to learn them.
    """
    version = str(Version(version))
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_wheel(Path(scratch), name, version, requires=requires)
        files = {
            "PKG-INFO": _metadata(name, version, requires),
            "backend.py": (_BACKEND + backend).encode(),
            f"prebuilt/{wheel.name}": wheel.read_bytes(),
            "pyproject.toml": _PYPROJECT.format(requires=list(build_requires)).encode(),
        }
    root = f"{_escaped(name)}-{version}"
    sdist = folder / f"{root}.tar.gz"
    # Without a name and a time the gzip header is the same for every run.
    with (
        sdist.open("wb") as stream,
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in files.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sdist


def unpack(sdist: Path, folder: Path) -> None:
    """Unpack an sdist into a folder, which then has its root."""
    with tarfile.open(sdist) as archive:
        # From 3.11.4 on there is a filter, and from 3.12 on one has to be named.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)


def git_repository(sdist: Path, folder: Path) -> Path:
    """Make of an sdist a repository with one commit, in a new ``folder``, which is returned."""
    with tempfile.TemporaryDirectory() as scratch:
        unpack(sdist, Path(scratch))
        [root] = Path(scratch).iterdir()
        shutil.copytree(root, folder)
    git = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    return folder


def corrupt(wheel: Path) -> None:
    """Change one byte of a wheel's first non-empty file, in place.

    The size stays, and so does the archive's own consistency (its CRC is made to fit), so only
    a check of hashes can find it.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {each: archive.read(each) for each in archive.namelist()}
    path, content = next((path, content) for path, content in files.items() if content)
    files[path] = bytes([content[0] ^ 1]) + content[1:]
    _write_zip(wheel, files)


def fake_distribution(
    site: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    entry_points: Mapping[str, str] | None = None,
) -> Path:
    """Put a distribution into ``site`` the way an installer leaves it; the ``.dist-info`` returned.

    Nothing is normalized or checked: names, versions and requirements may be as odd as those of
    real hosts. ``files`` are keyed by their path inside ``site``.
    """
    dist_info = f"{_escaped(name)}-{version}.dist-info"
    contents = {path: source.encode() for path, source in (files or {}).items()}
    contents[f"{dist_info}/INSTALLER"] = b"uv\n"
    contents[f"{dist_info}/METADATA"] = _metadata(name, version, requires)
    contents[f"{dist_info}/WHEEL"] = _wheel_file("py3-none-any")
    if entry_points:
        contents[f"{dist_info}/entry_points.txt"] = _entry_points_file(entry_points)
    record = f"{dist_info}/RECORD"
    contents[record] = _record(contents, record)
    for path, content in contents.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return site / dist_info


def _escaped(name: str) -> str:
    """The name as file names of wheels and sdists spell it."""
    return canonicalize_name(name).replace("-", "_")


def _metadata(
    name: str,
    version: str,
    requires: Sequence[str],
    extras: Mapping[str, Sequence[str]] | None = None,
    requires_python: str | None = None,
) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {each}" for each in requires]
    for extra, wanted in (extras or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {_only_for_extra(each, extra)}" for each in wanted]
    return "".join(f"{line}\n" for line in lines).encode()


def _only_for_extra(line: str, extra: str) -> Requirement:
    requirement = Requirement(line)
    marker = f'extra == "{extra}"'
    if requirement.marker is not None:
        marker = f"({requirement.marker}) and {marker}"
    requirement.marker = Marker(marker)
    return requirement


def _wheel_file(tag: str) -> bytes:
    lines = ["Wheel-Version: 1.0", "Generator: tests"]
    lines.append(f"Root-Is-Purelib: {'true' if tag.endswith('-none-any') else 'false'}")
    lines += [f"Tag: {each}" for each in sorted(map(str, parse_tag(tag)))]
    return "".join(f"{line}\n" for line in lines).encode()


def _entry_points_file(console_scripts: Mapping[str, str]) -> bytes:
    lines = [f"{name} = {target}\n" for name, target in console_scripts.items()]
    return "".join(["[console_scripts]\n", *lines]).encode()


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{record},,\n"]).encode()


def _write_zip(target: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in files.items():
            member = zipfile.ZipInfo(path, _TIMESTAMP)
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
