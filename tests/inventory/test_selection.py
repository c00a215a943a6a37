"""Which environments are meant, and what no environment can be called."""

from __future__ import annotations

import pytest

from tests.fakes import key
from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidName, InvalidPythonVersion
from xinference_venv.inventory.selection import Selection


def test_a_selection_goes_to_plain_values_and_back() -> None:
    every = Selection(model_name="m", model_engine="", python_version="3.11", worker="10.0.0.1")
    for each in (every, Selection()):
        assert Selection.from_dict(each.to_dict()) == each


def test_an_engine_is_meant_however_it_is_written() -> None:
    assert Selection(model_engine="vLLM").matches(key(model_engine="vllm"))


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        (Selection(), True),
        (Selection(model_name="m"), True),
        (Selection(model_name="other"), False),
        (Selection(model_name="m", model_engine="vllm", python_version="3.12.1"), True),
        (Selection(model_name="other", model_engine="vllm", python_version="3.12.1"), False),
        (Selection(model_name="m", model_engine="sglang"), False),
        (Selection(model_engine=""), False),
        (Selection(python_version="3.12"), True),
        (Selection(model_name="m", python_version="3.11"), False),
        (Selection(python_version="3.1"), False),
        (Selection(python_version="3.12.10"), False),
    ],
)
def test_an_environment_is_meant_by_all_that_is_named_of_it(
    selection: Selection, matches: bool
) -> None:
    assert selection.matches(key("m", "vllm", "3.12.1")) is matches


def test_an_empty_engine_means_environments_without_one() -> None:
    assert Selection(model_engine="").matches(key(model_engine=None))
    assert not Selection(model_engine="vllm").matches(key(model_engine=None))


@pytest.mark.parametrize(
    ("worker", "is_on"),
    [(None, True), ("10.0.0.1", True), ("10.0.0.1:4000", True), ("10.0.0.1:4", False)],
)
def test_a_worker_is_meant_by_its_ip_or_its_address(worker: str | None, is_on: bool) -> None:
    assert Selection(worker=worker).is_on("10.0.0.1:4000") is is_on
    assert Selection(worker="[::1]").is_on("[::1]:4000")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a" * 256])
def test_what_no_directory_can_be_called_is_refused_by_its_place(name: str) -> None:
    with pytest.raises(InvalidName, match="Invalid model name") as caught:
        Selection(model_name=name)
    assert quoted(name) in caught.value.message
    assert "1 to 255 bytes" in str(caught.value.hint)
    with pytest.raises(InvalidName, match="Invalid model name"):
        Selection.from_dict({"model_name": name})
    if name:
        with pytest.raises(InvalidName, match="Invalid engine name"):
            Selection(model_engine=name)


def test_a_name_as_long_as_a_directory_can_have_it_is_one() -> None:
    assert Selection(model_name="a" * 255).model_name == "a" * 255


def test_what_is_no_python_version_is_refused() -> None:
    with pytest.raises(InvalidPythonVersion):
        Selection(python_version="three")
