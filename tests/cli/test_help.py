"""The help: every command in one section, and what may have been meant."""

from __future__ import annotations

import click
import pytest

from tests.cli.conftest import Run
from xinference_venv.cli.help import COMMANDS
from xinference_venv.cli.main import commands


def test_the_help_lists_every_command_once_under_a_title(run: Run) -> None:
    named = [name for listed in COMMANDS.values() for name, _, _ in listed]
    assert len(named) == len(set(named))
    assert all(commands.get_command(click.Context(commands), name) for name in named)
    shown = run("-h").out
    places = [shown.index(f"\n{title}:\n") for title in COMMANDS]
    assert places == sorted(places)
    for title, commands_of in COMMANDS.items():
        section = shown.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        listed = [line.split()[0] for line in section.splitlines() if line[2] != " "]
        assert listed == [name for name, _, _ in commands_of]


def test_the_help_lists_commands_by_the_first_sentence_of_their_own() -> None:
    listed = [each for section in COMMANDS.values() for each in section]
    loaded = {name: commands.get_command(click.Context(commands), name) for name, _, _ in listed}
    own = {name: each.get_short_help_str(limit=1000) for name, each in loaded.items() if each}
    assert own == {name: about for name, _, about in listed}


def test_what_a_command_does_is_reported_whole(run: Run) -> None:
    listed = run("-h").out.partition("\nOptions:")[2].partition("Environment variables")[0]
    assert "..." not in listed


@pytest.mark.parametrize(
    ("word", "meant"), [("lst", "list"), ("verfy", "verify"), ("Launch", "launch"), ("diag", None)]
)
def test_what_may_have_been_meant_is_reported(run: Run, word: str, meant: str | None) -> None:
    ran = run(word)
    assert ran.code == 2
    assert (f"Did you mean {meant}" in ran.err) if meant else ("Did you mean" not in ran.err)


def test_an_option_that_may_have_been_meant_is_reported(run: Run) -> None:
    # Later releases of click quote it.
    said = run("list", "--python-vesion", "3.11").err.replace("'", "")
    assert "Did you mean --python-version?" in said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--supervisor", "127.0.0.1:9797", "list"], "xinference-venv list --supervisor"),
        (["--worker", "10.0.0.2", "gc"], "xinference-venv gc --worker"),
        (["-o", "wide"], "xinference-venv COMMAND -o"),
    ],
)
def test_the_error_of_an_option_before_its_command_shows_where_it_belongs(
    run: Run, words: list[str], meant: str
) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert f"It comes behind the command: {meant}" in ran.err
