"""What could not be visited is kept, within a bound, while it is there."""

from __future__ import annotations

from pathlib import Path

from xinference_venv.errors import StoreError
from xinference_venv.store.visit import SkippedItems


def test_of_very_many_items_those_that_are_gone_make_room_for_one_that_is_there(
    tmp_path: Path,
) -> None:
    skipped = SkippedItems()
    for number in range(2000):
        skipped.keep(tmp_path / f"gone-{number}", StoreError("not yours"))
    skipped.keep(tmp_path, StoreError("not yours either"))
    assert [(each.path, each.reason) for each in skipped.all()] == [
        (str(tmp_path), "not yours either")
    ]
