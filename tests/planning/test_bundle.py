"""An environment as one file: what is read of it, what is refused, where its lock serves."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests import fakes
from tests.fakes import interpreter, line, spec
from xinference_venv.errors import InvalidInput, InvalidRecord, VerificationFailed
from xinference_venv.planning import bundle as bundle_module
from xinference_venv.planning.bundle import (
    BLOCK,
    END,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    PYLOCK,
    Bundle,
    BundleFile,
    BundleReader,
    Demand,
    FileBegan,
    FileEnded,
    TarReader,
    padding,
    pylock_in_bundle,
    sha256_of,
    tar_header,
    without_paths,
)
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pylock import file_name_of

WHEEL = b"what a wheel holds" * 100
SPEC = spec(line("new>=1", "new"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_lock(name: str = "new", **changes: Any) -> EnvLock:
    package = fakes.wheel_package(name, sha256=_sha256(WHEEL))
    return fakes.lock(package, **changes)


def make_bundle(lock: EnvLock | None = None, **changes: Any) -> Bundle:
    lock = lock or make_lock()
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
    bundle = make_bundle()
    archive = _archive(bundle, WHEEL)
    reader = BundleReader()
    for start in range(0, len(archive), step):
        list(reader.feed(archive[start : start + step]))
    assert reader.check_whole() == bundle
    [path] = (each.path for each in bundle.files)
    assert _read(archive, step) == {path: WHEEL}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [MANIFEST, path]
        assert {member.mode for member in tar} == {0o644}
        file = tar.extractfile(path)
        assert file is not None
        assert file.read() == WHEEL


@pytest.mark.parametrize("step", [700, 1 << 20])
@pytest.mark.parametrize("tags", [10, 40])
def test_names_over_a_hundred_bytes_are_written_and_read(tags: int, step: int) -> None:
    platforms = ".".join(f"manylinux_2_{each}_x86_64" for each in range(tags))
    path = f"wheels/new-1.0-py3-none-{platforms}.whl"
    bundle = make_bundle(files=(replace(make_bundle().files[0], path=path),))
    assert _read(_archive(bundle, WHEEL), step) == {path: WHEEL}


@pytest.mark.parametrize("path", ["x" * 99, "x" * 100, "x" * 101, "a =" * 50, "x" * 65_524])
def test_a_header_gives_the_name_as_it_was_whatever_its_length(path: str) -> None:
    assert [*TarReader().feed(tar_header(path, 5))] == [FileBegan(path=path, size=5)]


def test_a_file_of_gigabytes_has_its_size_and_an_empty_one_ends_at_once() -> None:
    assert [*TarReader().feed(tar_header("x", 3 << 30))] == [FileBegan(path="x", size=3 << 30)]
    assert [*TarReader().feed(tar_header("x", 0))] == [FileBegan(path="x", size=0), FileEnded()]


def _ustar(path: str, kind: bytes = tarfile.REGTYPE, **fields: bytes) -> bytes:
    """A header without pax, of which some fields are replaced, by where they begin."""
    info = tarfile.TarInfo(path)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for name, value in fields.items():
        start = int(name.removeprefix("at"))
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_an_archive_that_another_tar_has_packed_is_read() -> None:
    [began, _] = TarReader().feed(_ustar("x", tarfile.AREGTYPE))
    assert began == FileBegan(path="x", size=0)
    long = f"{'p' * 155}/{'x' * 100}"
    [began, _] = TarReader().feed(_ustar(long, at500=b"no part of it"[:12]))
    assert began == FileBegan(path=long, size=0)


@pytest.mark.parametrize("size", [b"-0000000005\0", b"+0000000005\0", b"0000000_005\0", bytes(12)])
def test_a_size_that_is_no_octal_number_is_refused(size: bytes) -> None:
    with pytest.raises(InvalidInput, match="a number is none"):
        list(TarReader().feed(_ustar("x", at124=size)))


def test_what_was_cut_off_is_found_and_what_it_lacks_is_named() -> None:
    archive = _archive(make_bundle(), WHEEL)
    [wheel] = make_bundle().files
    for length, lacks in (
        (100, MANIFEST),
        (600, MANIFEST),
        (len(archive) - 1024 - 5 * BLOCK, wheel.path),
        (len(archive) - 1024 - 100, "its end"),
        (len(archive) - 1024, "its end"),
    ):
        with pytest.raises(InvalidInput, match=f"cut off: it lacks {re.escape(lacks)}$") as caught:
            _read(archive[:length])
        assert (caught.value.hint or "").startswith("copy it again")


def test_of_many_files_that_are_missing_three_are_named() -> None:
    more = (
        replace(make_bundle().files[0], path=f"wheels/{name}-1-py3-none-any.whl") for name in "abc"
    )
    bundle = make_bundle(files=(*make_bundle().files, *more))
    with pytest.raises(InvalidInput, match=r"lacks wheels/new\S*, wheels/a-1\S*, wheels/b-1\S*$"):
        _read(_archive(replace(bundle, files=()), manifest=bundle.to_dict()))


def test_what_was_changed_is_found() -> None:
    changed = WHEEL[:-1] + b"x"
    words = f"new.* has sha256 {_sha256(changed)}, and its {MANIFEST} says {_sha256(WHEEL)}"
    with pytest.raises(VerificationFailed, match=words) as caught:
        _read(_archive(make_bundle(), changed))
    assert (caught.value.hint or "").startswith("copy it again")
    with pytest.raises(InvalidInput, match="bytes"):
        _read(_archive(make_bundle(), WHEEL + b"x"))


def test_a_manifest_may_be_as_large_as_the_limit() -> None:
    reader = BundleReader()
    assert [*reader.feed(tar_header(MANIFEST, MAX_MANIFEST_BYTES))] == []


def _members(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive of members: name, type and content."""
    parts = []
    for name, kind, content in members:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
        parts += [info.tobuf(tarfile.USTAR_FORMAT), content, padding(len(content))]
    return b"".join([*parts, END])


def _hostile() -> Iterator[tuple[str, bytes, str]]:
    head = (MANIFEST, tarfile.REGTYPE, json.dumps(make_bundle().to_dict()).encode())
    yield "no archive", b"PK\3\4" + bytes(range(256)) * 10, "no bundle"
    yield "an empty one", END, "cut off"
    yield "of something else", _members(("README", tarfile.REGTYPE, b"hello")), "begin with"
    yield "no JSON", _members((MANIFEST, tarfile.REGTYPE, b"[" * 100_000)), "no JSON"
    yield "not ours", _members((MANIFEST, tarfile.REGTYPE, b"{}")), "missing|absent|request"
    for name in ("../x", "/etc/cron.d/x", "wheels/../../x", "wheels/x", "sitecustomize.py"):
        words = f"a file '{re.escape(name)}' that its {MANIFEST} has not"
        yield name, _members(head, (name, tarfile.REGTYPE, WHEEL)), words
    yield "no text", _members(head)[: -len(END)] + _ustar("x", at0=b"\xff"), "xff.* has not"
    yield "a header that was changed", b"x" + _ustar("y")[1:], "there is no header"
    for record in (b"99 path=abc\n", b"13 mtime=abc\n", b"11 path=abc"):
        pax = _members(("x", b"x", record))
        yield f"pax header {record!r}", pax, "a header of a file that no bundle has"
    yield "a pax header that is too long", tar_header("x" * 65_525, 5), "no regular file"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"L", b"S"):
        path = make_bundle().files[0].path
        yield f"type {kind!r}", _members(head, (path, kind, b"")), "no regular file"
    twice = [(make_bundle().files[0].path, tarfile.REGTYPE, WHEEL)] * 2
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
        ({"format": "another"}, "its format is 'another'"),
        ({"files": [{"path": "../x.whl", "size": 1, "sha256": "0" * 64}]}, "'../x.whl' is no name"),
        ({"files": [{"path": PYLOCK, "size": 1, "sha256": "0" * 64}] * 2}, "two files of one name"),
        ({"files": [{"path": "wheels/../x.whl", "size": 1, "sha256": "0" * 64}]}, "no name"),
        ({"files": [{"path": PYLOCK, "size": -1, "sha256": "0" * 64}]}, "no size"),
        ({"files": [{"path": PYLOCK, "size": 1, "sha256": "../x"}]}, "no sha256"),
        ({"files": []}, "no wheel with the lock's hash of new"),
        ({"version": 2}, "version"),
    ],
)
def test_what_a_manifest_may_not_say_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRecord, match=words):
        Bundle.from_dict({**make_bundle().to_dict(), **changes})


def test_a_bundle_has_as_many_files_as_the_limit_and_an_empty_one_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = BundleFile(path=PYLOCK, size=0, sha256=_sha256(b""))
    bundle = make_bundle(files=(*make_bundle().files, empty))
    monkeypatch.setattr(bundle_module, "MAX_FILES", 2)
    bundle.check_record()
    monkeypatch.setattr(bundle_module, "MAX_FILES", 1)
    with pytest.raises(InvalidRecord, match="it has more than 1 files"):
        bundle.check_record()


def test_a_package_from_an_archive_has_its_wheel_too_and_one_without_a_file_has_no_hash() -> None:
    [package] = make_lock().packages
    [wheel] = package["wheels"]
    archive = {"name": "new", "version": "1.0", "archive": wheel}
    bundle = replace(make_bundle(), lock=replace(make_lock(), packages=(archive,)))
    assert [*bundle.wheels] == ["new"]
    assert sha256_of({"name": "new"}) == sha256_of({"archive": {}}) == ""


def test_the_interpreter_of_a_bundle_tells_no_path_of_its_host() -> None:
    known = replace(
        interpreter(), executable="/a/python", base_executable="/b/python", search_path=("/c",)
    )
    assert without_paths(known) == replace(known, executable="", base_executable="", search_path=())


def test_a_manifest_survives_json_and_a_later_release_may_add_to_it() -> None:
    data = fakes.through_json(make_bundle().to_dict())
    assert Bundle.from_dict(data) == make_bundle()
    assert Bundle.from_dict({**data, "of a later release": [{}]}) == make_bundle()


def test_the_pylock_of_a_bundle_names_its_own_files() -> None:
    [before] = make_lock().packages
    [table] = before["wheels"]
    lock = replace(make_lock(), packages=({**before, "wheels": [{**table, "size": 7}]},))
    [package] = pylock_in_bundle(lock, {"new": "wheels/new.whl"})["packages"]
    wheel = {"path": "wheels/new.whl", "size": 7, "hashes": {"sha256": _sha256(WHEEL)}}
    assert package == {"name": "new", "version": before["version"], "wheels": [wheel]}
