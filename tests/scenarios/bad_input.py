"""The page of bad input, from the table of its kinds.

``python -m tests.scenarios.bad_input > docs/bad-input.md`` writes it anew; the tests ask for
everything in the table and compare.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.scenarios.bad_input_kinds import INDEX
from tests.scenarios.bad_input_table import SECTIONS

_HEAD = f"""\
# Messages for bad input

What was given, and what the answer is: the message, the hint, the class of the error and the
exit status of the command line.

Each launch here would be fine but for what is shown. It asks for a package `lantern`, which the
index `{INDEX}` has in versions 1.0 and 2.0. "…" stands for what differs
from host to host, and for uv's words about what it was doing.

This page is written by `python -m tests.scenarios.bad_input`, and tests hold it to the truth.
"""


def page() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *_body()])


def _body() -> Iterator[str]:
    for section, cases in SECTIONS.items():
        yield f"## {section}\n"
        for case in cases:
            yield f"### {case.title}\n"
            yield f"```text\n{case.asked}\n```\n"
            yield "```text"
            yield f"error: {case.message}"
            if case.hint is not None:
                yield f"hint: {case.hint}"
            yield "```\n"
            yield f"`{case.error.__name__}`, exit status {case.error.exit_code}\n"


if __name__ == "__main__":
    print(page(), end="")
