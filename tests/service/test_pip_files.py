"""What pip and uv are configured to, by the files of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from xinference_venv.errors import InvalidSource
from xinference_venv.service.pip_files import pip_config_of


@pytest.mark.parametrize(
    "variable", ["PIP_CONSTRAINT", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT"]
)
def test_a_file_of_requirements_that_can_not_be_read_is_no_empty_one(
    tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "lines.txt"
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", variable: str(file)}
    with pytest.raises(InvalidSource, match=f"{file}, a file of constraints .* can't be read"):
        pip_config_of(environ)
    file.write_text("lantern<2  # not yet\n")
    found = pip_config_of(environ)
    [lines] = filter(None, (found.constraints, found.overrides, found.build_constraints))
    assert lines == ("lantern<2",)
