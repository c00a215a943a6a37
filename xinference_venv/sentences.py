"""Texts for people as patterns with values, so that a front end can have them in its language.

Comes in: an English pattern and what it speaks of. Comes out: the English text, a string like any
other, that knows both. As with gettext the English pattern is the name of the sentence: a front end
that has no translation of it, or is of another release, shows the English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

Written: TypeAlias = dict[str, object]
"""A sentence as plain JSON values: ``id`` is its pattern, ``values`` are texts or sentences."""

TEXTS: Final = "texts"
"""The key under which the sentences of a record or an error are written, by the key of each."""

# So deep sentences may lie in each other; what comes from outside is read no further.
_DEPTH = 32
_PLACE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


class Sentence(str):
    """An English text; `pattern` names it and has a place, ``{name}``, for each of `values`."""

    pattern: str
    values: Mapping[str, str]

    def __new__(cls, pattern: str, values: Mapping[str, str]) -> Sentence:
        """The text of a pattern; a value may be a sentence."""
        made = super().__new__(cls, _PLACE.sub(lambda place: values[place[1]], pattern))
        made.pattern = pattern
        made.values = values
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, str]]:  # type: ignore[override]
        return self.pattern, self.values

    def to_dict(self) -> Written:
        """Plain JSON values; `sentence_of` reads them."""
        values = {
            name: each.to_dict() if isinstance(each, Sentence) else each
            for name, each in self.values.items()
        }
        return {"id": self.pattern, "values": values}


def sentence(pattern: str, /, **values: object) -> str:
    """The `Sentence` that a pattern, a literal, makes of values.

    Lists of texts are joined by "; ".
    """
    return Sentence(pattern, {name: _text_of(each) for name, each in values.items()})


def joined(texts: Iterable[str], by: str = "; ") -> str:
    """Texts behind each other, each of which can still be translated."""
    pairs = list(texts)
    if not any(isinstance(each, Sentence) for each in pairs):
        return by.join(pairs)
    values = {f"part_{number}": each for number, each in enumerate(pairs)}
    return Sentence(by.join(f"{{{name}}}" for name in values), values)


def sentence_of(data: object, text: str) -> Sentence | None:
    """The sentence that plain values describe, if it says `text`; None for anything else."""
    made = _read(data, len(text), _DEPTH)
    return made if made is not None and made == text else None


def _read(data: object, most: int, depth: int) -> Sentence | None:
    """The sentence of at most so many characters that a mapping describes."""
    if not depth or not isinstance(data, Mapping) or not isinstance(pattern := data.get("id"), str):
        return None
    given = data.get("values")
    values: dict[str, str] = {}
    for name, each in (given if isinstance(given, Mapping) else {}).items():
        value = each if isinstance(each, str) else _read(each, most, depth - 1)
        if value is None:
            return None
        values[str(name)] = value
    places = _PLACE.findall(pattern)
    if not set(places) <= values.keys():
        return None
    # Counted before it is made: values that double at each depth would fill the memory.
    if len(_PLACE.sub("", pattern)) + sum(len(values[place]) for place in places) > most:
        return None
    return Sentence(pattern, values)


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return joined([_text_of(each) for each in value])
    return str(value)
