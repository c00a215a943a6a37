"""What a token allows, told before somebody tries."""

from __future__ import annotations

import hashlib

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv.rest.tokens import Tokens


async def test_the_scopes_of_a_token_are_reported_and_none_of_an_unknown_one() -> None:
    digest = hashlib.sha256(b"known").hexdigest()
    tokens = Tokens.parse(f"sha256:{digest} virtualenv:list virtualenv:delete")
    async with browser(app_of(FakeSupervisor(), tokens=tokens)) as ask:
        event_stream = {}
        for header in ("", "Bearer known", "Bearer other", "Basic known"):
            headers = {"Authorization": header} if header else {}
            event_stream[header] = (await ask.get("/v1/access", headers=headers)).json()["scopes"]
    assert event_stream.pop("Bearer known") == ["virtualenv:delete", "virtualenv:list"]
    assert set(map(tuple, event_stream.values())) == {()}


async def test_where_no_tokens_are_needed_anybody_has_every_scope() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.get("/v1/access")
    assert len(answer.json()["scopes"]) == 4
