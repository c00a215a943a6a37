from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, entry, key, lease, process, through_json
from xinference_venv.errors import InvalidInput, InvalidName
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import (
    DirectoryUser,
    EnvEntry,
    RemovalPlan,
    building_entry,
    check_has_lock,
    is_release_refused,
    leases_error,
    plan_removal,
    release_error,
    removal_error,
    users_error,
)
from xinference_venv.inventory.lease import Holder, JudgedLease, LeaseEntry
from xinference_venv.inventory.selection import Selection, check_directory_name
from xinference_venv.planning.key import EnvKey

ANY = Selection()
OTHER = key("another-model")


def directory_user(pid: int = 7) -> DirectoryUser:
    return DirectoryUser(pid=pid, command="python -m old", seen_in=("command line", "memory map"))


keys = st.builds(
    key,
    st.sampled_from(["a", "b"]),
    st.sampled_from([None, "vllm"]),
    st.sampled_from(["3.1", "3.11", "3.11.7"]),
)
filters = st.builds(
    Selection,
    model_name=st.sampled_from([None, "a", "b"]),
    model_engine=st.sampled_from([None, "vllm"]),
    python_version=st.sampled_from([None, "3.1", "3.11"]),
)
entries = st.builds(
    lambda of, leases, **more: entry(of, *leases, **more),
    keys,
    st.lists(st.builds(lease, model_uid=st.none() | st.text(max_size=3)), max_size=2),
    state=st.sampled_from(EnvState),
    env_id=st.none() | st.text(max_size=3),
    reason=st.none() | st.text(max_size=3),
    size_bytes=st.none() | st.integers(0),
    installed=st.integers(0),
    shared_with=st.lists(keys, max_size=2).map(tuple),
    layout=st.none() | st.sampled_from(["v1", "v4"]),
    users=st.lists(st.builds(directory_user, st.integers(1)), max_size=2).map(tuple),
    unknown_users=st.integers(0),
    last_used=st.none() | st.floats(0, 1e11),
)


@given(entries)
def test_an_entry_comes_back_from_json(made: EnvEntry) -> None:
    assert EnvEntry.from_dict(through_json(made.to_dict())) == made


def test_entries_are_read_whole_or_refused() -> None:
    made = entry(
        key(),
        lease(model_uid="a-model-0"),
        reason="a reason",
        size_bytes=10,
        python="3.11.7",
        installed=3,
        inherited=4,
        shared_with=(OTHER,),
        layout="v3",
        users=(directory_user(),),
        unknown_users=2,
        created=1.5,
        last_used=2.5,
    )
    needed = {"model_name", "python_version", "path", "real_path", "state"}
    check_record(made, may_be_absent=made.to_dict().keys() - needed)


def test_an_entry_begins_as_xinference_names_it() -> None:
    assert list(entry().to_dict())[:5] == [
        "model_name",
        "model_engine",
        "python_version",
        "path",
        "real_path",
    ]


@pytest.mark.parametrize(
    ("wanted", "there", "meant"),
    [
        ("3.1", "3.11", False),
        ("3.1", "3.1", True),
        ("3.1", "3.1.4", True),
        ("3.11", "3.11", True),
        ("3.11", "3.11.7", True),
        ("3.11", "3.110", False),
        ("3.11.7", "3.11", False),
        ("3.11.7", "3.11.7", True),
        ("3.11.7", "3.11.70", False),
    ],
)
def test_a_python_version_means_itself_and_its_patch_releases(
    wanted: str, there: str, meant: bool
) -> None:
    assert Selection(python_version=wanted).matches(key(python_version=there)) is meant


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (ANY, True),
        (Selection(model_name="a-model"), True),
        (Selection(model_name="a-mode"), False),
        (Selection(model_name="A-Model"), False),
        (Selection(model_engine="vllm"), True),
        (Selection(model_engine="sglang"), False),
        (Selection(model_name="a-model", model_engine="vllm", python_version="3.11"), True),
        (Selection(model_name="a-model", model_engine="vllm", python_version="3.12"), False),
    ],
)
def test_a_key_is_meant_if_all_that_was_given_fits(wanted: Selection, meant: bool) -> None:
    assert wanted.matches(key("a-model", "vllm", "3.11")) is meant


def test_an_engine_means_no_key_without_one() -> None:
    assert not Selection(model_engine="vllm").matches(key(model_engine=None))
    assert Selection(model_engine="").matches(key(model_engine=None))
    assert not Selection(model_engine="").matches(key(model_engine="vllm"))
    assert ANY.matches(key(model_engine=None))


A = key("a-model")
USED = lease()
REMOVE, UNLINK, REFUSE = "remove", "unlink", "refuse"


@pytest.mark.parametrize(
    ("there", "gently", "by_force"),
    [
        (entry(A), REMOVE, REMOVE),
        (entry(A, USED), REFUSE, UNLINK),
        (entry(A, USED, lease("second")), REFUSE, UNLINK),
        (entry(A, shared_with=(OTHER,)), REMOVE, REMOVE),
        (entry(A, USED, shared_with=(OTHER,)), UNLINK, UNLINK),
        (entry(A, state=EnvState.BROKEN, env_id=None), REMOVE, REMOVE),
        (entry(A, USED, state=EnvState.BROKEN), REFUSE, UNLINK),
        (entry(A, state=EnvState.UNMANAGED, env_id=None), REMOVE, REMOVE),
        (entry(A, state=EnvState.UNMANAGED, users=(directory_user(),)), REFUSE, REFUSE),
        (building_entry(A, "/home/v4/a-model/vllm/3.11"), REFUSE, REFUSE),
        (entry(A, USED, state=EnvState.BUILDING, shared_with=(OTHER,)), REFUSE, REFUSE),
    ],
)
def test_what_a_removal_does_with_an_environment(
    there: EnvEntry, gently: str, by_force: str
) -> None:
    for force, expected in ((False, gently), (True, by_force)):
        plan = plan_removal([there], Selection(model_name="a-model").matches, force=force)
        assert {name: len(listed) for name, listed in through_json(plan.to_dict()).items()} == {
            name: int(name == expected) for name in (REMOVE, UNLINK, REFUSE)
        }


def test_an_environment_in_use_is_refused_when_every_key_that_means_it_is_to_go() -> None:
    one = entry(A, USED, shared_with=(OTHER,))
    other = entry(OTHER, USED, shared_with=(A,))
    assert plan_removal([one, other], ANY.matches, force=False).refuse == (one, other)
    assert plan_removal([one, other], ANY.matches, force=True).unlink == (one, other)
    assert plan_removal(
        [one, other], Selection(model_name="a-model").matches, force=False
    ).unlink == (one,)


def test_what_does_not_match_is_left_out_of_the_plan() -> None:
    plan = plan_removal([entry(A, USED)], Selection(model_name="another-model").matches, force=True)
    assert not (plan.remove or plan.unlink or plan.refuse)
    assert plan == RemovalPlan(remove=(), unlink=(), refuse=())
    unused, other = entry(A), entry(OTHER)
    plan = plan_removal([other, unused], Selection(model_name="a-model").matches, force=False)
    assert plan == RemovalPlan(remove=(unused,), unlink=(), refuse=())


def test_a_plan_names_the_holders_that_stand_in_the_way_and_no_others() -> None:
    first, second, third = (
        JudgedLease.of(lease(each, process=process(n)), Holder.ALIVE)
        for n, each in enumerate("abc")
    )
    plan = plan_removal(
        [
            entry(A, first, second),
            entry(key("b"), third, shared_with=(key("stays"),)),
            entry(key("c")),
        ],
        Selection(python_version="3.11").matches,
        force=False,
    )
    assert [each for one in plan.refuse for each in one.leases] == [first, second, third]
    kept = replace(plan.refuse[1], shared_with=(key("stays", python_version="3.12"),))
    plan = plan_removal(
        [plan.refuse[0], kept], Selection(python_version="3.11").matches, force=False
    )
    assert [each for one in plan.refuse for each in one.leases] == [first, second]


@given(st.lists(entries, max_size=5), filters, st.booleans())
def test_every_matching_entry_is_in_the_plan_once_and_nothing_in_use_loses_its_files(
    there: list[EnvEntry], wanted: Selection, force: bool
) -> None:
    plan = plan_removal(iter(there), wanted.matches, force=force)
    planned = [*plan.remove, *plan.unlink, *plan.refuse]
    matching = [each for each in there if wanted.matches(each.key)]
    assert sorted(map(id, planned)) == sorted(map(id, matching))
    for each in plan.remove:
        assert not each.leases
    assert all(each in plan.refuse for each in matching if each.users)
    for each in plan.unlink:
        assert force or any(not wanted.matches(other) for other in each.shared_with)
    for each in (*plan.remove, *plan.unlink):
        assert each.state is not EnvState.BUILDING


def test_what_is_being_built_has_an_entry_without_an_environment() -> None:
    of: EnvKey = key()
    made = building_entry(of, "/home/v4/a-model/vllm/3.11")
    assert (made.key, made.state, made.env_id) == (of, EnvState.BUILDING, None)
    assert made.path == made.real_path == "/home/v4/a-model/vllm/3.11"


def test_a_user_of_a_directory_is_reported_with_what_showed_it() -> None:
    made = directory_user()
    check_record(made, may_be_absent={"seen_in"})
    assert str(made) == "process 7 (python -m old), seen in its command line, memory map"


def test_a_user_whose_command_line_or_number_is_not_known_is_named_by_what_shows_it() -> None:
    quiet = DirectoryUser(pid=7, command="", seen_in=("memory map",))
    assert str(quiet) == "process 7, seen in its memory map"
    elsewhere = DirectoryUser(pid=0, command="", seen_in=("lock of the environment",))
    assert str(elsewhere) == (
        "a process whose number is not known here, seen by its lock of the environment"
    )


def test_who_uses_an_environment_is_named_and_what_is_being_built_says_so() -> None:
    used = entry(A, lease(), lease("second"), users=(directory_user(),))
    holders = "a-model (process 100 on a-host); a-model (process 100 on a-host)"
    assert used.use == used.hindrance == f"in use by {holders}; {directory_user()}"
    assert entry(A).use == entry(A).hindrance == ""
    assert replace(used, state=EnvState.BUILDING).hindrance == "being built"


@pytest.mark.parametrize(("count", "named", "more"), [(5, 5, ""), (7, 5, "; and 2 more")])
def test_the_users_of_a_directory_are_named_up_to_five(count: int, named: int, more: str) -> None:
    users = [directory_user(pid) for pid in range(count)]
    error = users_error("/old", users, hint="stop them", consequence=", which would fail")
    first = "; ".join(map(str, users[:named]))
    assert error.message == f"/old is in use by {first}{more}, which would fail"
    assert error.details["users"] == [each.to_dict() for each in users]
    assert error.hint == "stop them"
    assert users_error("/old", users[:1], hint="").message == f"/old is in use by {users[0]}"


def test_the_holders_of_leases_are_named_in_the_error_of_a_change() -> None:
    leases = [lease(), lease("second", model_uid="a-model-0")]
    error = leases_error("a-model", leases)
    assert error.message == f"a-model is in use by {leases[0]}; {leases[1]}"
    assert error.details["holders"] == [each.to_dict() for each in leases]


def test_a_refused_removal_names_each_with_who_uses_it_or_why_it_stays() -> None:
    old = entry(OTHER, state=EnvState.UNMANAGED, users=(directory_user(),))
    stuck = entry(OTHER, reason="permission\ndenied")
    building = entry(A, lease(), state=EnvState.BUILDING)
    assert removal_error([], force="--force") is None
    held = removal_error([("", entry(A, lease()))], force="--force")
    assert held is not None
    assert held.message == f"{A} is in use by {lease()}"
    assert held.hint == "end what uses it, or remove it with --force"
    assert held.details["holders"] == [JudgedLease.of(lease(), Holder.ALIVE).to_dict()]
    each = [("one: ", old), ("two: ", stuck), ("", replace(stuck, reason=None)), ("", building)]
    error = removal_error(each, force="--force")
    assert error is not None
    assert error.message == (
        f"one: {OTHER} is in use by {directory_user()}; two: {OTHER}: permission\\ndenied;"
        f" {OTHER}: it could not be removed; {A} is being built"
    )
    # No force removes it.
    assert error.hint == "end what uses it; what an older version left can't be removed before"
    assert error.details["users"] == [directory_user().to_dict()]


def test_a_removal_that_the_system_refuses_is_an_error_of_the_disk() -> None:
    error = removal_error([("", entry(A, reason="Read-only file system"))], force="--force")
    assert error is not None
    assert error.code == "store_error"
    assert error.message == f"{A}: Read-only file system"
    assert error.hint is not None
    assert "--force" not in error.hint


def test_what_is_being_built_is_waited_for_or_cancelled_since_no_force_removes_it() -> None:
    error = removal_error([("", building_entry(A, "/home/v4/a-model"))], force="--force")
    assert error is not None
    assert error.message == f"{A} is being built"
    assert error.hint == "wait until it is built, or cancel its job"


def test_a_lease_is_released_unless_its_holder_lives_or_with_force() -> None:
    refused = [each for each in (None, *Holder) if is_release_refused(each, force=False)]
    assert refused == [Holder.ALIVE]
    assert not is_release_refused(Holder.ALIVE, force=True)


def test_a_refused_release_names_the_leases_by_what_is_enough_of_their_ids() -> None:
    assert release_error([], force="--force") is None
    entries = [
        LeaseEntry(lease=lease(lease_id), holder=Holder.ALIVE)
        for lease_id in ("0123456789abcdef", "short")
    ]
    error = release_error(entries, force="force=true")
    assert error is not None
    assert error.message == (
        f"lease 0123456789ab is held by {lease()}; lease short is held by {lease()}"
    )
    assert error.details["holders"] == [each.to_dict() for each in entries]
    assert error.hint == "end that process, or release the lease all the same with force=true"


@pytest.mark.parametrize("name", ["two words", "a+b", "line\nbreak", "\udcff", "x" * 255, "..."])
def test_a_filter_may_have_any_name_that_a_directory_can_have(name: str) -> None:
    assert check_directory_name(name, "model name") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "é" * 128, 1, None])
def test_a_name_that_no_directory_can_have_is_refused(name: object) -> None:
    with pytest.raises(InvalidName, match=r"Invalid model name .*: no directory can have it"):
        check_directory_name(name, "model name")


@pytest.mark.parametrize("states", [[], [EnvState.BROKEN], [EnvState.IN_PLACE, EnvState.READY]])
def test_a_lock_may_be_had_where_one_is_ready_or_nothing_is_changed_in_its_place(
    states: list[EnvState],
) -> None:
    check_has_lock(entry(state=state) for state in states)


def test_what_is_changed_in_its_place_has_no_lock() -> None:
    found = [entry(state=EnvState.BROKEN), entry(key("other"), state=EnvState.IN_PLACE)]
    with pytest.raises(InvalidInput, match="environment of Xinference") as no:
        check_has_lock(found)
    assert str(no.value).startswith(f"{key('other')} is an environment")
    assert no.value.hint == "`xinference-venv packages other` shows what it has"
