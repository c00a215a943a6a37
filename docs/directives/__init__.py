"""What these pages take from the code itself, and a look at what was built.

In a page, ``{from-code}`` names one of `PARTS`; in its place comes the Markdown that the part's
function makes of the package as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from directives.errors import error_codes
from directives.names import resolve_name
from directives.offline import check_offline
from directives.records import records
from directives.rest import rest_api
from directives.settings import settings

PARTS: Mapping[str, Callable[[], str]] = {
    "error-codes": error_codes,
    "records": records,
    "rest-api": rest_api,
    "settings": settings,
}


class FromCode(SphinxDirective):
    """The directive; its one argument is a part's name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The part, sections included."""
        text = PARTS[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx when it loads the extension."""
    app.add_directive("from-code", FromCode)
    app.connect("missing-reference", resolve_name)
    app.connect("build-finished", check_offline)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
