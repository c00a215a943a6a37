"""Wheels that were fetched for others: when one gets its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.relayed_wheels import RelayedWheels


def test_one_gets_its_name_when_its_content_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    flush = os.fsync

    def note(descriptor: int) -> None:
        flush(descriptor)
        flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    layout = StorePaths(tmp_path)
    layout.store.mkdir()
    wheels = RelayedWheels(layout=layout, disk=Disk(), max_bytes=1000)
    sha256 = hashlib.sha256(b"a wheel").hexdigest()
    with wheels.adding(sha256) as file:
        file.write(b"a wheel")
    assert layout.relayed_wheel(sha256).stat().st_ino in flushed
