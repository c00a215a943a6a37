from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest

from xinference_venv.cli.launching import launch_model
from xinference_venv.cli.render.launch import LaunchOutcome
from xinference_venv.client import Client
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass

ENVIRONMENT = PreparedEnvironment(
    enabled=True, python="/envs/e1/bin/python", path="/v3/toy/3.1", lease_id="l1"
)


class FakeClient:
    """A client whose only environment is of Python 3.1; it starts nothing."""

    def __init__(self) -> None:
        self.released: list[PreparedEnvironment] = []

    async def prepare(
        self, request: LaunchRequest, *, on_event: Any, background: bool
    ) -> PreparedEnvironment:
        return ENVIRONMENT

    async def entries(self, selection: Selection) -> list[EnvEntry]:
        key = EnvKey(model_name="toy", model_engine=None, python_version="3.1")
        return [
            EnvEntry(key=key, path=path, real_path="/r", state=EnvState.READY, python="3.1.4")
            for path in ("/v4/toy/vllm/3.1", "/v3/toy/3.1")
        ]

    async def release(self, environment: PreparedEnvironment) -> None:
        self.released.append(environment)


async def launch(client: FakeClient, actor: ActorClass | None) -> tuple[int, list[LaunchOutcome]]:
    shown: list[LaunchOutcome] = []
    ignore: Callable[[JobEvent], None] = lambda _: None  # noqa: E731
    status = await launch_model(
        cast(Client, client),
        LaunchRequest.from_dict({"model_name": "toy"}),
        following=nullcontext(ignore),
        show=shown.append,
        actor=actor,
        background=False,
    )
    return status, shown


async def test_a_launch_shows_the_entry_of_its_own_path_and_gives_the_lease_back() -> None:
    client = FakeClient()
    status, [outcome] = await launch(client, None)
    assert status == 0
    assert outcome.entry is not None
    assert outcome.entry.path == "/v3/toy/3.1"
    assert client.released == [ENVIRONMENT]


async def test_an_actor_in_another_python_is_refused_and_the_way_out_named() -> None:
    with pytest.raises(InvalidInput, match=r"not in 3\.1\.4") as caught:
        await launch(FakeClient(), ActorClass.parse("a:B", [], []))
    assert "/envs/e1/bin/python" in str(caught.value.hint)
