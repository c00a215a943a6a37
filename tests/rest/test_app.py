"""Every route against the description of the API, and against every kind of token."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

import pytest

from tests.rest.fakes import ADDRESS, LOG_ID, SILENT, FakeSupervisor, app_of, browser
from xinference_venv.rest.app import ROUTES
from xinference_venv.rest.schemas.of_records import model_of
from xinference_venv.rest.tokens import Tokens

_LAUNCH = {"model_name": "a-model"}
# Method, path, body; the scope that it takes; the status when all goes well.
TABLE: list[tuple[str, str, dict[str, Any] | None, str | None, int]] = [
    ("GET", "/health", None, None, 200),
    ("GET", "/ready", None, None, 200),
    ("GET", "/v1/virtualenvs", None, "list", 200),
    ("DELETE", "/v1/virtualenvs?model_name=a-model", None, "delete", 200),
    ("POST", "/v1/virtualenvs", _LAUNCH, "create", 202),
    ("GET", "/v1/virtualenvs/packages?model_name=a-model", None, "list", 200),
    ("GET", "/v1/virtualenvs/explain?model_name=a-model", None, "list", 200),
    ("POST", "/v1/prefetch", {"models": [_LAUNCH]}, "create", 202),
    ("POST", "/v1/virtualenvs/plan", _LAUNCH, "create", 200),
    ("POST", "/v1/virtualenvs/gc", {}, "delete", 200),
    ("POST", "/v1/virtualenvs/verify", {}, "create", 200),
    ("GET", "/v1/jobs", None, "list", 200),
    ("GET", "/v1/jobs/abc", None, "list", 200),
    ("GET", "/v1/jobs/abc/events", None, "list", 200),
    ("DELETE", "/v1/jobs/abc", None, "create", 200),
    ("GET", "/v1/leases", None, "list", 200),
    ("DELETE", "/v1/leases/a-lease", None, "delete", 200),
    ("GET", "/v1/workers", None, "list", 200),
    ("GET", "/v1/history", None, "list", 200),
    ("DELETE", "/v1/workers/10.0.0.2:4000", None, "delete", 200),
    ("PUT", "/v1/workers/10.0.0.2:4000/drain", {"draining": True}, "delete", 200),
    ("GET", "/v1/models", None, "list", 200),
    ("GET", "/v1/disk", None, "list", 200),
    ("GET", "/v1/diagnosis", None, "list", 200),
    ("GET", "/v1/access", None, None, 200),
    ("POST", "/v1/requirements", {"text": "numpy>=1.26"}, "list", 200),
    ("GET", "/v1/logs?model_name=a-model", None, "list", 200),
    ("GET", "/metrics", None, "list", 200),
    ("GET", f"/v1/logs/{LOG_ID}?worker_address={ADDRESS}", None, "list", 200),
]
_SCOPES = ("list", "create", "delete")


def _template(path: str) -> str:
    plain = path.partition("?")[0]
    return (
        plain.replace("/abc", "/{job_id}")
        .replace("/a-lease", "/{lease_id}")
        .replace(f"/{LOG_ID}", "/{log_id}")
        .replace("/10.0.0.2:4000", "/{worker}")
    )


def _tokens(**scopes: str) -> Tokens:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in scopes}
    return Tokens.parse("\n".join(f"sha256:{digests[name]} {scopes[name]}" for name in scopes))


def test_the_table_has_every_route() -> None:
    assert sorted((method, _template(path)) for method, path, *_ in TABLE) == sorted(
        (route.method, route.path) for route in ROUTES
    )


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({}, 401, "no token came along: send Authorization: Bearer TOKEN"),
        ({"Authorization": "Bearer wrong"}, 401, "the token is not in the token file"),
        (
            {"Authorization": "Bearer create"},
            403,
            "the token's line in the token file does not have virtualenv:list",
        ),
    ],
)
async def test_a_refused_request_names_what_is_missing(
    headers: dict[str, str], status: int, message: str
) -> None:
    tokens = _tokens(create="virtualenv:create")
    async with browser(app_of(FakeSupervisor(), tokens=tokens)) as ask:
        answer = await ask.request("GET", "/v1/virtualenvs", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


@pytest.mark.parametrize(("method", "path", "body", "scope", "status"), TABLE)
async def test_a_route_lets_in_who_has_its_scope_and_no_one_else(
    method: str, path: str, body: Any, scope: str | None, status: int
) -> None:
    tokens = _tokens(**{each: f"virtualenv:{each}" for each in _SCOPES})
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor, tokens=tokens)) as ask:

        async def answered(authorization: bytes | None) -> int:
            headers = {} if authorization is None else {b"Authorization": authorization}
            answer = await ask.request(method, path, json=body, headers=headers)
            if answer.status_code in (401, 403):
                assert answer.json()["code"] in ("unauthorized", "forbidden")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            return answer.status_code

        for nobody in (
            None,
            b"Bearer wrong",
            b"Basic bGlzdDo=",
            b"list",
            b"Bearer ",
            b"Bearer \xe9",
        ):
            assert await answered(nobody) == (status if scope is None else 401)
        if scope is not None:
            assert supervisor.asked == []
        for each in _SCOPES:
            allowed = scope in (None, each)
            assert await answered(f"Bearer {each}".encode()) == (status if allowed else 403)


@pytest.mark.parametrize(("method", "path", "body", "scope", "status"), TABLE)
async def test_an_answer_is_as_the_description_says(
    method: str, path: str, body: Any, scope: str | None, status: int
) -> None:
    app = app_of(FakeSupervisor())
    async with browser(app) as ask:
        answer = await ask.request(method, path, json=body)
    assert answer.status_code == status
    described = app.openapi()["paths"][_template(path)][method.lower()]["responses"][str(status)]
    [route] = [each for each in ROUTES if (each.method, each.path) == (method, _template(path))]
    if route.texts:
        assert answer.headers["content-type"].partition(";")[0] in route.texts
        assert described["content"] == {
            each: {"schema": {"type": "string"}} for each in route.texts
        }
        return
    [(media_type, content)] = described["content"].items()
    assert answer.headers["content-type"].partition(";")[0] == media_type
    if route.reply is None:
        assert content["itemSchema"]["properties"]["event"] == {"enum": ["job", "end", "lost"]}
    else:
        model = model_of(route.reply, more=route.more, perhaps=route.perhaps)
        assert content["schema"]["$ref"].endswith(f"/{model.__name__}")
        model.model_validate_json(answer.content, strict=True)


async def test_a_partial_answer_names_who_is_missing_in_the_body_and_in_a_header() -> None:
    supervisor = FakeSupervisor()
    supervisor.unreachable = [SILENT]
    async with browser(app_of(supervisor)) as ask:
        answer = await ask.get("/v1/virtualenvs")
        removal = await ask.delete("/v1/virtualenvs", params={"model_name": "a-model"})
    assert answer.headers["X-Virtualenv-Unreachable"] == "10.0.0.2:4000"
    assert answer.json()["unreachable"] == [SILENT]
    assert removal.json()["result"] is False


@pytest.mark.parametrize("path", ["/", "/v1/virtualenvs", "/v1/nothing"])
async def test_every_answer_names_the_release_of_the_server(path: str) -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.get(path)
    assert answer.headers["X-Virtualenv-Release"] == version("xinference_venv")


async def test_a_whole_answer_has_no_such_header() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.get("/v1/virtualenvs")
    assert "X-Virtualenv-Unreachable" not in answer.headers


async def test_no_one_is_asked_to_load_anything_of_another_host_or_to_let_others_read() -> None:
    async with browser(app_of(FakeSupervisor()), Origin="http://elsewhere") as ask:
        assert (await ask.get("/docs")).status_code == 404
        assert (await ask.get("/redoc")).status_code == 404
        answer = await ask.get("/v1/workers")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_list_is_not_sent_again_to_who_has_it_until_it_changes() -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor)) as ask:
        first = await ask.get("/v1/virtualenvs")
        known = {"If-None-Match": first.headers["etag"]}
        again = await ask.get("/v1/virtualenvs", headers=known)
        listed = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
        weak = await ask.get("/v1/virtualenvs", headers=listed)
        supervisor.unreachable = [SILENT]
        changed = await ask.get("/v1/virtualenvs", headers=known)
        silent = await ask.get(
            "/v1/virtualenvs", headers={"If-None-Match": changed.headers["etag"]}
        )
    assert (first.status_code, again.status_code, weak.status_code) == (200, 304, 304)
    assert (again.content, again.headers["etag"]) == (b"", first.headers["etag"])
    assert (changed.status_code, silent.status_code) == (200, 304)
    # Who is missing is named, whether or not anything is sent.
    assert silent.headers["x-virtualenv-unreachable"] == changed.headers["x-virtualenv-unreachable"]


async def test_a_worker_is_sent_again_when_it_fares_otherwise_not_with_each_heartbeat() -> None:
    supervisor = FakeSupervisor()
    worker = {**SILENT, "state": "alive", "snapshot": {"jobs": 0, "free_bytes": 1 << 40}}
    path = "/v1/workers?changes=true"
    answers = []
    async with browser(app_of(supervisor)) as ask:
        known: dict[str, str] = {}
        for age, jobs, free in ((0.1, 0, 0), (1.9, 0, 5), (0.2, 1, 5)):
            snapshot = {"jobs": jobs, "free_bytes": (1 << 40) + free}
            listed = [{**worker, "snapshot": snapshot, "snapshot_age": age}]
            supervisor.answers["list_workers"] = listed
            answers.append(await ask.get(path, headers=known))
            known = {"If-None-Match": answers[-1].headers["etag"]}
        whole = await ask.get("/v1/workers")
    assert [each.status_code for each in answers] == [200, 304, 200]
    [busy] = answers[2].json()["list"]
    assert (busy["snapshot"], busy["snapshot_age"]) == ({"jobs": 1, "free_bytes": 1 << 40}, None)
    assert answers[2].json()["since"] == answers[0].headers["etag"]
    # Who does not ask for changes gets all of it, exactly.
    [exact] = whole.json()["list"]
    assert (exact["snapshot"]["free_bytes"], exact["snapshot_age"]) == ((1 << 40) + 5, 0.2)


async def test_leases_are_not_sent_again_to_who_has_them() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        first = await ask.get("/v1/leases?changes=true")
        again = await ask.get(
            "/v1/leases?changes=true", headers={"If-None-Match": first.headers["etag"]}
        )
    assert (len(first.json()["list"]), again.status_code) == (1, 304)


async def test_of_a_list_that_changes_only_what_differs_is_sent_to_who_has_it() -> None:
    supervisor = FakeSupervisor()
    path = "/v1/virtualenvs?changes=true"
    async with browser(app_of(supervisor)) as ask:
        first = await ask.get(path)
        [entry] = first.json()["list"]
        known = {"If-None-Match": first.headers["etag"]}
        same = await ask.get(path, headers=known)
        changed = {**entry, "state": "broken"}
        new = {**entry, "path": "/new"}
        supervisor.answers["list_virtual_envs"] = supervisor.gathered(changed, new)
        second = await ask.get(path, headers=known)
        whole = await ask.get("/v1/virtualenvs", headers=known)
        supervisor.answers["list_virtual_envs"] = supervisor.gathered(changed)
        third = await ask.get(path, headers={"If-None-Match": second.headers["etag"]})
        unknown = await ask.get(path, headers={"If-None-Match": '"other"'})
    assert same.status_code == 304
    assert (second.json()["since"], second.json()["dropped"]) == (first.headers["etag"], [])
    assert second.json()["list"] == [changed, new]
    # Who does not ask for changes gets all, with the same ETag.
    assert (whole.json()["list"], "since" in whole.json()) == ([changed, new], False)
    assert whole.headers["etag"] == second.headers["etag"]
    name = {"worker_address": entry["worker_address"], "path": "/new"}
    assert (third.json()["list"], third.json()["dropped"]) == ([], [name])
    assert (unknown.json()["list"], "since" in unknown.json()) == ([changed], False)
