"""Launches by name alone of models that the Xinference of the host has files of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host, lock_of, visible
from tests.scenarios.steps import files_of
from xinference_venv.client import Client
from xinference_venv.errors import UnknownEngine, UnknownFormat, UnknownModel
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path, wheels: Path, index: Index) -> Host:
    """A host with Xinference and one model of it, an entry each for two engines."""
    host = Host.make(tmp_path / "host", environ)
    source = {"index_url": index.url, "inherit_pip_config": False}
    entries = [
        {
            "model_name": "glow",
            "engine": "PyTorch",
            "model_format": "pytorch",
            "virtualenv": {**source, "packages": ["lantern==1.0"]},
        },
        {
            "model_name": "glow",
            "engine": "Acme",
            "model_format": "mlx",
            "virtualenv": {**source, "packages": ['wick ; #engine# == "acme"']},
        },
    ]
    host.add(
        "xinference",
        "4.1.0",
        files={
            "xinference/__init__.py": "raise ImportError('it is not to be imported')\n",
            "xinference/model/audio/models/glow.json": json.dumps(entries),
        },
    )
    return host


def by_name(**given: object) -> LaunchRequest:
    return LaunchRequest.from_dict({"model_name": "glow", **given})


async def test_a_model_of_the_installed_xinference_is_listed_and_launched_by_name_and_engine(
    host: Host, client: Client, layout: StorePaths
) -> None:
    before = files_of(host.prefix)
    [listed] = [e for e in await client.supervisor.list_models() if e.model_name == "glow"]
    assert listed.engines == ("pytorch", "acme")
    assert listed.formats == ("pytorch", "mlx")
    assert listed.model_type == "audio"
    assert listed.origin == str(host.site / "xinference/model/audio/models/glow.json")

    for given in ({"model_engine": "acme"}, {"model_format": "mlx"}):
        made = await client.prepare(by_name(**given))
        assert (await visible(made)).keys() == {"wick", "xinference"}
        assert made.path is not None
        assert "/v4/glow/acme/" in made.path
    default = await client.prepare(by_name())
    assert (await visible(default))["lantern"] == "1.0"
    assert "that for PyTorch, pytorch is taken, not Acme" in lock_of(layout, default).warnings[0]
    assert files_of(host.prefix) == before


async def test_what_neither_it_nor_the_catalogue_knows_is_refused_with_what_is_known(
    host: Host, client: Client
) -> None:
    with pytest.raises(UnknownEngine) as engine:
        await client.prepare(by_name(model_engine="acne"))
    assert "acme" in str(engine.value.hint)
    with pytest.raises(UnknownFormat) as model_format:
        await client.prepare(by_name(model_format="gptq"))
    assert "pytorch, mlx" in str(model_format.value.hint)
    with pytest.raises(UnknownModel, match="'glo'") as model:
        await client.prepare(LaunchRequest.from_dict({"model_name": "glo"}))
    assert "Did you mean glow?" in str(model.value.hint)
    passed = await client.prepare(by_name(model_engine="acne", any_engine=True))
    assert (await visible(passed))["lantern"] == "1.0"
