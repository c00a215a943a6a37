"""Each class of errors has one status, and every error one shape."""

from __future__ import annotations

import pytest

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv import errors
from xinference_venv.errors import VirtualEnvError

STATUS = {
    errors.VirtualEnvError: 500,
    errors.InvalidInput: 422,
    errors.InvalidName: 422,
    errors.InvalidRequirement: 422,
    errors.InvalidSource: 422,
    errors.InvalidPythonVersion: 422,
    errors.InvalidModelSpec: 422,
    errors.UnknownEngine: 422,
    errors.UnknownFormat: 422,
    errors.InvalidRecord: 500,
    errors.NotFound: 404,
    errors.UnknownModel: 404,
    errors.UnknownJob: 404,
    errors.PythonNotFound: 404,
    errors.UvNotFound: 500,
    errors.InUse: 409,
    errors.BuildFailed: 500,
    errors.UvFailed: 500,
    errors.ResolutionFailed: 409,
    errors.InstallFailed: 500,
    errors.VerificationFailed: 500,
    errors.ModelStartFailed: 500,
    errors.StoreError: 500,
    errors.DeadlineExceeded: 504,
    errors.NoProgress: 504,
    errors.WorkerUnavailable: 503,
    errors.IncompatibleVersion: 502,
    errors.JobCancelled: 409,
}


def _all(root: type[VirtualEnvError]) -> set[type[VirtualEnvError]]:
    # xoscar's dynamic subclasses have the module and the name of what they stand for.
    mine = {each for each in root.__subclasses__() if vars(errors).get(each.__name__) is each}
    return {root}.union(*map(_all, mine))


def test_the_table_has_every_class() -> None:
    assert set(STATUS) == _all(VirtualEnvError)


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
async def test_an_error_of_the_supervisor_is_answered_with_its_status(
    kind: type[VirtualEnvError], status: int
) -> None:
    error = kind("it went wrong", {"hint": "mend it", "host": "10.0.0.1:4000"})
    async with browser(app_of(FakeSupervisor(list_virtual_envs=error))) as ask:
        answer = await ask.get("/v1/virtualenvs")
    assert answer.status_code == status
    assert answer.json() == {**error.to_dict(), "detail": "it went wrong (mend it)"}


async def test_a_class_that_xoscar_makes_for_an_error_counts_as_the_error() -> None:
    made = type("_InUse", (errors.InUse,), {"__str__": lambda _: "[address=..., pid=1] in use"})
    async with browser(app_of(FakeSupervisor(list_workers=made("in use")))) as ask:
        answer = await ask.get("/v1/workers")
    assert (answer.status_code, answer.json()["message"]) == (409, "in use")


async def test_what_is_malformed_is_named_and_not_repeated() -> None:
    body = {"model_name": "a-model", "virtual_env_packages": ["a", {"secret": "hunter2"}]}
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post("/v1/virtualenvs", json=body)
    assert answer.status_code == 422
    event_stream = answer.json()
    assert event_stream["code"] == "invalid_input"
    assert event_stream["details"]["errors"][0]["where"] == "body.virtual_env_packages[1]"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff", b"1" * 10_000, b"", b"null"])
async def test_a_body_that_is_no_json_is_refused(content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post("/v1/virtualenvs/gc", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) - {"texts"} == {"code", "message", "details", "detail"}


async def test_a_name_that_has_no_encoding_is_answered_all_the_same() -> None:
    error = errors.NotFound("there is no \ud800")
    async with browser(app_of(FakeSupervisor(list_workers=error))) as ask:
        answer = await ask.get("/v1/workers")
    assert answer.status_code == 404
    assert b"\\ud800" in answer.content


async def test_an_unknown_path_and_a_wrong_method_have_the_same_shape() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        unknown = await ask.get("/v1/nothing")
        wrong = await ask.put("/v1/virtualenvs")
        below = await ask.post("/v1/jobs/abc")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "DELETE, GET, POST"
    assert below.headers["Allow"] == "DELETE, GET"


async def test_what_no_one_foresaw_does_not_show_our_insides() -> None:
    class Broken(FakeSupervisor):
        def _list_workers(self) -> None:
            raise RuntimeError("a secret")

    async with browser(app_of(Broken())) as ask:
        answer = await ask.get("/v1/workers")
    assert (answer.status_code, answer.json()["code"]) == (500, "error")
    assert "secret" not in answer.text
