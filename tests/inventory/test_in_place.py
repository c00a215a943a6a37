"""What an environment has that its users may have changed by hand, from its record on."""

from __future__ import annotations

from dataclasses import replace

from tests import fakes
from xinference_venv.inventory.in_place import InPlaceRecord, distributions_now
from xinference_venv.planning.lock import LockedDistribution, Role

LAMP = fakes.wheel_package("lamp")
SIX = fakes.locked("six", Role.INHERITED, why="the request: six")
GONE = fakes.locked("bulb", Role.HIDDEN, why="it requires lamp>2")
SHADOWED = fakes.locked("lamp", Role.SHADOWED, version="0.5", why="1.0 is installed")


RECORD = InPlaceRecord(
    host_fingerprint="a host",
    interpreter=fakes.interpreter(),
    lock=fakes.lock(LAMP, distributions=(fakes.locked("lamp"), SHADOWED, SIX, GONE)),
)


def now(record: InPlaceRecord = RECORD, **there: str) -> dict[tuple[str, Role], LockedDistribution]:
    return {(each.name, each.role): each for each in distributions_now(record, there.items())}


def test_an_environment_that_was_not_changed_has_the_distributions_of_its_lock() -> None:
    assert sorted(now(lamp="1.0").values()) == sorted(RECORD.lock.distributions)


def test_what_was_installed_by_hand_is_listed_with_that_as_its_reason() -> None:
    added = now(lamp="1.0", wick="3.0")["wick", Role.INSTALLED]
    assert (added.version, added.why) == ("3.0", "it was installed by hand")


def test_another_version_in_place_of_the_locks_is_listed_with_both() -> None:
    changed = now(lamp="2.0")["lamp", Role.INSTALLED]
    assert (changed.version, changed.why) == ("2.0", "by hand, in place of 1.0")


def test_a_version_that_only_the_install_could_tell_is_filled_in_and_no_change_by_hand() -> None:
    unknown = fakes.locked("lamp", version=None)
    record = replace(RECORD, lock=replace(RECORD.lock, distributions=(unknown,)))
    found = now(record, lamp="2.0")
    assert found == {("lamp", Role.INSTALLED): replace(unknown, version="2.0")}


def test_what_was_uninstalled_is_not_listed_and_the_hosts_own_shows_again() -> None:
    found = now()
    assert ("lamp", Role.INSTALLED) not in found
    again = found["lamp", Role.INHERITED]
    assert again.version == "0.5"
    assert again.why == "what was installed in its place was uninstalled"
    assert found["six", Role.INHERITED] == SIX
    assert found["bulb", Role.HIDDEN] == GONE
