"""The plan of a view: what is shown, where it leads, and what is in the prefix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from tests.fakes import distribution
from tests.planning.test_joins import SITE, folder, package
from xinference_venv.planning.host import HostDistribution
from xinference_venv.planning.joins import COVERED, HostName, HostSite
from xinference_venv.planning.package import (
    DataFile,
    EntryPoint,
    JoinedRecord,
    JoinMember,
    JoinPlan,
    LooksFor,
    PackageRecord,
    SharedPath,
    Way,
)
from xinference_venv.planning.view import (
    PATHS_NAME,
    HostPartition,
    JoinedTree,
    Place,
    Prefix,
    ViewPlan,
    import_name,
    importable_name,
    partition_host,
    plan_view,
)
from xinference_venv.settings import ViewKind

LIBRARY = "lib/python3.11"


def plan(
    *packages: PackageRecord,
    joined: Sequence[JoinedTree] = (),
    sites: Sequence[HostSite] = (),
    distributions: Sequence[HostDistribution] = (),
    visible: Collection[str] = (),
    loose: bool = True,
    host_looks: Sequence[LooksFor] = (),
) -> ViewPlan:
    return plan_view(
        packages,
        joined,
        partition_host(sites, distributions, visible, loose=loose),
        visible,
        loose=loose,
        prefix=prefix_of(*packages, inherited=[e for e in distributions if e.name in visible]),
        host_looks=host_looks,
    )


def prefix_of(*packages: PackageRecord, inherited: Sequence[HostDistribution] = ()) -> Prefix:
    return Prefix(packages, inherited, host_prefix="/srv/host", library=LIBRARY)


def shown(made: ViewPlan) -> dict[str, tuple[Place, str]]:
    return {link.name: (link.place, link.tree) for link in made.links}


def host_name(name: str, *owners: str) -> HostName:
    return HostName(name=name, is_directory="." not in name, owners=owners)


def joined_tree(*packages: PackageRecord, shared: Sequence[SharedPath] = ()) -> JoinedTree:
    record = JoinedRecord(
        plan=JoinPlan(members=tuple(JoinMember(tree=each.key.folder) for each in packages)),
        top_level=tuple({one.name: one for each in packages for one in each.top_level}.values()),
        shared_paths=tuple(shared),
        files=1,
        size_bytes=0,
    )
    return JoinedTree(
        folder=record.plan.folder,
        record=record,
        packages=tuple(each.key.folder for each in packages),
        locations=(),
        reasons=("they share the directory ns",),
    )


def test_each_name_of_a_package_leads_into_its_tree() -> None:
    made = plan(package("one", "one", files=("six.py",)))
    assert shown(made) == {
        name: (Place.PACKAGE, folder("one")) for name in ("one", "six.py", "one-1.0.dist-info")
    }
    assert (made.trees, made.joined, made.warnings) == ((folder("one"),), (), ())


def test_of_two_owners_of_a_file_the_later_one_is_seen_and_it_is_reported() -> None:
    made = plan(package("one", files=("x.py",)), package("two", files=("x.py",)))
    assert shown(made)["x.py"] == (Place.PACKAGE, folder("two"))
    assert made.warnings == ("x.py is of two and of one too: that of two is seen",)


def test_what_is_joined_leads_into_the_joined_tree_and_its_members_are_named() -> None:
    one, two = package("one", "ns"), package("two", "ns", "two")
    shared = SharedPath(path="ns/x.py", winner=folder("two"), losers=(folder("one"),))
    tree = joined_tree(one, two, shared=[shared])
    made = plan(one, two, package("three", "three"), joined=[tree])
    assert shown(made)["ns"] == shown(made)["two"] == (Place.JOINED, tree.folder)
    assert shown(made)["three"] == (Place.PACKAGE, folder("three"))
    assert made.trees == tuple(sorted(map(folder, ("one", "two", "three"))))
    assert made.joined == (tree.folder,)
    assert made.warnings == ("ns/x.py is of two and of one too: that of two is seen",)


def test_of_the_host_what_visible_distributions_own_is_shown_and_loose_entries() -> None:
    site = HostSite(
        location=SITE,
        names=tuple(
            host_name(*each)
            for each in [
                ("seen", "seen"),
                ("seen-1.0.dist-info", "seen"),
                ("hidden", "hidden"),
                ("hidden-1.0.dist-info", "hidden"),
                ("old-0.9.dist-info", COVERED),
                ("broken-1.0.dist-info",),
                ("loose.py",),
                ("__pycache__",),
                ("~eft",),
                ("zzzz-xinference-venv-inherited.pth",),
            ]
        ),
    )
    made = plan(sites=[site], visible={"seen"})
    assert sorted(shown(made)) == ["loose.py", "seen", "seen-1.0.dist-info"]
    assert set(shown(made).values()) == {(Place.HOST, SITE)}
    assert sorted(shown(plan(sites=[site], visible={"seen"}, loose=False))) == [
        "seen",
        "seen-1.0.dist-info",
    ]


def test_rivals_of_an_import_name_are_decided_by_what_comes_first() -> None:
    host = HostSite(
        location=SITE,
        names=(host_name("drum.py", "drum"), host_name("fife", "fife"), host_name("fife.py")),
    )
    later = HostSite(location="/usr/lib", names=(host_name("fife.abi3.so", "more"),))
    made = plan(package("drums", "drum"), sites=[host, later], visible={"drum", "fife", "more"})
    assert sorted(shown(made)) == ["drum", "drums-1.0.dist-info", "fife"]
    # What is installed takes a name from the host with a word, one of its folders from another not.
    assert made.warnings == (
        "drum.py is of drums and of drum of the host too: that of drums is seen",
    )


def test_an_installed_module_of_the_name_of_the_hosts_is_named_where_that_is_visible() -> None:
    site = HostSite(
        location=SITE,
        names=(
            host_name("x.py", "other", "hidden"),
            host_name("y", "hidden"),
            host_name("ns", "other"),
            host_name("LICENSE.txt", "other"),
            host_name("z.py"),
        ),
    )
    one = package("one", "ns", files=("x.py", "y.py", "z.py", "LICENSE.txt"))
    tree = replace(joined_tree(one), locations=(SITE,))
    for joined in ([], [tree]):
        names = ["ns", "x.py"] if not joined else ["x.py"]
        made = plan(one, joined=joined, sites=[site], visible={"other"})
        expected = [
            f"{name} is of one and of other of the host too: that of one is seen" for name in names
        ]
        assert sorted(made.warnings) == expected


def test_a_pth_file_of_the_host_keeps_its_code_and_its_folders_come_behind_the_view() -> None:
    site = HostSite(
        location=SITE,
        names=(
            host_name("code.pth", "code"),
            host_name("mixed.pth", "code"),
            host_name("seen.pth", "seen"),
            host_name("hidden.pth", "hidden"),
        ),
        path_files={
            "code.pth": "# why\nimport code_hook\n",
            "mixed.pth": "import mixed_hook\n../climbs\n",
            "seen.pth": "/src/seen\n# a comment\n",
            "hidden.pth": "/src/hidden\n",
        },
    )
    folders = ["/src/seen", "/src/hidden", "/srv/host/lib/python3.11/climbs"]
    sites = [site, *(HostSite(location=each, names=()) for each in folders)]
    made = plan(sites=sites, visible={"code", "seen"})
    assert sorted(shown(made)) == ["code.pth"]
    assert {each.name: each.text for each in made.written} == {
        "mixed.pth": "import mixed_hook\n",
        PATHS_NAME: "/src/seen\n/srv/host/lib/python3.11/climbs\n",
    }


def test_a_folder_with_hidden_and_visible_projects_is_merged() -> None:
    site = HostSite(
        location=SITE, names=(host_name("two.pth", "one"),), path_files={"two.pth": "/src\n"}
    )
    project = HostSite(location="/src", names=(host_name("one", "one"), host_name("two", "two")))
    distributions = [distribution(name, location="/src") for name in ("one", "two")]
    made = plan(sites=[site, project], distributions=distributions, visible={"one"})
    assert shown(made) == {"one": (Place.HOST, "/src")}
    partition = partition_host([site, project], distributions, (), loose=True)
    assert partition == HostPartition(merged=(site,), paths=())


def test_a_folder_below_its_site_directory_stays_a_line_of_the_file_that_adds_it() -> None:
    text = "# a comment\nimport code_hook\n./inner  \n\n/src/seen\n"
    site = HostSite(
        location=f"{SITE}/", names=(host_name("a.pth", "seen"),), path_files={"a.pth": text}
    )
    folders = [f"{SITE}/inner", "/src/seen"]
    sites = [site, *(HostSite(location=each, names=()) for each in folders)]
    made = plan(sites=sites, visible={"seen"})
    assert {each.name: each.text for each in made.written} == {
        "a.pth": "import code_hook\ninner\n",
        PATHS_NAME: "/src/seen\n",
    }


def test_a_folder_is_added_by_any_file_that_is_shown_and_by_loose_ones_where_these_count() -> None:
    names = (host_name("a.pth", "seen"), host_name("b.pth", "hidden"), host_name("c.pth"))
    site = HostSite(
        location=SITE,
        names=names,
        path_files={"a.pth": "/src/both\n", "b.pth": "/src/both\n", "c.pth": "/src/loose\n"},
    )
    sites = [site, *(HostSite(location=each, names=()) for each in ("/src/both", "/src/loose"))]
    for loose, paths in ((True, ("/src/both", "/src/loose")), (False, ("/src/both",))):
        assert partition_host(sites, (), {"seen"}, loose=loose).paths == paths


def test_what_is_joined_of_the_host_alone_comes_with_its_first_site_directory() -> None:
    sites = [
        HostSite(location="/usr/lib", names=(host_name("ns", "first"), host_name("x", "x"))),
        HostSite(location=SITE, names=(host_name("ns", "second"), host_name("y", "y"))),
        HostSite(location="/last", names=(host_name("ns", "third"), host_name("z", "z"))),
    ]
    of_host = replace(
        joined_tree(package("host", "x", "ns", "last")), packages=(), locations=(SITE, "/last")
    )
    visible = {"first", "second", "third", "x", "y", "z"}
    made = shown(plan(sites=sites, joined=[of_host], visible=visible))
    # An earlier site directory has `ns` and `x`.
    assert made["ns"] == made["x"] == (Place.HOST, "/usr/lib")
    assert made["last"] == (Place.JOINED, of_host.folder)
    assert (made["y"], made["z"]) == ((Place.HOST, SITE), (Place.HOST, "/last"))


def test_what_is_joined_of_the_host_gets_no_import_name_that_was_installed() -> None:
    site = HostSite(location=SITE, names=())
    of_host = replace(joined_tree(package("host", "ns")), packages=(), locations=(SITE,))
    made = shown(plan(package("one", files=("ns.py",)), sites=[site], joined=[of_host]))
    assert "ns" not in made


def test_an_import_name_of_a_site_directory_is_taken_for_all_later_ones() -> None:
    sites = [
        HostSite(location="/a", names=(host_name("one", "all"),)),
        HostSite(location="/b", names=(host_name("two", "all"),)),
        HostSite(location="/c", names=(host_name("one.py", "all"), host_name("three.py", "all"))),
    ]
    assert sorted(shown(plan(sites=sites, visible={"all"}))) == ["one", "three.py", "two"]


def test_a_pth_file_of_which_nothing_stays_keeps_nothing_else_from_being_shown() -> None:
    site = HostSite(
        location=SITE,
        names=(host_name("a.pth", "all"), host_name("b", "all")),
        path_files={"a.pth": "/src/elsewhere\n"},
    )
    made = plan(sites=[site], visible={"all"})
    assert (sorted(shown(made)), made.written) == (["b"], ())


def test_who_shares_a_path_on_the_host_is_named_as_the_joined_tree_names_it() -> None:
    one = package("one", "ns")
    shared = SharedPath(path="ns/x.py", winner="/srv/host", losers=("/usr/lib", folder("one")))
    made = plan(one, joined=[joined_tree(one, shared=[shared])])
    assert made.warnings == (
        "ns/x.py is of /srv/host and of /usr/lib, one too: that of /srv/host is seen",
    )


def test_of_many_warnings_the_first_are_shown_and_how_many_more_there_are() -> None:
    for count, last in ((5, "e.py is of two"), (7, "and 2 more like this")):
        files = tuple(f"{each}.py" for each in "abcdefg"[:count])
        made = plan(package("one", files=files), package("two", files=files))
        assert made.warnings[-1].startswith(last)
        assert len(made.warnings) == min(count, 6)


def test_a_view_is_of_the_kind_that_is_asked_for() -> None:
    made = plan_view(
        [], [], HostPartition(merged=(), paths=()), (),
        loose=True, prefix=prefix_of(), kind=ViewKind.FILES,
    )  # fmt: skip
    assert made.kind is ViewKind.FILES


def test_a_program_replaces_an_entry_point_of_its_name_and_is_executable() -> None:
    inherited = distribution("host", programs=("bin/tool",), scripts=("tool = t:main",))
    made = plan(distributions=[inherited], visible={"host"})
    assert [each.name for each in made.scripts] == ["tool"]
    later = replace(package("later"), data_files=(DataFile(path="bin/tool", executable=True),))
    made = plan(later, distributions=[inherited], visible={"host"})
    assert made.scripts == ()
    [program] = made.prefix_files
    assert (program.path, program.executable) == ("bin/tool", True)
    alone = distribution("alone", programs=("bin/alone",))
    [program] = plan(distributions=[alone], visible={"alone"}).prefix_files
    assert program.executable


@pytest.mark.parametrize(
    "text", ["a/b = t:main", "python3 = t:main", "no-attribute = t", "activate = t:main"]
)
def test_an_entry_point_that_is_no_program_makes_no_script(text: str) -> None:
    inherited = distribution("host", scripts=(text,))
    assert plan(distributions=[inherited], visible={"host"}).scripts == ()


def test_an_entry_point_is_read_up_to_the_first_of_its_signs() -> None:
    inherited = distribution("host", scripts=("run = t:Main.run = x:y",))
    [script] = plan(distributions=[inherited], visible={"host"}).scripts
    assert (script.name, script.module, script.attribute) == ("run", "t", "Main.run = x:y")


def test_programs_and_data_go_to_the_prefix_and_the_later_one_of_a_path_wins() -> None:
    first = replace(
        package("first"),
        data_files=(DataFile(path="bin/tool", executable=True), DataFile(path="share/a.txt")),
    )
    second = replace(
        package("second"), entry_points=(EntryPoint(name="tool", module="t", attribute="main"),)
    )
    inherited = distribution(
        "third", data_files=("etc/third.conf",), programs=("bin/third",), scripts=("run = t:run",)
    )
    made = plan(first, second, distributions=[inherited], visible={"third"})
    assert {each.path: (each.place, each.tree) for each in made.prefix_files} == {
        "etc/third.conf": (Place.HOST, "/srv/host"),
        "bin/third": (Place.HOST, "/srv/host"),
        "share/a.txt": (Place.PACKAGE, folder("first")),
    }
    assert {each.name: (each.module, each.attribute) for each in made.scripts} == {
        "tool": ("t", "main"),
        "run": ("t", "run"),
    }


@pytest.mark.parametrize(
    "path",
    [
        *("share/deep/a.txt", "etc/a", "bin/pythonic", "lib/a.so", "man/man1/a.1"),
        *("LICENSE", "nltk_data/corpora/a.txt", "opt/a/lib/a.so", "lib/cmake/a.cmake"),
    ],
)
def test_a_file_for_another_place_of_the_prefix_is_there(path: str) -> None:
    made = plan(replace(package("one"), data_files=(DataFile(path=path),)))
    assert [each.path for each in made.prefix_files] == [path]
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("way", "name", "path", "has_directories"),
    [
        # A run path is a folder of libraries.
        (Way.RUN_PATH, "../..", "lib/libtbb.so.12", True),
        (Way.RUN_PATH, "../..", "lib/tbb/libtbb.so.12", False),
        (Way.RUN_PATH, "../..", "lib/tbb.pc", False),
        (Way.RUN_PATH, "../nvidia/lib", "lib/libtbb.so.12", False),
        (Way.RESOLVE, "../../../share/tbb", "share/tbb/x.json", True),
        (Way.PARENT, "../../../share/tbb/x.json", "share/tbb/x.json", True),
        (Way.PARENT, "../../../share/*/x.json", "share/tbb/x.json", True),
        (Way.PARENT, "../../../share/*/y.json", "share/tbb/x.json", False),
        (Way.RESOLVE, "../../../share/tbb", "share/tbb-docs/x.json", False),
        (Way.RESOLVE, "../.git", "share/tbb/x.json", False),
        (Way.RUN_PATH, "share", "share/libtbb.so", False),
    ],
)
def test_who_finds_something_in_the_prefix_from_its_own_place_has_directories_in_the_view(
    way: Way, name: str, path: str, has_directories: bool
) -> None:
    looks = LooksFor(name=name, way=way, path="one/lib/_api.so")
    one = replace(package("one", "one", "more"), looks_for=(looks,))
    tbb = replace(package("tbb"), data_files=(DataFile(path=path),))
    made = plan(one, tbb)
    wanted = ["one"] if has_directories else []
    assert [link.name for link in made.links if link.has_directories] == wanted


def test_what_of_the_host_finds_something_in_the_prefix_has_directories_where_it_is_joined() -> (
    None
):
    tbb = replace(package("tbb"), data_files=(DataFile(path="lib/libtbb.so"),))
    sites = [HostSite(location=SITE, names=(host_name("one", "one"), host_name("two", "two")))]
    looks = [
        LooksFor(name="../..", way=Way.RUN_PATH, path=f"{each}/a.so") for each in ("one", "two")
    ]
    record = joined_tree(package("one", "one")).record
    tree = JoinedTree(folder="j", record=record, packages=(), locations=(SITE,), reasons=())
    made = plan(tbb, joined=[tree], sites=sites, visible={"one", "two"}, host_looks=looks)
    assert {
        link.name: link.has_directories for link in made.links if link.name in ("one", "two")
    } == {
        "one": True,
        "two": False,
    }


def test_only_who_finds_what_is_installed_in_the_prefix_needs_another_place_than_the_hosts() -> (
    None
):
    tbb = replace(package("tbb"), data_files=(DataFile(path="lib/libtbb.so"),))
    mkl = distribution("mkl", data_files=("opt/libmkl.so",))
    above = [
        LooksFor(name=name, way=Way.RUN_PATH, path="one/a.so")
        for name in ("one", "../../../opt", "../..")
    ]
    prefix = prefix_of(tbb, inherited=[mkl])
    assert prefix.installed_for({"one": above, "two": above[:2]}) == {"one": above[2]}
    assert [prefix.has(each) for each in above] == [False, True, True]


@pytest.mark.parametrize(
    "path",
    [
        "pyvenv.cfg",
        "bin/python",
        "bin/python3.11",
        "bin/activate",
        "bin/xinference-venv-python",
        "lib/python3.11/site-packages/zzzz-xinference-venv-view.pth",
        "view/x.py",
        "View/x.py",
        "lib",
        "lib64/python3.11/site-packages/x.py",
        "share/../../x",
        "../x",
        "/etc/passwd",
        "xinference-venv.json",
    ],
)
def test_a_file_for_a_place_of_the_environments_own_is_left_out(path: str) -> None:
    made = plan(replace(package("evil"), data_files=(DataFile(path=path),)))
    assert made.prefix_files == ()
    [warning] = made.warnings
    assert warning.startswith(f"evil has a file for {path}, which is")


@pytest.mark.parametrize(
    ("name", "is_directory", "expected"),
    [
        ("x", True, "x"),
        ("x.libs", True, None),
        ("x.py", False, "x"),
        ("x.cpython-311-x86_64-linux-gnu.so", False, "x"),
        ("x.pyc", False, "x"),
        ("x.y.py", False, None),
        ("x.pth", False, None),
        ("LICENSE", False, None),
    ],
)
def test_import_names(name: str, is_directory: bool, expected: str | None) -> None:
    assert import_name(name, is_directory=is_directory) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "x"),
        ("x.py", "x"),
        ("x.abi3.so", "x"),
        ("x.pth", None),
        ("x-y.py", None),
        ("x-1.0.dist-info", None),
    ],
)
def test_the_name_that_an_entry_is_imported_by(name: str, expected: str | None) -> None:
    assert importable_name(name) == expected


def test_a_plan_goes_to_plain_values_and_back() -> None:
    one = replace(
        package("one", "ns"),
        data_files=(DataFile(path="share/a"),),
        entry_points=(EntryPoint(name="tool", module="t", attribute="main"),),
    )
    made = plan(one, joined=[joined_tree(one)])
    assert ViewPlan.from_dict(made.to_dict()) == made
