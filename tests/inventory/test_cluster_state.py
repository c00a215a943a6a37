from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import check_record, through_json
from xinference_venv.errors import IncompatibleVersion, InvalidInput, NotFound
from xinference_venv.inventory.cluster_state import (
    FORGOTTEN_SECONDS,
    PROTOCOL,
    ClusterState,
    Registration,
    WorkerSnapshot,
    WorkerState,
)


def registration(
    address: str = "10.0.0.1:7000",
    *,
    incarnation: str = "first",
    started: float = 100.0,
    heartbeat: float | None = 2.0,
    protocol: int = PROTOCOL,
    worker_id: str = "",
) -> Registration:
    return Registration(
        address=address,
        incarnation=incarnation,
        started=started,
        protocol=protocol,
        release="0.1.0",
        host_name="host",
        heartbeat=heartbeat,
        worker_id=worker_id,
    )


def fleet_of(*addresses: str, now: float = 0.0) -> ClusterState:
    fleet = ClusterState()
    for address in addresses:
        fleet.register(registration(address), now)
    return fleet


def chosen(
    fleet: ClusterState, wanted: list[str], count: int | None, now: float = 0.0
) -> list[str]:
    return [each.registration.address for each in fleet.choose(wanted, count, now)]


def test_a_registration_comes_back_from_json_and_is_read_whole_or_refused() -> None:
    for each in (registration(), registration(heartbeat=None)):
        assert Registration.from_dict(through_json(each.to_dict())) == each
    check_record(registration(), may_be_absent=("heartbeat", "worker_id"))


def test_a_field_of_a_later_release_is_no_harm() -> None:
    later = {**registration().to_dict(), "colour": "green", "more": {"deep": [1]}}
    assert Registration.from_dict(later) == registration()


@example(5.999)
@example(6.0)
@example(29.999)
@example(30.0)
@given(st.floats(0, 1e6))
def test_missing_heartbeats_mean_suspect_and_then_gone(silent: float) -> None:
    [member] = fleet_of("10.0.0.1:7000").members.values()
    expected = (
        WorkerState.ALIVE
        if silent < 6
        else WorkerState.SUSPECT
        if silent < 30
        else WorkerState.GONE
    )
    assert member.state(silent) is expected


def test_a_worker_of_the_same_process_sends_no_heartbeats_and_is_alive() -> None:
    fleet = ClusterState()
    fleet.register(registration(heartbeat=None), 0.0)
    fleet.forget_old(10 * FORGOTTEN_SECONDS)
    [member] = fleet.members.values()
    assert member.state(1e9) is WorkerState.ALIVE


def test_a_heartbeat_brings_a_worker_back_and_carries_its_snapshot() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    [member] = fleet.members.values()
    assert member.state(100.0) is WorkerState.GONE
    assert member.describe(100.0).snapshot_age is None
    assert fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(jobs=3), 100.0)
    assert member.state(101.0) is WorkerState.ALIVE
    described = member.describe(101.5)
    assert (described.snapshot, described.snapshot_age) == (WorkerSnapshot(jobs=3), 1.5)


def test_a_heartbeat_of_a_worker_or_incarnation_that_is_not_known_asks_it_to_register() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    assert not fleet.heartbeat("10.0.0.2:7000", "first", WorkerSnapshot(), 1.0)
    assert not fleet.heartbeat("10.0.0.1:7000", "second", WorkerSnapshot(), 1.0)
    assert fleet.members["10.0.0.1:7000"].heard == 0.0


def test_a_newer_incarnation_takes_the_place_of_the_older_and_never_the_other_way_round() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    newer = registration(incarnation="second", started=200.0)
    fleet.register(newer, 5.0)
    with pytest.raises(InvalidInput, match="was restarted since"):
        fleet.register(registration(), 6.0)
    assert not fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(), 6.0)
    assert fleet.members["10.0.0.1:7000"].registration == newer


def test_a_worker_that_is_gone_is_replaced_also_where_the_clock_was_set_back_since() -> None:
    fleet = ClusterState()
    fleet.register(registration(HERE, started=9e9, worker_id="w1"), 0.0)
    again = registration(HERE, started=100.0, worker_id="w1", incarnation="second")
    with pytest.raises(InvalidInput, match="was restarted since"):
        fleet.register(again, 1.0)
    fleet.register(again, 60.0)
    assert fleet.members[HERE].registration == again
    moved = registration(THERE, started=1.0, worker_id="w1", incarnation="third")
    fleet.register(moved, 120.0)
    assert list(fleet.members) == [THERE]


def test_of_two_incarnations_that_started_at_the_same_moment_the_last_one_counts() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    fleet.register(registration(incarnation="second"), 5.0)
    assert fleet.members["10.0.0.1:7000"].registration.incarnation == "second"


def test_registering_again_keeps_the_snapshot_and_counts_as_heard() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(jobs=1), 1.0)
    fleet.register(registration(), 50.0)
    [member] = fleet.members.values()
    assert (member.heard, member.snapshot) == (50.0, WorkerSnapshot(jobs=1))


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1])
def test_a_worker_of_another_protocol_is_refused_with_both_named(protocol: int) -> None:
    fleet = ClusterState()
    with pytest.raises(IncompatibleVersion) as caught:
        fleet.register(registration(protocol=protocol), 0.0)
    assert caught.value.message == (
        f"the worker at 10.0.0.1:7000 speaks protocol {protocol} (release 0.1.0), this supervisor"
        f" protocol {PROTOCOL}"
    )
    assert caught.value.hint == "install releases of the same protocol on both"
    assert fleet.members == {}


def test_a_worker_that_leaves_is_taken_out_but_not_its_successor() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    fleet.leave("10.0.0.1:7000", "second")
    assert list(fleet.members) == ["10.0.0.1:7000"]
    fleet.leave("10.0.0.1:7000", "first")
    fleet.leave("10.0.0.1:7000", "first")
    assert fleet.members == {}


def test_a_worker_that_no_one_heard_of_for_a_day_is_forgotten() -> None:
    fleet = fleet_of("10.0.0.1:7000")
    fleet.forget_old(FORGOTTEN_SECONDS)
    assert list(fleet.members) == ["10.0.0.1:7000"]
    fleet.forget_old(FORGOTTEN_SECONDS + 1)
    assert fleet.members == {}


def test_an_ip_means_all_workers_on_it_and_an_address_one() -> None:
    fleet = fleet_of("10.0.0.1:7001", "10.0.0.1:7000", "10.0.0.2:7000")
    by_ip = [each.registration.address for each in fleet.select("10.0.0.1")]
    assert by_ip == ["10.0.0.1:7000", "10.0.0.1:7001"]
    assert len(fleet.select("10.0.0.2:7000")) == 1
    assert len(fleet.select(None)) == 3
    with pytest.raises(NotFound, match=r"no worker at '10\.0\.0\.3'") as caught:
        fleet.select("10.0.0.3")
    assert "10.0.0.2:7000" in str(caught.value.hint)
    assert caught.value.details["workers"] == [
        *("10.0.0.1:7000", "10.0.0.1:7001", "10.0.0.2:7000"),
    ]


def test_the_least_busy_are_chosen_first_and_the_living_before_the_suspect() -> None:
    fleet = fleet_of("10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000")
    fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(jobs=5), 10.0)
    fleet.heartbeat("10.0.0.3:7000", "first", WorkerSnapshot(jobs=2), 10.0)
    assert chosen(fleet, [], 1, now=11.0) == ["10.0.0.3:7000"]
    assert chosen(fleet, [], 3, now=11.0) == ["10.0.0.3:7000", "10.0.0.1:7000", "10.0.0.2:7000"]
    assert chosen(fleet, ["10.0.0.2"], 1, now=11.0) == ["10.0.0.2:7000"]


def test_a_worker_that_is_gone_is_chosen_only_by_name() -> None:
    fleet = fleet_of("10.0.0.1:7000", "10.0.0.2:7000")
    fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(), 1000.0)
    assert chosen(fleet, [], None, now=1000.0) == ["10.0.0.1:7000"]
    assert chosen(fleet, ["10.0.0.2"], None, now=1000.0) == ["10.0.0.2:7000"]


def test_when_all_workers_are_gone_the_error_names_them() -> None:
    with pytest.raises(NotFound, match=r"^every worker is gone$") as caught:
        chosen(fleet_of("10.0.0.2:1", "10.0.0.1:1"), [], None, now=1000.0)
    assert caught.value.hint == "there were: 10.0.0.1:1, 10.0.0.2:1"


def test_a_worker_that_has_only_registered_has_nothing_to_do() -> None:
    fleet = fleet_of("10.0.0.1:7000", "10.0.0.2:7000")
    fleet.heartbeat("10.0.0.1:7000", "first", WorkerSnapshot(jobs=1), 0.0)
    assert chosen(fleet, [], 1) == ["10.0.0.2:7000"]


def test_a_drained_worker_is_chosen_only_by_name_also_when_it_is_started_again() -> None:
    fleet = fleet_of("10.0.0.1:1", "10.0.0.2:1")
    assert fleet.drain("10.0.0.1:1", draining=True).describe(0.0).draining
    assert chosen(fleet, [], None) == ["10.0.0.2:1"]
    assert chosen(fleet, ["10.0.0.1:1"], None) == ["10.0.0.1:1"]
    fleet.register(registration("10.0.0.1:1", incarnation="second", started=200.0), 1.0)
    assert chosen(fleet, [], None) == ["10.0.0.2:1"]
    fleet.drain("10.0.0.1:1", draining=False)
    assert chosen(fleet, [], None) == ["10.0.0.1:1", "10.0.0.2:1"]


def test_when_all_workers_are_drained_the_error_names_them() -> None:
    fleet = fleet_of("10.0.0.1:1")
    fleet.drain("10.0.0.1:1", draining=True)
    with pytest.raises(NotFound, match="every worker is drained") as caught:
        chosen(fleet, [], None)
    assert "10.0.0.1:1" in (caught.value.hint or "")
    with pytest.raises(NotFound, match="there is no worker"):
        fleet.drain("10.0.0.9:1", draining=True)


def test_naming_a_worker_twice_means_it_once() -> None:
    fleet = fleet_of("10.0.0.1:7000", "10.0.0.2:7000")
    assert chosen(fleet, ["10.0.0.1", "10.0.0.1:7000"], None) == ["10.0.0.1:7000"]


@pytest.mark.parametrize("count", [0, 3, -1])
def test_more_workers_than_there_are_is_an_error_that_counts_them(count: int) -> None:
    fleet = fleet_of("10.0.0.1:7000", "10.0.0.2:7000")
    with pytest.raises(InvalidInput) as caught:
        fleet.choose([], count, 0.0)
    assert caught.value.message == (
        f"{count} workers are asked for, and there are 2: 10.0.0.1:7000, 10.0.0.2:7000"
    )


def test_without_workers_nothing_is_chosen() -> None:
    with pytest.raises(NotFound, match=r"^there is no worker$") as caught:
        ClusterState().choose([], 1, 0.0)
    assert caught.value.hint == "there are: none"


def test_ips_of_version_6_are_distinguished_from_ports() -> None:
    each = replace(registration(), address="[::1]:7000")
    assert each.ip == "[::1]"


HERE, THERE, OTHER = "10.0.0.1:7000", "10.0.0.9:7001", "10.0.0.2:7000"


def test_a_worker_that_comes_back_at_another_address_replaces_its_old_self_at_once() -> None:
    cluster = ClusterState()
    cluster.register(registration(HERE, worker_id="w1"), 0.0)
    cluster.register(registration(OTHER, worker_id="w2"), 0.0)
    moved = registration(THERE, worker_id="w1", incarnation="second", started=200.0)
    cluster.register(moved, 1.0)
    assert set(cluster.members) == {THERE, OTHER}
    # The process at the old address is another worker now, or its old self that still runs.
    assert not cluster.heartbeat(HERE, "first", WorkerSnapshot(), 2.0)
    with pytest.raises(InvalidInput, match=f"at {HERE} was restarted since, at {THERE}") as caught:
        cluster.register(registration(HERE, worker_id="w1"), 2.0)
    assert "--worker-id" in caught.value.details["hint"]
    assert set(cluster.members) == {THERE, OTHER}


def test_two_workers_without_an_id_are_two() -> None:
    assert set(fleet_of(HERE, OTHER).members) == {HERE, OTHER}


def test_a_worker_that_is_gone_for_a_minute_is_not_asked_any_more() -> None:
    cluster = fleet_of(HERE, OTHER)
    cluster.heartbeat(OTHER, "first", WorkerSnapshot(), 59.0)
    assert asked(cluster, None, 59.9) == ([HERE, OTHER], [])
    assert asked(cluster, None, 60.0) == ([OTHER], [HERE])
    # Whoever names it wants to know, and when all are gone there is nobody else to ask.
    assert asked(cluster, HERE, 60.0) == ([HERE], [])
    assert asked(cluster, None, 500.0) == ([HERE, OTHER], [])


def asked(cluster: ClusterState, wanted: str | None, now: float) -> tuple[list[str], list[str]]:
    chosen, gone = cluster.asked(wanted, now)
    return (
        [each.registration.address for each in chosen],
        [each.registration.address for each in gone],
    )


@pytest.mark.parametrize("name", [HERE, "w1"])
def test_a_worker_is_forgotten_by_address_or_id_unless_it_is_alive(name: str) -> None:
    cluster = fleet_of(OTHER)
    cluster.register(registration(HERE, worker_id="w1"), 0.0)
    with pytest.raises(InvalidInput, match=f"^the worker at {HERE} is alive$") as caught:
        cluster.forget(name, 5.0)
    assert caught.value.hint == "stop it, then it leaves by itself"
    assert cluster.forget(name, 6.0).registration.address == HERE
    assert set(cluster.members) == {OTHER}
    with pytest.raises(NotFound, match=f"there is no worker '{name}'") as absent:
        cluster.forget(name, 6.0)
    assert absent.value.hint == f"there are: {OTHER}"


def test_of_the_workers_at_an_ip_the_one_that_is_not_alive_is_forgotten() -> None:
    cluster = fleet_of("10.0.0.1:1", "10.0.0.2:1")
    assert cluster.forget("10.0.0.2", 1000.0).registration.address == "10.0.0.2:1"
    # It was started again, at another port.
    cluster.register(registration("10.0.0.1:2"), 1000.0)
    assert cluster.forget("10.0.0.1", 1000.0).registration.address == "10.0.0.1:1"
    with pytest.raises(InvalidInput, match=r"^the worker at 10.0.0.1:2 is alive$"):
        cluster.forget("10.0.0.1", 1000.0)
    with pytest.raises(NotFound, match=r"there is no worker '10.0.0.7'"):
        cluster.forget("10.0.0.7", 1000.0)


def test_an_ip_of_several_workers_names_none_of_them() -> None:
    cluster = fleet_of("10.0.0.1:1", "10.0.0.1:2")
    with pytest.raises(InvalidInput, match=r"^2 workers are at 10.0.0.1$") as caught:
        cluster.forget("10.0.0.1", 1000.0)
    assert caught.value.hint == "name one of: 10.0.0.1:1, 10.0.0.1:2"
    with pytest.raises(InvalidInput, match=r"^2 workers are at 10.0.0.1$"):
        cluster.drain("10.0.0.1", draining=True)
    assert cluster.drain("10.0.0.1:2", draining=True).draining


def test_a_worker_without_an_id_is_not_forgotten_by_an_empty_name() -> None:
    with pytest.raises(NotFound):
        fleet_of(HERE).forget("", 1000.0)


def test_a_worker_of_the_same_process_is_no_news() -> None:
    cluster = ClusterState()
    cluster.register(registration(heartbeat=None), 0.0)
    assert cluster.news(0.0) == []
    cluster.leave("10.0.0.1:7000", "first")
    assert cluster.news(1.0) == []


def test_who_joins_leaves_is_missing_and_is_back_is_reported_once() -> None:
    cluster = ClusterState()
    cluster.register(registration(HERE, worker_id="w1"), 0.0)
    cluster.register(registration(OTHER), 0.0)
    assert cluster.news(0.0) == [
        f"the worker w1 has joined: {HERE} on host, release 0.1.0",
        f"the worker without an id has joined: {OTHER} on host, release 0.1.0",
    ]
    assert cluster.news(5.9) == []
    cluster.leave(OTHER, "first")
    assert cluster.news(6.0) == [
        f"the worker at {OTHER} has left",
        f"the worker at {HERE} has missed heartbeats",
    ]
    assert cluster.news(29.9) == []
    assert cluster.news(30.0) == [f"the worker at {HERE} is gone: no heartbeat for half a minute"]
    cluster.heartbeat(HERE, "first", WorkerSnapshot(), 31.0)
    assert cluster.news(31.0) == [f"the worker at {HERE} is back"]
    cluster.register(registration(HERE, worker_id="w1", incarnation="second", started=200.0), 32.0)
    assert cluster.news(32.0) == [f"the worker at {HERE} was restarted"]
    moved = registration(THERE, worker_id="w1", incarnation="third", started=300.0)
    cluster.register(moved, 33.0)
    assert cluster.news(33.0) == [
        f"the worker at {HERE} has left",
        f"the worker w1 has joined: {THERE} on host, release 0.1.0",
    ]


def test_only_the_workers_that_were_not_heard_of_for_a_day_are_forgotten() -> None:
    fleet = ClusterState()
    fleet.register(registration("without:1", heartbeat=None), 0.0)
    fleet.register(registration("old:1"), 0.0)
    fleet.register(registration("recent:1"), 5 * FORGOTTEN_SECONDS)
    fleet.forget_old(5 * FORGOTTEN_SECONDS + 10.0)
    assert list(fleet.members) == ["without:1", "recent:1"]


def test_a_worker_is_listed_as_it_registered() -> None:
    fleet = ClusterState()
    fleet.register(registration("10.0.0.1:7000", worker_id="w1"), 0.0)
    [member] = fleet.members.values()
    described = member.describe(10.0)
    assert described.worker_id == "w1"
    assert (described.worker_address, described.state) == ("10.0.0.1:7000", WorkerState.SUSPECT)
    assert (described.host_name, described.release) == ("host", "0.1.0")
    assert described.incarnation == "first"


def test_who_may_have_a_model_names_it_or_has_named_none_yet() -> None:
    cluster = fleet_of(HERE, OTHER, "10.0.0.3:7000")
    cluster.note_models(HERE, "first", ["glow", "lamp"])
    cluster.note_models(OTHER, "first", [])
    # It was restarted meanwhile, or is not known.
    cluster.note_models("10.0.0.3:7000", "another", [])
    cluster.note_models("10.0.0.4:7000", "first", ["glow"])

    def names(model: str, now: float) -> list[str]:
        return [each.registration.address for each in cluster.may_have(model, now)]

    assert names("glow", 0.0) == [HERE, "10.0.0.3:7000"]
    assert names("wick", 0.0) == ["10.0.0.3:7000"]
    assert names("glow", 1000.0) == []
    # A new incarnation has not said anything.
    cluster.register(registration(HERE, incarnation="second", started=200.0), 0.0)
    assert HERE in names("wick", 0.0)
