"""The list of settings: the fields of `xinference_venv.config.Settings` and their defaults."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import Enum
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from xinference_venv.settings import Settings

_PAGE = Path(__file__).parents[1] / "settings.md"
_VARIABLE = re.compile(r"``([A-Z_]+)``")
_LOGGER = logging.getLogger(__name__)


def settings() -> str:
    """A line for each setting: its field, type and default, its variable and what it means."""
    documented = ModuleAnalyzer.for_module(Settings.__module__).find_attr_docs()
    defaults = Settings.from_environ({}, home_directory="~")
    page = _PAGE.read_text()
    lines = []
    for field in fields(Settings):
        told = " ".join(documented[Settings.__name__, field.name])
        for variable in _VARIABLE.findall(told):
            if f"| `{variable}` |" not in page:
                _LOGGER.warning("%s does not describe %s", _PAGE.name, variable)
        default = getattr(defaults, field.name)
        shown = str(default) if isinstance(default, Enum) else repr(default)
        lines.append(f"- `{field.name}` (`{field.type}`, by default `{shown}`): {told.strip()}")
    return "\n".join(lines)
