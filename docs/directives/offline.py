"""Nothing that a page shows may come from another host: the pages have to work without network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

_FOREIGN = re.compile(r"(https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s;]+)""", re.IGNORECASE)
# What is only followed when somebody clicks on it, and what names a page without being loaded.
_LINKS = frozenset({"a", "area"})
_LOGGER = logging.getLogger(__name__)


class _Loaded(HTMLParser):
    """Collects the addresses that a browser loads when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _LINKS:
            self.addresses += [
                value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
            ]


def check_offline(app: Sphinx, error: Exception | None) -> None:
    """Warn of everything in the built pages and styles that another host would have to give."""
    if error is None and app.builder.format == "html":
        for path in sorted(Path(app.outdir).rglob("*")):
            for address in _foreign(path):
                _LOGGER.warning("%s loads %s", path.relative_to(app.outdir), address)


def _foreign(path: Path) -> Iterator[str]:
    if path.suffix == ".html":
        page = _Loaded()
        page.feed(path.read_text())
        yield from filter(_FOREIGN.match, page.addresses)
    elif path.suffix == ".css":
        yield from _IN_STYLE.findall(path.read_text())
