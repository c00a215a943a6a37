from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from tests.fakes import locked
from tests.plain import of_json
from xinference_venv.cli.common import echo, print_parts
from xinference_venv.cli.render import environments, launch
from xinference_venv.cli.render import packages as rendered_packages
from xinference_venv.cli.render.documents import ModelAddress
from xinference_venv.cli.render.text import Part, Table, Tree, failed, lines_of
from xinference_venv.errors import ResolutionFailed, StoreError, VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker
from xinference_venv.inventory.inventory import DirectoryUser, EnvEntry, RemovalPlan
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.lease import JudgedLease, ProcessIdentity
from xinference_venv.inventory.packages import EnvironmentPackages, Package
from xinference_venv.inventory.reports import LaunchPlan, RemovalReport
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.requirements import Origin
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.spec import PlannedRequirement, SpecSummary
from xinference_venv.settings import InheritMode

LEASE = JudgedLease(
    lease_id="l1",
    env_id="e1",
    model_name="toy",
    model_uid="toy-0",
    process=ProcessIdentity(host="box", boot="b", pid=42, start="7"),
    created=0.0,
)
ENTRY = EnvEntry(
    key=EnvKey(model_name="[red]toy", model_engine="vllm", python_version="3.11"),
    path="/home/v4/toy/vllm/3.11",
    real_path="/home/store/envs/e1",
    state=EnvState.READY,
    env_id="e1",
    size_bytes=3 * 1024 * 1024,
    shared_bytes=1024 * 1024,
    python="3.11.7",
    installed=2,
    inherited=41,
    leases=(LEASE,),
    last_used=100.0,
)
ENVIRONMENT = PreparedEnvironment(
    enabled=True,
    python="/home/store/envs/e1/bin/xinference-venv-python",
    env_id="e1",
    path="/home/v4/toy/vllm/3.11",
    real_path="/home/store/envs/e1",
    lease_id="l1",
    uv_calls=5,
    warnings=("torch is not pinned",),
)
OUTCOME = launch.LaunchOutcome(
    model_name="toy", model_engine="vllm", environment=ENVIRONMENT, entry=ENTRY, elapsed=1.23456
)


def printed(parts: Iterable[Part], width: int | None = None) -> str:
    return "\n".join(lines_of(parts, width))


def answer(*entries: EnvEntry) -> Gathered[Environment]:
    return Gathered(list=tuple(Environment.at("a:1", each) for each in entries))


def test_a_launch_says_where_what_and_how_long() -> None:
    shown = printed(launch.launched(OUTCOME))
    assert shown.splitlines() == [
        "toy is ready",
        "  environment  /home/v4/toy/vllm/3.11",
        "  real path    /home/store/envs/e1",
        "  interpreter  /home/store/envs/e1/bin/xinference-venv-python (Python 3.11.7)",
        "  packages     2 installed, 41 inherited from the host",
        "  size         3.00 MiB, and 1.00 MiB shared",
        "  uv calls     5",
        "  elapsed      1.2 s",
        "warning: torch is not pinned",
    ]


def test_a_launch_with_a_process_says_how_to_reach_it() -> None:
    running = replace(OUTCOME, address="127.0.0.1:1234", pid=42)
    shown = printed(launch.launched(running))
    assert "  address      127.0.0.1:1234\n  pid          42\n  uid          toy\n" in shown
    assert running.document().process == ModelAddress(address="127.0.0.1:1234", pid=42, uid="toy")


def test_a_launch_without_an_environment_says_so() -> None:
    host = PreparedEnvironment(enabled=False, python="/usr/bin/python3")
    shown = printed(launch.launched(replace(OUTCOME, environment=host, entry=None)))
    assert "toy needs no environment" in shown
    assert "/usr/bin/python3" in shown
    assert "environment  " not in shown


def test_a_listing_shows_names_as_they_are_and_who_uses_what() -> None:
    [titles, row] = printed(environments.listed(answer(ENTRY), 160.0)).splitlines()
    assert titles.split("  ")[0] == "Model"
    assert re.split(" {2,}", row) == [
        *(
            "[red]toy",
            "vllm",
            "3.11.7",
            "ready",
            "3.00 MiB",
            "1.00 MiB",
            "4.00 MiB",
            "2 own, 41 host",
        ),
        *("toy-0, pid 42", "1 minute ago"),
    ]


def test_a_listing_says_what_the_host_has_otherwise_since() -> None:
    changed = replace(ENTRY, changed_on_host=("numpy", "torch"))
    shown = printed(environments.listed(answer(changed), 0.0))
    assert (
        "inherits packages that have changed on the host since it was made (numpy, torch)" in shown
    )


def test_an_empty_listing_says_how_to_make_one() -> None:
    assert "xinference-venv launch MODEL" in printed(environments.listed(answer(), 0.0))
    error = Failure.of(WorkerUnavailable("no answer"))
    status = of_json(
        WorkerStatus,
        {
            **dict.fromkeys(("worker_address", "host_name", "release", "incarnation"), "x"),
            "state": "gone",
        },
    )
    silent = UnreachableWorker(status=status, error=error)
    partial: Gathered[Environment] = Gathered(list=(), unreachable=(silent,))
    assert printed(environments.listed(partial, 0.0)).startswith("No worker that answered has such")


def test_a_listing_of_a_cluster_names_the_worker_of_each() -> None:
    broken = replace(ENTRY, state=EnvState.BROKEN, reason="the interpreter is gone")
    of_cluster = Gathered(list=tuple(Environment.at(each, broken) for each in ("a:1", "b:2")))
    lines = printed(environments.listed(of_cluster, 0.0, workers=True)).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["Worker", "a:1", "b:2"]
    assert lines[3].startswith(f"a:1: {broken.key} is broken")


def test_a_listing_says_why_a_broken_one_is_broken() -> None:
    broken = replace(ENTRY, state=EnvState.BROKEN, reason="the interpreter is gone")
    assert "is broken: the interpreter is gone" in printed(environments.listed(answer(broken), 0.0))


def test_a_listing_says_where_unmanaged_ones_are_and_who_uses_them() -> None:
    user = DirectoryUser(pid=7, command="python -m old", seen_in=("memory map",))
    old = replace(
        ENTRY,
        key=replace(ENTRY.key, model_name="two\nlines"),
        path="/home/v2/two\nlines",
        state=EnvState.UNMANAGED,
        layout="v2",
        users=(user,),
        unknown_users=3,
        leases=(),
    )
    link = replace(old, path="/home/v2/x", reason="a link to /srv", users=(), unknown_users=0)
    lines = printed(environments.listed(answer(old, link), 0.0)).splitlines()
    assert lines[1].split()[:1] == ["two\\nlines"]
    assert "unmanaged, v2" in lines[1]
    assert "pid 7" in lines[1]
    assert lines[3:] == [
        "unmanaged: /home/v2/two\\nlines",
        "unmanaged: /home/v2/x, a link to /srv",
        "processes that can't be looked at, and may use them: 3",
    ]
    assert old.hindrance == "in use by process 7 (python -m old), seen in its memory map"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_narrow_terminal_has_a_line_for_each_environment_and_every_name_whole(width: int) -> None:
    narrow = printed(environments.listed(answer(ENTRY, ENTRY), 160.0), width=width).splitlines()
    assert len(narrow) == 3
    assert max(map(len, narrow)) <= width
    assert narrow[0].startswith("Model     Engine  ")
    assert all(line.startswith("[red]toy  vllm  ") and "ready" in line for line in narrow[1:])


def test_what_is_needed_least_is_left_out_first() -> None:
    def titles(width: int) -> list[str]:
        shown = printed(environments.listed(answer(ENTRY), 160.0), width=width)
        return re.split(" {2,}", shown.splitlines()[0])

    usual = ["Model", "Engine", "Python", "State", "Total", "In use by"]
    assert titles(50) == ["Model", "Engine", "Python", "State", "In use by"]
    assert titles(60) == usual
    assert titles(80) == [*usual, "Last used"]


def test_a_plan_shows_origins_roles_and_totals() -> None:
    distributions = (
        LockedDistribution(name="a", role=Role.INSTALLED, version="1", why="model: a", size=2048),
        LockedDistribution(name="b", role=Role.INSTALLED, version=None, why="required"),
        LockedDistribution(name="torch", role=Role.INHERITED, version="2.8", why="required"),
        LockedDistribution(name="c", role=Role.SHADOWED, version="3", why="another one"),
    )
    lock = EnvLock(
        packages=(),
        distributions=distributions,
        python_version="3.11.7",
        platform_digest="p",
        inherit=InheritMode.HOST,
        host_digest="h",
        spec_digest="s",
        uv_version="uv 1",
        warnings=("beware",),
    )
    spec = SpecSummary(
        key=ENTRY.key,
        python="3.11.7",
        inherit=InheritMode.HOST,
        skip_installed=True,
        requirements=(PlannedRequirement(requirement="a[x]>1", origin=Origin.LAUNCH),),
        sources=PackageSources(),
        warnings=(),
    )
    plan = LaunchPlan(enabled=True, spec=spec, lock=lock, worker_address="a:1")
    shown = printed(launch.planned(plan))
    assert "a[x]>1       launch" in shown
    assert "Installed in the environment: 2 packages, 2.00 KiB and 1 unknown" in shown
    assert "Inherited from the host: 1 package" in shown
    assert "Shadowed: packages of the host that installed ones replace: 1 package" in shown
    assert "Hidden" not in shown
    assert shown.endswith("warning: beware")


def test_an_explanation_says_of_what_it_knows_nothing() -> None:
    foreign = replace(ENTRY, state=EnvState.UNMANAGED)
    packages = (Package(distribution=locked("a", size=10), size_bytes=10),)
    listed = (
        EnvironmentPackages(environment=Environment.at("a:1", ENTRY), packages=packages),
        EnvironmentPackages(environment=Environment.at("a:1", foreign), packages=()),
    )
    shown = printed(rendered_packages.explained(Gathered(list=listed))).splitlines()
    assert shown[0] == f"{ENTRY.key}: {ENTRY.path}"
    assert shown[4] == "a 1.0, 10 B (model: it was asked for)"
    assert shown[-1] == "nothing is known of its packages: it is unmanaged"


def test_a_plan_without_an_environment_says_so() -> None:
    assert "No environment would be built" in printed(
        launch.planned(LaunchPlan(enabled=False, spec=None, lock=None, worker_address="a:1"))
    )


def report(
    dry_run: bool, worker: str = "a", done: Sequence[EnvEntry] | None = None, **parts: EnvEntry
) -> Gathered[RemovalReport]:
    listed = {part: (parts[part],) if part in parts else () for part in PARTS}
    gone = (*listed["remove"], *listed["unlink"]) if done is None else done
    plan = RemovalPlan(**listed)
    made = () if dry_run else tuple(Environment.at(worker, each) for each in gone)
    only = RemovalReport(plan=plan, done=made, dry_run=dry_run, worker_address=worker)
    return Gathered(list=(only,))


PARTS = ("remove", "unlink", "refuse")


def test_a_removal_says_what_became_of_each() -> None:
    other = replace(ENTRY, path="/home/v4/toy/vllm/3.12")
    shown = printed(environments.removed(report(False, remove=ENTRY, unlink=other)))
    assert shown.splitlines() == [
        "removed: [red]toy (Python 3.11, engine vllm), 3.00 MiB",
        "unlinked: [red]toy (Python 3.11, engine vllm); its files stay until the last holder is"
        " gone: in use by toy-0 (process 42 on box)",
    ]


def test_a_dry_removal_says_what_would_become_of_each() -> None:
    shown = printed(environments.removed(report(True, remove=ENTRY, refuse=ENTRY)))
    assert shown.splitlines() == [
        "would be removed: [red]toy (Python 3.11, engine vllm), 3.00 MiB",
        "would be refused: [red]toy (Python 3.11, engine vllm), in use by toy-0"
        " (process 42 on box)",
    ]


def test_where_a_worker_refused_only_what_is_gone_is_reported() -> None:
    one = report(False, remove=ENTRY)
    two = report(False, "b", (), remove=ENTRY, refuse=ENTRY)
    both = Gathered(list=(*one.list, *two.list))
    shown = printed(environments.removed(both, workers=True))
    assert shown == "a: removed: [red]toy (Python 3.11, engine vllm), 3.00 MiB"
    assert environments.removed(two) == []


def test_an_environment_that_is_being_built_says_so() -> None:
    assert replace(ENTRY, state=EnvState.BUILDING, leases=()).hindrance == "being built"


def test_a_removal_of_nothing_says_so() -> None:
    assert printed(environments.removed(report(False))) == "There is nothing to remove."


def test_an_error_shows_phase_output_and_hint() -> None:
    error = ResolutionFailed(
        "no solution", {"phase": "resolving", "output": "uv's own words\n", "hint": "do this"}
    )
    assert printed(failed(error)).splitlines() == [
        "error: no solution",
        "phase: resolving",
        "uv's own words",
        "hint: do this",
    ]


def test_uvs_words_are_not_repeated() -> None:
    words = "error: No solution found\n  cause: because"
    error = ResolutionFailed(words, {"output": f"Resolving ...\n{words}"})
    assert printed(failed(error)) == "error: No solution found\n  cause: because"
    output = f"Resolving ...\n{words}"
    error = ResolutionFailed("it fails:\nNo solution found\n  cause: because", {"output": output})
    assert printed(failed(error)) == "error: it fails:\nNo solution found\n  cause: because"


def test_an_error_without_details_is_one_line() -> None:
    assert printed(failed(VirtualEnvError("so it is"))) == "error: so it is"


HOSTILE = "\x1b]0;owned\x07\x1b[31mred\u202e\x9b2J\rback"


def test_text_from_outside_can_not_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("Title")
    table.add_row(HOSTILE)
    tree = Tree(HOSTILE)
    tree.add(HOSTILE)
    print_parts([HOSTILE, table, tree])
    print_parts(failed(StoreError(HOSTILE, {"output": HOSTILE})), err=True)
    echo(f"{HOSTILE}\n\tend")
    heard = capsys.readouterr()
    said = heard.out + heard.err
    assert not [each for each in said if not each.isprintable() and each not in "\n\t"]
    assert "\\x1b]0;owned\\x07" in said
    assert heard.out.endswith("\n\tend\n")
