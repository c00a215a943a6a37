"""Sentences: English texts that know their pattern, through errors, records, pickles and JSON."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidInput, NotFound, VirtualEnvError, error_from_dict
from xinference_venv.sentences import TEXTS, Sentence, joined, sentence, sentence_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Record, name="note"):
    text: str
    more: tuple[str, ...] = ()


def pattern_of(text: object) -> str | None:
    return text.pattern if isinstance(text, Sentence) else None


def test_a_sentence_is_the_english_text_of_its_pattern() -> None:
    made = sentence("{name} has {count} files", name="glow", count=3)
    assert made == "glow has 3 files"
    assert pattern_of(made) == "{name} has {count} files"


def test_braces_that_are_no_place_stay() -> None:
    assert sentence('like {"model_name": 1} and {UP}') == 'like {"model_name": 1} and {UP}'


def test_a_sentence_in_a_sentence_stays_one() -> None:
    inner = sentence("no {what}", what="disk")
    outer = sentence("it failed: {why}", why=NotFound(inner))
    assert outer == "it failed: no disk"
    assert isinstance(outer, Sentence)
    assert outer.to_dict() == {
        "id": "it failed: {why}",
        "values": {"why": {"id": "no {what}", "values": {"what": "disk"}}},
    }
    assert pattern_of(joined([inner, "as it is"])) == "{part_0}; {part_1}"
    assert pattern_of(joined(["one", "two"])) is None


def test_a_written_sentence_is_one_again_only_for_what_it_says() -> None:
    made = sentence("no {what}", what="disk")
    assert isinstance(made, Sentence)
    written = json.loads(json.dumps(made.to_dict()))
    assert pattern_of(sentence_of(written, "no disk")) == "no {what}"
    assert sentence_of(written, "no disc") is None
    for broken in (
        None,
        "no disk",
        {"id": 1},
        {"id": "no {what}"},
        {"id": "{a}", "values": {"a": 1}},
    ):
        assert sentence_of(broken, "no disk") is None


def test_sentences_in_each_other_without_end_are_none() -> None:
    deep: object = {"id": "x", "values": {}}
    for _ in range(900):
        deep = {"id": "{a}", "values": {"a": deep}}
    assert sentence_of(deep, "x") is None


def test_a_sentence_that_would_be_longer_than_its_text_is_never_made() -> None:
    doubled: object = {"id": "xx", "values": {}}
    for _ in range(30):
        doubled = {"id": "{a}{a}", "values": {"a": doubled}}
    assert sentence_of(doubled, "xx") is None


def test_an_error_keeps_its_sentences_on_every_way() -> None:
    error = InvalidInput(sentence("no {what}", what="disk"), {"hint": sentence("add one")})
    ways = [
        pickle.loads(pickle.dumps(error)),
        error_from_dict(json.loads(json.dumps(error.to_dict()))),
        error.with_details(phase="resolving"),
    ]
    for each in ways:
        assert (each.message, each.hint) == ("no disk", "add one")
        assert pattern_of(each.message) == pattern_of(str(each)) == "no {what}"
        assert pattern_of(each.hint) == "add one"
        assert set(each.details[TEXTS]) == {"message", "hint"}
    assert type(error.args[0]) is type(error.args[1]["hint"]) is str


def test_an_error_made_of_another_one_does_not_take_its_words() -> None:
    first = InvalidInput(sentence("no {what}", what="disk"), {"hint": sentence("add one")})
    second = VirtualEnvError("all is lost", first.details)
    assert set(second.details[TEXTS]) == {"hint"}
    assert pattern_of(second.message) is None
    # Nothing of a text that was made shorter, or whose secrets were hidden, comes along.
    assert TEXTS not in VirtualEnvError("all is lost", {**first.details, "hint": "***"}).details


def test_a_record_brings_its_sentences_along() -> None:
    note = Note(text=sentence("no {what}", what="disk"), more=("as it is", sentence("two")))
    written = json.loads(json.dumps(note.to_dict()))
    assert written["text"] == "no disk"
    assert written[TEXTS] == {
        "text": {"id": "no {what}", "values": {"what": "disk"}},
        "more": [None, {"id": "two", "values": {}}],
    }
    read = Note.from_dict(written)
    assert read == note
    assert pattern_of(read.text) == "no {what}"
    assert [pattern_of(each) for each in read.more] == [None, "two"]
    assert TEXTS not in Note(text="as it is").to_dict()
    # What says something else is of somebody who changed the one and not the other.
    assert pattern_of(Note.from_dict({**written, "text": "no disc"}).text) is None
