"""Values as people read and write them: sizes, ages, durations, counts, names that anybody gave."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xinference_venv._util.redact import redact_text
from xinference_venv.errors import InvalidInput
from xinference_venv.sentences import sentence

_SIZE_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE_FACTORS = {
    "": 1,
    "b": 1,
    **{f"{unit}b": 1000**power for power, unit in enumerate("kmgtpe", start=1)},
    **{unit.lower(): 1024**power for power, unit in enumerate(_SIZE_UNITS, start=1)},
}
_DURATION_FACTORS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_QUANTITY = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([a-z]*)\s*", re.IGNORECASE)
_AGE_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def size_text(size: int | None) -> str:
    """Bytes in KiB, MiB ... with three significant digits; below 1000 bytes exactly."""
    if size is None:
        return "-"
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1024, 0
    while value >= 999.5 and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = f"{value:#.3g}" if value < 999.5 else f"{value:.0f}"
    return f"{digits.rstrip('.')} {_SIZE_UNITS[unit]}"


def age_text(then: float | None, now: float) -> str:
    """How long ago a time was, in its largest unit; both are in seconds since the epoch."""
    if then is None:
        return "never"
    seconds = int(now - then)
    for unit, length in _AGE_UNITS:
        if seconds >= length:
            return f"{counted(seconds // length, unit)} ago"
    return "just now"


def duration_text(seconds: float) -> str:
    """A duration in seconds, or in hours, minutes and seconds from a minute on."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def counted(number: int, what: str) -> str:
    """A number with its noun, in the plural where it has to be."""
    return sentence(f"{{count}} {what}" if number == 1 else f"{{count}} {what}s", count=number)


def printable(name: str) -> str:
    """A name that may hold anything, with what does not print (lines, controls) as escapes."""
    if name.isprintable():
        return name
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in name
    )


def printable_lines(text: str) -> str:
    """The same for text of several lines: ends of lines and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), text)


def similar_names(name: str, names: Iterable[str]) -> list[str]:
    """Those of the names that may have been meant by one, the most similar first."""
    from difflib import get_close_matches

    by_folded = {each.casefold(): each for each in names}
    return [by_folded[each] for each in get_close_matches(name.casefold(), by_folded)]


def parse_size(text: str) -> int:
    """Bytes from ``500GB`` (powers of 1000), ``20GiB`` (of 1024) or a plain number of bytes.

    Upper and lower case mean the same. Raises `InvalidInput`.
    """
    found = _QUANTITY.fullmatch(text)
    factor = None if found is None else _SIZE_FACTORS.get(found[2].lower())
    if found is None or factor is None:
        raise InvalidInput(
            sentence("Invalid size {text}", text=quoted(text)),
            {
                "hint": sentence(
                    "Allowed: a number of bytes, or one with a unit as in 500GB, 20GiB or 1.5TB."
                )
            },
        )
    from fractions import Fraction

    return int(Fraction(found[1]) * factor)


def parse_duration(text: str) -> float:
    """Seconds from ``30d``, ``12h`` or ``2 h 30 min``; units are w, d, h, min and s.

    Raises `InvalidInput`.
    """
    from fractions import Fraction

    seconds = Fraction(0)
    place = 0
    while found := _QUANTITY.match(text, place):
        factor = _DURATION_FACTORS.get(found[2].lower())
        if factor is None:
            break
        seconds += Fraction(found[1]) * factor
        place = found.end()
    if place < len(text) or not text:
        raise InvalidInput(
            sentence("Invalid duration {text}", text=quoted(text)),
            {
                "hint": sentence(
                    "Allowed: numbers with the units w, d, h, min and s, as in 30d or 1h 30min."
                )
            },
        )
    return float(seconds)


def quoted(value: object, limit: int = 80) -> str:
    """How an error shows a value: in quotes, without credentials, at most `limit` characters."""
    if not isinstance(value, str | int | float):
        return f"of type {type(value).__name__}"
    # What is cut before it is redacted may hold the half of a credential.
    text = redact_text(repr(value))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
