"""An environment as one file: what is read of it, what is refused, where its lock serves."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests import fakes
from tests.fakes import distribution, host, interpreter, line, locked, spec
from xinference_venv.errors import InvalidInput, InvalidRecord, VerificationFailed
from xinference_venv.planning.bundle import (
    END,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    PYLOCK,
    Bundle,
    BundleFile,
    BundleReader,
    Demand,
    padding,
    pylock_in_bundle,
    tar_header,
    without_paths,
)
from xinference_venv.planning.bundle_fit import lock_for
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.pylock import file_name_of
from xinference_venv.settings import InheritMode

WHEEL = b"what a wheel holds" * 100
SPEC = spec(line("new>=1", "new"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _lock(name: str = "new", **changes: Any) -> EnvLock:
    package = fakes.wheel_package(name, sha256=_sha256(WHEEL))
    return fakes.lock(package, **changes)


def _bundle(lock: EnvLock | None = None, **changes: Any) -> Bundle:
    lock = lock or _lock()
    [package] = lock.packages
    name = f"wheels/{file_name_of(package['wheels'][0])}"
    made = Bundle(
        created_by="0.1.0",
        request=fakes.request(),
        interpreter=without_paths(interpreter()),
        demand=Demand.of(SPEC),
        lock=lock,
        files=(BundleFile(path=name, size=len(WHEEL), sha256=_sha256(WHEEL)),),
    )
    return replace(made, **changes)


def _archive(bundle: Bundle, *contents: bytes, manifest: Any = None) -> bytes:
    parts = []
    head = json.dumps(bundle.to_dict() if manifest is None else manifest).encode()
    files = [(MANIFEST, head), *zip((each.path for each in bundle.files), contents, strict=True)]
    for path, content in files:
        parts += [tar_header(path, len(content)), content, padding(len(content))]
    return b"".join([*parts, END])


def _read(archive: bytes, step: int = 700) -> dict[str, bytes]:
    reader = BundleReader()
    found: dict[str, bytes] = {}
    for start in range(0, len(archive), step):
        for path, part in reader.feed(archive[start : start + step]):
            found[path] = found.get(path, b"") + part
    reader.check_whole()
    return found


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_a_bundle_is_read_as_it_comes_and_any_tar_reads_it_too(step: int) -> None:
    bundle = _bundle()
    archive = _archive(bundle, WHEEL)
    reader = BundleReader()
    for start in range(0, len(archive), step):
        list(reader.feed(archive[start : start + step]))
    assert reader.check_whole() == bundle
    [path] = (each.path for each in bundle.files)
    assert _read(archive, step) == {path: WHEEL}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [MANIFEST, path]
        file = tar.extractfile(path)
        assert file is not None
        assert file.read() == WHEEL


def test_names_over_a_hundred_bytes_are_written_and_read() -> None:
    long = f"new-1.0-py3-none-{'.'.join(f'manylinux_2_{each}_x86_64' for each in range(10))}.whl"
    file = replace(_bundle().files[0], path=f"wheels/{long}")
    bundle = _bundle(files=(file,))
    assert _read(_archive(bundle, WHEEL)) == {file.path: WHEEL}


def test_what_was_cut_off_or_changed_is_found() -> None:
    archive = _archive(_bundle(), WHEEL)
    for length in (100, 600, len(archive) - 1024 - 100, len(archive) - 1024):
        with pytest.raises(InvalidInput, match="cut off"):
            _read(archive[:length])
    with pytest.raises(VerificationFailed, match="sha256"):
        _read(_archive(_bundle(), WHEEL[:-1] + b"x"))
    with pytest.raises(InvalidInput, match="bytes"):
        _read(_archive(_bundle(), WHEEL + b"x"))


def _members(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive of members: name, type and content."""
    parts = []
    for name, kind, content in members:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
        parts += [info.tobuf(tarfile.USTAR_FORMAT), content, padding(len(content))]
    return b"".join([*parts, END])


def _hostile() -> Iterator[tuple[str, bytes, str]]:
    head = (MANIFEST, tarfile.REGTYPE, json.dumps(_bundle().to_dict()).encode())
    yield "no archive", b"PK\3\4" + bytes(range(256)) * 10, "no bundle"
    yield "an empty one", END, "cut off"
    yield "of something else", _members(("README", tarfile.REGTYPE, b"hello")), "begin with"
    yield "no JSON", _members((MANIFEST, tarfile.REGTYPE, b"[" * 100_000)), "no JSON"
    yield "not ours", _members((MANIFEST, tarfile.REGTYPE, b"{}")), "missing|absent|request"
    for name in ("../x", "/etc/cron.d/x", "wheels/../../x", "wheels/x", "sitecustomize.py"):
        yield name, _members(head, (name, tarfile.REGTYPE, WHEEL)), "has not"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"L", b"S"):
        path = _bundle().files[0].path
        yield f"type {kind!r}", _members(head, (path, kind, b"")), "no regular file"
    twice = [(_bundle().files[0].path, tarfile.REGTYPE, WHEEL)] * 2
    yield "a file twice", _members(head, *twice), "has not"
    large = tarfile.TarInfo(MANIFEST)
    large.size = MAX_MANIFEST_BYTES + 1
    yield "a large manifest", large.tobuf(tarfile.USTAR_FORMAT), "too large"
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 1 << 30
    yield "a large header", info.tobuf(tarfile.USTAR_FORMAT), "no regular file"


@pytest.mark.parametrize(("what", "archive", "words"), [*_hostile()])
def test_what_no_bundle_holds_is_refused(what: str, archive: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        _read(archive)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "another"}, "format"),
        ({"files": [{"path": "../x.whl", "size": 1, "sha256": "0" * 64}]}, "no name"),
        ({"files": [{"path": "wheels/../x.whl", "size": 1, "sha256": "0" * 64}]}, "no name"),
        ({"files": [{"path": PYLOCK, "size": -1, "sha256": "0" * 64}]}, "no size"),
        ({"files": [{"path": PYLOCK, "size": 1, "sha256": "../x"}]}, "no sha256"),
        ({"files": []}, "no wheel with the lock's hash of new"),
        ({"version": 2}, "version"),
    ],
)
def test_what_a_manifest_may_not_say_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRecord, match=words):
        Bundle.from_dict({**_bundle().to_dict(), **changes})


def test_a_manifest_survives_json_and_a_later_release_may_add_to_it() -> None:
    data = fakes.through_json(_bundle().to_dict())
    assert Bundle.from_dict(data) == _bundle()
    assert Bundle.from_dict({**data, "of a later release": [{}]}) == _bundle()


def test_the_pylock_of_a_bundle_names_its_own_files() -> None:
    [package] = pylock_in_bundle(_lock(), {"new": "wheels/new.whl"})["packages"]
    [wheel] = package["wheels"]
    assert (package["name"], wheel["path"]) == ("new", "wheels/new.whl")
    assert wheel["hashes"] == {"sha256": _sha256(WHEEL)}
    assert "url" not in wheel


# Where it serves


def test_the_lock_serves_a_host_that_has_what_it_inherits_whatever_else_that_has() -> None:
    inherited = _lock()
    lock = replace(
        inherited,
        distributions=(*inherited.distributions, locked("numpy", Role.INHERITED, version="2.0")),
    )
    needs_old = distribution("pandas", "2.0", "new<1")
    here = host(distribution("numpy", "2.0"), needs_old, distribution("new", "0.9"))
    found = lock_for(_bundle(lock), SPEC, here)
    assert {(each.name, each.role) for each in found.distributions} == {
        ("new", Role.INSTALLED),
        ("new", Role.SHADOWED),
        ("numpy", Role.INHERITED),
        ("pandas", Role.HIDDEN),
    }
    assert found.host_digest == here.digest
    assert found.platform_digest == SPEC.interpreter.platform_digest
    for other in (host(), host(distribution("numpy", "1.26"))):
        with pytest.raises(InvalidInput, match=r"numpy 2\.0"):
            lock_for(_bundle(lock), SPEC, other)


def test_without_the_host_nothing_of_it_counts() -> None:
    alone = replace(SPEC, inherit=InheritMode.NONE)
    lock = _lock(inherit=InheritMode.NONE, host_digest=None)
    bundle = _bundle(lock, demand=Demand.of(alone))
    assert lock_for(bundle, alone, host(distribution("new"))).host_digest is None


def test_another_python_or_platform_is_named() -> None:
    bundle = _bundle()
    here = replace(SPEC, interpreter=interpreter("3.12.1"))
    with pytest.raises(InvalidInput, match=r"Python 3\.11.*3\.12\.1"):
        lock_for(bundle, here, host())
    markers = {**interpreter().markers, "platform_machine": "aarch64"}
    here = replace(SPEC, interpreter=interpreter(markers=markers))
    with pytest.raises(InvalidInput, match="aarch64"):
        lock_for(bundle, here, host())
    here = replace(SPEC, interpreter=interpreter(tags=("cp311-cp311-other",)))
    with pytest.raises(InvalidInput, match="can't run here"):
        lock_for(bundle, here, host())


def test_another_patch_release_or_library_of_the_host_is_no_other_platform() -> None:
    tags = (*interpreter().tags, "py3-none-manylinux_2_5_x86_64")
    here = replace(SPEC, interpreter=interpreter("3.11.9", tags=tags))
    assert lock_for(_bundle(), here, host()).python_version == "3.11.9"


def test_what_is_asked_for_otherwise_here_is_named() -> None:
    here = spec(line("new>=2", "new"))
    with pytest.raises(InvalidInput, match=r"new>=1.*new>=2"):
        lock_for(_bundle(), here, host())
    with pytest.raises(InvalidInput, match="settings"):
        lock_for(_bundle(), replace(SPEC, excludes=("numpy",)), host())
