"""The texts of the page: both languages say the same things, and all that the modules ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.cluster_state import WorkerState
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.job_log import Outcome
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.lock import Role

UI = files("xinference_venv.rest").joinpath("ui")
MODULES = {each.name: each.read_text() for each in UI.iterdir() if each.name.endswith(".js")}
# They have a line for each text.
LANGUAGES = {"en.json", "zh.json"}
_ASKED = re.compile(r"""\b(t|count)\(\s*(?:\w+ \? )?(["`])([^"`]+)\2""")
# A key in two halves: the first in the text, the second of a value.
_PREFIX = re.compile(r"\$\{.*")


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
    wanted |= {f"error.{kind.code}" for kind in _kinds(VirtualEnvError)}
    assert wanted <= _texts("en").keys()


def test_no_module_makes_markup_of_a_text() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:")
    for name, source in MODULES.items():
        allowed = source.replace('"http://www.w3.org/2000/svg"', "")
        assert not forbidden.search(allowed), name


@pytest.mark.parametrize("name", sorted({each.name for each in UI.iterdir()} - LANGUAGES))
def test_a_file_is_short(name: str) -> None:
    assert len(UI.joinpath(name).read_text("utf-8").splitlines()) < 400
