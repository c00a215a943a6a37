"""Numbers of a checkout's structure: folders, importers, `Any`, hand-written codecs, lines.

usage: python scripts/structure.py [FOLDER OF THE PACKAGE]
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from pathlib import Path


def modules_of(package: Path) -> dict[str, ast.Module]:
    """The modules of a package by dotted name, parsed."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8"), str(path)
        )
        for path in sorted(package.rglob("*.py"))
    }


def importers(modules: dict[str, ast.Module]) -> Counter[str]:
    """How many modules import each module."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for target in (node.module, *(f"{node.module}.{each.name}" for each in node.names)):
                    if target in modules and target != name:
                        found[target].add(name)
    return Counter({name: len(found[name]) for name in modules if not name.endswith("__init__")})


def codec_lines(tree: ast.Module) -> int:
    """Lines of functions that write or read plain JSON values by hand."""
    return sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in ("to_dict", "from_dict")
    )


def main(package: Path) -> None:
    """Print a row for each folder, then the sums."""
    modules = modules_of(package)
    sources = {
        name: package.parent.joinpath(*name.split(".")).with_suffix(".py").read_text("utf-8")
        for name in modules
    }
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, tree in modules.items():
        folder = name.split(".")[1] if name.count(".") > 1 else "(top)"
        lines = len(sources[name].splitlines())
        uses = sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
        rows[folder] = [a + b for a, b in zip(rows[folder], (1, lines, uses), strict=True)]
    print(f"{'folder':16}{'modules':>8}{'lines':>8}{'Any per 1,000 lines':>22}")
    for folder, (count, lines, uses) in sorted(rows.items()):
        print(f"{folder:16}{count:8}{lines:8}{1000 * uses / max(lines, 1):22.1f}")
    counts = importers(modules)
    once = sum(count == 1 for count in counts.values())
    total = sum(len(text.splitlines()) for text in sources.values())
    uses = sum(row[2] for row in rows.values())
    schemas = sum(
        len(text.splitlines())
        for name, text in sources.items()
        if name.split(".")[1:2] == ["rest"]
        and ("schemas" in name or name.endswith((".bodies", ".parts", ".replies", ".documents")))
    )
    print(f"modules {len(modules)}, of them with one importer {once}; lines {total}")
    print(f"Any per 1,000 lines {1000 * uses / total:.1f}")
    print(f"lines of to_dict and from_dict {sum(map(codec_lines, modules.values()))}")
    print(f"lines of REST schemas {schemas}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "xinference_venv")
