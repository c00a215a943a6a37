"""What tests of real runs share: a local index, uv's cache, an environment without surprises."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import Index
from xinference_venv.client import Client, local_client
from xinference_venv.settings import WIRE_KEY_VARIABLE

_OF_INSTALLERS = ("PIP_", "UV_", "XINFERENCE_", "XOSCAR_")
_OF_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"})


@pytest.fixture(autouse=True, scope="session")
def wire_key() -> Iterator[str]:
    """The key of all processes of the tests, as an operator sets it for a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WIRE_KEY_VARIABLE, "the-key-of-these-tests")
        yield "the-key-of-these-tests"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index that serves the folder ``wheels`` of the test's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with Index(folder) as running:
        yield running


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of uv's for all tests of a run."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def environ(tmp_path: Path, uv_cache: Path, wire_key: str) -> dict[str, str]:
    """The variables of this process without what configures installers, and homes of our own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_OF_INSTALLERS) and name not in _OF_PYTHON
    }
    home = tmp_path / "home"
    home.mkdir()
    return {
        **kept,
        "HOME": str(home),
        "XINFERENCE_HOME": str(home / "xinference"),
        "UV_CACHE_DIR": str(uv_cache),
        "PIP_CONFIG_FILE": os.devnull,
        WIRE_KEY_VARIABLE: wire_key,
    }


@pytest_asyncio.fixture
async def client(environ: Mapping[str, str]) -> AsyncIterator[Client]:
    """A client of both actors, in this process."""
    async with local_client(environ) as running:
        yield running
