"""What a host asks another one to resolve for it: facts that may name files, and what is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests import fakes
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.sources import PackageSources
from xinference_venv.sentences import Sentence, sentence


def question(**changes: Any) -> HostQuestion:
    made = HostQuestion(
        request=fakes.request(),
        host=fakes.host(fakes.distribution("numpy", "2.0")),
        interpreter=fakes.interpreter(),
        demand=fakes.spec().demand,
        unusable={"numpy": "it is broken"},
        unfit={"lamp": {"1.0": "<3.11"}},
    )
    return replace(made, **changes)


def test_it_crosses_the_wire() -> None:
    asked = question()
    assert HostQuestion.from_dict(fakes.through_json(asked.to_dict())) == asked


def test_its_reasons_can_still_be_translated_behind_the_wire() -> None:
    why = sentence("{name} has no list of its files", name="numpy")
    asked = question(unusable={"numpy": why, "lamp": "it is broken"})
    heard = HostQuestion.from_dict(fakes.through_json(asked.to_dict()))
    assert heard == asked
    assert pattern_of(heard.unusable["numpy"]) == "{name} has no list of its files"
    assert pattern_of(heard.unusable["lamp"]) is None


def pattern_of(text: str) -> str | None:
    return text.pattern if isinstance(text, Sentence) else None


@pytest.mark.parametrize(
    ("host", "wrong"),
    [
        (fakes.host(fakes.distribution("../../etc", "1.0")), "the name of a distribution is"),
        (fakes.host(fakes.distribution("Numpy", "1.0")), "the name of a distribution is"),
        (fakes.host(fakes.distribution("numpy", "../1.0")), "a version is"),
        (fakes.host(interpreter=fakes.interpreter(tags=("../../x-none-any",))), "its tags are"),
    ],
)
def test_facts_that_no_host_has_are_refused(host: Any, wrong: str) -> None:
    with pytest.raises(InvalidRecord, match=f"^question of another host: {wrong} not valid$"):
        HostQuestion.from_dict(question(host=host).to_dict())


def test_a_demand_is_the_same_whatever_the_indexes() -> None:
    lamp = fakes.spec(fakes.line("lamp", "lamp"))
    other = replace(lamp, sources=PackageSources(index_url="https://index.example/simple"))
    assert lamp.demand == other.demand
    assert lamp.digest != other.digest
    assert lamp.demand != fakes.spec(fakes.line("lamp==2", "lamp")).demand
    assert lamp.demand != replace(lamp, constraints=("numpy<3",)).demand
