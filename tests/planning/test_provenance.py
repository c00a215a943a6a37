from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import distribution, host, locked
from xinference_venv.planning.lock import LockedDistribution, Role
from xinference_venv.planning.provenance import (
    Tree,
    branches_of,
    chains,
    explain_distributions,
)
from xinference_venv.planning.pylock import REQUEST

EDGES = {
    "flask": (REQUEST,),
    "jinja-2": ("flask",),
    "via-media": ("flask",),
    "private": (REQUEST,),
    "pinned": (),
}


def test_a_chain_leads_from_the_request_to_each_distribution() -> None:
    assert chains(EDGES) == {
        "flask": ("flask",),
        "jinja-2": ("flask", "jinja-2"),
        "via-media": ("flask", "via-media"),
        "private": ("private",),
    }


def test_of_equally_long_chains_the_first_by_name_is_taken() -> None:
    edges = {"z": (REQUEST,), "a": (REQUEST,), "m": ("z", "a"), "n": ("m", REQUEST)}
    assert chains(edges)["m"] == ("a", "m")
    assert chains(edges)["n"] == ("n",)


NAMES = st.sampled_from([f"p{number}" for number in range(8)])
WORLDS = st.dictionaries(NAMES, st.lists(st.one_of(NAMES, st.just(REQUEST)), unique=True))


def reached(edges: dict[str, list[str]]) -> dict[str, int]:
    """How many steps from the request each distribution is away, by going round until it stays."""
    steps = {REQUEST: 0}
    while True:
        further = {
            name: 1 + min(steps[each] for each in requirers if each in steps)
            for name, requirers in edges.items()
            if name not in steps and any(each in steps for each in requirers)
        }
        if not further:
            return {name: count for name, count in steps.items() if name != REQUEST}
        steps |= {name: count for name, count in further.items() if count == min(further.values())}


@given(WORLDS)
def test_whatever_is_reachable_has_a_shortest_path_of_the_edges(
    edges: dict[str, list[str]],
) -> None:
    found = chains(edges)
    assert {name: len(chain) for name, chain in found.items()} == reached(edges)
    for name, chain in found.items():
        assert chain[-1] == name
        for requirer, required in zip((REQUEST, *chain), chain, strict=False):
            assert requirer in edges[required]


@given(WORLDS, st.randoms(use_true_random=False))
def test_chains_do_not_depend_on_the_order_of_the_edges(
    edges: dict[str, list[str]], random: Random
) -> None:
    shuffled = {
        name: random.sample(edges[name], len(edges[name]))
        for name in random.sample(list(edges), len(edges))
    }
    assert chains(shuffled) == chains(edges)


@given(WORLDS)
def test_the_tree_shows_each_distribution_and_expands_it_once(edges: dict[str, list[str]]) -> None:
    distributions = explain_distributions(map(locked, edges), edges, reasons={}, host=host())
    by_name = {each.name: each for each in distributions}
    branches = branches_of(distributions)
    assert sorted(branch.distribution.name for branch in branches if branch.first) == sorted(edges)
    for position, branch in enumerate(branches):
        above = [branches[branch.parent]] if branch.parent is not None else []
        assert all(branch.distribution.name in each.distribution.requires for each in above)
        below = [each.distribution.name for each in branches if each.parent == position]
        expected = by_name[branch.distribution.name].requires if branch.first else ()
        assert tuple(below) == expected
    for name, chain in chains(edges).items():
        [place] = [each for each in branches if each.first and each.distribution.name == name]
        path = [name]
        while place.parent is not None:
            place = branches[place.parent]
            path.insert(0, place.distribution.name)
        assert tuple(path) == chain


HOST = host(
    distribution(
        "torch", "2.8.0", 'sympy>=1.13; python_version >= "3.9"', "Net_Works[fast,auth]", "fsspec"
    ),
    distribution("sympy", "1.13.1", "mpmath<1.4,>=1.1.0"),
    distribution("net-works", "3.4"),
    distribution("fsspec", "2023.1"),
    distribution("old", "0.1"),
)


def why_of(*distributions: LockedDistribution) -> dict[tuple[str, Role], str]:
    edges = {
        "accelerate": (REQUEST,),
        "torch": ("accelerate",),
        "sympy": ("torch",),
        "net-works": ("torch",),
        "fsspec": ("torch", "accelerate"),
        "tip": (REQUEST,),
        "lib": ("tip",),
    }
    found = explain_distributions(
        distributions, edges, reasons={"accelerate": "model: accelerate>=1"}, host=HOST
    )
    return {(each.name, each.role): each.why for each in found}


INHERITED = [
    locked(name, Role.INHERITED, version=HOST.versions[name])
    for name in ("torch", "sympy", "net-works")
]
INSTALLED = [
    locked("accelerate", version="1.2"),
    locked("fsspec", version="2025.1"),
    locked("tip", version=None),
    locked("lib", version=None),
]


def test_a_step_is_the_requirement_where_it_is_known_and_else_the_version() -> None:
    why = why_of(*INSTALLED, *INHERITED)
    root = "model: accelerate>=1"
    assert why["accelerate", Role.INSTALLED] == root
    assert why["torch", Role.INHERITED] == f"{root} -> torch==2.8.0"
    assert why["sympy", Role.INHERITED] == f"{root} -> torch==2.8.0 -> sympy>=1.13"
    assert why["net-works", Role.INHERITED] == f"{root} -> torch==2.8.0 -> net-works[auth,fast]"
    assert why["fsspec", Role.INSTALLED] == f"{root} -> fsspec==2025.1"
    assert why["tip", Role.INSTALLED] == "the request: tip, by its URL"
    assert why["lib", Role.INSTALLED] == "the request: tip, by its URL -> lib"


def test_what_is_shadowed_is_so_because_of_what_forced_the_installed_one() -> None:
    shadowed = locked("fsspec", Role.SHADOWED, version="2023.1", why="another one")
    hidden = locked("old", Role.HIDDEN, version="0.1", why="it requires fsspec<2024")
    inherited_too = locked("torch", Role.HIDDEN, version="2.8.0", why="it requires fsspec<2024")
    unversioned = locked("tip", Role.SHADOWED, version="1.0", why="another one")
    why = why_of(*INSTALLED, *INHERITED, shadowed, hidden, inherited_too, unversioned)
    assert why["fsspec", Role.SHADOWED] == (
        "2025.1 is installed: model: accelerate>=1 -> fsspec==2025.1"
    )
    assert why["tip", Role.SHADOWED] == ("another one is installed: the request: tip, by its URL")
    assert why["old", Role.HIDDEN] == "it requires fsspec<2024"
    assert why["torch", Role.HIDDEN] == "it requires fsspec<2024"


def test_what_is_required_is_reported_of_each_and_what_is_not_in_the_lock_is_left_out() -> None:
    edges = {"b": (REQUEST, "a"), "a": (REQUEST,), "c": ("b",), "absent": ("a",), "d": ("absent",)}
    a, b, c, d = explain_distributions(map(locked, "dcba"), edges, reasons={}, host=host())
    assert (a.asked, a.requires) == (True, ("b",))
    assert (b.asked, b.requires) == (True, ("c",))
    assert (c.asked, c.requires) == (False, ())
    assert (d.asked, d.why) == (False, locked("d").why)


def test_a_listing_becomes_the_tree_and_what_is_not_shown() -> None:
    a, b = locked("a", asked=True, requires=("b",)), locked("b", Role.INHERITED)
    hidden, shadowed = locked("c", Role.HIDDEN), locked("a", Role.SHADOWED)
    assert Tree.of((hidden, b, shadowed, a)).to_dict() == {
        "tree": [
            {**a.to_dict(), "parent": None, "first": True},
            {**b.to_dict(), "parent": 0, "first": True},
        ],
        "not_shown": [shadowed.to_dict(), hidden.to_dict()],
    }


def test_what_a_root_requires_has_a_chain_from_it_and_stands_below_it() -> None:
    edges = {"wheel": (REQUEST,), "cloud": ("xo",), "numpy": ("wheel", "cloud"), "xo": ()}
    reasons = {"wheel": "model: wheel", "xo": "xo must be importable"}
    found = explain_distributions(
        (locked(name, version="1") for name in edges), edges, reasons=reasons, host=host()
    )
    assert {each.name: each.why for each in found} == {
        "wheel": "model: wheel",
        "numpy": "model: wheel -> numpy==1",
        "xo": "xo must be importable",
        "cloud": "xo must be importable -> cloud==1",
    }
    shown = [(each.distribution.name, each.parent) for each in branches_of(found)]
    assert shown == [("wheel", None), ("numpy", 0), ("xo", None), ("cloud", 2), ("numpy", 3)]


def test_what_nothing_is_known_of_keeps_its_reason_and_stands_at_the_top() -> None:
    unknown = locked("a", requires=("b", "gone")), locked("b", requires=("a",))
    assert explain_distributions(unknown, {}, reasons={}, host=host()) == tuple(
        replace(each, requires=()) for each in unknown
    )
    assert [(each.distribution.name, each.parent, each.first) for each in branches_of(unknown)] == [
        ("a", None, True),
        ("b", 0, True),
        ("a", 1, False),
    ]
