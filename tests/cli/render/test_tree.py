from __future__ import annotations

from tests.fakes import locked
from xinference_venv.cli.render.text import lines_of
from xinference_venv.cli.render.tree import explanation
from xinference_venv.planning.lock import LockedDistribution, Role

DISTRIBUTIONS = [
    locked("app", size=2048, why="model: app[red]>=1", asked=True, requires=("lib", "torch")),
    locked("lib", version=None, why="model: app[red]>=1 -> lib", requires=("numpy",)),
    locked("numpy", Role.INHERITED, version="1.26.4", why="..."),
    locked("torch", Role.INHERITED, version="2.8", why="...", requires=("lib", "numpy")),
    locked("lib", Role.SHADOWED, version="0.9", why="1.0 is installed: model: app -> lib==1.0"),
    locked("old", Role.HIDDEN, version="0.1", why="it requires lib<1"),
]


def printed(distributions: list[LockedDistribution]) -> list[str]:
    return list(lines_of(explanation(distributions), None))


def test_the_tree_shows_what_brought_what_with_sizes() -> None:
    assert printed(DISTRIBUTIONS) == [
        "",
        "Installed in the environment: 2 packages, 2.00 KiB and 1 unknown",
        "Inherited from the host: 2 packages",
        "app 1.0, 2.00 KiB (model: app[red]>=1)",
        "├── lib as built, size unknown",
        "│   └── numpy 1.26.4, inherited",
        "└── torch 2.8, inherited",
        "    ├── lib as built (*)",
        "    └── numpy 1.26.4, inherited",
        "(*) its requirements are listed elsewhere",
        "",
        "Shadowed: packages of the host that installed ones replace: 1 package",
        "└── lib 0.9: 1.0 is installed: model: app -> lib==1.0",
        "",
        "Hidden: packages of the host that the environment does not show: 1 package",
        "└── old 0.1: it requires lib<1",
    ]


def test_a_lock_without_explanation_is_shown_whole() -> None:
    shown = printed([locked("a", size=10), locked("b", Role.INHERITED, why="required")])
    assert shown[-2:] == ["a 1.0, 10 B (model: it was asked for)", "b 1.0, inherited (required)"]


def test_an_empty_lock_shows_that_it_is_empty() -> None:
    assert [line for line in printed([]) if line] == [
        "Installed in the environment: 0 packages",
        "Inherited from the host: 0 packages",
    ]
