"""The server of the REST API and the web page, as the options of a command line ask for it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shlex
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xinference_venv._util.disk_threads import in_abandonable_thread
from xinference_venv._util.tasks import cancel, in_background
from xinference_venv.errors import InvalidInput

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.rest.server import Served
    from xinference_venv.rest.tokens import Tokens

_Command = TypeVar("_Command", bound=Callable[..., Any])

WEB_PORT = 9798
# So soon a token that was taken out of the file is refused.
_TOKEN_SECONDS = 5.0
_log = logging.getLogger(__name__)
_NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def web_options(command: _Command) -> _Command:
    """Who may ask for what."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File of access tokens: lines 'sha256:DIGEST SCOPE...', with the sha256 of a token"
        " and what it allows, like virtualenv:list. Needed unless it listens on the loopback"
        " address.",
    )(command)


def _web_requirements() -> str:
    """What the extra ``web`` has, for a shell; the release itself need not be on any index."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    # Without the extra a requirement of it does not count.
    extra = (
        each
        for each in map(Requirement, requires("xinference-venv") or ())
        if each.marker
        and each.marker.evaluate({"extra": "web"})
        and not each.marker.evaluate({"extra": ""})
    )
    return shlex.join(f"{each.name}{each.specifier}" for each in extra)


@dataclass(frozen=True, kw_only=True)
class WebServer:
    """A server that may be started: `host` and `port` to listen at, who may do what."""

    host: str
    port: int
    tokens: Tokens | None
    token_file: Path | None = None

    @classmethod
    def configured(cls, *, host: str, port: int, token_file: Path | None) -> WebServer:
        """A server of these options.

        Raises `InvalidInput` where packages are missing, where strangers could do anything, and
        for a token file that is none, or that others may write to.
        """
        if any(find_spec(each) is None for each in _NEEDED):
            raise InvalidInput(
                "the REST API and the web page need packages that are not installed",
                {"hint": f"{sys.executable} -m pip install {_web_requirements()}"},
            )
        from xinference_venv.rest.server import check_exposure

        tokens = None if token_file is None else _read(token_file)
        check_exposure(host, tokens)
        return cls(host=host, port=port, tokens=tokens, token_file=token_file)

    @asynccontextmanager
    async def over(self, client: Client) -> AsyncIterator[Served]:
        """Serve what a client reaches; raises `InvalidInput` when nothing can listen there."""
        from xinference_venv.rest.app import create_app
        from xinference_venv.rest.server import hosts_of, served

        app = create_app(client, tokens=self.tokens, hosts=hosts_of(self.host))
        following = in_background(self.follow_token_file(), "reading the token file", _log)
        try:
            async with served(app, self.host, self.port) as server:
                yield server
        finally:
            await cancel(following)

    async def follow_token_file(self) -> None:
        """Take new tokens over, and revoked ones out, when the token file changes.

        One that is none any more, or that others may write to, changes nothing but the log.
        """
        if self.tokens is None or self.token_file is None:
            return
        fault = None
        while True:
            await asyncio.sleep(_TOKEN_SECONDS)
            try:
                found = await in_abandonable_thread(partial(_read, self.token_file))
            except InvalidInput as error:
                if str(error) != fault:
                    fault = str(error)
                    _log.error("%s; the tokens stay as they were", error)
                continue
            fault = None
            if found != self.tokens:
                self.tokens.become(found)
                _log.info("the token file has changed: %d tokens are known", len(found.scopes))


def _read(path: Path) -> Tokens:
    from xinference_venv.rest.tokens import Tokens

    try:
        # To open a pipe would wait for whoever writes into it, each time that it is read again.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"the token file {str(path)!r} can't be read: {why}") from None
    if found.st_uid not in (0, os.geteuid()):
        raise InvalidInput(
            f"the token file {str(path)!r} belongs to user {found.st_uid}, who could add any token",
            {
                "hint": "it must belong to root or to the user that runs this:"
                f" chown {os.geteuid()} {path}"
            },
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidInput(
            f"others may write to the token file {str(path)!r}, and give themselves a token",
            {"hint": f"chmod go-w {path}"},
        )
    return Tokens.parse(text)
