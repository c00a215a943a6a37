"""How Sphinx builds these pages: `scripts/docs`. The pages themselves are plain Markdown."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "xinference_venv"
version = release = version_of("xinference-venv")
html_title = f"{project} {version}"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False

# Two hyphens are an option's.
smartquotes = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "directives"]
exclude_patterns = ["build"]
# The headings that can be linked to are named as a forge names them.
myst_heading_anchors = 3

# Single backquotes in docstrings name what is ours, or an argument.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

nitpicky = True
# Types in signatures: the standard library's and other packages' pages are on other hosts, and
# what only our own modules hand to each other is not documented.
nitpick_ignore_regex = [
    ("py:class", r"(collections\.abc|_?asyncio)\..*|Callable\[.*|FastAPI"),
    (
        "py:class",
        r"xinference_venv\..*|ActorClass|Limits|ModelProcess|Plain|T|UnreachableWorker|WorkerStatus",
    ),
]
