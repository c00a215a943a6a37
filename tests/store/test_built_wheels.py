"""Built wheels on disk: kept, found by what they were built from, never half of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wheels import build_wheel, corrupt
from xinference_venv.errors import StoreError
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "virtualenv")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return build_wheel(tmp_path, "tool", "1.0")


def test_a_kept_wheel_is_found_by_what_it_was_built_from(store: Store, wheel: Path) -> None:
    kept = store.wheels.keep(wheel, "a build")
    assert (kept.name, kept.version, kept.size) == ("tool", "1.0", wheel.stat().st_size)
    assert (store.layout.built_wheels(kept.sha256) / wheel.name).read_bytes() == wheel.read_bytes()
    assert store.wheels.find("a build", None) == kept
    assert store.wheels.find("a build", "0" * 64) == kept
    assert store.wheels.find("another build", kept.sha256) is None
    assert store.wheels.keep(wheel, "a build") == kept


def test_of_several_the_wanted_one_is_found(store: Store, wheel: Path) -> None:
    one = store.wheels.keep(wheel, "a build")
    corrupt(wheel)
    two = store.wheels.keep(wheel, "a build")
    assert one != two
    assert store.wheels.find("a build", one.sha256) == one
    assert store.wheels.find("a build", two.sha256) == two


def test_a_wheel_that_is_changed_or_gone_or_has_no_record_is_not_found(
    store: Store, wheel: Path
) -> None:
    kept = store.wheels.keep(wheel, "a build")
    folder = store.layout.built_wheels(kept.sha256)
    place, record = folder / wheel.name, folder / "built.json"
    corrupt(place)
    assert store.wheels.find("a build", None) is None
    place.unlink()
    assert store.wheels.find("a build", None) is None
    store.wheels.keep(wheel, "a build")
    for text in ("", "[]", "{}", json.dumps({"build": "a build", "file_name": "../../tool.whl"})):
        record.write_text(text)
        assert store.wheels.find("a build", None) is None
    record.unlink()
    assert store.wheels.find("a build", None) is None


def test_a_copy_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    target = store.layout.wheels / "folder" / "tool.whl"
    with pytest.raises(StoreError, match="could not write"):
        store.disk.copy(tmp_path / "gone.whl", target)
    assert list(target.parent.iterdir()) == []


def test_a_sweep_leaves_what_is_needed(store: Store, wheel: Path) -> None:
    one = store.wheels.keep(wheel, "a build")
    corrupt(wheel)
    two = store.wheels.keep(wheel, "a build")
    store.wheels.delete([two.sha256])
    assert [folder.name for folder in store.layout.wheels.iterdir()] == [one.sha256]
    assert store.unneeded_wheels() == [one.sha256]
    sweep(store)
    assert list(store.layout.wheels.iterdir()) == []
