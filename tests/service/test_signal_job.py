"""Cancelling a job of another process by a signal, where the signal can't be sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import fakes
from xinference_venv.errors import InvalidInput
from xinference_venv.service import signal_job
from xinference_venv.store.log_writer import LogWriter
from xinference_venv.store.store import Store


def test_a_process_of_another_user_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    store = Store.open(tmp_path / "virtualenv")
    log = LogWriter(layout=store.layout, disk=store.disk, key=fakes.spec().key, job_id="a" * 32)
    log.open()
    monkeypatch.setattr(signal_job, "command_of", lambda _: ("xinference-venv", "launch", "toy"))
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(InvalidInput, match=f"process {os.getpid()}, .* is another user's"):
        signal_job.cancel_job(store.layout, "a" * 32)
