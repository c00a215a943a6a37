"""What a resolution asks, as a digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import distribution, host, key, line, spec
from xinference_venv.planning.question import question_of
from xinference_venv.planning.requirements import Origin
from xinference_venv.planning.sources import PackageSources
from xinference_venv.settings import InheritMode

SPEC = spec(line("lamp", "lamp"), sources=PackageSources(index_url="https://index.example/simple"))
HOST = host(distribution("lib"))


AROUND: Mapping[str, Any] = {"uv_version": "1.0", "folders": [], "index_settings": {}}


def asked(**changes: Any) -> str | None:
    return question_of(replace(SPEC, **changes), HOST, **AROUND)


def test_the_name_of_the_model_is_no_part_of_it() -> None:
    assert asked() == asked(key=key("another")) is not None


def test_all_that_decides_the_answer_or_its_words_is() -> None:
    other = [
        asked(requirements=(line("lamp>=1", "lamp"),)),
        asked(requirements=(line("lamp", "lamp", Origin.LAUNCH),)),
        asked(warnings=("something",)),
        asked(constraints=("lib<2",)),
        asked(sources=PackageSources(index_url="https://other.example/simple")),
        question_of(SPEC, host(distribution("lib", "2.0")), **AROUND),
        question_of(SPEC, HOST, **{**AROUND, "uv_version": "1.1"}),
        question_of(SPEC, HOST, **{**AROUND, "folders": [["/srv", []]]}),
        question_of(SPEC, HOST, **{**AROUND, "index_settings": {"https://h": {"format": "flat"}}}),
    ]
    assert None not in other
    assert len({asked(), *other}) == len(other) + 1
    apart = replace(SPEC, inherit=InheritMode.NONE)
    answers = [question_of(apart, each, **AROUND) for each in (HOST, host())]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"requirements": (line("lamp @ git+https://git.example/lamp", "lamp"),)},
        {"requirements": (line("file:///srv/lamp-1.0-py3-none-any.whl", "lamp"),)},
        {"sources": PackageSources(index_url="file:///srv/index")},
        {"sources": PackageSources(extra_index_urls=("file:///srv/index",))},
        {"sources": PackageSources(find_links=("file:///srv/links",))},
    ],
)
def test_what_changes_without_a_trace_is_asked_each_time(changes: dict[str, Any]) -> None:
    assert asked(**changes) is None
