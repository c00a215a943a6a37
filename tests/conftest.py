"""What tests of real runs share: a local index, uv's cache, an environment without surprises."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio

from tests.index import Index
from xinference_venv.client import Client, local_client
from xinference_venv.settings import WIRE_KEY_VARIABLE

if sys.version_info < (3, 11, 8):
    # pytest parses sources to show a failure, while threads of the test that failed may parse too,
    # which CPython can't do at once (python/cpython issue 106905). A run would end by it.
    _parse = ast.parse

    def _parse_again(*args: Any, **options: Any) -> Any:
        for _ in range(20):
            with suppress(SystemError):
                return _parse(*args, **options)
        return _parse(*args, **options)

    ast.parse = _parse_again

# Of the tests that make a condition of the field: docs/field.md lists them.
_CONDITION = "condition"
_OF_INSTALLERS = ("PIP_", "UV_", "XINFERENCE_", "XOSCAR_")
_OF_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"})

# A test is not wrong because the machine is busy with others.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")
# For scripts/mutants, whose thousands of runs share a machine: a mutant is noticed or not, always
# alike, however slow it is; the smallest example that shows it is of no use there.
hypothesis.settings.register_profile(
    "mutants",
    max_examples=25,
    derandomize=True,
    deadline=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=tuple(hypothesis.HealthCheck),
)


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
        # Tests change what an index has, and launch again.
        "XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE": "0s",
        WIRE_KEY_VARIABLE: wire_key,
    }


@pytest_asyncio.fixture
async def client(environ: Mapping[str, str]) -> AsyncIterator[Client]:
    """A client of both actors, in this process."""
    async with local_client(environ) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of the conditions that users meet in the field this run has made."""
    found = {
        outcome: {
            report.nodeid.partition("[")[0]
            for report in terminalreporter.getreports(outcome)
            if _CONDITION in report.keywords
        }
        for outcome in ("passed", "failed", "skipped")
    }
    made = found["passed"] | found["failed"]
    skipped = found["skipped"] - made
    if made or skipped:
        terminalreporter.write_line(
            f"conditions of the field: {len(made)} made, {len(found['failed'])} of them failed;"
            f" {len(skipped)} that this machine can't make"
        )
