"""Every kind of bad input, asked for real: the message a user sees, the error, what is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.bad_input import page
from tests.scenarios.bad_input_kinds import HOME, INDEX, BadInput
from tests.scenarios.bad_input_table import SECTIONS
from xinference_venv.client import local_client
from xinference_venv.errors import VirtualEnvError, error_from_dict
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

CASES = [case for cases in SECTIONS.values() for case in cases]
PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"


async def _ask(case: BadInput, environ: dict[str, str], index: Index) -> None:
    """Give the input; it never comes to an end without an error."""
    block = {"packages": ["lantern"], "index_url": index.url, "inherit_pip_config": False}
    request = {
        "model_name": "glow",
        "virtualenv": block | dict(case.block),
        **case.request,
    }
    async with local_client(environ | dict(case.environ)) as client:
        if case.job is not None:
            plain(await client.supervisor.wait(case.job))
        await client.prepare(LaunchRequest.from_dict(request))


def _reads(text: str, expected: str) -> bool:
    """Whether a text is as expected, "…" standing for anything and white space for white space."""
    parts = " ".join(expected.split()).split("…")
    return re.fullmatch(".*".join(map(re.escape, parts)), " ".join(text.split())) is not None


@pytest.mark.uv
@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
async def test_bad_input_is_answered_by_what_the_page_says(
    case: BadInput, environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    if case.spec_file is not None:
        folder = layout.root / "models"
        folder.mkdir(parents=True)
        (folder / "mine.json").write_text(case.spec_file)
    with pytest.raises(VirtualEnvError) as caught:
        await _ask(case, environ, index)

    error = error_from_dict(caught.value.to_dict())
    home = environ["XINFERENCE_HOME"]
    message, hint = (
        text.replace(index.url, INDEX).replace(home, HOME)
        for text in (error.message, error.hint or "")
    )
    assert type(error) is case.error
    assert _reads(message, case.message), message
    assert _reads(hint, case.hint or ""), hint
    assert "secret" not in str(error.to_dict())
    assert not layout.envs.exists() or not any(
        any(place.iterdir()) for place in (layout.envs, layout.staging, layout.leases)
    )


def test_no_kind_stands_on_the_page_twice() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= 20


def test_the_page_shows_what_is_tested() -> None:
    assert PAGE.read_text("utf-8") == page()
