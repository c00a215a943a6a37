"""The page that people meet first, which Sphinx does not check with those of ``docs/``."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_every_file_that_the_readme_links_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)", README.read_text())
    files = [target for target in targets if "://" not in target]
    assert files
    assert [name for name in files if not (README.parent / name).is_file()] == []


def test_every_script_that_the_readme_tells_to_run_is_there_and_can_be_run() -> None:
    scripts = set(re.findall(r"^\$ (scripts/\w+)", README.read_text(), re.MULTILINE))
    assert scripts
    assert [name for name in scripts if not (README.parent / name).stat().st_mode & 0o100] == []
