"""What a daemon says of errors that no one waits for."""

from __future__ import annotations

import asyncio
import gc

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
