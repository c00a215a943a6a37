"""Clients that take no answer, or follow too much, over a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from tests.rest.fakes import FakeSupervisor, app_of
from tests.rest.test_server import Endless
from xinference_venv.rest.connections import Connections, Deadlines
from xinference_venv.rest.server import served
from xinference_venv.rest.sse import Streams


async def test_who_does_not_take_an_answer_is_cut() -> None:
    app = app_of(FakeSupervisor())
    ended = asyncio.Event()

    @app.get("/large")
    async def large() -> StreamingResponse:
        async def content() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65_536
                    # Cut, it goes on until it is cancelled.
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(content())

    bounds = Connections(deadlines=Deadlines(taking=0.5))
    async with served(app, "127.0.0.1", 0, connections=bounds) as server:
        host, _, port = server.address.removeprefix("http://").rpartition(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(client, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(60):
                await ended.wait()
        assert not bounds._open
        # Who takes it gets all of it.
        async with httpx.AsyncClient() as ask:
            assert (await ask.get(f"{server.address}/v1/virtualenvs")).status_code == 200


async def test_launches_are_followed_by_so_many_at_once_as_the_bounds_say() -> None:
    app: FastAPI = app_of(Endless())
    app.state.streams = Streams(most=10, most_of_peer=3)
    async with (
        served(app, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=server.address) as ask,
    ):
        following = [ask.stream("GET", "/v1/jobs/abc/events") for _ in range(3)]
        for each in following:
            assert (await each.__aenter__()).status_code == 200
        refused = await ask.get("/v1/jobs/abc/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        # A place is free when one leaves.
        await following[0].__aexit__(None, None, None)
        async with asyncio.timeout(60):
            while app.state.streams._of_peer.total() == 3:  # noqa: ASYNC110 (it is the server's)
                await asyncio.sleep(0.01)
        async with ask.stream("GET", "/v1/jobs/abc/events") as answer:
            assert answer.status_code == 200
        for each in following[1:]:
            await each.__aexit__(None, None, None)
