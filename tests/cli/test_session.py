"""What a daemon says of errors that no one waits for, and how what can't be ended ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys

import pytest
import xoscar as xo

from xinference_venv.cli.session import log_lost_calls


async def test_a_call_that_was_given_up_before_its_peer_was_gone_is_no_error_of_a_daemon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_lost_calls)
    for error in (xo.ServerClosed("Remote server a:1 closed"), KeyError("a defect")):
        loop.create_future().set_exception(error)
    gc.collect()
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


# Waits in a thread for a disk that never answers.
_HANGS = """
import threading
from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv.cli import session

async def hang():
    print("waits", flush=True)
    await UPKEEP.finish(threading.Event().wait)

session.END_SECONDS = 0.1
session.run(hang())
"""


def test_what_waits_for_a_disk_that_does_not_answer_is_ended_by_a_signal_in_the_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "error: SIGTERM did not end everything within 0.1 s: does a disk not answer?\n"
