"""Write the JSON Schemas of what the command line prints with ``--json``, one file for each.

python scripts/schemas.py docs/schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xinference_venv.cli.schemas import DOCUMENTS, schema_of


def main(folder: Path) -> None:
    """Write all of them, and delete those of documents that there are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        if stale.stem not in DOCUMENTS:
            stale.unlink()
    for name in DOCUMENTS:
        text = json.dumps(schema_of(name), indent=2)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
