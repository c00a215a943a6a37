"""The end of a preparation, as far as it needs no uv: the key gets its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests import fakes
from tests.store.conftest import attached
from xinference_venv.errors import StoreError
from xinference_venv.service.prepare import Preparation
from xinference_venv.store.store import Store


def test_a_launch_is_ready_although_the_environment_before_it_can_not_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "virtualenv")
    before = attached(store, "numpy")
    after = attached(store, "torch", of=fakes.key("another"))

    def refuse(self: Store, env_id: str) -> tuple[bool, Path | None]:
        raise StoreError(f"could not remove {env_id}: Operation not permitted")

    monkeypatch.setattr(Store, "trash_if_unused", refuse)
    preparation = Preparation(
        store=store, uv=cast(Any, None), spec=fakes.spec(), host=fakes.host(), deadline=1.0
    )
    preparation._attach(after)
    assert store.env_of(fakes.key()) == after
    [kept] = store.skipped.all()
    assert kept.path == str(store.layout.env(before))
