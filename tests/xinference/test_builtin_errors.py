"""What users of Xinference are told to do."""

from __future__ import annotations

import pytest

from xinference_venv.errors import InvalidSource, ResolutionFailed, UvFailed
from xinference_venv.planning.torch_builds import unreachable_torch_index
from xinference_venv.xinference.builtin_errors import built_in_errors


@pytest.mark.parametrize("torch", ["2.13.0+cpu", None])
def test_an_index_of_builds_for_processors_is_named_where_xinference_does_not_drop_it(
    torch: str | None,
) -> None:
    with pytest.raises(RuntimeError) as caught, built_in_errors("Could not install"):
        raise unreachable_torch_index(UvFailed("no route"), "cpu", torch)
    hint = str(caught.value).partition("\nHint: ")[2]
    assert "UV_INDEX, with UV_INDEX_STRATEGY=unsafe-best-match" in hint
    assert "extra" not in hint
    assert "--inherit" not in hint


def test_bad_input_is_a_value_error_and_all_else_a_runtime_error() -> None:
    with pytest.raises(ValueError, match=r"^Here: bad\nHint: mend it$"), built_in_errors("Here"):
        raise InvalidSource("bad", {"hint": "mend it"})
    with pytest.raises(RuntimeError, match=r"^Here: none$"), built_in_errors("Here"):
        raise ResolutionFailed("none")
