from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv import errors
from xinference_venv.errors import (
    InUse,
    InvalidInput,
    UvFailed,
    VirtualEnvError,
    error_from_dict,
)

DETAILS = {"hint": "try again", "phase": "installing", "exit_status": 2, "command": ["uv", "pip"]}


def tree(root: type[VirtualEnvError]) -> Iterator[type[VirtualEnvError]]:
    yield root
    for child in root.__subclasses__():
        if vars(errors).get(child.__name__) is child:
            yield from tree(child)


KINDS = list(tree(VirtualEnvError))


def drawn_tree() -> dict[str, tuple[str | None, str]]:
    """The tree in the module's docstring: parent and code by class name."""
    drawn: dict[str, tuple[str | None, str]] = {}
    branch: list[str] = []
    for row in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"([│├└─ ]*)([A-Z]\w+) +([a-z_]+)", row)
        if found:
            depth = len(found[1]) // 4
            branch[depth:] = [found[2]]
            drawn[found[2]] = (branch[depth - 1] if depth else None, found[3])
    return drawn


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {
        kind.__name__: (
            None if kind is VirtualEnvError else kind.__mro__[1].__name__,
            kind.__dict__["code"],
        )
        for kind in KINDS
    }
    assert drawn_tree() == real


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_a_kind_of_error_ends_a_command_with_the_status_of_its_branch() -> None:
    branches = {kind: kind.exit_code for kind in VirtualEnvError.__subclasses__()}
    assert len(set(branches.values())) == len(branches)
    assert not {0, VirtualEnvError.exit_code} & set(branches.values())
    for branch, status in branches.items():
        assert {kind.exit_code for kind in tree(branch)} == {status}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_and_json(kind: type[VirtualEnvError]) -> None:
    error = kind("it went wrong", DETAILS)
    for copy in (
        pickle.loads(pickle.dumps(error)),
        error_from_dict(json.loads(json.dumps(error.to_dict()))),
    ):
        assert type(copy) is kind
        assert str(copy) == copy.message == "it went wrong"
        assert copy.details == DETAILS
        assert (copy.hint, copy.phase) == ("try again", "installing")


def test_an_error_without_details_has_no_hint() -> None:
    error = InUse("it is in use")
    assert (error.hint, error.phase, error.details) == (None, None, {})


def test_what_an_actor_call_raises_becomes_the_plain_error_again() -> None:
    # xoscar raises a class that it derives on the spot, with another text.
    class Derived(UvFailed):
        def __str__(self) -> str:
            return "[address=127.0.0.1:1, pid=1] " + super().__str__()

    error = Derived("no such package", DETAILS)
    assert error.message == "no such package"
    copy = error_from_dict(error.to_dict())
    assert type(copy) is UvFailed
    assert copy.details == DETAILS


def test_further_details_never_replace_those_that_are_there() -> None:
    error = UvFailed("no such package", {"phase": "resolving"})
    more = error.with_details(phase="building", host="10.0.0.1")
    assert type(more) is UvFailed
    assert more.details == {"phase": "resolving", "host": "10.0.0.1"}
    assert error.details == {"phase": "resolving"}


def test_details_are_a_copy() -> None:
    given_details = {"hint": "try again"}
    error = InUse("it is in use", given_details)
    given_details["hint"] = "changed"
    error.details["hint"] = "changed"
    assert error.hint == "try again"


def test_a_code_of_another_release_gives_the_root_and_is_passed_on() -> None:
    error = error_from_dict({"code": "of_a_later_version", "message": "oh", "details": {"a": 1}})
    assert type(error) is VirtualEnvError
    assert (error.message, error.details["a"]) == ("oh", 1)
    assert error.to_dict()["code"] == "of_a_later_version"
    assert error_from_dict(error.to_dict()).to_dict() == error.to_dict()
    assert error.with_details(host="h").to_dict()["code"] == "of_a_later_version"


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.text())


@given(
    st.dictionaries(
        st.sampled_from(["code", "message", "details"]),
        plain | st.dictionaries(st.text(max_size=3), plain) | st.just("in_use"),
    )
)
def test_a_damaged_description_still_gives_an_error(data: dict[str, object]) -> None:
    error = error_from_dict(data)
    assert error_from_dict(error.to_dict()).to_dict() == error.to_dict()


def test_bad_input_is_distinguished_from_other_errors_by_its_branch() -> None:
    names = {kind.__name__ for kind in tree(InvalidInput)}
    unknown = {"UnknownEngine", "UnknownFormat"}
    assert {name for name in drawn_tree() if name.startswith("Invalid")} | unknown == names
