"""Sources of PyPI that only certain build tools can build, or only next to other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.hosts import Host, findable, lock_of, of_role
from xinference_venv.client import Client
from xinference_venv.errors import BuildFailed
from xinference_venv.planning.lock import Role
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.network]

# Its setup.py imports pkg_resources, which setuptools 81 no longer has.
WHISPER = "openai-whisper==20231117"
# Large, and needed by none of it to be built.
NOT_NEEDED = ["llvmlite", "numba", "tiktoken", "torch", "triton"]


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path) -> Host:
    """A bare host. Named before `client` by whoever asks for both."""
    return Host.make(tmp_path / "host", environ)


def asking(*packages: str, **more: object) -> LaunchRequest:
    block = {"packages": packages, "inherit_pip_config": False}
    return LaunchRequest.from_dict(
        {"model_name": "whisper", "virtualenv": block, "exclude": NOT_NEEDED, **more}
    )


async def test_whisper_is_built_with_setuptools_that_still_has_pkg_resources(
    host: Host, client: Client, layout: StorePaths
) -> None:
    with pytest.raises(BuildFailed, match="pkg_resources"):
        await client.prepare(asking(WHISPER))
    made = await client.prepare(asking(WHISPER, build_constraints=["setuptools<81"]))
    assert of_role(lock_of(layout, made), Role.INSTALLED)["openai-whisper"] == "20231117"
    assert await findable(made, "whisper") == ["whisper"]


async def test_a_pin_of_setuptools_among_the_packages_counts_for_the_build(
    host: Host, client: Client
) -> None:
    made = await client.prepare(asking(WHISPER, "setuptools<81"))
    assert await findable(made, "whisper", "pkg_resources") == ["whisper", "pkg_resources"]
