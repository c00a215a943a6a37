"""Numbers as people read them: sizes, ages, durations, counts."""

from __future__ import annotations

_SIZE_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
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
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
