"""An error as part of an answer, and the error that is made of it again."""

from __future__ import annotations

from tests.fakes import through_json
from xinference_venv.errors import InUse, VirtualEnvError
from xinference_venv.inventory.failure import Failure


def test_an_error_comes_back_from_an_answer_with_its_class_message_and_details() -> None:
    error = InUse("it is in use", {"holders": ["one"], "hint": "end it"})
    failure = Failure.from_dict(through_json(Failure.of(error).to_dict()))
    assert failure == Failure(
        code="in_use", message="it is in use", details={"holders": ["one"], "hint": "end it"}
    )
    again = failure.error()
    assert type(again) is InUse
    assert (again.message, again.details, again.hint) == (error.message, error.details, "end it")


def test_an_error_of_another_release_is_an_error_all_the_same() -> None:
    error = Failure(code="of_a_later_release", message="new").error()
    assert type(error) is VirtualEnvError
    assert error.message == "new"
    assert Failure.from_dict({}).error().message == "unknown error"
