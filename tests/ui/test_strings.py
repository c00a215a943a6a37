"""The texts of the page: both languages say the same things, and all that the modules ask for."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path, PurePosixPath

import pytest

import xinference_venv
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.cluster_state import WorkerState
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.job_log import Outcome
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.lock import Role

UI = files("xinference_venv.rest").joinpath("ui")
MODULES = {each.name: each.read_text() for each in UI.iterdir() if each.name.endswith(".js")}
# They have a line for each text.
LANGUAGES = {"en.json", "zh.json", "sentences.en.json", "sentences.zh.json"}
_ASKED = re.compile(r"""\b(t|count)\(\s*(?:\w+ \? )?(["`])([^"`]+)\2""")
# A key in two halves: the first in the text, the second of a value.
_PREFIX = re.compile(r"\$\{.*")
PACKAGE = Path(xinference_venv.__file__).parent
NOT_FOR_THE_PAGE = {
    "cli": "the command line says it, in English",
    "xinference": "the drop-in says it to the log of Xinference",
    "runtime": "who starts model processes has an API in Python",
    "client.py": "who has a client has an API in Python",
    "errors.py": "an error of another process, which brings its sentences along",
    "actors/wire_key.py": "a process that does not start says it",
    "rest/server.py": "a process that does not start says it",
    "rest/tokens.py": "a process that does not start says it",
    "service/spec_file.py": "only commands read such a file",
    "service/this_host.py": "commands that look at this host have no server",
    "planning/bundle.py": "only commands export and import",
    "service/bundle_export.py": "only commands export and import",
    "service/bundle_file.py": "only commands export and import",
    "service/bundle_import.py": "only commands export and import",
    "service/local_names.py": "commands that look at this host have no server",
    "service/signal_job.py": "commands that look at this host have no server",
    "inventory/job_list.py": "only commands name a job by the beginning of its id",
    "observability": "workers and supervisors say it to each other",
    "planning/remote_question.py": "workers and supervisors say it to each other",
    "_util/records.py": "programs read records, not people",
}
"""What sends nothing to the page, and why not."""
_PLACE = re.compile(r"\{[a-z_][a-z0-9_]*\}")
# The ways of the command line and of the API to say what the page has a control for.
_COMMANDS = re.compile(
    r"xinference-venv |force="
    r"|--(inherit|any-engine|no-proof|spec|max-bytes|force |refresh|supervisor|json)"
)
# What a sentence may leave out: how force is asked for elsewhere.
_OF_COMMANDS = {"{force}"}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """The modules whose sentences come to the page."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        folders = {str(each) for each in PurePosixPath(name).parents} - {"."}
        if not {name, *folders} & NOT_FOR_THE_PAGE.keys():
            yield name, ast.parse(path.read_text("utf-8"))


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name, node


def _patterns() -> set[str]:
    """The patterns that the server makes sentences of; those that have words to translate."""
    found = set()
    for _, tree in _modules():
        for name, call in _calls(tree):
            match name, call.args:
                case "sentence", [ast.Constant(value=str(pattern)), *_]:
                    found.add(pattern)
                case "counted", [_, ast.Constant(value=str(noun)), *_]:
                    found |= {f"{{count}} {noun}", f"{{count}} {noun}s"}
    return {each for each in found if re.search("[a-z]", _PLACE.sub("", each))}


def _sentences(language: str) -> dict[str, str]:
    texts: dict[str, str] = json.loads(UI.joinpath(f"sentences.{language}.json").read_text("utf-8"))
    return texts


def _texts(language: str) -> dict[str, str]:
    texts: dict[str, str] = json.loads(UI.joinpath(f"{language}.json").read_text("utf-8"))
    return texts


def _kinds(kind: type[VirtualEnvError]) -> Iterator[type[VirtualEnvError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def test_both_languages_have_the_same_keys_in_order() -> None:
    english, chinese = _texts("en"), _texts("zh")
    assert list(english) == list(chinese) == sorted(english)


def test_both_languages_name_the_same_values() -> None:
    english, chinese = (
        {key: sorted(set(re.findall(r"\{\w+\}", text))) for key, text in _texts(language).items()}
        for language in ("en", "zh")
    )
    assert english == chinese


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_text_that_a_module_asks_for_is_there(module: str) -> None:
    texts = _texts("en")
    for function, _, key in _ASKED.findall(MODULES[module]):
        if "$" in key:
            assert [each for each in texts if each.startswith(_PREFIX.sub("", key))], key
        elif function == "count":
            assert {f"{key}.one", f"{key}.other"} <= texts.keys()
        else:
            assert key in texts


def test_every_state_role_and_error_has_a_text() -> None:
    states = {*EnvState, *WorkerState, *Outcome, *Phase}
    wanted = {f"state.{each}" for each in states}
    wanted |= {f"phase.{each}" for each in Phase}
    wanted |= {f"role.{each}" for each in Role}
    # Of packages that a lock does not name.
    wanted |= {f"role.{each}" for each in ("by_hand", "visible")}
    wanted |= {f"error.{kind.code}" for kind in _kinds(VirtualEnvError)}
    assert wanted <= _texts("en").keys()


def test_every_check_of_the_doctor_has_a_name() -> None:
    wanted = {
        f"check.{check.replace(' ', '_')}"
        for _, tree in _modules()
        for name, call in _calls(tree)
        if name in {"ok", "warning", "failed", "failed_by"} and isinstance(call.func, ast.Name)
        for check in (each.value for each in call.args[:1] if isinstance(each, ast.Constant))
        if isinstance(check, str)
    }
    assert "check.uv" in wanted
    assert wanted <= _texts("en").keys()


def test_every_sentence_of_the_server_is_in_chinese_with_its_values() -> None:
    chinese = _sentences("zh")
    assert sorted(_patterns() - chinese.keys()) == [], "translate these in sentences.zh.json"
    assert sorted(chinese.keys() - _patterns()) == [], "no module says these any more"
    assert list(chinese) == sorted(chinese)
    for pattern, text in chinese.items():
        assert set(_PLACE.findall(pattern)) - set(_PLACE.findall(text)) <= _OF_COMMANDS, pattern
        assert set(_PLACE.findall(text)) <= set(_PLACE.findall(pattern)), pattern


def test_the_page_names_its_own_ways_and_not_those_of_the_command_line() -> None:
    english, chinese = _sentences("en"), _sentences("zh")
    wanted = {each for each in _patterns() if _COMMANDS.search(each) or "{force}" in each}
    assert english.keys() == wanted
    for pattern, text in english.items():
        assert set(_PLACE.findall(pattern)) - set(_PLACE.findall(text)) <= _OF_COMMANDS, pattern
    ways = [*english.values(), *chinese.values(), *_texts("en").values(), *_texts("zh").values()]
    assert [each for each in ways if _COMMANDS.search(each)] == []


def test_every_error_that_the_page_can_meet_can_be_translated() -> None:
    kinds = {kind.__name__ for kind in _kinds(VirtualEnvError)}
    english_only = []
    for module, tree in _modules():
        for name, call in _calls(tree):
            hints = [
                value
                for each in call.args[1:]
                if isinstance(each, ast.Dict)
                for key, value in zip(each.keys, each.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "hint"
            ]
            if name in kinds:
                english_only += [
                    f"{module}:{each.lineno}"
                    for each in (*call.args[:1], *hints)
                    if isinstance(each, ast.JoinedStr)
                    or (isinstance(each, ast.Constant) and isinstance(each.value, str))
                ]
        english_only += [
            f"{module}:{each.lineno}"
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and function.name in {"_hint", "hint_for"}
            for each in ast.walk(function)
            if isinstance(each, ast.Return) and isinstance(each.value, ast.JoinedStr | ast.Constant)
            if not (isinstance(each.value, ast.Constant) and each.value.value is None)
        ]
    assert english_only == [], "write sentence(...) instead, and translate it"


def test_every_event_that_the_page_can_show_can_be_translated() -> None:
    english_only = [
        f"{module}:{each.lineno}"
        for module, tree in _modules()
        for name, call in _calls(tree)
        if name in {"say", "on_wait", "report"}
        for each in call.args
        if isinstance(each, ast.JoinedStr)
        or (isinstance(each, ast.Constant) and isinstance(each.value, str))
    ]
    assert english_only == [], "write sentence(...) instead, and translate it"


def test_no_module_makes_markup_of_a_text() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:")
    for name, source in MODULES.items():
        allowed = source.replace('"http://www.w3.org/2000/svg"', "")
        assert not forbidden.search(allowed), name


def test_a_slow_link_gets_all_modules_at_once_rather_than_each_when_another_asks_for_it() -> None:
    index = UI.joinpath("index.html").read_text()
    ahead = re.findall(r'<link rel="modulepreload" href="ui/([^"]+)">', index)
    assert ahead == sorted(MODULES.keys() - {"app.js"})


@pytest.mark.parametrize("name", sorted({each.name for each in UI.iterdir()} - LANGUAGES))
def test_a_file_is_short(name: str) -> None:
    assert len(UI.joinpath(name).read_text("utf-8").splitlines()) < 400
