"""What the description promises of names is what the nouns allow."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv.errors import InvalidName
from xinference_venv.inventory.selection import check_directory_name
from xinference_venv.planning.request import check_model_name

# Sixty-three characters fit into a name however many bytes each takes; bytes no schema counts.
_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cn"]), min_size=1, max_size=63)


def _pattern(of: str, parameter: str) -> re.Pattern[str]:
    description = app_of(FakeSupervisor()).openapi()
    if of == "query":
        described = description["paths"]["/v1/virtualenvs"]["get"]["parameters"]
        [schema] = [each["schema"] for each in described if each["name"] == parameter]
    else:
        schema = description["components"]["schemas"][of]["properties"][parameter]
    # The end in JSON Schema (ECMA 262) is the very end; to Python it may precede a line feed.
    return re.compile(f"{schema['pattern'].removesuffix('$')}\\Z")


def _allowed(check: Any, name: str) -> bool:
    try:
        check(name)
    except InvalidName:
        return False
    return True


_OF_MODELS = _pattern("PrepareRequest", "model_name")
_OF_DIRECTORIES = _pattern("query", "model_name")


@given(_NAMES)
@example("..")
@example("a\nb")
@example("\u202e")
@example("\U000e0020")
def test_a_name_is_described_as_it_is_checked(name: str) -> None:
    assert bool(_OF_MODELS.search(name)) == _allowed(check_model_name, name)
    assert bool(_OF_DIRECTORIES.search(name)) == _allowed(
        lambda each: check_directory_name(each, "name"), name
    )


@pytest.mark.parametrize("said", ["yes", "1", "on", "True", ""])
async def test_a_flag_is_true_or_false_and_nothing_else(said: str) -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor)) as ask:
        params = {"model_name": "a-model", "dry_run": said}
        answer = await ask.delete("/v1/virtualenvs", params=params)
    assert answer.status_code == 422
    assert supervisor.asked == []


async def test_a_misspelt_option_does_nothing_in_earnest() -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor)) as ask:
        answer = await ask.post("/v1/virtualenvs/gc", json={"dryrun": True})
    assert answer.status_code == 422
    assert supervisor.asked == []


async def test_a_launch_reaches_the_supervisor_as_a_checked_request() -> None:
    supervisor = FakeSupervisor()
    body = {"model_name": "a-model", "model_engine": "vLLM", "count": 2, "require": 1, "new": 1}
    async with browser(app_of(supervisor)) as ask:
        await ask.post("/v1/virtualenvs", json=body)
    (method, (request,), named) = supervisor.asked[0]
    assert (method, request.model_engine) == ("prepare", "vllm")
    where = {"workers": (), "count": 2, "everywhere": False, "require": 1}
    assert named == {**where, "background": False, "asked_by": "127.0.0.1"}
    assert "new" not in request.to_dict()
