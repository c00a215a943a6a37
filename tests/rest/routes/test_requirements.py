"""Package lines that are checked while somebody writes them."""

from __future__ import annotations

import pytest

from tests.rest.fakes import FakeSupervisor, app_of, browser


@pytest.mark.parametrize(
    ("text", "name", "understood"),
    [
        (" NumPy >= 1.26,<3 ", "numpy", "NumPy<3,>=1.26"),
        ("torch[x] ; has_cuda", "torch", "torch[x] ; has_cuda"),
        ("#system_Torch#", "torch", "#system_Torch#"),
        ("#vllm_dependencies# ; #engine# == 'vllm'", None, None),
        ("https://user:secret@example.org/a-1.0-py3-none-any.whl", "a", None),
    ],
)
async def test_a_line_is_read_without_asking_anybody(
    text: str, name: str | None, understood: str | None
) -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor)) as ask:
        answer = await ask.post("/v1/requirements", json={"text": text})
    assert answer.status_code == 200
    assert answer.json()["name"] == name
    assert understood in (None, answer.json()["text"])
    assert "secret" not in answer.text
    assert supervisor.asked == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("numpy==", "'numpy=='"),
        ("", "it is empty"),
        ("numpy ; nothing", "nothing"),
        ("-r /etc/passwd", "it is an option of pip"),
        ("git+ext::sh -c x", "'git+ext"),
    ],
)
async def test_a_line_that_cant_be_meant_is_named_with_what_is_allowed(
    text: str, wrong: str
) -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post("/v1/requirements", json={"text": text})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid_requirement")
    assert wrong in body["message"]
    assert body["details"]["hint"]
