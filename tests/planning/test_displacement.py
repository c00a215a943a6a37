"""Which distributions of the host give way: by what failures tell, by age and by bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from tests.fakes import distribution, host, wheel_package
from xinference_venv.planning.displacement import (
    HostSearch,
    combine,
    contradicted_pins,
    cost_of,
    displaced_by,
    kept_warning,
    lowest_allowed,
    older_kept,
    older_than,
    older_warning,
    relaxed_warning,
    too_old,
)
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution

HALF_A_YEAR = timedelta(days=180)


def resolution(
    installed: Mapping[str, str],
    inherited: Mapping[str, str] | None = None,
    *,
    days: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
    requires: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> Resolution:
    packages = []
    for name, version in installed.items():
        package = wheel_package(name, version)
        package["wheels"][0]["size"] = (sizes or {}).get(name, 1000)
        packages.append(package)
    began = datetime(2025, 1, 1, tzinfo=UTC)
    return Resolution(
        packages=tuple(packages),
        inherited=inherited or {},
        uploaded={name: began + timedelta(days=day) for name, day in (days or {}).items()},
        requires={
            name: tuple(Dependency(name=other, ranges=ranges) for other, ranges in each)
            for name, each in (requires or {}).items()
        },
    )


# The search

Conflicts = frozenset[frozenset[str]]
NAMES = "abcdefgh"
conflicts = st.frozensets(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=5)
prices = st.fixed_dictionaries({name: st.integers(0, 5) for name in NAMES})


def search(against: Conflicts, price: Mapping[str, int]) -> tuple[frozenset[str], int]:
    """What is kept in the end where names of a conflict can't all be; and the passes it took."""
    made = HostSearch(offered=frozenset(NAMES), cost=price.__getitem__)
    passes = 0
    while True:
        kept = made.next(frozenset())
        assert kept is not None
        passes += 1
        broken = next((each for each in sorted(map(sorted, against)) if {*each} <= kept), None)
        if broken is None:
            return kept, passes
        words = ", ".join(f"{name}==1.0" for name in broken)
        assert made.learn(kept, f"Because {words} and others, we can conclude nothing good.")


@given(conflicts, prices)
def test_what_gives_way_is_the_cheapest_that_will_do(
    against: Conflicts, price: Mapping[str, int]
) -> None:
    kept, passes = search(against, price)
    released = frozenset(NAMES) - kept
    spent = sum(price[name] for name in released)
    subsets: list[frozenset[str]] = [frozenset()]
    for name in NAMES:
        subsets += [each | {name} for each in subsets]
    fitting = [each for each in subsets if all(conflict & each for conflict in against)]
    assert spent == min(sum(price[name] for name in each) for each in fitting)
    assert passes <= 2 ** len(against)


def test_what_only_the_host_has_is_kept_after_all_where_nothing_else_serves() -> None:
    made = HostSearch(
        offered=frozenset({"inhouse", "numpy"}), cost={"inhouse": 0, "numpy": 5}.__getitem__
    )
    everything = made.next(frozenset())
    assert everything == frozenset({"inhouse", "numpy"})
    assert made.learn(everything, "inhouse==1.0 depends on numpy<2, and you require numpy>=2")
    without = made.next(frozenset())
    assert without == frozenset({"numpy"})
    assert made.learn(without, "Because inhouse was not found in the package registry")
    assert made.next(frozenset()) == frozenset({"inhouse"})


def test_what_fails_without_the_host_tells_what_of_it_has_to_serve() -> None:
    made = HostSearch(offered=frozenset({"bee", "dog"}), cost=lambda _: 0)
    assert made.learn(made.offered, "bee==1.0 depends on ant>=1.1, and you require bee")
    assert made.learn(frozenset(), "all versions of dog depend on ant>=1.1, and you require dog")
    assert made.next(frozenset()) == frozenset({"dog"})
    # What fails with the host's copy as well as with another one fails with any.
    assert made.learn(frozenset({"dog"}), "all versions of dog depend on ant>=1.1")
    assert made.next(frozenset()) is None


def test_a_failure_that_names_nothing_of_the_host_ends_the_search() -> None:
    made = HostSearch(offered=frozenset({"numpy"}), cost=lambda _: 0)
    assert not made.learn(frozenset({"numpy"}), "app<2 is required and app>=2 as well")
    assert made.next(frozenset()) is None


def test_a_name_that_uv_breaks_over_two_lines_is_read() -> None:
    made = HostSearch(offered=frozenset({"huggingface-hub", "hub"}), cost=lambda _: 0)
    made.learn(made.offered, "Because transformers depends on huggingface-\n  hub>=1")
    assert made.next(frozenset()) == frozenset({"hub"})


def test_of_what_is_equally_cheap_the_first_by_name_gives_way() -> None:
    made = HostSearch(offered=frozenset("abc"), cost=lambda _: 1)
    made.learn(made.offered, "a, b and c can't be together")
    assert made.next(frozenset()) == frozenset("bc")


def test_a_search_among_very_many_choices_ends() -> None:
    asked = 0

    def cost(_: str) -> int:
        nonlocal asked
        asked += 1
        assert asked < 1_000_000
        return 1

    groups = [[f"{group}{number}" for number in range(6)] for group in "abcdefghij"]
    made = HostSearch(offered=frozenset(name for group in groups for name in group), cost=cost)
    for group in groups:
        made.learn(made.offered, " ".join(group))
    kept = made.next(frozenset())
    assert kept is not None
    assert all(kept.isdisjoint(group) is False and not kept >= {*group} for group in groups)


# What can't serve beside the newest


def test_what_the_newest_excludes_is_displaced_and_what_hangs_on_it_too() -> None:
    facts = host(
        distribution("numpy", "1.26.4", compiled=True),
        distribution("scipy", "1.11.4", "numpy", compiled=True),
        distribution("idna", "3.0"),
        distribution("unrelated", "1.0", "numpy<2"),
    )
    fresh = resolution(
        {"app": "2.0", "numpy": "2.3.0", "scipy": "1.16.0", "idna": "3.10"},
        requires={
            "app": [("numpy", ">=2"), ("scipy", "*"), ("idna", ">=3, <4")],
            "scipy": [("numpy", ">=1.25")],
        },
    )
    offered = frozenset(facts.by_name)
    assert displaced_by(fresh, facts, offered=offered, asked=["app"]) == frozenset(
        {"numpy", "scipy"}
    )


def test_what_a_served_one_requires_of_the_host_is_displaced_with_it() -> None:
    facts = host(
        distribution("numpy", "1.26.4"),
        distribution("a", "1.0", "b"),
        distribution("b", "1.0", "numpy<2"),
    )
    fresh = resolution(
        {"app": "2.0", "numpy": "2.3.0", "a": "1.0", "b": "1.0"},
        requires={"app": [("a", "*"), ("numpy", ">=2")]},
    )
    found = displaced_by(fresh, facts, offered={*facts.by_name}, asked=["app"])
    assert found == {"numpy", "a", "b"}


def test_an_exempt_one_stays_whatever_gives_way() -> None:
    facts = host(distribution("numpy", "1.26.4"), distribution("tool", "1.0", "numpy<2"))
    fresh = resolution(
        {"app": "2.0", "numpy": "2.3.0", "tool": "1.0"},
        requires={"app": [("tool", "*"), ("numpy", ">=2")]},
    )
    offered = {*facts.by_name}
    assert displaced_by(fresh, facts, offered=offered, asked=["app"]) == {"numpy", "tool"}
    found = displaced_by(fresh, facts, offered=offered, asked=["app"], exempt=["tool"])
    assert found == {"numpy"}


def test_what_was_taken_of_the_host_first_is_followed_again_once_it_is_displaced() -> None:
    facts = host(distribution("n", "1.0"), distribution("m", "1.0"))
    fresh = resolution(
        {"app": "2.0", "n": "2.0", "m": "2.0"},
        requires={"app": [("n", ">=2")], "n": [("m", ">=2")]},
    )
    found = displaced_by(fresh, facts, offered={"n", "m"}, asked=["app", "n"])
    assert found == {"n", "m"}


def test_a_name_that_is_asked_for_twice_ends_nothing() -> None:
    facts = host(distribution("n", "1.0"))
    fresh = resolution({"last": "1.0", "a": "1.0", "n": "2.0"}, requires={"last": [("n", ">=2")]})
    found = displaced_by(fresh, facts, offered={"n"}, asked=["last", "a", "a"])
    assert found == {"n"}


def test_each_round_adds_to_what_was_displaced_before() -> None:
    facts = host(
        distribution("z", "1.0"),
        distribution("x", "1.0", "z<2"),
        distribution("w", "1.0"),
        distribution("y", "1.0", "w<2"),
    )
    fresh = resolution(
        {"app": "2.0", "z": "2.0", "x": "2.0", "w": "2.0", "y": "2.0"},
        requires={"app": [("x", "*"), ("y", "*"), ("z", ">=2")], "x": [("w", ">=2")]},
    )
    found = displaced_by(fresh, facts, offered={*facts.by_name}, asked=["app"])
    assert found == {"z", "x", "w", "y"}


def test_where_everything_fits_nothing_is_displaced() -> None:
    facts = host(distribution("numpy", "2.8.0a0+local.5"))
    fresh = resolution(
        {"app": "2.0", "numpy": "2.9"}, requires={"app": [("numpy", ">=2.0, <2.7 | >=2.8.dev0")]}
    )
    assert displaced_by(fresh, facts, offered=frozenset({"numpy"}), asked=["app"]) == frozenset()


# Age


def test_what_is_asked_for_is_too_old_after_half_a_year() -> None:
    fresh = resolution({"app": "2.0", "lib": "5.0"}, days={"app": 400, "lib": 400})
    young = resolution({"app": "1.0", "lib": "1.0"}, days={"app": 300, "lib": 0})
    old = resolution({"app": "1.9"}, days={"app": 100})
    for found, expected in ((young, []), (old, ["app"])):
        late = too_old(fresh, found, asked=["app"], kept=["numpy"], limit=HALF_A_YEAR)
        assert sorted(late) == expected


@pytest.mark.parametrize(
    ("version", "late"),
    [("2.9", False), ("2.7.5", False), ("2.6", True), ("1.9", True), ("1!0.1", False)],
)
def test_without_a_date_two_minor_versions_are_allowed(version: str, late: bool) -> None:
    fresh, found = resolution({"app": "2.9"}), resolution({"app": version})
    asked = too_old(fresh, found, asked=["app"], kept=[], limit=HALF_A_YEAR)
    assert bool(asked) is late


def test_an_ancient_release_that_requires_nothing_is_no_way_to_keep_the_host() -> None:
    fresh = resolution({"app": "1.0", "parent": "9.0", "numpy": "2.0"})
    evading = resolution({"app": "1.0", "parent": "0.1"})
    keeping = resolution({"app": "1.0", "parent": "0.1"}, {"numpy": "1.0"})
    for found, expected in ((evading, ["parent"]), (keeping, [])):
        late = too_old(fresh, found, asked=["app"], kept=["numpy"], limit=HALF_A_YEAR)
        assert sorted(late) == expected


def test_the_lock_says_which_is_older_how_much_and_what_keeps_it() -> None:
    fresh = resolution({"app": "2.0"}, days={"app": 130})
    [older] = older_than(fresh, resolution({"app": "1.9"}, days={"app": 30})).values()
    assert older_warning(older, ["numpy"], host(distribution("numpy", "1.26.4"))) == (
        "app 1.9 is taken although there is 2.0, 100 days later, since the host's numpy 1.26.4"
        " is kept; ask for app>=2.0 to have it, or launch with --inherit none"
    )


def test_without_dates_and_without_what_is_kept_the_lock_says_what_it_knows() -> None:
    facts = host(distribution("numpy", "1.26.4"), distribution("torch", "2.8.0"))
    [older] = older_than(resolution({"app": "2.0"}), resolution({"app": "1.9"})).values()
    asked = "; ask for app>=2.0 to have it, or launch with --inherit none"
    begin = "app 1.9 is taken although there is 2.0, since"
    assert older_warning(older, [], facts) == f"{begin} it fits{asked}"
    assert older_warning(older, ["numpy", "torch"], facts) == (
        f"{begin} the host's numpy 1.26.4, torch 2.8.0 are kept{asked}"
    )


def test_only_what_both_have_in_known_versions_is_older() -> None:
    found = resolution({"app": "1.9", "same": "2.0", "newer": "3.0", "only": "1.0"})
    fresh = resolution({"app": "2.0", "same": "2.0", "newer": "2.0"}, days={"app": 7})
    assert [(each.name, each.by) for each in older_than(fresh, found).values()] == [("app", None)]


def test_just_as_old_as_the_limit_is_not_too_old() -> None:
    fresh, found = (
        resolution({"app": "2.0"}, days={"app": 180}),
        resolution({"app": "1.0"}, days={"app": 0}),
    )
    [older] = older_than(fresh, found).values()
    assert not older.exceeds(HALF_A_YEAR)
    assert older.exceeds(timedelta(days=179))


def test_another_build_of_the_same_release_is_not_older_and_none_is_asked_for() -> None:
    fresh = resolution({"torch": "2.9.1+cpu"})
    assert older_than(fresh, resolution({"torch": "2.9.1"})) == {}
    [older] = older_than(fresh, resolution({"torch": "2.8.0+cu128"})).values()
    Requirement(f"torch>={older.newest}")


def test_what_gives_way_for_good_is_not_offered_again_and_its_failures_are_settled() -> None:
    made = HostSearch(offered=frozenset({"a", "b", "c"}), cost=lambda _: 1)
    made.learn(made.offered, "a and b can't be together")
    made.learn(frozenset({"c"}), "c without b does not work")
    assert made.named == frozenset({"a", "b", "c"})
    made.give_up(["b"])
    assert made.offered == frozenset({"a", "c"})
    # The first failure needs nothing more; the second one only that `c` gives way.
    assert made.next(frozenset()) == frozenset({"a"})


def test_what_is_expected_to_be_displaced_is_not_kept_unless_that_can_not_be() -> None:
    made = HostSearch(offered=frozenset({"a", "b"}), cost=lambda _: 1)
    assert made.next(frozenset({"a", "absent"})) == frozenset({"b"})
    made.learn(frozenset({"b"}), "a is not in the package registry")
    assert made.next(frozenset({"a"})) == frozenset({"a", "b"})


@pytest.mark.parametrize(
    ("version", "lowest"),
    [
        *(("2.9.1", "2.7"), ("1.1", "1.0"), ("1!3.5", "1!3.3"), ("2026.9", "2026.7")),
        ("1.0rc1+cpu", "1.0rc1"),
    ],
)
def test_two_minor_versions_down_is_allowed(version: str, lowest: str) -> None:
    assert lowest_allowed(version) == lowest


@pytest.mark.parametrize("version", ["1.0rc1", "0.0.1.dev3", "0.0a1", "2!0.0b2", "1.0", "0.0.1+a"])
def test_the_version_itself_is_always_allowed(version: str) -> None:
    assert Version(lowest_allowed(version)) <= Version(version)


# Cost


def test_it_costs_what_is_to_be_downloaded_and_what_hangs_on_it() -> None:
    facts = host(
        distribution("torch", "2.9.0", compiled=True),
        distribution("torchvision", "0.24.0", "torch==2.9.0", compiled=True),
        distribution("numpy", "1.26.4"),
        distribution("setuptools", "65.0"),
    )
    fresh = resolution(
        {"torch": "2.10.0", "torchvision": "0.25.0", "numpy": "2.3.0", "setuptools": "80.0"},
        sizes={"torch": 900, "torchvision": 80, "numpy": 20, "setuptools": 10},
    )
    cost = cost_of(fresh, facts)
    assert [cost(name) for name in ("torch", "torchvision", "numpy")] == [980, 80, 20]
    # Nothing is kept for the installer tools of the host, and what nobody needs costs nothing.
    assert [cost(name) for name in ("setuptools", "absent")] == [0, 0]
    assert cost_of(None, facts)("torch") == 0


def test_what_is_asked_for_and_kept_in_an_old_release_is_a_warning() -> None:
    fresh = resolution({"app": "2.9", "lib": "3.0", "tool": "1.4", "new": "1.0"})
    found = resolution({"new": "1.0"}, {"app": "2.1", "lib": "1.0", "tool": "1.2", "own": "1.0"})
    older = older_kept(fresh, found, asked=["app", "tool", "new", "own", "absent"])
    assert {*older} == {"app"}
    assert kept_warning(older["app"]) == (
        "the host's app 2.1 is kept although there is 2.9; ask for app>=2.9 to have it, or launch"
        " with --inherit none"
    )


# The newest over the host

FRESH = resolution(
    {"app": "1.0", "lib": "2.0", "leaf": "3.0", "other": "3.0"},
    days={"app": 1, "leaf": 2},
    requires={
        REQUEST: [("app", ">=1")],
        "app": [("lib", ">=2"), ("other", "*")],
        "lib": [("leaf", ">=1, <4")],
    },
)
HOST = host(
    distribution("lib", "1.0"),
    distribution("leaf", "1.5"),
    distribution("other", "1.0", "leaf>=1"),
    distribution("process", "1.0", "absent"),
)


def test_the_newest_is_combined_with_what_of_the_host_serves() -> None:
    found = combine(FRESH, HOST, serving={"leaf", "other"}, roots=[])
    assert found is not None
    assert found.installed == {"app": "1.0", "lib": "2.0"}
    assert found.inherited == {"leaf": "1.5", "other": "1.0"}
    assert {*found.uploaded} == {"app", "leaf"}
    assert found.requirers == {
        "app": (REQUEST,),
        "lib": ("app",),
        "leaf": ("lib", "other"),
        "other": ("app",),
    }
    alone = combine(FRESH, HOST, serving=[], roots=[])
    assert alone is not None
    assert (alone.installed, alone.inherited) == (FRESH.installed, {})


def test_what_the_request_asks_for_is_the_hosts_where_that_serves() -> None:
    asked = [Dependency(name=name, ranges="*") for name in ("app", "leaf", "leaf")]
    found = combine(
        replace(FRESH, requires={**FRESH.requires, REQUEST: tuple(asked)}),
        HOST,
        serving={"leaf"},
        roots=[],
    )
    assert found is not None
    assert found.installed == {"app": "1.0", "lib": "2.0", "other": "3.0"}
    assert found.inherited == {"leaf": "1.5"}
    # Nothing is asked for besides what must be there.
    alone = combine(replace(FRESH, requires={}), HOST, serving=[], roots=["leaf"])
    assert alone is not None
    assert alone.installed == {"leaf": "3.0"}


def test_what_is_exempt_serves_although_something_installed_breaks_it() -> None:
    needs_old = distribution("other", "1.0", "lib<2")
    over = host(needs_old, *HOST.distributions[:2])
    assert combine(FRESH, over, serving={"other"}, roots=[]) is None
    found = combine(FRESH, over, serving={"other"}, roots=[], exempt=["other"])
    assert found is not None
    assert found.inherited == {"other": "1.0"}


def test_what_serves_requires_what_the_host_says() -> None:
    other = distribution("other", "1.0", "leaf>=1", "lib", "extra-one[x]")
    extra = distribution("extra-one", "1.0", extras=("x",))
    over = host(other, extra, *HOST.distributions[:2])
    found = combine(replace(FRESH, requires={}), over, serving=over.by_name.keys(), roots=["other"])
    assert found is not None
    assert found.requires["other"] == (
        Dependency(name="leaf", ranges=">=1", extras=False),
        Dependency(name="lib", ranges="*", extras=False),
        Dependency(name="extra-one", ranges="*", extras=True),
    )


def test_what_only_a_resolver_can_tell_is_no_combination() -> None:
    # A version that does not fit; what is broken by what is installed; what nobody has.
    assert combine(FRESH, HOST, serving={"lib"}, roots=[]) is None
    needs_old = distribution("other", "1.0", "lib<2")
    assert (
        combine(FRESH, host(needs_old, *HOST.distributions[:2]), serving={"other"}, roots=[])
        is None
    )
    assert combine(FRESH, HOST, serving={"process"}, roots=["process"]) is None
    assert combine(FRESH, HOST, serving={"leaf"}, roots=["process"]) is None
    # An extra of a host distribution.
    asking = (Dependency(name="other", ranges="*", extras=True),)
    with_extra = replace(FRESH, requires={**FRESH.requires, "lib": asking})
    assert combine(with_extra, HOST, serving={"other"}, roots=[]) is None
    assert combine(with_extra, HOST, serving={"leaf"}, roots=[]) is not None


def test_a_warning_of_what_is_not_installed_goes() -> None:
    words = ("`leaf==3.0` is yanked", "`lib==2.0` is yanked")
    found = combine(replace(FRESH, warnings=words), HOST, serving={"leaf"}, roots=[])
    assert found is not None
    assert found.warnings == ("`lib==2.0` is yanked",)


# Placeholders for the host's version


def test_a_pin_is_contradicted_by_what_a_solution_without_it_requires_and_not_by_the_request() -> (
    None
):
    fresh = resolution(
        {},
        requires={
            REQUEST: [("torch", ">=3")],
            "new": [("numpy", ">=2"), ("six", ">=1"), ("other", ">9")],
            "more": [("torch", ">=2")],
        },
    )
    assert contradicted_pins(fresh, {"numpy": "1.26", "torch": "2.8", "six": "1.0"}) == {"numpy"}
    assert contradicted_pins(fresh, {"torch": "2.8"}) == set()


def test_the_warning_of_a_placeholder_that_gave_way_names_those_that_exclude_it() -> None:
    found = resolution(
        {"numpy": "2.1"},
        requires={
            "scipy": [("numpy", ">=2"), ("numpy", ">=2")],
            "pandas": [("numpy", ">1.30"), ("six", ">=9")],
            "torch": [("numpy", ">=1")],
            "numpy": [("numpy", ">=2")],
        },
    )
    gives_way = "#system_numpy#: the host's numpy 1.26 gives way to 2.1, since "
    assert relaxed_warning("numpy", "1.26", found) == (
        f"{gives_way}pandas requires numpy>1.30, scipy requires numpy>=2"
    )
    asked = resolution({"numpy": "2.1"}, requires={REQUEST: [("numpy", ">=2")]})
    assert relaxed_warning("numpy", "1.26", asked) == f"{gives_way}the request requires numpy>=2"
    alone = resolution({"numpy": "2.1"})
    assert relaxed_warning("numpy", "1.26", alone) == f"{gives_way}nothing requested fits it"
