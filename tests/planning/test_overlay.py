"""What of a host is shown beside what is installed: decided over facts alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain, combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.fakes import distribution, host, interpreter, lock, locked
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.lock import Role
from xinference_venv.planning.overlay import (
    changed_names,
    differing_names,
    hidden_by,
    hidden_names,
    host_part,
    shown_names,
    still_sound,
)
from xinference_venv.settings import InheritMode

NUMPY = distribution("numpy", "1.26.4")
TORCH = distribution("torch", "2.8.0", "numpy")
SIX = distribution("six")
THEN = host(NUMPY, TORCH, SIX)

# numpy is replaced, six is not shown, torch is.
LOCK = replace(
    lock(),
    distributions=(
        locked("numpy", version="2.0"),
        locked("numpy", Role.SHADOWED),
        locked("torch", Role.INHERITED),
        locked("six", Role.HIDDEN),
    ),
)


def test_what_is_installed_under_the_name_of_a_host_distribution_shadows_it() -> None:
    installed = {"torch": "2.9", "numpy": None, "new": "1"}
    part = host_part(hidden_by(installed, THEN), installed, THEN)
    assert [(each.name, each.role, each.version) for each in part] == [
        ("numpy", Role.SHADOWED, "1.26.4"),
        ("torch", Role.SHADOWED, "2.8.0"),
    ]
    assert hidden_by({}, THEN) == {}


def test_a_hidden_distribution_is_distinguished_from_a_shadowed_one_and_keeps_its_reason() -> None:
    needs_old = distribution("pandas", "2.0", "numpy<2")
    facts = host(NUMPY, needs_old)
    hidden = hidden_by({"numpy": "2.0"}, facts)
    assert [(each.name, each.role, each.why) for each in host_part(hidden, {"numpy"}, facts)] == [
        ("numpy", Role.SHADOWED, "another one is installed in the environment"),
        ("pandas", Role.HIDDEN, "it requires numpy<2, the environment has numpy 2.0"),
    ]


@pytest.mark.parametrize(
    "first",
    ["six<1", "absent", "six"],
    ids=["that the host breaks itself", "that the host has not", "that holds"],
)
def test_a_requirement_before_it_does_not_keep_a_broken_one_from_counting(first: str) -> None:
    each = distribution("pandas", "2.0", first, "numpy<2")
    assert "pandas" in hidden_by({"numpy": "2.0"}, host(NUMPY, SIX, each))


@pytest.mark.parametrize("before", ["new", "six", "numpy"])
def test_what_is_installed_before_it_does_not_keep_a_compiled_partner_from_counting(
    before: str,
) -> None:
    other = distribution("torch", "2.8.0", compiled=True)
    each = distribution("vision", "1.0", "torch", compiled=True)
    facts = host(replace(NUMPY, compiled=True), SIX, other, each)
    installed = {before: "1.26.9", "torch": "2.9.0"}
    assert "it was compiled together with torch 2.8.0" in hidden_by(installed, facts)["vision"]


def test_what_is_shadowed_or_hidden_is_not_shown() -> None:
    assert hidden_names(LOCK) == {"numpy", "six"}
    assert hidden_names(lock()) == frozenset()


@pytest.mark.parametrize(
    "now",
    [
        THEN,
        host(SIX, TORCH, NUMPY),
        host(NUMPY, TORCH, SIX, distribution("new")),
        host(TORCH),
        host(distribution("numpy", "2.1"), TORCH, distribution("six", "2.0", "torch>3")),
        host(NUMPY, TORCH, SIX, skipped=("old: no version",)),
    ],
)
def test_a_lock_holds_while_what_is_shown_is_unchanged(now: HostFacts) -> None:
    assert still_sound(LOCK, THEN, now)


@pytest.mark.parametrize(
    "now",
    [
        host(NUMPY, SIX),
        host(NUMPY, distribution("torch", "2.8.1", "numpy"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", "sympy"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", extras=("dev",)), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", location="/elsewhere"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", metadata="torch.egg-info"), SIX),
        host(NUMPY, TORCH, SIX, interpreter=interpreter("3.11.8")),
        host(NUMPY, TORCH, SIX, interpreter=interpreter(tags=("py3-none-any",))),
        host(),
    ],
)
def test_a_lock_does_not_hold_when_what_is_shown_changed(now: HostFacts) -> None:
    assert not still_sound(LOCK, THEN, now)


def test_what_was_installed_again_is_another_unless_older_facts_do_not_tell() -> None:
    for then, now, sound in ((7, 7, True), (7, 8, False), (7, 0, False), (0, 8, True)):
        over, since = (host(NUMPY, replace(TORCH, inode=each), SIX) for each in (then, now))
        assert still_sound(LOCK, over, since) is sound


def test_what_is_gone_or_another_differs_and_what_was_only_installed_again_does_not() -> None:
    then = host(NUMPY, replace(TORCH, inode=7), SIX)
    now = host(distribution("numpy", "2.0"), replace(TORCH, inode=8), distribution("new"))
    assert differing_names(then, then) == frozenset()
    assert differing_names(then, now) == {"numpy", "six"}
    assert changed_names(then, now) == {"numpy", "six", "torch"}


changes = st.sampled_from(
    [
        lambda each: each,
        lambda each: replace(each, version="9"),
        lambda each: replace(each, requires=("six",)),
        lambda each: replace(each, location="/elsewhere"),
    ]
)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), changes), unique_by=lambda pair: pair[0]),
    st.frozensets(st.sampled_from("abcdef")),
)
def test_only_changes_of_what_is_shown_count(
    drawn: list[tuple[str, object]], hidden: frozenset[str]
) -> None:
    then = [distribution(name) for name, _ in drawn]
    now: list[HostDistribution] = [
        change(distribution(name))  # type: ignore[operator]
        for name, change in drawn
    ]
    over = replace(lock(), distributions=tuple(locked(name, Role.HIDDEN) for name in hidden))
    unchanged = all(
        one == other for one, other in zip(then, now, strict=True) if one.name not in hidden
    )
    assert still_sound(over, host(*then), host(*now)) is unchanged


# Hidden by requirements


def test_what_an_installed_version_breaks_is_hidden_and_the_reason_names_both() -> None:
    over = host(distribution("pandas", "2.1.4", "numpy<2"), distribution("numpy", "1.26.4"))
    hidden = hidden_by({"numpy": "2.1.0"}, over)
    assert hidden.keys() == {"numpy", "pandas"}
    assert hidden["pandas"] == "it requires numpy<2, the environment has numpy 2.1.0"


def test_what_an_installed_version_fits_stays() -> None:
    over = host(distribution("pandas", "2.1.4", "numpy<3"), distribution("numpy", "1.26.4"))
    assert hidden_by({"numpy": "2.1.0"}, over).keys() == {"numpy"}
    # A pre-release that lies in the range is what the environment chose to have.
    assert hidden_by({"numpy": "2.2.0rc1"}, over).keys() == {"numpy"}


def test_what_requires_something_hidden_is_hidden_along_the_whole_chain() -> None:
    over = host(
        distribution("top", "1.0", "middle"),
        distribution("middle", "1.0", "bottom"),
        distribution("bottom", "1.0", "numpy<2"),
        distribution("numpy", "1.0"),
        distribution("aside", "1.0", "numpy"),
    )
    hidden = hidden_by({"numpy": "2.0"}, over)
    assert hidden.keys() == {"top", "middle", "bottom", "numpy"}
    assert hidden["middle"] == "it requires bottom, which is hidden"
    assert hidden["top"] == "it requires middle, which is hidden"


def test_a_ring_of_requirements_is_hidden_whole_or_not_at_all() -> None:
    ring = (distribution("one", "1.0", "two"), distribution("two", "1.0", "one", "numpy<2"))
    over = host(*ring, distribution("numpy", "1.0"))
    assert hidden_by({}, over) == {}
    assert hidden_by({"other": "1.0"}, over) == {}
    assert hidden_by({"numpy": "2.0"}, over).keys() == {"one", "two", "numpy"}


def test_a_conflict_that_the_host_lives_with_hides_nothing() -> None:
    over = host(
        distribution("numba", "0.59", "numpy<2", "absent", "llvmlite"),
        distribution("numpy", "2.1"),
        distribution("llvmlite", "0.42"),
    )
    assert hidden_by({"numpy": "2.2", "absent": "1.0"}, over).keys() == {"numpy"}
    # What it does meet still counts.
    assert hidden_by({"llvmlite": "1.0"}, over).keys() == {"llvmlite"}


def test_a_requirement_that_does_not_apply_on_this_host_breaks_nothing() -> None:
    over = host(
        distribution(
            "lib",
            "1.0",
            'numpy<2 ; sys_platform == "win32"',
            'numpy<2 ; python_version < "3.9"',
            'numpy<2 ; extra == "old"',
            extras=("old",),
        ),
        distribution("numpy", "1.0"),
    )
    assert hidden_by({"numpy": "2.0"}, over).keys() == {"numpy"}


def test_an_extra_that_one_asks_of_another_is_its_own_need() -> None:
    over = host(
        distribution("server", "1.0", "uvicorn[Standard]"),
        distribution("client", "1.0", "uvicorn"),
        distribution("uvicorn", "1.0", 'httptools<1 ; extra == "standard"', extras=("standard",)),
        distribution("httptools", "0.6"),
    )
    hidden = hidden_by({"httptools": "1.0"}, over)
    assert hidden.keys() == {"httptools", "server"}
    assert "httptools<1" in hidden["server"]


def test_an_extra_that_asks_for_another_extra_is_followed() -> None:
    over = host(
        distribution("server", "1.0", "uvicorn[all]"),
        distribution(
            "uvicorn",
            "1.0",
            'uvicorn[standard] ; extra == "all"',
            'httptools<1 ; extra == "standard"',
            extras=("all", "standard"),
        ),
        distribution("httptools", "0.6"),
    )
    assert hidden_by({"httptools": "1.0"}, over).keys() == {"httptools", "server"}


def test_names_in_every_spelling_mean_the_same() -> None:
    over = host(
        distribution("lib", "1.0", "Ruamel.YAML<1", "typing_Extensions"),
        distribution("ruamel-yaml", "0.18"),
        distribution("typing-extensions", "4.0"),
    )
    assert hidden_by({"ruamel-yaml": "1.0"}, over).keys() == {"lib", "ruamel-yaml"}


@pytest.mark.parametrize(
    ("requirement", "shown"), [("lib", True), ("lib>=0", False), ("lib==1.0", False)]
)
def test_an_unknown_version_meets_only_who_asks_for_none(requirement: str, shown: bool) -> None:
    """A version-control install tells its version only when it is installed."""
    over = host(distribution("app", "1.0", requirement), distribution("lib", "1.0"))
    assert ("app" not in hidden_by({"lib": None}, over)) is shown


def test_what_must_be_visible_whatever_it_requires_is_hidden_only_when_it_is_replaced() -> None:
    over = host(
        distribution("cluster", "1.0", "numpy<2", "gone"),
        distribution("plugin", "1.0", "cluster"),
        distribution("numpy", "1.0"),
        distribution("gone", "1.0"),
    )
    assert hidden_by({"numpy": "2.0"}, over, exempt=("cluster",)).keys() == {"numpy"}
    replaced = hidden_by({"cluster": "2.0"}, over, exempt=("cluster",))
    assert replaced.keys() == {"cluster"}


# Hidden by compiled files, and by files that two share

COMPILED = host(
    distribution("torch", "2.4.1", "numpy", compiled=True),
    distribution("torchvision", "0.19.1", "torch", compiled=True),
    distribution("numpy", "1.26.4", compiled=True),
    distribution("plain", "1.0", "torch", "numpy"),
)


@pytest.mark.parametrize(
    ("installed", "hidden"),
    [
        # Whoever was compiled against the one that is replaced, and not what that is built on.
        ({"torch": "2.5.0"}, {"torch", "torchvision"}),
        ({"torch": "3.4.1"}, {"torch", "torchvision"}),
        ({"torch": "1!2.4.1"}, {"torch", "torchvision"}),
        ({"torch": None}, {"torch", "torchvision"}),
        ({"torchvision": "0.20.0"}, {"torchvision"}),
        ({"numpy": "1.27.0"}, {"numpy", "torch", "torchvision", "plain"}),
        # Another patch of the same minor version keeps its binary interface.
        ({"torch": "2.4.9"}, {"torch"}),
        ({"torch": "2.4.1+cu124"}, {"torch"}),
        ({"numpy": "1.26.0rc1"}, {"numpy"}),
    ],
)
def test_compiled_neighbours_go_with_another_minor_version(
    installed: dict[str, str | None], hidden: set[str]
) -> None:
    assert hidden_by(installed, COMPILED).keys() == hidden


def test_what_was_built_for_a_range_of_numpy_stays_within_it() -> None:
    numpy = distribution("numpy", "2.4.6", compiled=True)
    scipy = distribution("scipy", "1.17", "numpy", compiled=True)
    known = replace(scipy, built_with=("numpy",), numpy_range=">=2.1,<3")
    for each, version, is_hidden in [
        (scipy, "2.2.6", True),
        (known, "2.2.6", False),
        (known, "2.2.0rc1", False),
        (known, "2.0.2", True),
        (known, None, True),
        (replace(known, numpy_range=None), "2.2.6", True),
        (replace(known, built_with=(), numpy_range=None), "2.2.6", False),
    ]:
        assert ("scipy" in hidden_by({"numpy": version}, host(numpy, each))) is is_hidden


def test_the_reason_of_compiled_neighbours_names_both_versions() -> None:
    hidden = hidden_by({"torch": "2.5.0"}, COMPILED)
    assert hidden["torchvision"].startswith("it was compiled together with torch 2.4.1, ")
    assert hidden["torchvision"].endswith(" 2.5.0")


def test_who_has_no_compiled_files_or_no_requirement_is_bound_to_no_one() -> None:
    over = host(
        distribution("lib", "1.0", "numpy"),
        distribution("stranger", "1.0", compiled=True),
        distribution("numpy", "1.26.4", compiled=True),
    )
    assert hidden_by({"numpy": "2.0.0"}, over).keys() == {"numpy"}


@pytest.mark.parametrize("version", ["12.4.1", "12.4.2", "13.0", None])
def test_who_loads_libraries_of_another_goes_with_it_at_any_difference(version: str | None) -> None:
    over = host(
        distribution("torch", "2.4.1", bound_to=("nvidia-cublas",)),
        distribution("wrapper", "1.0", bound_to=("torch",)),
        distribution("nvidia-cublas", "12.4.1"),
    )
    hidden = hidden_by({"nvidia-cublas": version}, over)
    assert hidden.keys() == {"torch", "wrapper", "nvidia-cublas"}
    assert hidden["torch"] == "its compiled files load those of the host's nvidia-cublas 12.4.1"
    assert hidden["wrapper"] == "its compiled files load those of torch, which is hidden"


def test_owners_of_one_package_are_not_split_over_host_and_environment() -> None:
    """Of a regular package in two places only the first can be imported from."""
    over = host(
        distribution("nvidia-cublas", "12.4", shares=("nvidia-cudnn",)),
        distribution("nvidia-cudnn", "9.1", shares=("nvidia-cublas",)),
        distribution("other", "1.0"),
    )
    hidden = hidden_by({"nvidia-cudnn": "9.1"}, over)
    assert hidden.keys() == {"nvidia-cublas", "nvidia-cudnn"}
    assert "shares a package with nvidia-cudnn" in hidden["nvidia-cublas"]


# Hidden is the least fixpoint

NAMES = "abcd"
VERSIONS = ("1.0", "1.1", "2.0")
versions = st.sampled_from(VERSIONS)
names = st.sampled_from(NAMES)
requirements = st.builds(
    "{}{}{}".format,
    names,
    st.sampled_from(["", "[x]"]),
    st.sampled_from(
        ["", ">=1.1", "<2", "==1.0", '<2 ; extra == "x"', ' ; sys_platform == "win32"']
    ),
)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[HostDistribution, ...]:
    some = draw(st.lists(names, unique=True, min_size=1))
    return tuple(
        distribution(
            name,
            draw(versions),
            *draw(st.lists(requirements, max_size=2)),
            extras=("x",),
            compiled=draw(st.booleans()),
            bound_to=tuple(draw(st.frozensets(names, max_size=1))),
            shares=tuple(draw(st.frozensets(names, max_size=1))),
        )
        for name in some
    )


def fits(
    each: HostDistribution,
    installed: Mapping[str, str | None],
    hidden: frozenset[str],
    over: HostFacts,
) -> bool:
    """Whether a distribution can be shown, said in the words of the design."""
    for need in over.needs[each.name]:
        if need.name not in over.versions or not need.allows(over.versions[need.name]):
            continue
        found = installed.get(need.name, over.versions[need.name])
        if not need.allows(found) or (need.name in hidden and need.name not in installed):
            return False
    for name, version in installed.items():
        other = over.by_name.get(name)
        if name in each.bound_to or name in each.shares:
            return False
        if other is None or not (each.compiled and other.compiled):
            continue
        if name in _required(each, over) and (
            version is None or Version(version).release[:2] != Version(other.version).release[:2]
        ):
            return False
    return hidden.isdisjoint(each.bound_to)


def _required(each: HostDistribution, over: HostFacts) -> set[str]:
    return {need.name for need in over.needs[each.name]}


def closed_sets(
    installed: Mapping[str, str | None], exempt: Collection[str], over: HostFacts
) -> Iterator[frozenset[str]]:
    """All that could be hidden so that what is left can be shown."""
    replaced = over.by_name.keys() & installed.keys()
    others = sorted(over.by_name.keys() - replaced)
    for more in chain.from_iterable(
        combinations(others, count) for count in range(len(others) + 1)
    ):
        hidden = frozenset({*replaced, *more})
        if all(
            each.name in hidden or each.name in exempt or fits(each, installed, hidden, over)
            for each in over.distributions
        ):
            yield hidden


@given(
    hosts(),
    st.dictionaries(names, st.none() | versions, max_size=3),
    st.frozensets(names, max_size=1),
    st.randoms(use_true_random=False),
)
def test_hidden_is_the_least_that_leaves_nothing_broken_in_whatever_order(
    distributions: tuple[HostDistribution, ...],
    installed: dict[str, str | None],
    exempt: frozenset[str],
    random: Random,
) -> None:
    over = host(*distributions)
    hidden = hidden_by(installed, over, exempt=exempt)
    least = frozenset.intersection(*closed_sets(installed, exempt, over))
    assert hidden.keys() == least
    shuffled = list(distributions)
    random.shuffle(shuffled)
    assert hidden_by(installed, host(*shuffled), exempt=exempt).keys() == least


@given(hosts())
def test_a_host_alone_is_shown_whole_whatever_is_wrong_with_it(
    distributions: tuple[HostDistribution, ...],
) -> None:
    assert hidden_by({}, host(*distributions)) == {}


# What the layer shows, by mode


def test_the_modes_show_all_but_the_hidden_or_the_inherited_alone() -> None:
    over = replace(THEN, distributions=(*THEN.distributions, distribution("cluster")))
    exact = replace(LOCK, inherit=InheritMode.EXACT)
    assert shown_names(LOCK, over, ()) == {"torch", "cluster"}
    assert shown_names(exact, over, ()) == {"torch"}
    assert shown_names(exact, over, ("cluster", "absent")) == {"torch", "cluster"}
    assert shown_names(exact, over, ("numpy",)) == {"torch"}
