"""The logs of jobs: found by key, the newest first, bounded in number."""

from __future__ import annotations

import pytest

from tests.fakes import key
from xinference_venv.inventory import EnvFilter
from xinference_venv.store import logs
from xinference_venv.store.logs import logs_of, open_log, read_log
from xinference_venv.store.store import Store


def jobs(store: Store, **wanted: str) -> list[str]:
    return [header["job_id"] for header, _ in logs_of(store.layout, EnvFilter(**wanted))]


def test_a_log_is_read_without_its_header(store: Store) -> None:
    path = open_log(store.layout, store.disk, key(), "a-job")
    with path.open("ab") as file:
        file.write(b"Resolved 3 packages\ncaf\xe9\n")
    [(header, found)] = logs_of(store.layout, EnvFilter())
    assert found == path
    assert header["key"] == key().to_dict()
    assert header["started"] > 1_700_000_000
    assert read_log(found) == "Resolved 3 packages\ncaf\ufffd\n"


def test_the_newest_is_the_first_also_of_those_of_one_second(store: Store) -> None:
    ids = [f"{number * 7919 % 100:02d}" for number in range(20)]
    for job_id in ids:
        open_log(store.layout, store.disk, key(), job_id)
    assert jobs(store) == ids[::-1]


def test_logs_are_found_by_their_key(store: Store) -> None:
    for job_id, of in {
        "one": key("a", "vllm", "3.11"),
        "two": key("a", "vllm", "3.12.1"),
        "three": key("a", None, "3.12"),
        "four": key("b", "vllm", "3.11"),
    }.items():
        open_log(store.layout, store.disk, of, job_id)
    assert jobs(store, model_name="a") == ["three", "two", "one"]
    assert jobs(store, model_name="a", model_engine="vllm") == ["two", "one"]
    assert jobs(store, python_version="3.12") == ["three", "two"]
    assert jobs(store, model_name="c") == []


def test_the_oldest_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOGS_KEPT", 3)
    for number in range(5):
        open_log(store.layout, store.disk, key(), str(number))
    assert jobs(store) == ["4", "3", "2"]
    assert len(list(store.layout.logs.iterdir())) == 3


@pytest.mark.parametrize("header", ["", "{", "[]", "3", "{}", '{"key": {}}', '{"key": 3}', "\0"])
def test_a_damaged_log_is_left_out(store: Store, header: str) -> None:
    open_log(store.layout, store.disk, key(), "whole")
    (store.layout.logs / "20990101T000000-damaged.log").write_text(f"{header}\ntext\n")
    (store.layout.logs / "20990101T000001-folder.log").mkdir()
    assert jobs(store) == ["whole"]
