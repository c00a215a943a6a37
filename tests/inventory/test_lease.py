from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, key, lease, process, through_json
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.lease import (
    Holder,
    JudgedLease,
    Lease,
    LeaseEntry,
    ProcessIdentity,
    judge,
)

texts = st.text(max_size=4)
processes = st.builds(
    ProcessIdentity,
    host=texts,
    boot=texts,
    pid=st.integers(),
    start=texts,
    namespace=st.none() | texts,
)
leases = st.builds(
    Lease,
    lease_id=texts,
    env_id=texts,
    model_name=texts,
    model_uid=st.none() | texts,
    process=processes,
    created=st.floats(0, 1e11),
)


entries = st.builds(
    LeaseEntry,
    lease=leases,
    holder=st.sampled_from(Holder),
    keys=st.lists(st.builds(key, texts), max_size=2).map(tuple),
)


@given(processes | leases | entries)
def test_a_lease_comes_back_from_json(record: ProcessIdentity | Lease | LeaseEntry) -> None:
    assert type(record).from_dict(through_json(record.to_dict())) == record


def test_leases_are_read_whole_or_refused() -> None:
    held = lease(model_uid="a-model-0")
    entry = LeaseEntry(lease=held, holder=Holder.UNKNOWN, keys=(key(),))
    check_record(process(namespace="a-machine"), may_be_absent=("namespace",))
    check_record(held, may_be_absent=("version", "model_uid"))
    check_record(entry, may_be_absent=("version", "model_uid", "keys"))


def test_a_lease_of_a_later_version_is_refused_as_such() -> None:
    data = {**lease().to_dict(), "version": 2}
    with pytest.raises(InvalidRecord, match=r"lease is of a later version 2 .* reads up to 1"):
        Lease.from_dict(data)


# A process of the machine, of a container beside it or before it, and one that does not tell.
MACHINE, CONTAINER, UNTOLD = "a-machine", "a-boot:4026532201", None
HERE = process(1, namespace=MACHINE)
ALIVE, GONE, UNKNOWN = Holder.ALIVE, Holder.GONE, Holder.UNKNOWN


@pytest.mark.parametrize(
    ("holder", "here", "start_there", "judgement"),
    [
        (process(namespace=MACHINE), HERE, "12345", ALIVE),
        # The pid was given to another process.
        (process(namespace=MACHINE), HERE, "54321", GONE),
        (process(namespace=MACHINE), HERE, None, GONE),
        # A time namespace counts from another start, so only within one a start tells.
        (process(namespace=MACHINE, start="12345@a"), HERE, "12345@a", ALIVE),
        (process(namespace=MACHINE, start="12345@a"), HERE, "54321@a", GONE),
        (process(namespace=MACHINE, start="12345@a"), HERE, "54321@b", UNKNOWN),
        (process(namespace=MACHINE, start="12345@a"), HERE, "54321", UNKNOWN),
        (process(namespace=MACHINE), HERE, "54321@a", UNKNOWN),
        # There is such a process, and the system does not say since when.
        (process(namespace=MACHINE), HERE, "", UNKNOWN),
        (process(namespace=MACHINE, start=""), HERE, "12345", UNKNOWN),
        (process(namespace=MACHINE, start=""), HERE, "", UNKNOWN),
        (process(namespace=MACHINE, start=""), HERE, None, GONE),
        # The same machine, after it was started anew.
        (process(namespace=MACHINE, boot="an-earlier-boot"), HERE, "12345", GONE),
        (process(namespace=MACHINE, boot="an-earlier-boot"), HERE, None, GONE),
        # A process of another host can't be asked, whatever our own pids say.
        (process(host="another-host", namespace=MACHINE), HERE, "12345", UNKNOWN),
        (process(host="another-host", namespace=MACHINE), HERE, None, UNKNOWN),
        (process(host="another-host", boot="another-boot"), HERE, None, UNKNOWN),
        # Nor one of a container, or of another machine of the same name.
        (process(namespace=CONTAINER), HERE, "12345", UNKNOWN),
        (process(namespace=CONTAINER), HERE, None, UNKNOWN),
        (process(namespace=MACHINE), process(1, namespace=CONTAINER), None, UNKNOWN),
        (process(namespace="another-machine", boot="another-boot"), HERE, None, UNKNOWN),
        (process(namespace="another-boot:4026532201", boot="another-boot"), HERE, None, UNKNOWN),
        # One side tells none, as a record of an earlier version: it may be another container.
        (process(namespace=UNTOLD), HERE, "12345", UNKNOWN),
        (process(namespace=UNTOLD), HERE, None, UNKNOWN),
        (process(namespace=UNTOLD, boot="an-earlier-boot"), HERE, None, UNKNOWN),
        (process(namespace=CONTAINER), process(1, namespace=UNTOLD), "12345", UNKNOWN),
        (process(namespace=CONTAINER), process(1, namespace=UNTOLD), None, UNKNOWN),
        # Neither does: a system without namespaces.
        (process(namespace=UNTOLD), process(1, namespace=UNTOLD), "12345", ALIVE),
        (process(namespace=UNTOLD), process(1, namespace=UNTOLD), None, GONE),
        (process(namespace=UNTOLD, host="another-host"), HERE, None, UNKNOWN),
    ],
)
def test_a_holder_is_gone_only_when_that_is_proved(
    holder: ProcessIdentity, here: ProcessIdentity, start_there: str | None, judgement: Holder
) -> None:
    assert judge(holder, here, {holder.pid: start_there}.get) is judgement


@given(processes, processes, st.none() | texts)
def test_no_holder_lives_without_a_process_of_its_pid_and_start(
    holder: ProcessIdentity, here: ProcessIdentity, start: str | None
) -> None:
    judgement = judge(holder, here, lambda _: start)
    if (holder.host, holder.namespace) != (here.host, here.namespace):
        assert judgement is Holder.UNKNOWN
    if judgement is Holder.ALIVE:
        assert (holder.boot, holder.start) == (here.boot, start)
    if judgement is Holder.GONE:
        assert holder.boot != here.boot or holder.start != start


def test_the_system_is_asked_for_the_holders_pid_and_only_where_its_answer_counts() -> None:
    asked: list[int] = []

    def start_of(pid: int) -> str | None:
        asked.append(pid)
        return None

    here = process(1)
    for holder in (process(7, host="another-host"), process(8, boot="an-earlier-boot"), process(9)):
        judge(holder, here, start_of)
    judge(process(10, namespace=CONTAINER), here, start_of)
    assert asked == [9]


def test_a_lease_that_is_bound_changes_its_process_alone() -> None:
    first = lease(model_uid="a-model-0")
    bound = first.bound_to(process(200))
    assert bound.process == process(200)
    assert bound.bound_to(first.process) == first
    assert first.process == process()


def test_a_judged_lease_is_the_lease_with_how_its_holder_was_judged() -> None:
    held = lease(model_uid="a-model-0")
    judged = JudgedLease.of(held, Holder.UNKNOWN)
    assert judged.holder is Holder.UNKNOWN
    assert Lease.from_dict(judged.to_dict()) == held


def test_a_lease_names_its_model_and_process() -> None:
    assert str(lease()) == "a-model (process 100 on a-host)"
    assert str(lease(model_uid="a-model-0")) == "a-model-0 (process 100 on a-host)"
