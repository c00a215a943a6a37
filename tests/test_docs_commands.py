"""Every command line of ours in README and docs is one: the command is there, and its options.

The commands of README.md are run as they stand by scripts/test-fresh, in an empty Debian. Links
between the pages, and to their headings, lead somewhere.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from xinference_venv import errors
from xinference_venv.cli.help import EXIT_CODES
from xinference_venv.cli.main import commands

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pages in (ROOT.glob("README*.md"), (ROOT / "docs").rglob("*.md"))
    for page in pages
    if "build" not in page.relative_to(ROOT).parts
)
_BLOCK = re.compile(r"^```(?:console|sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"[A-Z_]+=\S*$")
_END = {"|", "||", "&&", ";", "&", ">", "2>", ">>", "<"}
# A placeholder of the pages for a value that an option takes.
_VALUES = {"N": "1", "HOST:PORT": "127.0.0.1:9797"}


def lines_of(page: Path) -> list[str]:
    """The command lines of ours in a page, variables before them and comments behind them cut."""
    found = []
    for block in _BLOCK.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ").strip()
            if "xinference-venv " in words and (line.startswith("$ ") or "$ " not in block):
                found.append(words)
    return found


def words_of(line: str) -> list[str] | None:
    """The words behind the program's name, or None where it is not what the line runs."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    while words and (_VARIABLE.match(words[0]) or words[0] in ("nohup", "sudo", "exec", "time")):
        words.pop(0)
    if not words or Path(words.pop(0)).name != "xinference-venv":
        return None
    ours = []
    for word in words:
        if word in _END:
            break
        ours.append(_VALUES.get(word, word))
    return ours


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {line}")
    for page in PAGES
    for line in lines_of(page)
    if (words := words_of(line)) is not None
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_pages_is_one(words: list[str]) -> None:
    context = click.Context(commands, info_name="xinference-venv")
    group: click.Group = commands
    rest = [word for word in words if word not in {"-q", "-v", "-vv"}]
    while rest and not rest[0].startswith("-"):
        name = rest[0]
        command = group.get_command(context, name)
        assert command is not None, f"there is no command {name}"
        rest.pop(0)
        if not isinstance(command, click.Group) or not rest or rest[0].startswith("-"):
            # Raises `NoSuchOption`, `BadOptionUsage` and their like.
            command.make_parser(click.Context(command, context)).parse_args(rest)
            return
        group, context = command, click.Context(command, context)
    assert all(word in {"--help", "-h", "--version", "COMMAND"} for word in rest)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 60


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as a forge calls them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(
            " ", "-"
        )
        for title in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        place = page if not path else (page.parent / path).resolve()
        # What a page takes from the code gets its headings when the pages are built.
        made = (
            place.suffix == ".md" and place.exists() and "{from-code}" in place.read_text("utf-8")
        )
        if not place.exists() or (
            anchor and place.suffix == ".md" and not made and anchor not in anchors(place)
        ):
            broken.append(target)
    assert broken == []


def test_the_page_of_failures_has_every_code_and_every_exit_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")

    def codes(kind: type[errors.VirtualEnvError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    named = set(re.findall(r"`([a-z_]+)`", page))
    assert codes(errors.VirtualEnvError) - {"error"} <= named
    titles = " ".join(re.findall(r"^## (.*)$", page, re.MULTILINE))
    assert {code for code, _ in EXIT_CODES} - {"0", "1"} <= set(re.findall(r"\d+", titles))


@pytest.mark.parametrize(
    ("here", "there"), [("README.md", "README.zh.md"), ("docs/tutorial.md", "docs/tutorial.zh.md")]
)
def test_the_chinese_page_has_the_commands_of_the_english_one(here: str, there: str) -> None:
    english, chinese = ({*lines_of(ROOT / name)} for name in (here, there))

    def without_comments(lines: set[str]) -> set[str]:
        return {re.sub(r"\s+#.*", "", line) for line in lines}

    assert without_comments(chinese) == without_comments(english)
