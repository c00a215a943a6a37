"""What the scenarios share: wheels for the index, and the subprocesses that were started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.store.paths import StorePaths
from xinference_venv.uv.reaped_process import ReapedProcess


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves, with ``lantern`` in two versions and what it needs."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "wick", "1.0")
    build_wheel(folder, "lantern", "1.0", requires=["wick"])
    build_wheel(folder, "lantern", "2.0", requires=["wick"])
    return folder


@pytest.fixture
def layout(environ: dict[str, str]) -> StorePaths:
    """Where the store of the test's own home lies."""
    return StorePaths(Path(environ["XINFERENCE_HOME"], "virtualenv"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The argument vectors of the subprocesses that this process starts."""
    vectors: list[tuple[str, ...]] = []
    real = ReapedProcess.ask_for

    def recording(command: Sequence[str], **named: Any) -> ReapedProcess:
        vectors.append(tuple(command))
        return real(command, **named)

    monkeypatch.setattr(ReapedProcess, "ask_for", recording)
    return vectors
