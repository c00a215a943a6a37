from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, key, through_json
from xinference_venv.planning.key import EnvKey

texts = st.text(max_size=5)
keys = st.builds(EnvKey, model_name=texts, model_engine=st.none() | texts, python_version=texts)


@given(keys)
def test_a_key_comes_back_from_json(of: EnvKey) -> None:
    assert EnvKey.from_dict(through_json(of.to_dict())) == of


def test_a_key_is_read_whole_or_refused() -> None:
    check_record(key(), may_be_absent=("model_engine",))


@pytest.mark.parametrize(
    ("of", "path", "shown"),
    [
        (key("m", "vllm", "3.11"), "v4/m/vllm/3.11", "m (Python 3.11, engine vllm)"),
        (key("m", None, "3.12.1"), "v3/m/3.12.1", "m (Python 3.12.1)"),
    ],
)
def test_a_key_has_the_path_and_the_words_of_its_parts(of: EnvKey, path: str, shown: str) -> None:
    assert "/".join(of.parts) == path
    assert str(of) == shown


@given(keys, keys)
def test_two_keys_share_a_digest_only_if_they_are_equal(one: EnvKey, other: EnvKey) -> None:
    assert (one.digest == other.digest) is (one == other)
    assert (one.parts == other.parts) is (one == other)


def test_the_digest_of_a_key_is_a_file_name_and_the_same_in_every_process() -> None:
    assert key().digest == "98eb662949cf52658f92923b66c3fb12"
