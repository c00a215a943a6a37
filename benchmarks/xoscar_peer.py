"""`xoscar.virtualenv` as a worker has it: runs inside the host's interpreter.

It is a program by itself, since it needs nothing but xoscar there. Reads a question a line from
standard input, JSON, and answers each with a line; what uv prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from xoscar.virtualenv import get_virtual_env_manager


def answer(question: dict[str, Any]) -> list[str]:
    """Make the environment; with `plan` only tell what would be installed into it."""
    manager = get_virtual_env_manager("uv", Path(question["env"]))
    manager.create_env(python_path=Path(sys.executable))
    packages, sources = question["packages"], question["sources"]
    if not question["plan"]:
        manager.install_packages(
            packages, skip_installed=question["skip_installed"], **question["sources"]
        )
        return []
    packages = manager.process_packages(packages)
    if question["skip_installed"]:
        return list(manager._filter_packages_not_installed(packages, **sources))
    return list(manager._resolve_install_plan(packages, {}, **sources))


def main() -> None:
    """Answer until there are no more questions."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            try:
                told = {"told": answer(json.loads(line))}
            except Exception as error:  # noqa: BLE001
                # The edge of the process: whoever asked has to know.
                told = {"error": [f"{type(error).__name__}: {error}"]}
            answers.write(json.dumps(told) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
