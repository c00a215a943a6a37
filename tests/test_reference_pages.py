"""The pages of reference have what the code has, all of it and nothing else.

What `docs/reference/` shows is taken from the code when the pages are built. This holds the pages
that people wrote against it: settings, commands and options, routes, methods, codes, checks.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import xoscar as xo

import xinference_venv
from xinference_venv.actors.supervisor import VirtualEnvSupervisorActor
from xinference_venv.actors.worker import VirtualEnvWorkerActor
from xinference_venv.cli.help import COMMANDS, SUPERVISOR_VARIABLE
from xinference_venv.cli.main import commands
from xinference_venv.errors import VirtualEnvError
from xinference_venv.rest.app import ROUTES
from xinference_venv.rest.errors import status_of
from xinference_venv.rest.tokens import Scope
from xinference_venv.settings import WIRE_KEY_VARIABLE, Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "xinference_venv"
PAGES = sorted((*ROOT.glob("README*.md"), *DOCS.glob("*.md"), *DOCS.glob("*/*.md")))


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def strings_of_the_code() -> set[str]:
    """Every string that stands in the package, docstrings included."""
    return {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def variables_in(text: str) -> set[str]:
    return set(re.findall(r"\bXINFERENCE_(?:[A-Z]+_)*[A-Z]+\b", text))


OF_SETTINGS = variables_in(inspect.getsource(Settings))


def test_the_page_of_settings_has_a_row_for_every_variable() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", read("settings.md"), re.MULTILINE))
    assert OF_SETTINGS - rows == set()
    assert {SUPERVISOR_VARIABLE, WIRE_KEY_VARIABLE} - rows == set()


def test_no_page_names_a_variable_that_nothing_reads() -> None:
    known = set().union(*map(variables_in, strings_of_the_code()))
    # A name of Xinference's own code.
    theirs = {"XINFERENCE_VIRTUAL_ENV_DIR"}
    unknown = {
        f"{page.name}: {variable}"
        for page in PAGES
        for variable in variables_in(page.read_text("utf-8")) - known - theirs
    }
    assert unknown == set()


def without_blocks(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)


def commands_in(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path}{name}", command
        if isinstance(command, click.Group):
            yield from commands_in(command, f"{path}{name} ")


ALL_COMMANDS = dict(commands_in(commands))


def options_of(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


def test_the_page_of_the_command_line_says_what_every_command_does() -> None:
    page = read("cli.md")
    titles = " ".join(re.findall(r"\*\*(.*?)\*\*", page, re.DOTALL))
    named = set(re.findall(r"`(\w+)", titles))
    assert {name for listed in COMMANDS.values() for name, *_ in listed} - named == set()


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_of_a_command_has_a_help(name: str) -> None:
    """The generated page shows it."""
    without = [
        parameter.opts[0]
        for parameter in ALL_COMMANDS[name].params
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help
    ]
    assert without == []


def options_of_other_programs() -> set[str]:
    """Those of the benchmarks, scripts, examples and tests, of uv and of Docker."""
    folders = ("benchmarks", "scripts", "examples", "tests")
    files = (path for name in folders for path in (ROOT / name).rglob("*") if path.is_file())
    texts = (path.read_text("utf-8") for path in files if path.suffix in {".py", ""})
    found = {option for text in texts for option in re.findall(r"--[a-z][a-z-]+", text)}
    return found | {"--torch-backend", "--system-certs", "--pids-limit"}


def test_no_page_names_an_option_that_no_program_has() -> None:
    known = {"--help", "--version"}.union(*map(options_of, ALL_COMMANDS.values()))
    elsewhere = options_of_other_programs()
    unknown = {
        f"{page.name}: {option}"
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", without_blocks(page))
        if code.startswith(("--", "xinference-venv "))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code.partition(" -- ")[0])
        if option not in (known if code.startswith("xinference-venv ") else known | elsewhere)
    }
    assert unknown == set()


def test_the_page_of_json_has_every_command_with_json() -> None:
    listed = set(re.findall(r"^\| `(\w+)", read("json.md"), re.MULTILINE))
    with_json = {
        name.split()[0] for name, command in ALL_COMMANDS.items() if "--json" in options_of(command)
    }
    assert with_json - listed == set()


def test_the_page_of_the_rest_api_has_every_route_with_its_scope() -> None:
    scopes = {f"{scope}".partition(":")[2]: scope for scope in Scope}
    rows: dict[tuple[str, str], Scope | None] = {}
    for cells, scope in re.findall(
        r"^\| (`[A-Z]+ /.*?`) \| (\w+) \|", read("rest.md"), re.MULTILINE
    ):
        for method, path in re.findall(r"`([A-Z]+) (/\S*?)`", cells):
            rows[method, path] = scopes.get(scope)
    pages = {("GET", "/"), ("GET", "/ui/...")}
    assert {key: scope for key, scope in rows.items() if key not in pages} == {
        (route.method, route.path): route.scope for route in ROUTES
    }


def kinds(root: type[VirtualEnvError] = VirtualEnvError) -> Iterator[type[VirtualEnvError]]:
    """The classes of the module of errors: xoscar makes others of them."""
    if vars(xinference_venv.errors).get(root.__name__) is root:
        yield root
        for child in root.__subclasses__():
            yield from kinds(child)


def test_the_page_of_the_rest_api_has_the_status_of_every_code() -> None:
    section = read("rest.md").partition("\n## Errors\n")[2].partition("\n## ")[0]
    documented = {
        code: {int(each) for each in re.findall(r"\d+", statuses)}
        for statuses, codes in re.findall(r"^\| ([\d, ]+) \| (.*?) \|$", section, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    wrong = {
        kind.code: (int(status_of(kind(""))), documented.get(kind.code))
        for kind in kinds()
        if int(status_of(kind(""))) not in documented.get(kind.code, set())
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("actor", "title"),
    [(VirtualEnvSupervisorActor, "The supervisor"), (VirtualEnvWorkerActor, "The worker")],
)
def test_the_page_of_the_actors_has_every_method(
    actor: type[xo.StatelessActor], title: str
) -> None:
    section = read("actors.md").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = (line.partition(" | ")[0] for line in section.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z_]+)[`(]", "\n".join(rows))) - {"selection"}
    methods = {name for name in dir(actor) if name[0] != "_"} - {*dir(xo.StatelessActor)}
    assert (methods - named, named - methods) == (set(), set())


def test_the_page_of_the_python_api_shows_every_public_name() -> None:
    page = read("reference/python.md")
    named = set(re.findall(r"\w+", " ".join(re.findall(r":members:(.*)", page))))
    whole = {"xinference_venv.errors", "xinference_venv.runtime.model_process"}
    missing = {
        name
        for name in xinference_venv.__all__
        if name not in named
        and getattr(getattr(xinference_venv, name), "__module__", None) not in whole
        and not name.startswith("__")
    }
    assert missing == set()


WORDS_OF_OTHERS = {
    "No solution found when resolving dependencies",
    "there is no version of …",
    "… was not found in the package registry",
    "Connection refused",
    "Failed to fetch",
    "dns error",
    "invalid peer certificate",
    "401 Unauthorized",
    "403 Forbidden",
    "429 Too Many Requests",
    "No space left on device",
    "Disk quota exceeded",
    "could not … …: [Errno 13] Permission denied",
}
"""What uv and the system say."""


def messages_on_the_page_of_failures() -> list[str]:
    rows = re.findall(
        r"^\| (?!you read|what you see|---)(.*?) \| ", read("troubleshooting.md"), re.M
    )
    return [each for row in rows for each in re.findall(r"`([^`]* [^`]*)`", row)]


def test_the_page_of_failures_has_the_messages_that_the_code_prints() -> None:
    said = "\n".join(
        re.sub(r"\{\w+\}", "…", each) for each in strings_of_the_code() if len(each) < 1000
    )
    messages = messages_on_the_page_of_failures()
    assert len(messages) > 40
    gone = [
        message
        for message in messages
        if message not in WORDS_OF_OTHERS
        and not all(part.strip(" :,") in said for part in message.split("…"))
    ]
    assert gone == []


def test_the_page_of_the_command_line_has_every_check_of_the_doctor() -> None:
    table = read("cli.md").partition("| check | what is looked at |")[2].partition("\n\n")[0]
    rows = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    checks = {
        node.args[0].value
        for path in (PACKAGE / "diagnosis").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"ok", "warning", "failed"}
        and isinstance(node.args[0], ast.Constant)
    }
    assert checks and checks - listed == set()
