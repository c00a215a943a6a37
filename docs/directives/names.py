"""What single backquotes in docstrings mean: a documented object, or else an argument or a word."""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Element | None:
    """A link to the one object that has this name in any module; a bare word stays as code.

    None, which is a warning, for what is neither: types of signatures that nothing documents.
    """
    if node["refdomain"] != "py":
        return None
    name = node["reftarget"]
    objects = env.domains.python_domain.objects
    found = {
        (entry.docname, entry.node_id)
        for full, entry in objects.items()
        if full.endswith(f".{name}") and not entry.aliased
    }
    if len(found) == 1:
        document, anchor = found.pop()
        return make_refnode(app.builder, node["refdoc"], document, anchor, shown, name)
    return shown if node["reftype"] == "obj" else None
