"""Requests that name what the operator does not allow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.daemons import daemons
from tests.index import Index
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import InvalidSource
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest

pytestmark = pytest.mark.uv


async def test_a_request_reaches_no_file_outside_of_the_allowed_folders(
    environ: dict[str, str], tmp_path: Path, index: Index
) -> None:
    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    for folder in (allowed, elsewhere):
        folder.mkdir()
        build_wheel(folder, "small", "1.0")
    environ["XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"] = str(allowed)
    name = "small-1.0-py3-none-any.whl"
    async with local_client(environ) as client:
        await client.prepare(asking(index, f"small @ file://{allowed / name}"))
        refused = [
            asking(index, f"small @ file://{elsewhere / name}"),
            asking(index, f"small @ file://{allowed}/../elsewhere/{name}"),
            asking(index, f"small @ FILE:{elsewhere / name}"),
            asking(index, f"small @ git+file://{elsewhere}"),
            asking(index, virtual_env_packages=[f"small @ file://{elsewhere / name}"]),
            _with_block(index, index_url=f"file://{elsewhere}"),
            _with_block(index, index_url=f"file:{elsewhere}"),
            _with_block(index, extra_index_url=[f"file://{elsewhere}", f"FILE:{elsewhere}"]),
            _with_block(index, extra_index_url=[f"file://{elsewhere}"]),
            _with_block(index, find_links=[f"file://{elsewhere}"]),
            _with_block(index, find_links=[str(elsewhere)]),
        ]
        for request in refused:
            with pytest.raises(InvalidSource):
                await client.prepare(request)


def _with_block(index: Index, **sources: object) -> LaunchRequest:
    block = {
        "packages": ["small"],
        "inherit_pip_config": False,
        "index_url": index.url,
        **sources,
    }
    return LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})


@pytest.mark.usefixtures("wheels")
async def test_a_request_names_only_allowed_hosts(environ: dict[str, str], index: Index) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS"] = "index.example"
    async with local_client(environ) as client:
        await _is_refused(client, asking(index, "lantern"))
    environ["XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS"] = "127.0.0.1"
    async with local_client(environ) as client:
        assert (await client.prepare(asking(index, "lantern"))).env_id is not None
        await _is_refused(client, asking(index, "a @ git+https://localhost/a.git"))


async def _is_refused(client: Client, request: LaunchRequest) -> None:
    with pytest.raises(InvalidSource, match="on a host that requests may not name"):
        await client.prepare(request)


@pytest.mark.usefixtures("wheels")
def test_a_token_without_the_scope_for_sources_reaches_no_other_host(
    tmp_path: Path, environ: Mapping[str, str], index: Index
) -> None:
    tokens = tmp_path / "tokens"
    scopes = {"one": "virtualenv:create", "both": "virtualenv:create virtualenv:sources"}
    lines = [f"sha256:{hashlib.sha256(t.encode()).hexdigest()} {s}" for t, s in scopes.items()]
    tokens.write_text("\n".join(lines))
    tokens.chmod(0o600)
    block = {"packages": ["lantern"], "index_url": index.url, "inherit_pip_config": False}
    body = {"model_name": "glow", "virtualenv": block}
    answers = {}
    with daemons(tmp_path / "d", environ) as running:
        web = running.start("web", "--port", "0", "--token-file", str(tokens)).ready()
        for token in scopes:
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=web.address, headers=headers, timeout=60) as ask:
                answers[token] = ask.post("/v1/virtualenvs/plan", json=body)
    assert answers["one"].status_code == 422
    assert answers["one"].json()["code"] == "invalid_source"
    assert answers["both"].status_code == 200


@pytest.mark.usefixtures("wheels")
async def test_a_repair_asks_no_host_that_the_launch_may_not_name_any_more(
    environ: dict[str, str], index: Index
) -> None:
    block = {"packages": ["lantern"], "index_url": index.url, "inherit_pip_config": False}
    request = LaunchRequest.from_dict(
        {"model_name": "glow", "virtualenv": block, "restricted": True}
    )
    # Where pip is configured to ask it, who may not name others may name it.
    async with local_client({**environ, "PIP_INDEX_URL": index.url}) as client:
        made = await client.prepare(request)
        await client.release(made)
    assert made.real_path is not None
    [module] = Path(made.real_path).parent.glob("view/lib/python3.*/site-packages/lantern.py")
    module.unlink()
    async with local_client(environ) as client:
        found = await client.supervisor.verify_virtual_env(
            Selection(model_name="glow"), repair=True
        )
    [verified] = found.list
    assert "on a host that requests may not name" in str(verified.finding.not_repaired)
