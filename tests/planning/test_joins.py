"""Which packages are joined, and why; and the order in which pip installs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xinference_venv.planning.joins import (
    HostName,
    HostShare,
    HostSite,
    find_joins,
    install_order,
    joined_owners,
)
from xinference_venv.planning.package import (
    EntryKind,
    LooksFor,
    PackageKey,
    PackageRecord,
    TopLevelName,
    Way,
)

SITE = "/srv/host/lib/python3.11/site-packages"


def package(
    name: str,
    *directories: str,
    files: tuple[str, ...] = (),
    looks: tuple[LooksFor, ...] = (),
    requires: tuple[str, ...] = (),
) -> PackageRecord:
    entries = [TopLevelName(name=each, kind=EntryKind.PACKAGE) for each in directories]
    entries += [TopLevelName(name=each, kind=EntryKind.MODULE) for each in files]
    metadata = f"{name}-1.0.dist-info"
    entries.append(TopLevelName(name=metadata, kind=EntryKind.METADATA))
    return PackageRecord(
        key=PackageKey(name=name, version="1.0", digest="0" * 64),
        metadata=metadata,
        top_level=tuple(entries),
        looks_for=looks,
        requires=requires,
        files=1,
        size_bytes=1,
        record_sha256="0" * 64,
    )


def looks_for(name: str, way: Way = Way.PARENT) -> LooksFor:
    return LooksFor(name=name, way=way, path="a/b.py")


def site(*names: HostName, location: str = SITE) -> HostSite:
    return HostSite(location=location, names=names)


def folder(name: str) -> str:
    return package(name).key.folder


def test_packages_of_their_own_are_not_joined() -> None:
    records = [package("one", "one", files=("six.py",)), package("two", "two", files=("six.py",))]
    assert find_joins(records, [], ()) == ()


def test_packages_that_share_a_directory_are_joined() -> None:
    records = [package("one", "google"), package("two", "google", "two"), package("three", "x")]
    [join] = find_joins(records, [], ())
    assert join.packages == (folder("one"), folder("two"))
    assert join.host == ()
    assert join.reasons == ("they share the directory google",)


def test_what_shares_with_one_that_shares_is_of_the_same_group() -> None:
    records = [package("one", "a"), package("two", "a", "b"), package("three", "b")]
    [join] = find_joins(records, [], ())
    assert join.packages == tuple(map(folder, ("one", "two", "three")))


def test_a_package_is_joined_with_what_it_looks_for() -> None:
    records = [
        package("torch", "torch", looks=(looks_for("nvidia", Way.RUN_PATH),)),
        package("cublas", "nvidia"),
    ]
    [join] = find_joins(records, [], ())
    assert join.packages == (folder("torch"), folder("cublas"))
    assert join.reasons == ("torch looks for nvidia by a run path of a library (a/b.py)",)


def test_places_that_look_for_a_name_in_one_way_are_one_reason() -> None:
    looks = (looks_for("data"), looks_for("data"), looks_for("data", Way.REALPATH))
    [join] = find_joins([package("one", "one", looks=looks), package("two", "data")], [], ())
    assert join.reasons == (
        "one looks for data by a path with .. (a/b.py and 1 more)",
        "one looks for data from its real path (a/b.py)",
    )


def test_a_package_is_joined_with_what_of_the_host_it_looks_for() -> None:
    host = site(HostName(name="nvidia", is_directory=True, owners=("cublas",)))
    records = [package("torch", "torch", looks=(looks_for("nvidia", Way.RUN_PATH),))]
    [join] = find_joins(records, [host], {"cublas"})
    assert join.packages == (folder("torch"),)
    assert join.host == (HostShare(location=SITE, names=("nvidia",)),)
    assert join.reasons == ("torch looks for nvidia by a run path of a library (a/b.py)",)


def test_a_name_that_is_a_directory_of_any_of_its_providers_is_shared_as_one() -> None:
    for first, second in (
        (package("one", "x"), package("two", files=("x",))),
        (package("one", files=("x",)), package("two", "x")),
    ):
        [join] = find_joins([first, second], [], ())
        assert join.packages == (folder("one"), folder("two"))
    sites = [
        site(HostName(name="x", is_directory=True, owners=("one",))),
        site(HostName(name="x", is_directory=False, owners=("two",)), location="/usr/lib"),
    ]
    assert len(find_joins([], sites, {"one", "two"})) == 1


def test_groups_that_have_nothing_in_common_are_apart_in_the_order_of_their_names() -> None:
    records = [package("a", "z"), package("b", "z"), package("c", "y"), package("d", "y")]
    first, second = find_joins(records, [], ())
    assert first.packages == (folder("c"), folder("d"))
    assert second.packages == (folder("a"), folder("b"))


def test_a_name_that_no_other_provides_joins_nothing() -> None:
    looks = (looks_for("tests"), looks_for(".."), looks_for("one"))
    assert find_joins([package("one", "one", looks=looks)], [], ()) == ()


@pytest.mark.parametrize(
    ("pattern", "members"),
    [
        ("kit_*", ("kit", "kit_a", "kit_b")),
        ("kit_[!b]", ("kit", "kit_a")),
        ("kit_?", ("kit", "kit_a", "kit_b")),
        ("k?t_*", ("kit", "kit_a", "kit_b")),
        # A search of everything joins nothing.
        ("*", ()),
        ("?it_a", ()),
        ("gone_*", ()),
    ],
)
def test_a_pattern_joins_with_all_whose_names_fit_it(pattern: str, members: Sequence[str]) -> None:
    looks = (looks_for(pattern),)
    others = [package(name, name) for name in ("kit_a", "kit_b", "other")]
    joins = find_joins([package("kit", "kit", looks=looks), *others], [], ())
    assert [each.packages for each in joins] == [tuple(map(folder, members))] * bool(members)
    if members:
        host = site(HostName(name="kit_a", is_directory=True, owners=("kit-a",)))
        [join] = find_joins([package("kit", "kit", looks=looks)], [host], {"kit-a"})
        assert join.host == (HostShare(location=SITE, names=("kit_a",)),)
    installed = [package("kit_a", "kit_a")]
    host = site(HostName(name="kit", is_directory=True, owners=("kit",)))
    found = find_joins(installed, [host], {"kit"}, {"kit": looks})
    assert len(found) == bool(members)


def test_a_pattern_joins_in_addition_to_a_plain_name_that_is_looked_for() -> None:
    looks = (looks_for("other"), looks_for("kit_*"))
    others = [package(name, name) for name in ("kit_a", "other")]
    [join] = find_joins([package("kit", "kit", looks=looks), *others], [], ())
    assert join.packages == tuple(map(folder, ("kit", "kit_a", "other")))


def test_a_half_of_the_host_goes_into_the_tree_and_only_that() -> None:
    host = site(
        HostName(name="google", is_directory=True, owners=("auth",)),
        HostName(name="auth.py", is_directory=False, owners=("auth",)),
    )
    [join] = find_joins([package("cloud", "google")], [host], {"auth"})
    assert join.host == (HostShare(location=SITE, names=("google",)),)
    assert find_joins([package("cloud", "google")], [host], ()) == ()


def test_a_directory_of_the_host_with_hidden_owners_is_taken_apart() -> None:
    host = site(HostName(name="google", is_directory=True, owners=("auth", "cloud")))
    assert find_joins([], [host], {"auth", "cloud"}) == ()
    [join] = find_joins([], [host], {"auth"})
    assert (join.packages, join.host) == ((), (HostShare(location=SITE, names=("google",)),))
    assert join.reasons == ("not all that the host has in google is visible",)


def test_two_site_directories_of_the_host_that_share_one_are_joined() -> None:
    sites = [
        site(HostName(name="google", is_directory=True, owners=("auth",))),
        site(HostName(name="google", is_directory=True, owners=("cloud",)), location="/usr/lib"),
    ]
    [join] = find_joins([], sites, {"auth", "cloud"})
    assert [share.location for share in join.host] == [SITE, "/usr/lib"]


def test_what_belongs_to_no_distribution_joins_nothing() -> None:
    host = site(HostName(name="tests", is_directory=True))
    assert find_joins([package("one", "tests")], [host], {"auth"}) == ()


def test_an_inherited_package_is_joined_with_an_installed_one_that_it_looks_for() -> None:
    host = site(HostName(name="finder", is_directory=True, owners=("finder",)))
    looks = {"finder": [looks_for("absent"), looks_for("weights")]}
    [join] = find_joins([package("weights", "weights")], [host], {"finder"}, looks)
    assert join.packages == (folder("weights"),)
    assert join.host == (HostShare(location=SITE, names=("finder",)),)
    assert join.reasons == ("the host's finder looks for weights by a path with .. (a/b.py)",)


def test_an_inherited_package_is_joined_wherever_the_host_has_it() -> None:
    sites = [
        site(HostName(name="google", is_directory=True, owners=("auth",))),
        site(HostName(name="google", is_directory=True, owners=("cloud",)), location="/usr/lib"),
    ]
    looks = {"auth": [looks_for("weights")]}
    [join] = find_joins([package("weights", "weights")], sites, {"auth", "cloud"}, looks)
    assert join.packages == (folder("weights"),)
    assert [share.location for share in join.host] == [SITE, "/usr/lib"]


def test_what_others_require_is_installed_first() -> None:
    records = [
        package("app", requires=("web", "absent")),
        package("web", requires=("core",)),
        package("core"),
        package("also"),
    ]
    names = [record.key.name for record in install_order(records)]
    assert names == ["core", "also", "web", "app"]


def test_packages_that_require_each_other_come_by_name() -> None:
    records = [package("a", requires=("b",)), package("b", requires=("a",)), package("c")]
    assert [record.key.name for record in install_order(records)] == ["c", "b", "a"]


def test_what_of_the_host_is_joined_has_its_own_neighbours_there() -> None:
    host = site(
        HostName(name="finder", is_directory=True, owners=("finder",)),
        HostName(name="maps", is_directory=True, owners=("maps",)),
        HostName(name="away", is_directory=True, owners=("away",)),
    )
    visible = {"finder", "maps", "away"}
    looks = {
        "finder": [
            LooksFor(name="weights", way=Way.PARENT, path="finder/a.py"),
            LooksFor(name="maps", way=Way.RESOLVE, path="finder/b.py"),
        ],
        "away": [LooksFor(name="maps", way=Way.RESOLVE, path="away/a.py")],
    }
    [join] = find_joins([package("weights", "weights")], [host], visible, looks)
    assert join.host == (HostShare(location=SITE, names=("finder", "maps")),)
    assert joined_owners([join], [host], visible) == {"finder", "maps"}
    assert "the host's finder looks for maps from its resolved path (finder/b.py)" in join.reasons


def test_the_neighbours_of_neighbours_are_followed_in_whatever_order_they_are_listed() -> None:
    names = ("finder", "maps", "roads")
    host = site(*(HostName(name=each, is_directory=True, owners=(each,)) for each in names))
    looks = {
        "maps": [LooksFor(name="roads", way=Way.PARENT, path="maps/sub/a.py")],
        "finder": [
            LooksFor(name="weights", way=Way.PARENT, path="finder/a.py"),
            LooksFor(name="maps", way=Way.PARENT, path="finder/sub/a.py"),
        ],
    }
    [join] = find_joins([package("weights", "weights")], [host], {*names}, looks)
    assert join.host == (HostShare(location=SITE, names=names),)


def test_two_groups_become_one_where_the_host_looks_from_one_into_the_other() -> None:
    host = site(
        HostName(name="finder", is_directory=True, owners=("finder",)),
        HostName(name="maps", is_directory=True, owners=("maps", "hidden")),
    )
    looks = {
        "finder": [
            LooksFor(name=each, way=Way.PARENT, path="finder/a.py") for each in ("weights", "maps")
        ]
    }
    [join] = find_joins([package("weights", "weights")], [host], {"finder", "maps"}, looks)
    assert join.host == (HostShare(location=SITE, names=("finder", "maps")),)


def test_what_of_the_host_finds_an_installed_file_in_the_prefix_gets_a_tree() -> None:
    host = site(
        HostName(name="mkl", is_directory=True, owners=("mkl",)),
        HostName(name="mkl.libs", is_directory=True, owners=("mkl",)),
        HostName(name="maps", is_directory=True, owners=("maps",)),
        HostName(name="away", is_directory=True, owners=("away",)),
    )
    above = LooksFor(name="../..", way=Way.RUN_PATH, path="mkl/a.so")
    looks = {"mkl": [above, LooksFor(name="maps", way=Way.PARENT, path="mkl/a.py")]}
    [join] = find_joins([package("tbb", "tbb")], [host], {"mkl", "maps"}, looks, {"mkl": above})
    assert join.packages == ()
    assert join.host == (HostShare(location=SITE, names=("maps", "mkl", "mkl.libs")),)
    assert join.reasons == (
        "the host's mkl looks for ../.. by a run path of a library (mkl/a.so)",
        "the host's mkl looks for maps by a path with .. (mkl/a.py)",
    )


def test_one_of_a_single_name_that_finds_an_installed_file_in_the_prefix_gets_a_tree() -> None:
    host = site(HostName(name="mkl", is_directory=True, owners=("mkl",)))
    above = LooksFor(name="../..", way=Way.RUN_PATH, path="mkl/a.so")
    [join] = find_joins([], [host], {"mkl"}, {"mkl": [above]}, {"mkl": above})
    assert join.host == (HostShare(location=SITE, names=("mkl",)),)
