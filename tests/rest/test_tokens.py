"""Token files and what their tokens allow."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import InvalidInput
from xinference_venv.rest.tokens import Scope, Tokens

SECRET = "hunter2"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def test_a_token_has_the_scopes_of_its_line() -> None:
    tokens = Tokens.parse(
        f"# who\n\nsha256:{DIGEST} virtualenv:list virtualenv:create  # the page\n"
    )
    assert tokens.scopes_of(SECRET) == frozenset({Scope.LIST, Scope.CREATE})
    assert tokens.scopes_of(DIGEST) is None
    assert tokens.scopes_of("") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        f"{SECRET} virtualenv:list",
        f"sha256:{SECRET} virtualenv:list",
        f"sha256:{DIGEST}",
        f"sha256:{DIGEST.upper()} virtualenv:list",
        f"sha256:{DIGEST} virtualenv:everything",
        f"sha256:{DIGEST} virtualenv:list\n{SECRET}",
        f"sha256:{DIGEST} name= virtualenv:list",
        f"sha256:{DIGEST} name=alice",
    ],
)
def test_a_file_that_is_no_token_file_is_refused_without_showing_a_word_of_it(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Tokens.parse(text)
    assert SECRET not in str(raised.value.to_dict())
    assert DIGEST not in str(raised.value.to_dict()).lower()


def test_a_token_is_called_by_its_name_or_by_the_beginning_of_its_digest() -> None:
    named = Tokens.parse(f"sha256:{DIGEST} name=alice@lab virtualenv:list")
    assert named.name_of(SECRET) == "alice@lab"
    assert named.scopes_of(SECRET) == frozenset({Scope.LIST})
    assert Tokens.parse(f"sha256:{DIGEST} virtualenv:list").name_of(SECRET) == DIGEST[:8]
    assert named.name_of("other") is None


def test_what_is_printed_of_tokens_gives_none_away() -> None:
    assert DIGEST not in repr(Tokens.parse(f"sha256:{DIGEST} virtualenv:list"))


@given(st.text(st.characters(codec=None)))
def test_no_other_token_is_known(token: str) -> None:
    tokens = Tokens.parse(f"sha256:{DIGEST} virtualenv:list")
    assert (tokens.scopes_of(token) is not None) == (token == SECRET)
