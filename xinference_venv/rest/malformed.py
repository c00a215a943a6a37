"""What is malformed in a request, as sentences.

Comes in: the errors that pydantic finds in parameters and bodies, by their types
(https://docs.pydantic.dev/latest/errors/validation_errors/). Comes out: where it is wrong, and what
is allowed there, never what was given: it may hold a credential.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xinference_venv.sentences import sentence


def place_of(parts: Iterable[str | int]) -> str:
    """Where in a request something is wrong, as ``body.workers[0]``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def describe_error(error: Mapping[str, Any]) -> str:
    """What is allowed where an error of pydantic is."""
    given: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return sentence("it is missing")
        case "string_type":
            return sentence("it must be a string")
        case "string_too_long":
            return sentence("it may have at most {most} characters", most=given["max_length"])
        case "string_too_short" | "too_short":
            return sentence("it must not be empty")
        case "string_pattern_mismatch":
            return sentence("it must match {pattern}", pattern=given["pattern"])
        case "list_type":
            return sentence("it must be a list")
        case "too_long":
            return sentence("it may have at most {most} items", most=given["max_length"])
        case "bool_type" | "bool_parsing":
            return sentence("it must be true or false")
        case "int_type" | "int_parsing" | "int_parsing_size" | "int_from_float":
            return sentence("it must be an integer")
        case "float_type" | "float_parsing" | "finite_number":
            return sentence("it must be a number")
        case "greater_than_equal":
            return sentence("it must be at least {least}", least=given["ge"])
        case "less_than_equal":
            return sentence("it may be at most {most}", most=given["le"])
        case "literal_error":
            return sentence("it must be {choices}", choices=_choices(given["expected"]))
        case "extra_forbidden":
            return sentence("it is not allowed here")
        case "model_type" | "model_attributes_type" | "dict_type":
            return sentence("it must be an object")
        case "json_invalid":
            return sentence("it is not JSON: {reason}", reason=given["error"])
        case _:
            # Of a later pydantic: in its English words.
            return str(error["msg"])


def _choices(expected: str) -> str:
    """Pydantic's list of what is allowed, ``'a', 'b' or 'c'``."""
    first, last = expected.rpartition(" or ")[::2]
    return sentence("{first} or {last}", first=first, last=last) if first else last
