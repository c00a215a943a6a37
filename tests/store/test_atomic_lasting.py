"""Names for what is made beside its place: whose they are, and whether their maker lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.conftest import end
from xinference_venv.inventory.lease import Holder
from xinference_venv.store.atomic import maker_of, place_beside
from xinference_venv.store.process_identity import process_start, this_process

PLACE = Path("/srv/keys/a.key.json")
PRINT = "import sys, pathlib; from xinference_venv.store.atomic import place_beside; "


def test_each_place_is_another_hidden_one_in_the_same_folder() -> None:
    places = {place_beside(PLACE) for _ in range(100)}
    assert len(places) == 100
    assert {each.parent for each in places} == {PLACE.parent}
    assert all(each.name.startswith(".a.key.json.") for each in places)


def test_what_this_process_makes_has_a_living_maker() -> None:
    assert maker_of(place_beside(PLACE).name) is Holder.ALIVE


def test_the_maker_is_gone_when_its_process_has_ended() -> None:
    program = f"{PRINT} print(place_beside(pathlib.Path({str(PLACE)!r})).name)"
    made = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert maker_of(made.stdout.decode().strip()) is Holder.GONE


def test_another_process_with_the_pid_of_the_maker_is_not_the_maker(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    me, child = this_process(), children()
    name = place_beside(PLACE).name.replace(f"-{me.pid}-", f"-{child.pid}-")
    assert maker_of(name) is Holder.GONE
    theirs = name.replace(f"-{me.start}-", f"-{process_start(child.pid)}-")
    assert maker_of(theirs) is Holder.ALIVE
    end(child)
    assert maker_of(theirs) is Holder.GONE


def test_the_makers_of_other_hosts_can_not_be_judged() -> None:
    name = place_beside(PLACE).name
    where = name.rpartition(".")[2].partition("-")[0]
    assert maker_of(name.replace(where, "0" * len(where))) is Holder.UNKNOWN


@pytest.mark.parametrize(
    "name", ["", ".", "..", "3.11", ".hidden", "a-key.json", ".a-key.json.0123abcd", ".a.-1-2-3"]
)
def test_any_other_name_is_nobodys(name: str) -> None:
    assert maker_of(name) is None
