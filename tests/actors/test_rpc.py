"""Calls to peers that are gone, stand still, or never answer; and what may be sent at all."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
import pytest_asyncio
import xoscar as xo

from tests.index import black_hole, dead_port
from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.errors import (
    DeadlineExceeded,
    IncompatibleVersion,
    InUse,
    InvalidRecord,
    StoreError,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.planning.request import LaunchRequest

UID = rpc.WORKER_UID
PATIENCE = 60.0


class PeerProtocol(Protocol):
    """What the peer answers."""

    async def add(self, one: int, other: int = 1) -> int: ...

    async def fail(self, code: str) -> None: ...

    async def refuse(self) -> None: ...

    async def break_down(self) -> None: ...

    async def sleep(self) -> None: ...

    async def end(self) -> None: ...


class Peer(xo.StatelessActor):  # type: ignore[misc]
    """An actor of another process, as far as a call can tell."""

    incarnation = "first"

    async def answer(self, *told: Any) -> dict[str, Any]:
        if len(told) == 4:
            assert told[0] == self.incarnation
        method, arguments, named = told[-3:]
        return await rpc.answer(self, PeerProtocol, method, arguments, named, where=self.address)

    async def add(self, one: int, other: int = 1) -> int:
        return one + other

    async def fail(self, code: str) -> None:
        raise InUse("it is in use", {"code_of_test": code})

    async def refuse(self) -> None:
        raise ConnectionRefusedError(111, "by somebody else")

    async def break_down(self) -> None:
        raise KeyError("https://me:secret@index/simple")

    async def sleep(self) -> None:
        await asyncio.Event().wait()

    async def end(self) -> None:
        raise asyncio.CancelledError

    def not_for_others(self) -> int:
        return 1

    async def _private(self) -> int:
        return 1


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[str]:
    pool = await xo.create_actor_pool(address="127.0.0.1", n_process=0, auto_recover=False)
    reference = await xo.create_actor(Peer, address=pool.external_address, uid=UID)
    yield pool.external_address
    await xo.destroy_actor(reference)
    await pool.stop()


async def ask(
    address: str, method: str, *arguments: Any, deadline: float = 5.0, **named: Any
) -> Any:
    """Ask as a peer of any release might, which need not know our Protocol."""
    bound = {"one": arguments[0]} if arguments else {}
    send = rpc.to_worker(address, "first", deadline=deadline, here="")
    return await send(method, {**bound, **named})


def at(address: str) -> PeerProtocol:
    send = rpc.to_worker(address, "first", deadline=5.0, here="")
    return cast(PeerProtocol, rpc.remote(PeerProtocol, send))


# Deadlines


async def test_work_that_is_done_in_time_gives_its_result() -> None:
    assert await rpc.within(PATIENCE, asyncio.sleep(0, "done"), "it") == "done"


async def test_work_that_takes_too_long_is_given_up_even_if_it_resists_one_cancelling() -> None:
    cancelled, ended = 0, asyncio.Event()

    async def stubborn() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
        ended.set()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DeadlineExceeded, match=r"^it did not answer within 0\.05 s$"):
            await rpc.within(0.05, stubborn(), "it")
        # The first time xoscar only asks the peer to acknowledge it.
        await ended.wait()


async def test_who_is_cancelled_while_waiting_cancels_the_call() -> None:
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    waiting = asyncio.create_task(rpc.within(PATIENCE, call(), "it"))
    await called.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(PATIENCE):
        await cancelled.wait()


async def test_an_error_after_the_deadline_is_not_one_that_no_one_retrieved() -> None:
    async def late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("late") from None

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with pytest.raises(DeadlineExceeded):
        await rpc.within(0.01, late(), "it")
    await asyncio.sleep(0.01)
    gc.collect()
    assert told == []


# Peers that don't answer


async def test_an_address_where_no_one_listens_is_reported_at_once() -> None:
    address = f"127.0.0.1:{dead_port()}"
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(WorkerUnavailable) as caught:
            await ask(address, "add", 1, deadline=1000.0)
    assert caught.value.message == f"the worker at {address} can't be reached: Connection refused"
    assert caught.value.hint == "check that it runs, its address, and firewalls on the way"


async def test_an_address_that_has_no_name_is_reported() -> None:
    with pytest.raises(WorkerUnavailable, match="can't be reached"):
        await ask("no-such-host.invalid:1", "add", 1)


async def test_a_black_hole_delays_no_one_longer_than_a_probe() -> None:
    with black_hole() as port:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(WorkerUnavailable, match="can't be reached: no answer"):
                await ask(f"127.0.0.1:{port}", "add", 1, deadline=1000.0)


async def test_a_peer_that_listens_and_never_answers_costs_the_deadline_and_harms_no_other(
    peer: str,
) -> None:
    # As a process that was stopped: the system accepts for it, nobody reads.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "{}:{}".format(*silent.getsockname())
        async with asyncio.timeout(PATIENCE):
            waiting = asyncio.create_task(ask(address, "add", 1, deadline=1.0))
            await asyncio.sleep(0.05)
            assert await ask(peer, "add", 1) == 2
            assert not waiting.done()
            with pytest.raises(DeadlineExceeded, match=f"the worker at {address} did not answer"):
                await waiting


async def test_a_process_that_is_stopped_is_not_waited_for_as_long_as_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "{}:{}".format(*silent.getsockname())
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.2 s") as caught:
                what = f"the worker at {address}"
                callee = rpc.Callee(
                    address=address, uid="first", here="", what=what, found_seconds=0.2
                )
                await callee.ask("add", {"one": 1}, deadline=1000.0)
    assert caught.value.hint is not None
    assert "is it stopped" in caught.value.hint


async def test_a_method_that_takes_too_long_is_given_up(peer: str) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
            await ask(peer, "sleep", deadline=0.1)
        assert await ask(peer, "add", 1) == 2


async def test_a_connection_that_is_kept_needs_no_probe_until_a_question_fails(
    peer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = []
    probe = rpc.probe

    async def counted(address: str, what: str) -> None:
        probed.append(address)
        await probe(address, what)

    monkeypatch.setattr(rpc, "probe", counted)
    asked = rpc.Callee(address=peer, uid=UID, here="", what="it", keep=True)
    for number in range(3):
        answered = await asked.ask("first", "add", [], {"one": number}, deadline=PATIENCE)
        assert answered.value == number + 1
    assert len(probed) == 1
    with pytest.raises(DeadlineExceeded):
        await asked.ask("first", "sleep", [], {}, deadline=0.1)
    for number in range(3):
        await asked.ask("first", "add", [], {"one": number}, deadline=PATIENCE)
    assert len(probed) == 2


async def test_what_is_as_by_default_is_not_sent_for_an_earlier_release_may_not_know_it() -> None:
    sent: list[dict[str, Any]] = []

    async def send(method: str, arguments: dict[str, Any]) -> Any:
        sent.append(arguments)
        return "a-job"

    supervisor = rpc.supervisor_by(send)
    request = LaunchRequest.from_dict({"model_name": "glow"})
    await supervisor.prepare(request, count=1, background=False)
    await supervisor.prepare(request, count=1, background=True)
    assert [each.keys() - {"request"} for each in sent] == [{"count"}, {"count", "background"}]


async def test_an_address_without_the_actor_is_unavailable(peer: str) -> None:
    with pytest.raises(WorkerUnavailable) as caught:
        another = rpc.Callee(address=peer, uid="another", here="", what=f"the worker at {peer}")
        await another.ask(deadline=5.0)
    assert caught.value.message.startswith(f"the worker at {peer} closed the connection")
    assert "XOSCAR_AUTH_KEY" in str(caught.value.hint)


async def test_a_connection_that_the_system_refuses_in_whatever_way_is_unavailable() -> None:
    # No probe, as over a connection that was kept: to a broadcast address no one can connect, and
    # that is no `ConnectionError`.
    address = "255.255.255.255:9"
    unreachable = rpc.Callee(address=address, uid=UID, here=address, what="the worker")
    with pytest.raises(WorkerUnavailable, match="the worker"):
        await unreachable.ask(deadline=PATIENCE)


async def test_what_the_other_side_cancels_does_not_cancel_who_asked(peer: str) -> None:
    with pytest.raises(WorkerUnavailable, match="ended while it was asked"):
        await ask(peer, "end")


# Answers


async def test_a_value_comes_back_and_an_error_with_who_raised_it(peer: str) -> None:
    assert await at(peer).add(1, other=2) == 3
    assert await at(peer).add(1) == 2
    with pytest.raises(InUse, match="it is in use") as caught:
        await at(peer).fail("x")
    assert caught.value.details == {"code_of_test": "x", "host": peer}


async def test_an_error_of_the_other_side_s_system_is_none_of_the_connection(peer: str) -> None:
    with pytest.raises(StoreError, match="by somebody else") as caught:
        await ask(peer, "refuse")
    assert caught.value.details["host"] == peer


async def test_a_defect_over_there_is_an_error_here_and_a_traceback_there(
    peer: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(VirtualEnvError, match="KeyError") as caught:
        await ask(peer, "break_down")
    assert caught.value.details["host"] == peer
    assert "secret" not in str(caught.value)
    [logged] = caplog.records
    assert logged.getMessage() == f"break_down failed at {peer}"
    assert logged.exc_info is not None


@pytest.mark.parametrize(
    "method", ["unknown", "_private", "__post_create__", "not_for_others", "uid"]
)
async def test_a_method_that_the_other_side_does_not_offer_is_reported(
    peer: str, method: str
) -> None:
    with pytest.raises(IncompatibleVersion, match=f"'{method}' is not known at {peer}") as caught:
        await ask(peer, method)
    assert "install the same on both" in str(caught.value.hint)


@pytest.mark.parametrize("named", [{}, {"one": 1, "later": 1}, {"other": 1}])
async def test_arguments_that_the_other_side_does_not_know_are_reported(
    peer: str, named: dict[str, int]
) -> None:
    with pytest.raises(IncompatibleVersion, match="'add' does not accept these arguments"):
        await ask(peer, "add", **named)


async def test_an_argument_of_another_type_is_refused_by_its_name(peer: str) -> None:
    with pytest.raises(InvalidRecord, match="'one' of 'add': it must be an integer, not str"):
        await ask(peer, "add", one="1")


async def test_an_answer_that_can_not_be_read_is_of_another_release() -> None:
    async def send(method: str, arguments: dict[str, Plain]) -> Plain:
        return "three"

    with pytest.raises(IncompatibleVersion, match="the answer to 'add'"):
        await cast(PeerProtocol, rpc.remote(PeerProtocol, send)).add(1)


@pytest.mark.parametrize("argument", [object(), Path("x"), [{"a": ({"b": {1}},)}], {1, 2}])
async def test_what_a_peer_might_not_read_is_never_sent(argument: Any) -> None:
    # Nothing listens there: it does not come that far.
    with pytest.raises(TypeError, match="no plain JSON values"):
        await at("127.0.0.1:1").add(argument)
