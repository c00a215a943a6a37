from __future__ import annotations

import pytest

from xinference_venv.errors import InvalidInput
from xinference_venv.runtime.actor_spec import ActorClass


def test_arguments_are_json_or_else_strings() -> None:
    actor = ActorClass.parse(
        "pkg.module:Actor", ["layers=3", "path=/a=b", "ids=[1, 2]", 'name="3"', "empty="], ["/x"]
    )
    assert (actor.module, actor.name, actor.paths) == ("pkg.module", "Actor", ("/x",))
    assert actor.arguments == {
        "layers": 3,
        "path": "/a=b",
        "ids": [1, 2],
        "name": "3",
        "empty": "",
    }
    assert str(actor) == "pkg.module:Actor"


@pytest.mark.parametrize("target", ["", "module", ":Actor", "module:", "a..b:C", "a b:C", "m:C:D"])
def test_what_names_no_class_is_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match="does not name a class") as caught:
        ActorClass.parse(target, [], [])
    assert "MODULE:CLASS" in str(caught.value.hint)


@pytest.mark.parametrize("word", ["key", "=value", "a b=c"])
def test_what_is_no_argument_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="is not an argument"):
        ActorClass.parse("m:C", [word], [])


def test_the_value_of_a_refused_argument_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        ActorClass.parse("m:C", ["api-key=s3cret"], [])
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
