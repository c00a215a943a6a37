"""What does not allow this Python is not installed, by whichever bound."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import asking, says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import Client
from xinference_venv.errors import ResolutionFailed

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder of the index: `oldonly` is for earlier Pythons since 1.0, `app` needs any."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "oldonly", "0.9", requires_python=">=3.6")
    build_wheel(folder, "oldonly", "1.0", requires_python=">=3.6,<3.9")
    build_wheel(folder, "oldonly", "1.1", requires_python="<3.9")
    build_wheel(folder, "app", "1.0", requires=["oldonly"])
    return folder


@pytest.mark.usefixtures("wheels")
async def test_a_release_for_earlier_pythons_gives_way_to_one_that_fits(
    client: Client, index: Index
) -> None:
    made = await client.prepare(asking(index, "app"))
    assert await says(made.python, version_of("oldonly")) == "0.9"
    again = await client.prepare(asking(index, "app"))
    assert (again.env_id, again.uv_calls) == (made.env_id, 0)
    # What was unpacked once is known from then on.
    plan = plain(await client.worker.plan(asking(index, "oldonly", model="another")))
    assert [each["version"] for each in plan["lock"]["packages"]] == ["0.9"]


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("line", ["oldonly==1.0", "oldonly>=1"])
async def test_what_has_no_release_that_fits_is_refused_with_the_python_that_it_wants(
    client: Client, index: Index, line: str
) -> None:
    with pytest.raises(ResolutionFailed) as caught:
        await client.prepare(asking(index, line))
    assert "oldonly 1.0 is for Python >=3.6,<3.9" in caught.value.message.replace(
        "<3.9,>=3.6", ">=3.6,<3.9"
    )
    assert f"this is Python {platform.python_version()}" in caught.value.message
