"""The table of errors: `xinference_venv.errors`, with the statuses of `rest.errors`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from directives.markdown import code, table
from xinference_venv.cli.help import EXIT_CODES
from xinference_venv.errors import VirtualEnvError
from xinference_venv.rest.errors import status_of


def error_codes() -> str:
    """A row for each class of errors, parents before their children; then the exit statuses."""
    rows = [
        [
            code(each.code),
            code(each.__name__),
            str(each.exit_code),
            str(int(status_of(each("")))),
            inspect.cleandoc(each.__doc__ or ""),
        ]
        for each in _tree(VirtualEnvError)
    ]
    return "\n\n".join(
        [
            "## Codes",
            table(["code", "class", "exit status", "HTTP status", "meaning"], rows),
            "## Exit statuses",
            table(["status", "meaning"], EXIT_CODES),
        ]
    )


def _tree(root: type[VirtualEnvError]) -> Iterator[type[VirtualEnvError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
