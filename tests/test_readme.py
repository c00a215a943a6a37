"""The page that people meet first, which Sphinx does not check with those of ``docs/``."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


REPOSITORY = "https://github.com/xinference-venv/xinference-venv/blob/main/"


def test_every_file_that_the_readme_links_to_is_there_by_an_absolute_address() -> None:
    text = README.read_text()
    found = re.findall(r"\]\(([^)#]+)|^\[[^]]+\]: (\S+)$", text, re.MULTILINE)
    addresses = [inline or referenced for inline, referenced in found]
    # A package index shows this page far from the files.
    assert [each for each in addresses if "://" not in each] == []
    files = [each.removeprefix(REPOSITORY) for each in addresses if each.startswith(REPOSITORY)]
    assert files
    places = [README.parent / name.partition("#")[0] for name in files]
    assert [each for each in places if not each.is_file()] == []


def test_every_reference_has_an_address() -> None:
    text = README.read_text()
    used = set(re.findall(r"\]\[([^]]+)\]", text))
    assert used == set(re.findall(r"^\[([^]]+)\]: ", text, re.MULTILINE))


def test_every_script_that_the_readme_tells_to_run_is_there_and_can_be_run() -> None:
    scripts = set(re.findall(r"^\$ (scripts/\w+)", README.read_text(), re.MULTILINE))
    assert scripts
    assert [name for name in scripts if not (README.parent / name).stat().st_mode & 0o100] == []
