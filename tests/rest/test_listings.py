"""What differs from a listing that was answered before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import fakes
from xinference_venv.inventory.cluster_state import WorkerSnapshot, WorkerState, WorkerStatus
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.rest.listings import (
    Changes,
    EnvironmentName,
    Listings,
    without_heartbeat,
)


def environment(path: str, worker: str = "a:1", state: EnvState = EnvState.READY) -> Environment:
    return Environment.at(worker, replace(fakes.entry(), path=path, state=state))


def listing(*environments: Environment, complete: bool = True) -> Gathered[Environment]:
    return Gathered(list=environments, complete=complete)


@pytest.fixture
def listings() -> Listings[EnvironmentName, Environment]:
    return Listings(name_of=EnvironmentName.of)


def test_what_is_other_new_or_gone_is_found(
    listings: Listings[EnvironmentName, Environment],
) -> None:
    first = listings.remember(listing(*map(environment, ("/stays", "/changes", "/goes"))))
    # Another worker may have the same path.
    other = environment("/changes", state=EnvState.BROKEN)
    new = environment("/stays", "b:1")
    found = listings.differing(first, listing(environment("/stays"), other, new))
    gone = EnvironmentName(worker_address="a:1", path="/goes")
    assert found == ((other, new), Changes(since=first, dropped=(gone,)))


def test_a_listing_that_says_the_same_has_the_same_etag(
    listings: Listings[EnvironmentName, Environment],
) -> None:
    first = listings.remember(listing(environment("/one")))
    second = listings.remember(listing(environment("/one"), environment("/two")))
    assert listings.etag_of(listing(environment("/one"))) == first != second
    assert listings.etag_of(listing(environment("/one"), complete=False)) is None
    assert listings.etag_of(listing(environment("/one", state=EnvState.BROKEN))) is None


def test_of_a_listing_that_is_not_kept_any_more_no_difference_is_known(
    listings: Listings[EnvironmentName, Environment],
) -> None:
    first, second, *_ = [
        listings.remember(listing(environment(f"/{number}"))) for number in range(9)
    ]
    assert listings.differing(first, listing()) is None
    gone = EnvironmentName(worker_address="a:1", path="/1")
    assert listings.differing(second, listing()) == ((), Changes(since=second, dropped=(gone,)))


def _worker(state: WorkerState, age: float | None, free: int | None = None) -> WorkerStatus:
    return WorkerStatus(
        worker_address="a:1",
        state=state,
        host_name="host",
        release="0.1.0",
        incarnation="first",
        snapshot=WorkerSnapshot(free_bytes=free),
        snapshot_age=age,
    )


@pytest.mark.parametrize(
    ("state", "age", "polled"),
    [
        (WorkerState.ALIVE, 1.9, None),
        (WorkerState.SUSPECT, 7.9, 7.0),
        (WorkerState.GONE, 89.9, 60.0),
        (WorkerState.GONE, None, None),
    ],
)
def test_the_age_of_a_heartbeat_is_news_only_of_who_missed_some(
    state: WorkerState, age: float | None, polled: float | None
) -> None:
    assert without_heartbeat(_worker(state, age)) == _worker(state, polled)


@pytest.mark.parametrize(
    ("free", "polled"), [(None, None), (0, 0), (1023, 1023), (0b11111111111, 0b11111111110)]
)
def test_what_is_free_on_a_disk_is_polled_to_a_thousandth(
    free: int | None, polled: int | None
) -> None:
    assert without_heartbeat(_worker(WorkerState.ALIVE, None, free)).snapshot == WorkerSnapshot(
        free_bytes=polled
    )
