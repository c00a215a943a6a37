from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, lease, process, through_json
from xinference_venv.lease import Holder, Lease, ProcessIdentity, judge

texts = st.text(max_size=4)
processes = st.builds(ProcessIdentity, host=texts, boot=texts, pid=st.integers(), start=texts)
leases = st.builds(
    Lease,
    lease_id=texts,
    env_id=texts,
    model_name=texts,
    model_uid=st.none() | texts,
    process=processes,
    created=st.floats(0, 1e11),
)


@given(processes | leases)
def test_a_lease_comes_back_from_json(record: ProcessIdentity | Lease) -> None:
    assert type(record).from_dict(through_json(record.to_dict())) == record


def test_leases_are_read_whole_or_refused() -> None:
    check_record(process())
    check_record(lease(model_uid="a-model-0"), may_be_absent=("version", "model_uid"))


HERE = process(1)


@pytest.mark.parametrize(
    ("holder", "start_there", "judgement"),
    [
        (process(), "12345", Holder.ALIVE),
        # The pid was given to another process.
        (process(), "54321", Holder.GONE),
        (process(), None, Holder.GONE),
        (process(boot="an-earlier-boot"), "12345", Holder.GONE),
        (process(boot="an-earlier-boot"), None, Holder.GONE),
        # A process of another host can't be asked, whatever our own pids say.
        (process(host="another-host"), "12345", Holder.UNKNOWN),
        (process(host="another-host"), None, Holder.UNKNOWN),
        (process(host="another-host", boot="another-boot"), None, Holder.UNKNOWN),
    ],
)
def test_a_holder_is_gone_only_when_that_is_proved(
    holder: ProcessIdentity, start_there: str | None, judgement: Holder
) -> None:
    assert judge(holder, HERE, {holder.pid: start_there}.get) is judgement


@given(processes, processes, st.none() | texts)
def test_no_holder_lives_without_a_process_of_its_pid_and_start(
    holder: ProcessIdentity, here: ProcessIdentity, start: str | None
) -> None:
    judgement = judge(holder, here, lambda _: start)
    assert (judgement is Holder.UNKNOWN) is (holder.host != here.host)
    if judgement is Holder.ALIVE:
        assert (holder.boot, holder.start) == (here.boot, start)


def test_the_system_is_asked_for_the_holders_pid_and_only_where_its_answer_counts() -> None:
    asked: list[int] = []

    def start_of(pid: int) -> str | None:
        asked.append(pid)
        return None

    for holder in (process(7, host="another-host"), process(8, boot="an-earlier-boot"), process(9)):
        judge(holder, HERE, start_of)
    assert asked == [9]


def test_a_lease_that_is_bound_changes_its_process_alone() -> None:
    first = lease(model_uid="a-model-0")
    bound = first.bound_to(process(200))
    assert bound.process == process(200)
    assert bound.bound_to(first.process) == first
    assert first.process == process()


def test_a_lease_names_its_model_and_process() -> None:
    assert str(lease()) == "a-model (process 100 on a-host)"
    assert str(lease(model_uid="a-model-0")) == "a-model-0 (process 100 on a-host)"
