"""Sizes of old directories: measured once, then remembered as long as nothing tells otherwise."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.clock import FakeClock
from xinference_venv._util.clock import Clock
from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.legacy import sizes as legacy_sizes
from xinference_venv.store.legacy.sizes import sizes_of
from xinference_venv.store.store import Store


@pytest.fixture
def old(store: Store) -> Path:
    place = store.layout.root / "v2" / "old"
    packages = place / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "module.py").write_bytes(b"x" * 100)
    return place


def sizes(store: Store, *directories: Path, clock: Clock = time) -> dict[Path, int]:
    return sizes_of(store.layout, store.disk, directories, clock)


def test_what_was_measured_is_kept_until_something_is_installed(
    store: Store, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sizes(store, old) == {old: 100}
    with monkeypatch.context() as patched:
        patched.setattr(legacy_sizes, "weigh", lambda _: pytest.fail("it is known"))
        assert sizes(store, old) == {old: 100}
    (old / "lib" / "python3.11" / "site-packages" / "new.py").write_bytes(b"x" * 11)
    assert sizes(store, old) == {old: 111}
    (old / "bin").mkdir()
    (old / "bin" / "tool").write_bytes(b"x" * 1)
    assert sizes(store, old) == {old: 112}


def test_what_takes_too_long_is_unknown_until_a_later_time(store: Store, old: Path) -> None:
    others = [store.layout.root / "v2" / name for name in ("a", "b")]
    for other in others:
        other.mkdir()
    # A second and a half goes by from look to look at the clock.
    slow = FakeClock(tick=1.5)
    # One is measured each time, however slow the disk is.
    assert sizes(store, old, *others, clock=slow) == {old: 100}
    assert sizes(store, old, *others, clock=slow) == {old: 100, others[0]: 0}
    assert sizes(store, old, *others, clock=slow) == {old: 100} | dict.fromkeys(others, 0)


def test_what_fits_into_a_second_is_measured_at_once(store: Store, old: Path) -> None:
    others = [store.layout.root / "v2" / name for name in ("a", "b")]
    for other in others:
        other.mkdir()
    halves = FakeClock(tick=0.6)
    assert sizes(store, old, *others, clock=halves) == {old: 100, others[0]: 0}


def test_what_is_gone_is_forgotten_and_what_was_not_asked_for_is_not(
    store: Store, old: Path
) -> None:
    other = store.layout.root / "v2" / "other"
    other.mkdir()
    sizes(store, old, other)
    other.rmdir()
    sizes(store, store.layout.envs)
    assert set(store.disk.read_json(store.layout.old_sizes) or {}) == {
        str(old),
        str(store.layout.envs),
    }


@pytest.mark.parametrize("content", ["", "[]", "null", '{"PATH": 1}', '{"PATH": {"size": "1"}}'])
def test_a_damaged_memory_is_built_again(store: Store, old: Path, content: str) -> None:
    store.layout.old_sizes.write_text(content.replace("PATH", str(old)))
    assert sizes(store, old) == {old: 100}
    assert sizes(store, old) == {old: 100}


def test_a_disk_that_takes_nothing_does_not_prevent_a_listing(store: Store, old: Path) -> None:
    class FullDisk(Disk):
        def write(self, path: Path, content: bytes, *, durable: bool, mode: int = 0o644) -> None:
            raise StoreError("full")

    assert sizes_of(store.layout, FullDisk(), [old]) == {old: 100}
    assert not store.layout.old_sizes.exists()
