"""What is malformed in a request is said in sentences that the page has in its language."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv.rest.malformed import describe_error, place_of
from xinference_venv.sentences import Sentence

LAUNCH = "/v1/virtualenvs"
COLLECT = "/v1/virtualenvs/gc"
WRONG: Mapping[str, tuple[str, object]] = {
    "body.model_name: it is missing": (LAUNCH, {}),
    "body.model_name: it must be a string": (LAUNCH, {"model_name": 1}),
    "body: it must be an object": (LAUNCH, []),
    "body.virtualenv: it must be an object": (LAUNCH, {"model_name": "a", "virtualenv": 1}),
    "body.virtualenv.packages: it must be a list": (
        LAUNCH,
        {"model_name": "a", "virtualenv": {"packages": 1}},
    ),
    "body.virtualenv.packages[0]: it may have at most 4096 characters": (
        LAUNCH,
        {"model_name": "a", "virtualenv": {"packages": ["x" * 5000]}},
    ),
    "body.workers: it may have at most 200 items": (
        LAUNCH,
        {"model_name": "a", "workers": ["x"] * 201},
    ),
    "body.workers[0]: it must not be empty": (LAUNCH, {"model_name": "a", "workers": [""]}),
    "body.inherit: it must be 'host', 'exact' or 'none'": (
        LAUNCH,
        {"model_name": "a", "inherit": "all"},
    ),
    "body.must_import[0]: it must match ^([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])$": (
        LAUNCH,
        {"model_name": "a", "must_import": ["-"]},
    ),
    "body.count: it must be at least 1": (LAUNCH, {"model_name": "a", "count": 0}),
    "body.count: it may be at most 9007199254740991": (LAUNCH, {"model_name": "a", "count": 2**60}),
    "body.count: it must be an integer": (LAUNCH, {"model_name": "a", "count": 1.5}),
    "body.everywhere: it must be true or false": (LAUNCH, {"model_name": "a", "everywhere": "x"}),
    "body.older_than: it must be a number": (COLLECT, {"older_than": "long"}),
    "body.dry_rnu: it is not allowed here": (COLLECT, {"dry_rnu": True}),
}


@pytest.mark.parametrize(("text", "request_of"), WRONG.items(), ids=[*WRONG])
async def test_what_is_malformed_is_a_sentence(text: str, request_of: tuple[str, object]) -> None:
    path, body = request_of
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = (await ask.post(path, json=body)).json()
    assert answer["message"] == text
    [found] = answer["details"]["errors"]
    assert f"{found['where']}: {found['what']}" == text
    written = answer["details"]["texts"]["message"]["values"]["part_0"]
    assert written["id"] == "{where}: {what}"
    assert isinstance(written["values"]["what"], dict), "it can be translated"


async def test_all_that_is_malformed_is_named() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post(COLLECT, json={"max_bytes": -1, "dry_run": "x"})
    assert answer.json()["message"] == (
        "body.max_bytes: it must be at least 0; body.dry_run: it must be true or false"
    )


async def test_a_body_that_is_no_json_says_what_is_wrong_with_it() -> None:
    headers = {"Content-Type": "application/json"}
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post(COLLECT, content=b"{", headers=headers)
    assert "it is not JSON: Expecting property name" in answer.json()["message"]


def test_an_error_of_a_later_pydantic_is_in_its_words() -> None:
    text = describe_error({"type": "new_type", "msg": "Input should be new"})
    assert text == "Input should be new"
    assert not isinstance(text, Sentence)


def test_one_choice_has_no_or() -> None:
    error = {"type": "literal_error", "msg": "", "ctx": {"expected": "1"}}
    assert describe_error(error) == "it must be 1"


def test_a_place_has_fields_and_positions() -> None:
    assert place_of(("body", "workers", 0, "name")) == "body.workers[0].name"
