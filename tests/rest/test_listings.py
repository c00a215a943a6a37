"""What differs from a listing that was answered before."""

from __future__ import annotations

from dataclasses import replace

from tests import fakes
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.rest.listings import Changes, EnvironmentName, Listings


def environment(path: str, worker: str = "a:1", state: EnvState = EnvState.READY) -> Environment:
    return Environment.at(worker, replace(fakes.entry(), path=path, state=state))


def test_what_is_other_new_or_gone_is_found() -> None:
    listings = Listings()
    stays, changes, goes = map(environment, ("/stays", "/changes", "/goes"))
    listings.remember("first", [stays, changes, goes])
    # Another worker may have the same path.
    other = environment("/changes", state=EnvState.BROKEN)
    new = environment("/stays", "b:1")
    found = listings.differing("first", [environment("/stays"), other, new])
    gone = EnvironmentName(worker_address="a:1", path="/goes")
    assert found == ((other, new), Changes(since="first", dropped=(gone,)))


def test_of_a_listing_that_is_not_kept_any_more_no_difference_is_known() -> None:
    listings = Listings()
    listings.remember("first", [])
    for number in range(8):
        listings.remember(f"later {number}", [])
    assert listings.differing("first", []) is None
    assert listings.differing("later 0", []) == ((), Changes(since="later 0", dropped=()))
