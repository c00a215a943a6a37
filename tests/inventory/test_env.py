from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, key, lock, locked, through_json, wheel_package
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import Role

texts = st.text(max_size=5)
keys = st.builds(EnvKey, model_name=texts, model_engine=st.none() | texts, python_version=texts)
times = st.floats(0, 1e11)
key_records = st.builds(
    KeyRecord,
    key=keys,
    env_id=texts,
    spec_digest=texts,
    host_fingerprint=texts,
    created=times,
    last_used=times,
    request=st.none() | st.dictionaries(texts, texts | st.none()),
)
records = st.builds(
    EnvRecord,
    env_id=texts,
    lock_digest=texts,
    python_version=texts,
    installed=st.integers(0),
    inherited=st.integers(0),
    warnings=st.lists(texts).map(tuple),
    size_bytes=st.integers(0),
    files=st.integers(0),
    created=times,
    interpreter=st.dictionaries(texts, texts | st.integers()),
)

RECORD = EnvRecord.of(
    lock(wheel_package("numpy")),
    size_bytes=5_000_000_000,
    files=65_000,
    created=1_700_000_000.5,
    interpreter={"path": "/usr/bin/python3.11", "size": 10, "modified": 1_700_000_000_000_000_000},
)
KEY_RECORD = KeyRecord(
    key=key(),
    env_id="0123abcd",
    spec_digest="a spec",
    host_fingerprint="",
    created=1_700_000_000.5,
    last_used=1_700_000_001.0,
)


@given(key_records | records)
def test_a_record_comes_back_from_json(record: KeyRecord | EnvRecord) -> None:
    assert type(record).from_dict(through_json(record.to_dict())) == record


def test_records_are_read_whole_or_refused() -> None:
    check_record(KEY_RECORD, may_be_absent=("version", "request"))
    check_record(RECORD, may_be_absent=("version", "warnings", "contents", "trees", "joined"))


def test_the_record_of_an_environment_says_what_its_lock_says_and_what_was_measured() -> None:
    made = lock(wheel_package("numpy"), warnings=("numpy is old",))
    host_part = (locked("six", Role.INHERITED), locked("torch", Role.INHERITED))
    made = replace(made, distributions=(*made.distributions, *host_part))
    record = EnvRecord.of(
        made,
        warnings=("a file was left out",),
        size_bytes=5,
        files=7,
        created=1.5,
        interpreter={"size": 10},
        contents="a digest",
        trees=("numpy-1.0-0123",),
        joined=("4567",),
    )
    assert record == EnvRecord(
        env_id=made.env_id,
        lock_digest=made.digest,
        python_version="3.11.7",
        installed=1,
        inherited=2,
        warnings=("numpy is old", "a file was left out"),
        size_bytes=5,
        files=7,
        created=1.5,
        interpreter={"size": 10},
        contents="a digest",
        trees=("numpy-1.0-0123",),
        joined=("4567",),
    )


def test_the_record_of_an_environment_without_a_view_names_no_contents() -> None:
    bare = EnvRecord.of(lock(), size_bytes=0, files=0, created=0.0, interpreter={})
    assert (bare.contents, bare.trees, bare.joined, bare.warnings) == ("", (), (), ())
