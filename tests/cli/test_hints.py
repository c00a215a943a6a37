"""What messages and hints name is there: commands of ours with their options, and variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

import xinference_venv
from xinference_venv.cli.help import CLUSTER_VARIABLES, VARIABLES
from xinference_venv.cli.main import commands

ROOT = Path(xinference_venv.__file__).parent
_COMMAND = re.compile(r"xinference-venv ([a-z][a-z-]+)((?: [^\s`'\"]+)*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_VARIABLE = re.compile(r"\b(?:XINFERENCE|XOSCAR)_[A-Z_]+[A-Z]\b")


def texts(file: Path) -> Iterator[str]:
    """The strings of a module, with ``{}`` for each value in them; docstrings are left out."""
    tree = ast.parse(file.read_text("utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif (
            id(node) not in left_out
            and isinstance(node, ast.Constant)
            and isinstance(node.value, str)
        ):
            yield node.value


TEXTS = [(file, text) for file in sorted(ROOT.rglob("*.py")) for text in texts(file)]
# Names of file formats begin as a command does.
_NO_COMMANDS = frozenset({"environment", "answers"})
# Of systemctl, docker, pip, git and uv.
_OPTIONS_OF_OTHERS = frozenset(
    {"--user", "--tmpfs", "--pids-limit", "--force-reinstall", "--file", "--find-links"}
)
_VARIABLES = {name for name, _ in (*VARIABLES, *CLUSTER_VARIABLES)}
# Of xoscar and of Xinference, and between our own processes.
_OTHER_VARIABLES = frozenset({"XOSCAR_DIR", "XINFERENCE_EXTENSIONS"}) | {
    f"XINFERENCE_VENV_{name}" for name in ("PROCESS", "OWNER", "UNSET")
}


def command_named(name: str) -> click.Command | None:
    """A command of the program."""
    return commands.get_command(click.Context(commands), name)


def options_of(command: click.Command) -> set[str]:
    """The options of a command and of those below it."""
    found = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options_of(below)
    return found | {"--help", "--version"}


def test_a_command_that_is_named_is_there_with_the_options_behind_it() -> None:
    named = [
        (file.name, found[1], set(_OPTION.findall(found[2])))
        for file, text in TEXTS
        for found in _COMMAND.finditer(text)
        if found[1] not in _NO_COMMANDS
    ]
    for file, name, options in named:
        command = command_named(name)
        assert command is not None, f"{file}: there is no command {name}"
        assert options <= options_of(command), f"{file}: {name} has no {options}"
    assert len(named) > 20


def test_an_option_that_a_sentence_names_is_there() -> None:
    known = options_of(commands) | _OPTIONS_OF_OTHERS
    unknown = {
        (file.name, option)
        for file, text in TEXTS
        if " " in text
        for option in _OPTION.findall(text)
        if option not in known
    }
    assert not unknown


def test_a_variable_that_a_sentence_names_is_read() -> None:
    unknown = {
        (file.name, name)
        for file, text in TEXTS
        for name in _VARIABLE.findall(text)
        if name not in _VARIABLES | _OTHER_VARIABLES
    }
    assert not unknown
