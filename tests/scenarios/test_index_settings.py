"""What a user's uv.toml says of how uv talks to an index counts, whoever names the index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import Index
from tests.scenarios.steps import asking, says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import ResolutionFailed
from xinference_venv.planning.request import LaunchRequest

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

LOGIN = ("ada", "s3cret")


@pytest.fixture
def uv_cache(tmp_path: Path) -> Path:
    """A cache that no other test has filled."""
    return tmp_path / "uv-cache"


@pytest.fixture
def configuration(environ: dict[str, str]) -> Path:
    """The user's file, which a worker reads when it starts."""
    environ["UV_HTTP_RETRIES"] = "0"
    file = Path(environ["HOME"], ".config", "uv", "uv.toml")
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Index]:
    """An index that is asked after the first, and has another version."""
    (tmp_path / "second").mkdir()
    build_wheel(tmp_path / "second", "lantern", "3.0")
    with Index(tmp_path / "second") as index:
        yield index


@pytest.fixture
def netrc(environ: dict[str, str]) -> Path:
    """Where uv finds the user's credentials."""
    file = Path(environ["HOME"], ".netrc")
    file.write_text(f"machine 127.0.0.1 login {LOGIN[0]} password {LOGIN[1]}\n")
    file.chmod(0o600)
    return file


@pytest_asyncio.fixture
async def plain(environ: dict[str, str], configuration: Path) -> AsyncIterator[Client]:
    """A worker without such settings."""
    async with local_client(environ) as client:
        yield client


def write(configuration: Path, index: Index, *lines: str) -> None:
    configuration.write_text("\n".join(["[[index]]", f'url = "{index.url}"', *lines, ""]))


async def test_answers_of_an_index_hold_as_long_as_the_file_says(
    environ: dict[str, str], configuration: Path, plain: Client, index: Index
) -> None:
    for model in ("one", "two"):
        index.clear()
        await plain.prepare(asking(index, "lantern", model=model))
        assert "GET /simple/lantern/" in index.requests
    control = 'cache-control = { api = "max-age=600", files = "max-age=600" }'
    write(configuration, index, control)
    async with local_client(environ) as client:
        await client.prepare(asking(index, "lantern", model="three"))
        index.clear()
        await client.prepare(asking(index, "lantern", model="four"))
        assert index.requests == []
        await client.prepare(asking(index, "lantern", model="five", refresh=True))
        assert "GET /simple/lantern/" in index.requests


async def test_errors_of_an_index_that_the_file_says_to_ignore_let_the_next_one_be_asked(
    environ: dict[str, str], configuration: Path, plain: Client, index: Index, second: Index
) -> None:
    block = {
        "packages": ["lantern"],
        "extra_index_url": index.url,
        "index_url": second.url,
        "inherit_pip_config": False,
    }
    request = LaunchRequest.from_dict({"model_name": "lamp", "virtualenv": block})
    index.fail("*", 403)
    with pytest.raises(ResolutionFailed, match="lantern"):
        await plain.prepare(request)
    write(configuration, index, "ignore-error-codes = [403]")
    async with local_client(environ) as client:
        prepared = await client.prepare(request)
        assert await says(prepared.python, version_of("lantern")) == "3.0"


async def test_credentials_are_sent_at_once_where_the_file_says_so(
    environ: dict[str, str], configuration: Path, netrc: Path, plain: Client, index: Index
) -> None:
    index.require_auth(*LOGIN)
    await plain.prepare(asking(index, "lantern", model="one"))
    assert "GET /simple/lantern/" in index.requests
    write(configuration, index, 'authenticate = "always"')
    async with local_client(environ) as client:
        index.clear()
        await client.prepare(asking(index, "lantern", model="two"))
        assert "GET /simple/lantern/ authorized" in index.requests
        assert [each for each in index.requests if not each.endswith(" authorized")] == []
