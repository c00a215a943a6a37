"""The token file of a server that runs: it may change at any time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path

import pytest

from tests.clock import LoopClock
from xinference_venv.cli.web_server import WebServer
from xinference_venv.errors import InvalidInput
from xinference_venv.rest.tokens import Scope


def write(file: Path, *tokens: str) -> None:
    lines = (f"sha256:{hashlib.sha256(each.encode()).hexdigest()} {Scope.LIST}" for each in tokens)
    file.write_text("\n".join(lines))
    file.chmod(0o600)


def test_a_pipe_is_no_token_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens", 0o600)
    with pytest.raises(InvalidInput, match="tokens' can't be read: it is not a regular file"):
        WebServer.configured(host="10.0.0.1", port=0, token_file=tmp_path / "tokens")


async def test_tokens_are_taken_over_and_revoked_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "tokens"
    write(file, "old", "kept")
    server = WebServer.configured(host="10.0.0.1", port=0, token_file=file)
    tokens = server.tokens
    assert tokens is not None
    clock = LoopClock(monkeypatch)
    following = asyncio.create_task(server.follow_token_file())

    async def logged(count: int) -> None:
        async with asyncio.timeout(60):
            while len(caplog.messages) < count:
                await clock.advance(5.0)

    write(file, "kept", "new")
    await logged(1)
    assert caplog.messages == ["the token file has changed: 2 tokens are known"]
    assert tokens.scopes_of("old") is None
    assert tokens.scopes_of("kept") == tokens.scopes_of("new") == frozenset({Scope.LIST})
    # Half a file, or one that is gone for a moment, locks no one out.
    file.write_text("sha256:")
    await logged(2)
    file.unlink()
    await logged(3)
    assert [each.endswith("; the tokens stay as they were") for each in caplog.messages[1:]] == [
        True,
        True,
    ]
    assert tokens.scopes_of("new") == frozenset({Scope.LIST})
    write(file, "last")
    await logged(4)
    assert tokens.scopes_of("new") is None
    following.cancel()
    await asyncio.wait([following])
