"""Which actor is to run in a model's process: a class by name, and what it is created with.

Comes in: the words of a command line. Comes out: an `ActorClass`, which says nothing about
whether there is such a class: only the model's environment can tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from xinference_venv.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorClass:
    """A class by its module and name, the arguments by name, folders to look for the module in.

    `arguments` are plain JSON values; `paths` come after all that the environment has.
    """

    module: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()

    @classmethod
    def parse(cls, target: str, arguments: Sequence[str], paths: Sequence[str]) -> Self:
        """Read ``MODULE:CLASS`` and ``NAME=VALUE`` words; a value is JSON, else a string.

        Raises `InvalidInput`, naming the word.
        """
        module, _, name = target.partition(":")
        if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise InvalidInput(
                f"{target!r} does not name a class",
                {"hint": "Allowed is MODULE:CLASS, like my_package.my_module:MyActor."},
            )
        named = {}
        for word in arguments:
            key, equals, value = word.partition("=")
            if not equals or not key.isidentifier():
                # Only the name is shown: a value may be a credential.
                raise InvalidInput(
                    f"{key!r} is not an argument of {target}",
                    {"hint": "Allowed is NAME=VALUE, where VALUE is JSON or a string."},
                )
            named[key] = _value(value)
        return cls(module=module, name=name, arguments=named, paths=tuple(paths))

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
