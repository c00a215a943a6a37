"""The connections of the web port: how many, and how long each may take for what.

Comes in: every TCP connection, before anything of it is read. Comes out: requests whose head and
body came in time. Who holds a connection without asking for anything loses it when another one
needs the place, so idle clients keep no active one out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_LOGGED_EVERY = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadlines:
    """Seconds: for the line and the headers of a request together, for its body, and for a client
    to take what was sent to it.
    """

    head: float = 10.0
    body: float = 60.0
    taking: float = 30.0
    idle: int = 5


@dataclass(kw_only=True)
class Connections:
    """All connections of a server, at most `most`, and `most_of_peer` of one address."""

    most: int = 512
    most_of_peer: int = 256
    deadlines: Deadlines = field(default_factory=Deadlines)
    _open: dict[BoundedConnection, str] = field(default_factory=dict)
    _of_peer: Counter[str] = field(default_factory=Counter)

    def admit(self, connection: BoundedConnection, peer: str) -> bool:
        """Count a connection in; where there is no place, one that asks for nothing is cut."""
        if self._of_peer[peer] >= self.most_of_peer:
            self._cut_one(peer)
        elif len(self._open) >= self.most:
            self._cut_one(None)
        if self._of_peer[peer] >= self.most_of_peer or len(self._open) >= self.most:
            return False
        self._open[connection] = peer
        self._of_peer[peer] += 1
        return True

    def leave(self, connection: BoundedConnection) -> None:
        """Count a connection out; again is no harm."""
        peer = self._open.pop(connection, None)
        if peer is not None:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def _cut_one(self, peer: str | None) -> None:
        for connection, whose in self._open.items():
            if connection.asks_nothing and peer in (None, whose):
                self.leave(connection)
                connection.cut()
                return


class BoundedConnection(H11Protocol):
    """A connection of uvicorn's that is bounded by `Connections`.

    uvicorn has deadlines for nothing but idle connections between requests
    (https://github.com/encode/uvicorn/issues/1119).
    """

    bounds: Connections

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._state: object = h11.IDLE

    @property
    def asks_nothing(self) -> bool:
        """Whether no whole request has come that is still to be answered."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            return False
        # The first request has no cycle yet, whatever uvicorn's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit it, or cut it at once."""
        peer = transport.get_extra_info("peername")
        if not self.bounds.admit(self, str(peer[0]) if peer else ""):
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._within(self.bounds.deadlines.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.bounds.leave(self)
        self._within(None)
        self._taken()
        if self.flow is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the next part of the request has a deadline of its own."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        state = self.conn.their_state
        if state is h11.IDLE and (self._deadline is None or self._state is not h11.IDLE):
            self._within(self.bounds.deadlines.head)
        elif state is h11.SEND_BODY and self._state is not h11.SEND_BODY:
            self._within(self.bounds.deadlines.body)
        elif state not in (h11.IDLE, h11.SEND_BODY):
            self._within(None)
        self._state = state

    def pause_writing(self) -> None:
        """The client does not take what it asked for."""
        super().pause_writing()
        self._taken()
        self._taking = self.loop.call_later(self.bounds.deadlines.taking, self.cut)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._taken()

    def cut(self) -> None:
        """End the connection without another word."""
        self.transport.abort()

    def _within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.cut)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


class RareLines(logging.Filter):
    """Lets the same line of a log through once a minute: a flood of bad requests is one event."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line was not logged within the last minute."""
        line = f"{record.name}:{record.lineno}"
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        if record.created - self._last.get(line, -_LOGGED_EVERY) < _LOGGED_EVERY:
            return False
        self._last[line] = record.created
        return True
