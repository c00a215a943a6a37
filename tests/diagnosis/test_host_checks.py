"""What the facts of a host mean."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from tests import fakes
from xinference_venv.diagnosis import host_checks
from xinference_venv.diagnosis.checks import Check, Verdict
from xinference_venv.diagnosis.host_checks import ProbedHome
from xinference_venv.planning.host import Accelerator
from xinference_venv.store.drop_in import RunningXinference
from xinference_venv.store.file_system import FileSystem
from xinference_venv.store.host.compiled import Uncompiled
from xinference_venv.store.host_files import Mount, locks_of_one_host

GIB = 2**30
WANTED = SpecifierSet(">=0.13")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("uv 0.13.9 (abc 2026-01-01)", Verdict.OK),
        ("uv 0.14.0rc1", Verdict.OK),
        ("uv 0.4.1", Verdict.FAILED),
        ("hello", Verdict.FAILED),
        ("", Verdict.FAILED),
        ("pip from nowhere", Verdict.FAILED),
    ],
)
def test_uv_must_be_new_enough_and_be_uv(said: str, verdict: Verdict) -> None:
    check = host_checks.uv_check("/bin/uv", said, WANTED)
    assert check.verdict is verdict
    assert "/bin/uv" in check.found
    assert (check.hint is None) is (verdict is Verdict.OK)


def test_no_interpreter_is_a_warning_unless_uv_may_fetch_one() -> None:
    assert host_checks.python_check([], downloads=False).verdict is Verdict.WARNING
    assert host_checks.python_check([], downloads=True).verdict is Verdict.OK
    found = host_checks.python_check(["3.9.1", "3.10.2"], downloads=False)
    assert found.found == "3.9.1, 3.10.2"


def test_packages_that_contradict_each_other_are_named_with_what_is_found() -> None:
    host = fakes.host(
        fakes.distribution("one", "1.0", "two>=2", "three", "four; extra == 'more'"),
        fakes.distribution("two", "1.5"),
    )
    [check] = host_checks.conflict_checks(host)
    assert check.verdict is Verdict.WARNING
    assert check.found == (
        "2 contradictions among 2 packages: one 1.0 requires two>=2, found is 1.5;"
        " one 1.0 requires three, which lacks"
    )


def test_packages_without_bytecode_are_named_with_what_they_cost() -> None:
    host = fakes.host(fakes.distribution("one"), fakes.distribution("two"))
    assert host_checks.bytecode_check(host, [], kept=True).verdict is Verdict.OK
    found = [Uncompiled(name="two", sources=2000, size_bytes=40_000_000)]
    check = host_checks.bytecode_check(host, found, kept=False)
    assert check.verdict is Verdict.WARNING
    assert check.found == (
        "1 package of 2 without bytecode: two (2000 sources); every start of a model compiles what"
        " it imports of them, since that can't be kept, all of it in about 6.0 s of processor time"
    )
    assert check.hint is not None and "compileall" in check.hint
    kept = host_checks.bytecode_check(host, found, kept=True)
    assert "; the first start of a model compiles" in kept.found


def test_accelerators_that_launches_count_on_or_why_they_are_unknown() -> None:
    none = host_checks.accelerator_check(Accelerator(), ())
    assert (none.verdict, none.found) == (Verdict.OK, "none")
    cuda = Accelerator(has_cuda=True, cuda_version="12.8", cuda_arch="sm_90", has_npu=True)
    assert host_checks.accelerator_check(cuda, ()).found == "CUDA 12.8, sm_90, NPU"
    hangs = host_checks.accelerator_check(Accelerator(), ("GPUs: nvidia-smi hangs",))
    assert (hangs.verdict, hangs.found) == (Verdict.WARNING, "GPUs: nvidia-smi hangs")
    assert hangs.hint is not None and "repair the driver" in hangs.hint


def test_packages_that_fit_and_metadata_that_can_not_be_read() -> None:
    host = fakes.host(fakes.distribution("one"), skipped=("bad.dist-info: no version",))
    fits, unreadable = host_checks.conflict_checks(host)
    assert (fits.verdict, unreadable.verdict) == (Verdict.OK, Verdict.WARNING)
    assert "bad.dist-info" in unreadable.found


@pytest.mark.parametrize(
    ("versions", "verdict"),
    [([], Verdict.FAILED), (["0.12"], Verdict.FAILED), (["0.13.2"], Verdict.OK)],
)
def test_the_host_needs_an_xoscar_that_serves(versions: list[str], verdict: Verdict) -> None:
    host = fakes.host(*(fakes.distribution("xoscar", each) for each in versions))
    assert host_checks.xoscar_check(host, WANTED).verdict is verdict


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(0, Verdict.FAILED), (GIB, Verdict.WARNING), (10 * GIB, Verdict.OK)],
)
def test_free_space_is_judged_by_what_environments_take(free: int, verdict: Verdict) -> None:
    assert host_checks.space_check("free space", "/home", free).verdict is verdict


def test_a_clock_is_judged_by_what_most_indexes_say() -> None:
    assert host_checks.clock_check({}).verdict is Verdict.OK
    assert host_checks.clock_check({"a": 59.0, "b": 0.0}).verdict is Verdict.OK
    assert host_checks.clock_check({"a": 9000.0, "b": 1.0, "c": 0.0}).verdict is Verdict.OK
    behind = host_checks.clock_check({"a": -120.0})
    assert (behind.verdict, behind.found) == (Verdict.WARNING, "2 min 0 s behind a")


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(256, Verdict.WARNING), (1024, Verdict.OK), (-1, Verdict.OK)],
)
def test_few_open_files_are_a_warning(limit: int, verdict: Verdict) -> None:
    assert host_checks.open_files_check(limit).verdict is verdict


@pytest.mark.parametrize(
    ("encoding", "verdict"), [("utf-8", Verdict.OK), ("iso8859-1", Verdict.WARNING)]
)
def test_files_that_are_not_named_in_utf_8_are_a_warning(encoding: str, verdict: Verdict) -> None:
    assert host_checks.file_names_check(encoding).verdict is verdict


def test_a_folder_of_sockets_that_does_not_fit_fails_if_it_was_named() -> None:
    def verdict(fault: str | None, *, named: bool = True) -> Verdict:
        return host_checks.sockets_check("/tmp", named=named, fault=fault).verdict

    assert verdict(None) is Verdict.OK
    assert verdict("its path is too long for that of a socket") is Verdict.FAILED
    assert verdict("its path is too long for that of a socket", named=False) is Verdict.WARNING


def test_what_anybody_may_write_to_is_worse_as_root() -> None:
    def verdict(root: bool, *places: str) -> Verdict:
        return host_checks.owner_check("/home", root=root, open_places=places).verdict

    assert verdict(True) is Verdict.OK
    assert verdict(False, "/home") is Verdict.WARNING
    assert verdict(True, "/home") is Verdict.FAILED
    both = host_checks.owner_check("/a/home", root=False, open_places=["/a/home", "/a"])
    assert both.hint == "chmod o-w /a; chmod -R o-w /a/home"


def test_broken_environments_unjudged_leases_and_stopped_holders_are_warnings() -> None:
    assert host_checks.environments_check(2, {}).verdict is Verdict.OK
    broken = host_checks.environments_check(2, {"abc": "its interpreter is gone"})
    assert broken.found == "1 of 2 environments broken: abc: its interpreter is gone"
    assert host_checks.leases_check(1, []).verdict is Verdict.OK
    assert host_checks.leases_check(1, ["glow"]).verdict is Verdict.WARNING
    assert host_checks.locks_check(["build by 1"], []).verdict is Verdict.OK
    assert host_checks.locks_check(["build by 1"], ["build by 1"]).verdict is Verdict.WARNING


def home(cache: str | None = None, **faults: Any) -> ProbedHome:
    tried = FileSystem(place="/home", mounted=(1,), kind="ext4", **faults)
    return ProbedHome(place="/home", writable=None, tried=tried, cache=cache)


def checks_of(found: ProbedHome) -> dict[str, Check]:
    return {each.name: each for each in host_checks.file_system_checks(found, "/cache")}


def verdicts(found: ProbedHome) -> dict[str, Verdict]:
    return {name: each.verdict for name, each in checks_of(found).items()}


def test_a_file_system_that_can_all_is_well() -> None:
    every = {"home": Verdict.OK, "file system": Verdict.OK, "uv cache": Verdict.OK}
    assert verdicts(home()) == every


@pytest.mark.parametrize("fault", ["locks", "symbolic_links", "executes"])
def test_what_environments_can_not_do_without_fails(fault: str) -> None:
    assert verdicts(home(**{fault: "no"}))["home"] is Verdict.FAILED


def test_copies_instead_of_links_and_names_without_case_are_warnings() -> None:
    found = verdicts(home(cache="Invalid cross-device link"))
    assert (found["home"], found["uv cache"]) == (Verdict.OK, Verdict.WARNING)
    assert verdicts(home(ignores_case=True))["case"] is Verdict.WARNING


@pytest.mark.parametrize(
    ("kind", "options", "seen"),
    [
        ("nfs4", {"vers": "4.2", "local_lock": "none"}, None),
        ("nfs", {"vers": "3", "nolock": "", "local_lock": "all"}, "nfs, local_lock=all"),
        ("cifs", {"vers": "3.1.1", "nobrl": ""}, "cifs, nobrl"),
        ("lustre", {"flock": ""}, None),
        ("fuse.sshfs", {}, "fuse.sshfs"),
        ("ext4", {}, None),
    ],
)
def test_a_home_whose_locks_other_hosts_do_not_see_is_a_warning(
    kind: str, options: dict[str, str], seen: str | None
) -> None:
    found = locks_of_one_host(Mount(kind=kind, options=options))
    assert found == seen
    check = checks_of(replace(home(), locks_of_one_host=found)).get("locks")
    if seen is None:
        assert check is None
    else:
        assert check is not None
        assert check.verdict is Verdict.WARNING
        assert seen in check.found


def test_the_ways_of_a_file_system_are_reported() -> None:
    assert checks_of(home())["file system"].found == (
        "ext4; folders are renamed; files are shared by hard links"
    )
    odd = home(hard_links="no", reflinks="no", exchange="no", keeps_deleted=True, keeps_modes=False)
    said = checks_of(odd)["file system"].found
    assert (
        "copied" in said and "trash" in said and "permissions" in said and "three renames" in said
    )
    assert "share blocks" in checks_of(home(hard_links="no"))["file system"].found


def test_few_inodes_and_a_quota_are_reported() -> None:
    kinds = (Verdict.OK, Verdict.OK, Verdict.WARNING, Verdict.FAILED)
    inodes = (None, 10**6, 50_000, 10)
    assert tuple(host_checks.inodes_check("/home", each).verdict for each in inodes) == kinds
    left = (None, 5 * 1024**3, 1024**2)
    assert tuple(host_checks.quota_check("/home", each).verdict for each in left) == (
        Verdict.OK,
        Verdict.WARNING,
        Verdict.FAILED,
    )


def test_of_a_place_that_is_not_writable_nothing_else_is_reported() -> None:
    assert verdicts(ProbedHome(place="/home", writable="no")) == {"home": Verdict.FAILED}
    full = ProbedHome(place="/home", writable=os.strerror(errno.ENOSPC))
    [check] = host_checks.file_system_checks(full, "/cache")
    assert check.hint is not None
    assert check.hint.startswith("free some space")


def test_an_xinference_without_the_drop_in_is_a_warning_that_says_how_to_have_it() -> None:
    on = RunningXinference(pid=1, command="xinference-local", home="/a", is_on=True)
    off = RunningXinference(pid=2, command="xinference-worker", home="/b", is_on=False)
    assert host_checks.xinference_check([]).verdict is Verdict.OK
    assert host_checks.xinference_check([on]) == Check(
        name="xinference",
        verdict=Verdict.OK,
        found="xinference-local (process 1) has the drop-in on",
        hint=None,
    )
    both = host_checks.xinference_check([on, off])
    assert both.verdict is Verdict.WARNING
    assert "xinference-worker (process 2) has the drop-in off" in both.found
    assert "python -m xinference_venv.xinference" in str(both.hint)


def test_a_unit_without_the_drop_in_is_a_warning() -> None:
    assert host_checks.service_check({}).verdict is Verdict.OK
    assert host_checks.service_check({"/etc/x.service": True}).verdict is Verdict.OK
    check = host_checks.service_check({"/etc/x.service": False})
    assert check.verdict is Verdict.WARNING
    assert "/etc/x.service starts Xinference without the drop-in" in check.found
    assert "XINFERENCE_EXTENSIONS=xinference_venv.xinference:extension" in str(check.hint)
