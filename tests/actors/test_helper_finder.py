"""The supervisor finds workers that can help: a few, for one survey, and none that has left."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from xinference_venv.actors.helper_finder import HelperFinder
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.worker_clients import WorkerClients
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import PROTOCOL, Member, Registration


class FakeClients(WorkerClients):
    """Each worker is its address, which is asked of no process."""

    def of(self, member: Member, *, deadline: float = 30.0) -> WorkerProtocol:
        return cast(WorkerProtocol, member.registration.address)


class Cluster:
    def __init__(self, count: int) -> None:
        self.clients = FakeClients()
        self.asked: list[str] = []
        self.able: set[str] = set()
        for number in range(count):
            self.clients.register(
                Registration(
                    address=f"10.0.0.{number:03}:1",
                    incarnation="first",
                    started=1.0,
                    protocol=PROTOCOL,
                    release="1",
                    host_name="x",
                    heartbeat=None,
                )
            )
        self.finder = HelperFinder(workers=self.clients)

    async def can(self, worker: WorkerProtocol) -> bool:
        address = str(worker)
        self.asked.append(address)
        if address not in self.able:
            raise WorkerUnavailable("it does not answer")
        return True

    async def find(self) -> list[str]:
        found = await self.finder.find("https://index.example:443", self.can)
        return [each.address for each in found]


async def test_all_who_ask_get_the_same_few_for_one_survey() -> None:
    cluster = Cluster(100)
    cluster.able = {each for each in cluster.clients.cluster.members if each.endswith("5:1")}
    first, *others = await asyncio.gather(*(cluster.find() for _ in range(5)))
    assert first == ["10.0.0.005:1", "10.0.0.015:1", "10.0.0.025:1", "10.0.0.035:1"]
    assert others == [first] * 4
    assert len(cluster.asked) == len(set(cluster.asked)) < 100


async def test_who_left_or_was_restarted_since_is_none_of_them() -> None:
    cluster = Cluster(3)
    cluster.able = {*cluster.clients.cluster.members}
    one, two, three = await cluster.find()
    cluster.clients.cluster.leave(one, "first")
    cluster.clients.cluster.members[two].registration = Registration.from_dict(
        {**cluster.clients.cluster.members[two].registration.to_dict(), "incarnation": "second"}
    )
    assert await cluster.find() == [three]


async def test_who_joins_after_no_one_was_found_is_found_at_once() -> None:
    cluster = Cluster(1)
    assert await cluster.find() == []
    cluster.able = {*cluster.clients.cluster.members}
    assert await cluster.find() == [*cluster.able]


async def test_who_does_not_answer_can_not_help() -> None:
    assert await Cluster(3).find() == []
    assert await Cluster(0).find() == []


async def test_a_survey_that_failed_is_made_again() -> None:
    cluster = Cluster(1)
    errors = [RuntimeError("no pool")]

    async def can(worker: WorkerProtocol) -> bool:
        if errors:
            raise errors.pop()
        return True

    with pytest.raises(RuntimeError, match="no pool"):
        await cluster.finder.find("a question", can)
    found = await cluster.finder.find("a question", can)
    assert [each.address for each in found] == [*cluster.clients.cluster.members]
