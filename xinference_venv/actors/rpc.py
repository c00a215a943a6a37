"""Calls to other processes with a deadline: probed first, typed by a Protocol, with our errors.

Arguments, values and errors cross as plain JSON values, so that no release has to unpickle what
another one sends: `remote` makes an object whose methods encode and send, `answer` decodes on the
other side and calls.

xoscar waits for ever on a stopped peer, and holds one lock while it connects, so one dead host
would delay the calls to all others: the address is probed before any call that may connect.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import Any, TypeAlias, TypeVar, cast, get_type_hints

import xoscar as xo

from xinference_venv._util.records import Plain, Record, from_plain, to_plain
from xinference_venv.actors.protocols import SupervisorProtocol, WorkerProtocol
from xinference_venv.errors import (
    DeadlineExceeded,
    IncompatibleVersion,
    InvalidRecord,
    VirtualEnvError,
    WorkerUnavailable,
    error_from_dict,
)
from xinference_venv.inventory.failure import Failure
from xinference_venv.sentences import sentence
from xinference_venv.service.phases import store_error, unforeseen_error

SUPERVISOR_UID = "xinference_venv_supervisor"
WORKER_UID = "xinference_venv_worker"
PROBE_SECONDS = 1.0
_CANCEL_AGAIN_SECONDS = 0.5
_T = TypeVar("_T")
_log = logging.getLogger(__name__)

Send: TypeAlias = "Callable[[str, dict[str, Plain]], Awaitable[Plain]]"
"""Sends the name and the arguments of a method, and returns the value of its answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Record, name="answer"):
    """What a method gave: a value, or the error that it raised."""

    value: object = None
    error: Failure | None = None


async def within(deadline: float, work: Awaitable[_T], what: str) -> _T:
    """The answer, or `DeadlineExceeded` after `deadline` seconds.

    `asyncio.wait_for` would wait for the peer to acknowledge its cancelling, which a stopped
    one never does. A peer that is ended cancels what it was asked: that is `WorkerUnavailable`
    here, where no one cancelled anything.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=deadline)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if not done:
        _abandon(task)
        raise DeadlineExceeded(
            sentence(
                "{what} did not answer within {deadline} s", what=what, deadline=f"{deadline:g}"
            )
        )
    if task.cancelled():
        raise WorkerUnavailable(sentence("{what} ended while it was asked", what=what))
    return task.result()


def _abandon(task: asyncio.Future[_T]) -> None:
    """Cancel a call, and once more: the first time xoscar only asks the peer to acknowledge it."""
    task.add_done_callback(_ignore_outcome)
    task.cancel()
    asyncio.get_running_loop().call_later(_CANCEL_AGAIN_SECONDS, task.cancel)


async def probe(address: str, what: str) -> None:
    """Raises `WorkerUnavailable` unless something listens at the address."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        why = sentence("no answer") if isinstance(error, TimeoutError) else _words_of(error)
        raise WorkerUnavailable(
            sentence("{what} can't be reached: {why}", what=what, why=why),
            {"hint": sentence("check that it runs, its address, and firewalls on the way")},
        ) from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _words_of(error: OSError) -> str:
    """The system's words for an error; asyncio has others ("Connect call failed")."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror or error)


@dataclass(kw_only=True)
class Callee:
    """An actor that is asked; `here` is the caller's own address, `what` names it in errors.

    With `keep` a connection over which an answer came is used again without a probe and a look-up,
    until it fails. While xoscar connects again to a host that is gone by then, other calls of this
    process that connect wait: it is for those who have one peer.
    """

    address: str
    uid: str
    here: str
    what: str
    keep: bool = False
    found_seconds: float = 30.0
    """How long a process that accepts connections may take to say which actors it has."""
    _kept: xo.ActorRefType[Any] | None = None

    async def ask(self, *arguments: Plain, deadline: float) -> Answer:
        """The actor's `answer`, within `deadline` seconds.

        Raises `DeadlineExceeded` and `WorkerUnavailable`.
        """
        kept, self._kept = self._kept, None
        if kept is None and self.address != self.here:
            await probe(self.address, self.what)

        async def call() -> tuple[xo.ActorRefType[Any], object]:
            reference = kept or await self._found(min(deadline, self.found_seconds))
            return reference, await reference.answer(*arguments)

        try:
            reference, answered = await within(deadline, call(), self.what)
        except VirtualEnvError as error:
            # xoscar derives a class for it, whose text begins with an address and a pid:
            # https://github.com/mars-project/mars/pull/2730, which xoscar came from.
            raise error_from_dict(error.to_dict()) from error
        except (OSError, EOFError, xo.ServerClosed, xo.ActorNotExist) as error:
            # An `OSError` is the connection's, of whatever kind ("No route to host"): `answer`
            # raises none.
            raise WorkerUnavailable(
                sentence(
                    "{what} closed the connection while it was asked: {error}",
                    what=self.what,
                    error=error,
                ),
                {"hint": sentence("if it still runs: is XOSCAR_AUTH_KEY the same on both sides?")},
            ) from error
        if self.keep:
            self._kept = reference
        return Answer.from_dict(answered)

    async def _found(self, deadline: float) -> xo.ActorRefType[Any]:
        """The actor; a process that is not stopped answers that at once, whatever it does."""
        try:
            return await within(
                deadline, xo.actor_ref(address=self.address, uid=self.uid), self.what
            )
        except DeadlineExceeded as error:
            hint = sentence("it accepts connections and does not answer: is it stopped (SIGSTOP)?")
            raise DeadlineExceeded(error.message, {"hint": hint}) from None


def to_worker(address: str, incarnation: str, *, deadline: float, here: str) -> Send:
    """Sends to this very incarnation of a worker; its errors name its address as their host."""
    what = sentence("the worker at {address}", address=address)
    worker = Callee(address=address, uid=WORKER_UID, here=here, what=what)

    async def send(method: str, arguments: dict[str, Plain]) -> Plain:
        answered = await worker.ask(incarnation, method, [], arguments, deadline=deadline)
        if answered.error is not None:
            raise answered.error.error().with_details(host=address)
        return cast(Plain, answered.value)

    return send


def to_supervisor(address: str, *, deadline: float, here: str = "", keep: bool = False) -> Send:
    """Sends to the supervisor at an address, in whatever incarnation; `keep` as a `Callee` does."""
    supervisor = Callee(
        address=address,
        uid=SUPERVISOR_UID,
        here=here,
        what=sentence("the supervisor at {address}", address=address),
        keep=keep,
    )

    async def send(method: str, arguments: dict[str, Plain]) -> Plain:
        answered = await supervisor.ask(method, [], arguments, deadline=deadline)
        if answered.error is not None:
            raise answered.error.error()
        return cast(Plain, answered.value)

    return send


def supervisor_by(send: Send) -> SupervisorProtocol:
    """A supervisor in another process."""
    return cast(SupervisorProtocol, remote(SupervisorProtocol, send))


def worker_by(send: Send) -> WorkerProtocol:
    """A worker in another process."""
    return cast(WorkerProtocol, remote(WorkerProtocol, send))


def remote(protocol: type, send: Send) -> object:
    """An object with the methods of a Protocol, to be cast to it: each call is sent."""
    return _Remote(protocol, send)


class _Remote:
    """An object with the methods of a Protocol, each of which is sent."""

    def __init__(self, protocol: type, send: Send) -> None:
        self._protocol = protocol
        self._send = send

    def __getattr__(self, method: str) -> Callable[..., Coroutine[None, None, object]]:
        declared = _methods_of(self._protocol).get(method)
        if declared is None:
            raise AttributeError(method)
        return partial(self._call, method, declared)

    async def _call(
        self, method: str, declared: _Method, /, *arguments: object, **named: object
    ) -> object:
        bound = declared.signature.bind(*arguments, **named).arguments
        # An option that is as it is by default is left out: an earlier release may not know it.
        parameters = declared.signature.parameters
        given = {
            name: each
            for name, each in bound.items()
            if name not in named or each != parameters[name].default
        }
        value = await self._send(method, {name: to_plain(each) for name, each in given.items()})
        try:
            return from_plain(declared.returns, value, f"the answer to {method!r}")
        except InvalidRecord as error:
            raise _of_another_release(f"{error.message}: it can't be read here") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Method:
    """A method of a Protocol, as it is sent: without ``self``."""

    signature: inspect.Signature
    hints: Mapping[str, object]
    returns: object


@cache
def _methods_of(protocol: type) -> dict[str, _Method]:
    found = {}
    for name, function in vars(protocol).items():
        if not name.startswith("_") and inspect.iscoroutinefunction(function):
            signature = inspect.signature(function)
            _, *parameters = signature.parameters.values()
            hints = get_type_hints(function)
            found[name] = _Method(
                signature=signature.replace(parameters=parameters),
                hints=hints,
                returns=hints.pop("return"),
            )
    return found


async def answer(
    actor: object,
    protocol: type,
    method: str,
    arguments: Sequence[Plain],
    named: Mapping[str, Plain],
    *,
    where: str,
) -> dict[str, Plain]:
    """What a method of an actor of this process gives, as an `Answer`.

    Only methods of the Protocol may be asked. `where` names the actor in errors. One that no one
    foresaw goes to the log of this process, and without its traceback to who asked.
    """
    try:
        value = await _called(actor, protocol, method, arguments, named, where)
        return Answer(value=to_plain(value)).to_dict()
    except VirtualEnvError as error:
        raised = error
    except OSError as error:
        # On the other side it would pass for one of the connection, or of a disk over there.
        raised = store_error(error)
    except Exception as error:  # noqa: BLE001
        # The edge of this process: what no one foresaw must not end what asked.
        _log.exception("%s failed at %s", method, where)
        raised = unforeseen_error(error)
    return Answer(error=Failure.of(raised)).to_dict()


async def _called(
    actor: object,
    protocol: type,
    method: str,
    arguments: Sequence[Plain],
    named: Mapping[str, Plain],
    where: str,
) -> object:
    declared = _methods_of(protocol).get(method)
    if declared is None:
        raise _of_another_release(f"{method!r} is not known at {where}")
    try:
        bound = declared.signature.bind(*arguments, **named)
    except TypeError as error:
        raise _of_another_release(
            f"{method!r} does not accept these arguments at {where}: {error}"
        ) from None
    for name, value in bound.arguments.items():
        bound.arguments[name] = from_plain(declared.hints[name], value, f"{name!r} of {method!r}")
    function: Callable[..., Awaitable[object]] = getattr(actor, method)
    return await function(*bound.args, **bound.kwargs)


def _of_another_release(message: str) -> IncompatibleVersion:
    return IncompatibleVersion(
        message,
        {
            "hint": sentence(
                "release {value} runs there; install the same on both",
                value=version("xinference_venv"),
            )
        },
    )


def _ignore_outcome(task: asyncio.Future[_T]) -> None:
    if not task.cancelled():
        task.exception()
