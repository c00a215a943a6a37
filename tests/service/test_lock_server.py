"""The lock that a worker finds for another host, over that one's facts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests import fakes
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.errors import NotFound, PythonNotFound, ResolutionFailed
from xinference_venv.inventory.reports import Survey
from xinference_venv.planning.lock import Role
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.lock_server import LockSharing
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.settings import RelayMode
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv


@dataclass(kw_only=True)
class Helper:
    """A worker that is asked, and the question of a host that has ``wick`` 1.0."""

    sharing: LockSharing
    question: HostQuestion

    @property
    def launches(self) -> LaunchService:
        return self.sharing.launches


@pytest_asyncio.fixture
async def helper(environ: Mapping[str, str], index: Index, tmp_path: Path) -> Helper:
    for version in ("1.0", "2.0"):
        build_wheel(tmp_path / "wheels", "wick", version)
    build_wheel(tmp_path / "wheels", "lamp", "1.0", requires=["wick"])
    places = find_places(environ)
    store = Store.open(places.root)
    uv = open_uv(places, store, environ)
    hosts = HostFactsReader(store=store, uv=uv, settings=places.settings, environ=environ)
    launches = LaunchService(store=store, uv=uv, settings=places.settings, hosts=hosts)
    block = {"packages": ["lamp"], "index_url": index.url, "inherit_pip_config": False}
    request = LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})
    own, spec = await launches.specify(request, download=False)
    assert spec is not None
    # Far away, and with one distribution more.
    place = "/nowhere/lib/python3/site-packages"
    host = replace(
        own,
        interpreter=replace(own.interpreter, executable="/nowhere/bin/python"),
        distributions=(*own.distributions, fakes.distribution("wick", "1.0", location=place)),
    )
    question = HostQuestion(
        request=request, host=host, interpreter=host.interpreter, demand=spec.demand
    )
    return Helper(sharing=LockSharing(launches=launches), question=question)


async def test_a_lock_is_found_over_the_facts_of_the_other_host(
    helper: Helper, index: Index
) -> None:
    asking = [helper.sharing.for_host(helper.question, 60.0) for _ in range(3)]
    first, *others = await asyncio.gather(*asking)
    assert first is not None
    assert others == [first, first]
    assert first.host_digest == helper.question.host.digest
    assert first.installed == {"lamp": "1.0"}
    assert "wick" in [each.name for each in first.with_role(Role.INHERITED)]
    # One resolution asks twice at most: over the host and without it.
    assert index.requests.count("GET /simple/lamp/") in (1, 2)


async def test_what_may_not_serve_there_is_not_taken(helper: Helper) -> None:
    question = replace(
        helper.question,
        unusable={"wick": "it is broken"},
        unfit={"wick": {"2.0": "<3"}},
    )
    lock = await helper.sharing.for_host(question, 60.0)
    assert lock is not None
    assert lock.installed == {"lamp": "1.0", "wick": "1.0"}


async def test_a_survey_neither_downloads_a_python_nor_waits_for_one(helper: Helper) -> None:
    launches = helper.launches
    request = replace(helper.question.request, python_version="3.99")
    may = replace(launches, settings=replace(launches.settings, python_downloads=True))
    survey = await LockSharing(launches=may).survey(request)
    assert survey == Survey(group=None, ready=False)
    with pytest.raises(PythonNotFound):
        await helper.sharing.survey(request)


async def test_it_is_waited_for_no_longer_than_asked(helper: Helper, index: Index) -> None:
    index.hang("/simple/*")
    assert await helper.sharing.for_host(helper.question, 0.1) is None
    await helper.sharing.stop()


async def test_a_question_that_this_host_would_answer_otherwise_is_refused(
    helper: Helper,
) -> None:
    for question in (
        replace(helper.question, demand="another one"),
        replace(helper.question, interpreter=fakes.interpreter("3.4.1")),
        replace(helper.question, interpreter=replace(helper.question.interpreter, tags=("x",))),
    ):
        with pytest.raises(NotFound):
            await helper.sharing.for_host(question, 60.0)


async def test_what_has_no_solution_is_an_error(helper: Helper) -> None:
    with pytest.raises(ResolutionFailed):
        await helper.sharing.for_host(replace(helper.question, unfit={"lamp": {"1.0": "<3"}}), 60.0)


async def test_a_worker_that_does_not_relay_resolves_for_no_other(helper: Helper) -> None:
    settings = replace(helper.launches.settings, relay=RelayMode.OFF)
    off = LockSharing(launches=replace(helper.launches, settings=settings))
    with pytest.raises(NotFound, match="RELAY is off"):
        await off.for_host(helper.question, 60.0)
