"""An equal request gets the lock of some minutes ago, unless something changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import Index
from tests.scenarios.steps import asking, says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import ResolutionFailed
from xinference_venv.planning.request import LaunchRequest

pytestmark = pytest.mark.uv


@pytest_asyncio.fixture
async def client(environ: dict[str, str]) -> AsyncIterator[Client]:
    environ["XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE"] = "600s"
    async with local_client(environ) as opened:
        yield opened


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder of the index."""
    build_wheel(tmp_path / "wheels", "lamp", "1.0")
    return tmp_path / "wheels"


async def test_equal_requests_of_different_models_are_resolved_once(
    client: Client, index: Index, wheels: Path
) -> None:
    first = await client.prepare(asking(index, "lamp", model="one"))
    index.clear()
    index.fail("*")
    second = await client.prepare(asking(index, "lamp", model="two"))
    assert (second.env_id, second.uv_calls, index.requests) == (first.env_id, 0, [])


async def test_whoever_wants_what_there_is_now_gets_it(
    client: Client, index: Index, wheels: Path
) -> None:
    await client.prepare(asking(index, "lamp", model="one"))
    build_wheel(wheels, "lamp", "2.0")
    second = await client.prepare(asking(index, "lamp", model="two", refresh=True))
    assert await says(second.python, version_of("lamp")) == "2.0"
    third = await client.prepare(asking(index, "lamp", model="three"))
    assert (third.env_id, third.uv_calls) == (second.env_id, 0)


async def test_a_refusal_is_forgotten_at_once(client: Client, index: Index, wheels: Path) -> None:
    with pytest.raises(ResolutionFailed):
        await client.prepare(asking(index, "lamp>=2", model="one"))
    build_wheel(wheels, "lamp", "2.0")
    made = await client.prepare(asking(index, "lamp>=2", model="one"))
    assert await says(made.python, version_of("lamp")) == "2.0"


async def test_what_is_gone_from_its_index_is_resolved_again(
    client: Client, index: Index, wheels: Path
) -> None:
    plan = await client.worker.plan(asking(index, "lamp", model="one"))
    assert plan.lock is not None
    index.fail("/files/lamp-1.0*", 404)
    build_wheel(wheels, "lamp", "1.1")
    made = await client.prepare(asking(index, "lamp", model="two"))
    assert await says(made.python, version_of("lamp")) == "1.1"


async def test_a_folder_of_wheels_is_looked_into_each_time(
    environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    build_wheel(folder, "lamp", "1.0")
    environ["XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE"] = "600s"
    environ["XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"] = str(tmp_path)
    block = {"packages": ["lamp"], "find_links": [str(folder)], "inherit_pip_config": False}
    found = []
    async with local_client(environ) as client:
        for model in ("one", "two", "three"):
            request = LaunchRequest.from_dict({"model_name": model, "virtualenv": block})
            made = await client.prepare(request)
            found.append((await says(made.python, version_of("lamp")), made.uv_calls > 0))
            if model == "two":
                build_wheel(folder, "lamp", "2.0")
    assert found == [("1.0", True), ("1.0", False), ("2.0", True)]
