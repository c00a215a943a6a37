"""The workers of a cluster as the supervisor reaches them: it asks one, or gathers from many.

It keeps nothing that it can't ask again: the workers register again with the first heartbeat that
it does not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import (
    HEARTBEAT_SECONDS,
    ClusterState,
    Member,
    Registration,
    WorkerSnapshot,
    WorkerState,
)
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.sentences import sentence
from xinference_venv.service.collect_metrics import timed_question

ASK_SECONDS = 30.0
# So long the workers of a supervisor that was restarted take to register again.
_RETURN_SECONDS = 3 * HEARTBEAT_SECONDS
_AGAIN_SECONDS = 0.1

T = TypeVar("T")
_log = logging.getLogger(__name__)


class WorkerClients:
    """The workers that registered, and the way to each; `address` is the supervisor's own."""

    def __init__(self) -> None:
        self.cluster = ClusterState()
        self.measures = MetricRegistry()
        self.address = ""
        self._began = now()

    # Heartbeats

    def register(self, registration: Registration) -> None:
        """Add a worker, or note that it was restarted.

        Raises `IncompatibleVersion`, and `InvalidInput` for an incarnation that was replaced.
        """
        self.cluster.register(registration, now())

    def heartbeat(self, address: str, incarnation: str, snapshot: WorkerSnapshot) -> bool:
        """Note that a worker lives; False when it has to register (again)."""
        self.cluster.forget_old(now())
        known = self.cluster.heartbeat(address, incarnation, snapshot, now())
        if known:
            self.measures.add(metrics.HEARTBEATS, address)
        return known

    async def watch(self) -> None:
        """Say in the log who joins, leaves, is missing and is back, until cancelled."""
        while True:
            news = self.cluster.news(now())
            for line in news:
                _log.info("%s", line)
            if news:
                self.measures.keep_only("worker", self.cluster.members)
            await asyncio.sleep(HEARTBEAT_SECONDS / 2)

    @property
    def is_complete(self) -> bool:
        """Whether all who live had the time to register since this supervisor was started."""
        members = self.cluster.members.values()
        local = bool(members) and all(each.registration.heartbeat is None for each in members)
        return local or now() - self._began > _RETURN_SECONDS

    async def may_return(self) -> bool:
        """Give workers a moment to register again; False when all who live had the time to."""
        if self.is_complete:
            return False
        await asyncio.sleep(_AGAIN_SECONDS)
        return True

    # One worker

    def at(self, address: str, *, deadline: float = ASK_SECONDS) -> WorkerProtocol:
        """The worker at an address; raises `NotFound`."""
        member = self.cluster.members.get(address)
        if member is None:
            raise NotFound(
                sentence("there is no worker at {address}", address=repr(address)),
                {"hint": sentence("there are: {listed}", listed=self.cluster.listed)},
            )
        return self.of(member, deadline=deadline)

    def of(self, member: Member, *, deadline: float = ASK_SECONDS) -> WorkerProtocol:
        """A member, each question to which has a deadline; see `_ask`."""

        async def send(method: str, arguments: dict[str, Plain]) -> Plain:
            return await self._ask(member, method, arguments, deadline)

        return rpc.worker_by(send)

    def incarnation(self, address: str, incarnation: str, *, deadline: float) -> WorkerProtocol:
        """One incarnation of the worker at an address, whatever is known of it."""
        return rpc.worker_by(self._send(address, incarnation, deadline))

    def _send(self, address: str, incarnation: str, deadline: float) -> rpc.Send:
        """The one way to a worker: what is measured is measured here."""
        to_worker = rpc.to_worker(address, incarnation, deadline=deadline, here=self.address)

        async def send(method: str, arguments: dict[str, Plain]) -> Plain:
            with timed_question(self.measures, address, method):
                return await to_worker(method, arguments)

        return send

    async def _ask(
        self, member: Member, method: str, arguments: dict[str, Plain], deadline: float
    ) -> Plain:
        """The answer of a worker; one that misses heartbeats has to show that it lives.

        It may listen and be stopped, and no caller should wait a whole deadline for that.
        """
        joined = member.registration
        sending = self._send(joined.address, joined.incarnation, deadline)(method, arguments)
        asking = asyncio.ensure_future(sending)
        patience = joined.heartbeat if member.state(now()) is WorkerState.ALIVE else 0.0
        try:
            while not (await asyncio.wait([asking], timeout=patience))[0]:
                patience = joined.heartbeat
                if member.state(now()) is not WorkerState.ALIVE:
                    probed = self.incarnation(
                        joined.address, joined.incarnation, deadline=rpc.PROBE_SECONDS
                    )
                    try:
                        await probed.registration()
                    except (WorkerUnavailable, DeadlineExceeded):
                        if not asking.done():
                            raise
            return asking.result()
        finally:
            asking.cancel()

    # Many workers

    async def gather(
        self,
        worker: str | None,
        ask: Callable[[WorkerProtocol], Awaitable[Sequence[T]]],
        *,
        deadline: float = ASK_SECONDS,
        missing: type[VirtualEnvError] | None = None,
        mutating: bool = False,
    ) -> Gathered[T]:
        """Ask the workers at an IP or an address, or all, at once; join what each one lists.

        A worker that does not answer neither delays nor hides the answer of another. A `mutating`
        call is for all of them, so it waits for those that may still register; one that only
        looks does not.

        An error `missing` of a worker means that it has nothing to list. Any other is in the
        place of its answer; only invalid input, or an error of all of them, is raised.
        """
        if mutating and worker not in self.cluster.members:
            while await self.may_return():
                continue
        members, gone = self.cluster.asked(worker, now())

        async def answer_of(member: Member) -> Sequence[T] | VirtualEnvError:
            try:
                return await ask(self.of(member, deadline=deadline))
            except InvalidInput:
                raise
            except VirtualEnvError as error:
                if missing is not None and isinstance(error, missing):
                    return ()
                return error

        answers = await asyncio.gather(*map(answer_of, members))
        own = [each for each in answers if isinstance(each, VirtualEnvError) and _is_own(each)]
        if len(own) == len(members):
            raise own[0]
        at = now()
        listed: list[T] = []
        unreachable = []
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, VirtualEnvError):
                failure = Failure.of(answer)
                unreachable.append(UnreachableWorker(status=member.describe(at), error=failure))
            else:
                listed += answer
        return Gathered(
            list=tuple(listed),
            unreachable=tuple(unreachable),
            complete=self.is_complete or worker in self.cluster.members,
            gone=tuple(member.describe(at) for member in gone),
        )

    async def gather_each(
        self,
        worker: str | None,
        ask: Callable[[WorkerProtocol], Awaitable[T]],
        *,
        deadline: float = ASK_SECONDS,
        mutating: bool = False,
    ) -> Gathered[T]:
        """As `gather`, of what each worker answers with one report."""

        async def one(asked: WorkerProtocol) -> tuple[T]:
            return (await ask(asked),)

        return await self.gather(worker, one, deadline=deadline, mutating=mutating)


def now() -> float:
    """The loop's clock, which all deadlines are kept by: monotonic, in seconds."""
    return asyncio.get_running_loop().time()


def _is_own(error: VirtualEnvError) -> bool:
    """Whether the error came from the worker itself: it did answer."""
    return not isinstance(error, WorkerUnavailable | DeadlineExceeded)
