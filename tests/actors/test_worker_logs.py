"""Logs as the worker gives them away: named, in parts, and never another file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import key
from tests.plain import plain
from xinference_venv.client import Client
from xinference_venv.errors import InvalidInput, InvalidName, NotFound
from xinference_venv.inventory.job_log import LogEnding, Outcome
from xinference_venv.inventory.selection import Selection
from xinference_venv.store.log_writer import LogWriter
from xinference_venv.store.store import Store


@pytest.fixture
def writer(environ: Mapping[str, str]) -> LogWriter:
    """The log of a job that another worker of the home runs."""
    store = Store.open(Path(environ["XINFERENCE_HOME"], "virtualenv"))
    writer = LogWriter(layout=store.layout, disk=store.disk, key=key(), job_id="a-job")
    writer.open()
    return writer


async def test_a_log_that_is_listed_can_be_read_on(client: Client, writer: LogWriter) -> None:
    writer.add("Resolved 3 packages")
    writer.flush()
    [log] = plain(await client.supervisor.logs(Selection(model_name="a-model")))["list"]
    assert (log["text"], log["outcome"], log["ended"]) == ("Resolved 3 packages\n", "running", None)
    at = (log["worker_address"], log["log_id"])
    first = plain(await client.supervisor.read_log(*at))
    writer.add("Installed 3 packages")
    writer.end(LogEnding(outcome=Outcome.READY, ended=10.0))
    second = plain(await client.supervisor.read_log(*at, first["offset"]))
    assert (first["text"], first["ended"]) == ("Resolved 3 packages\n", False)
    assert (second["text"], second["ended"]) == ("Installed 3 packages\n", True)
    assert second["log"]["outcome"] == "ready"
    assert (
        plain(await client.supervisor.logs(Selection(model_name="a-model")))["list"][0]["ended"]
        == 10.0
    )


@pytest.mark.parametrize(
    ("log_id", "offset", "error"),
    [
        ("../keys/a", 0, InvalidName),
        ("/etc/passwd", 0, InvalidName),
        ("20260101T000000.000000-absent", 0, NotFound),
        ("20260101T000000.000000-absent", -1, InvalidInput),
    ],
)
async def test_what_is_no_log_is_not_read(
    client: Client, log_id: str, offset: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client.worker.read_log(log_id, offset)
