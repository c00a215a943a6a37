"""Leases through the API: what is held by the living stays, what is not there is said."""

from __future__ import annotations

from tests import fakes
from tests.rest.fakes import ADDRESS, SILENT, FakeSupervisor, app_of, browser


async def test_a_lease_of_a_living_process_is_refused() -> None:
    lease = {**fakes.lease().to_dict(), "holder": "alive", "keys": []}
    supervisor = FakeSupervisor()
    report = {"released": [], "refused": [lease], "absent": [], "deleted": []}
    supervisor.answers["release_leases"] = supervisor.gathered(
        {**report, "worker_address": ADDRESS}
    )
    async with browser(app_of(supervisor)) as ask:
        answer = await ask.delete("/v1/leases/a-lease")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert answer.json()["details"]["holders"] == [lease]
    assert answer.json()["message"] == f"lease a-lease is held by {fakes.lease()}"


async def test_a_lease_that_is_not_there_is_404_and_503_while_no_one_can_say() -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor)) as ask:
        absent = await ask.delete("/v1/leases/another")
        supervisor.unreachable = [SILENT]
        unknown = await ask.delete("/v1/leases/another")
        supervisor.unreachable, supervisor.complete = [], False
        early = await ask.delete("/v1/leases/another")
    assert [each.status_code for each in (absent, unknown, early)] == [404, 503, 503]
    assert {method for method, *_ in supervisor.asked} == {"list_leases"}
