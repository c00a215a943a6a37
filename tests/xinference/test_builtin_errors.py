"""What users of Xinference are told to do."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from xinference_venv.errors import InvalidSource, ResolutionFailed, UvFailed
from xinference_venv.inventory.disk_space import Need, check_space
from xinference_venv.planning.torch_builds import unreachable_torch_index
from xinference_venv.uv import program
from xinference_venv.uv.messages import ASK_FOR_OTHER_VERSIONS, hint_for
from xinference_venv.xinference.builtin_errors import built_in_errors, without_ours


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


def _no_space() -> None:
    check_space([Need(place="/home", packed_bytes=1 << 40)], lambda place: 1)


def _no_uv() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "find_uv_bin", _absent)
        patch.setenv("PATH", "")
        program.find_uv(None)


def _absent() -> str:
    raise FileNotFoundError


@pytest.mark.parametrize(
    ("fail", "hint"),
    [
        (_no_space, "`xinference-venv gc --prune-uv-cache`"),
        (_no_uv, "pip install --force-reinstall uv"),
    ],
)
def test_a_hint_that_names_options_of_other_programs_stays(
    fail: Callable[[], None], hint: str
) -> None:
    with pytest.raises(RuntimeError, match=hint), built_in_errors("Could not install"):
        fail()


def test_hints_for_our_own_launches_become_those_for_xinferences() -> None:
    gone = "Distribution not found at: file:///wheels/lamp-1.0-py3-none-any.whl"
    assert without_ours(hint_for([gone]) or "").endswith(", bring it back and launch again")
    for way in (
        ASK_FOR_OTHER_VERSIONS,
        "launch with --inherit none, or ask for less",
        "take it out of must_import",
    ):
        with pytest.raises(RuntimeError, match="virtual_env_packages"), built_in_errors("Here"):
            raise ResolutionFailed("none", {"hint": way})


def test_bad_input_is_a_value_error_and_all_else_a_runtime_error() -> None:
    with pytest.raises(ValueError, match=r"^Here: bad\nHint: mend it$"), built_in_errors("Here"):
        raise InvalidSource("bad", {"hint": "mend it"})
    with pytest.raises(RuntimeError, match=r"^Here: none$"), built_in_errors("Here"):
        raise ResolutionFailed("none")
    refused = r"^Here: a disk operation failed at /home/another: Permission denied\nHint: this user"
    with pytest.raises(RuntimeError, match=refused), built_in_errors("Here"):
        raise PermissionError(errno.EACCES, "Permission denied", "/home/another")
