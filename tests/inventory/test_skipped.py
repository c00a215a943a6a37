"""What of a store could not be visited, in words."""

from __future__ import annotations

from tests.fakes import check_record
from xinference_venv.inventory.skipped import SkippedItem


def test_a_skipped_item_is_named_once_whether_or_not_its_reason_names_it() -> None:
    assert str(SkippedItem(path="/h/env", reason="no rights")) == "/h/env: no rights"
    assert str(SkippedItem(path="/h/env", reason="/h/env: no rights")) == "/h/env: no rights"


def test_a_skipped_item_is_read_whole_or_refused() -> None:
    check_record(SkippedItem(path="/h/env", reason="no rights"))
