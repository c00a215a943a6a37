"""The part of the supervisor that knows the workers and asks them.

It keeps nothing that it can't ask again: the workers register again with the first heartbeat that
it does not know.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import xoscar as xo

from xinference_venv.actors import rpc
from xinference_venv.actors.worker import WORKER_UID
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
    WorkerState,
)
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.service.collect_metrics import timed_question

ASK_SECONDS = 30.0
# So long the workers of a restarted supervisor take to register again.
_RETURN_SECONDS = 3 * HEARTBEAT_SECONDS
_AGAIN_SECONDS = 0.1


class SupervisorWorkers(xo.StatelessActor):  # type: ignore[misc]
    """Workers. Stateless in xoscar's sense: calls run concurrently."""

    def __init__(self) -> None:
        super().__init__()
        self._cluster = ClusterState()
        self._measures = MetricRegistry()
        self._began = self._now()

    async def answer(
        self, method: str, arguments: list[Any], named: dict[str, Any]
    ) -> dict[str, Any]:
        """Call a method for a worker or a client, of whatever release; see `rpc.answer`."""
        return await rpc.answer(self, method, arguments, named)

    # Workers

    async def register_worker(self, registration: dict[str, Any]) -> None:
        """Add a worker, or note that it was restarted.

        Raises `IncompatibleVersion`, and `InvalidInput` for an incarnation that was replaced.
        """
        self._cluster.register(Registration.from_dict(registration), self._now())
        self._measures.keep_only("worker", self._cluster.members)

    async def heartbeat(self, address: str, incarnation: str, snapshot: dict[str, Any]) -> bool:
        """Note that a worker lives; False when it has to register (again)."""
        now = self._now()
        self._cluster.forget(now)
        known = self._cluster.heartbeat(address, incarnation, snapshot, now)
        if known:
            self._measures.add(metrics.HEARTBEATS, address)
        return known

    async def leave_worker(self, address: str, incarnation: str) -> None:
        """Take out a worker that ends."""
        self._cluster.leave(address, incarnation)

    async def list_workers(self) -> list[dict[str, Any]]:
        """The workers: address, state, host name, release, incarnation, snapshot and its age."""
        now = self._now()
        return [member.describe(now) for _, member in sorted(self._cluster.members.items())]

    @property
    def _is_complete(self) -> bool:
        """Whether all who live had the time to register since this supervisor was started."""
        members = self._cluster.members.values()
        local = bool(members) and all(each.registration.heartbeat is None for each in members)
        return local or self._now() - self._began > _RETURN_SECONDS

    async def _may_return(self) -> bool:
        """Give workers a moment to register again; False when all who live had the time to."""
        if self._is_complete:
            return False
        await asyncio.sleep(_AGAIN_SECONDS)
        return True

    # Asking

    async def _gather(
        self,
        worker_ip: str | None,
        method: str,
        *arguments: Any,
        deadline: float = ASK_SECONDS,
        missing: type[VirtualEnvError] | None = None,
        changes_state: bool = False,
        **named: Any,
    ) -> dict[str, Any]:
        """Ask the selected workers at once; one without an answer delays or hides no other's.

        A call that `changes_state` is to be done by all of them, so it waits for those that may
        still register; what only reads does not.

        An error `missing` of a worker means that it has nothing to say. Any other stands for its
        answer, but invalid input, or that all of them failed, is raised.
        With `complete` false workers may be there that have not registered again yet.
        """
        if changes_state and worker_ip not in self._cluster.members:
            while await self._may_return():
                continue
        members = self._cluster.select(worker_ip)

        async def ask(member: Member) -> Any:
            try:
                return await self._ask(member, method, *arguments, deadline=deadline, **named)
            except InvalidInput:
                raise
            except VirtualEnvError as error:
                if missing is not None and isinstance(error, missing):
                    return []
                return error

        answers = await asyncio.gather(*map(ask, members))
        own = [each for each in answers if isinstance(each, VirtualEnvError) and _is_own(each)]
        if len(own) == len(members):
            raise own[0]
        now = self._now()
        replies: list[Any] = []
        unreachable = []
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, VirtualEnvError):
                unreachable.append({**member.describe(now), "error": answer.to_dict()})
            elif isinstance(answer, list):
                replies += answer
            else:
                replies.append({**answer, "worker_address": member.registration.address})
        complete = self._is_complete or worker_ip in self._cluster.members
        return {"list": replies, "unreachable": unreachable, "complete": complete}

    async def _ask(
        self,
        member: Member,
        method: str,
        *arguments: Any,
        deadline: float = ASK_SECONDS,
        **named: Any,
    ) -> Any:
        """The answer of a worker; one that misses heartbeats has to show that it lives.

        It may listen and stand still, and no caller should wait a whole deadline for that.
        """
        joined = member.registration
        ask = partial(self._ask_incarnation, joined.address, joined.incarnation)
        asking = asyncio.ensure_future(ask(method, *arguments, deadline=deadline, **named))
        patience = joined.heartbeat if member.state(self._now()) is WorkerState.ALIVE else 0.0
        try:
            while not (await asyncio.wait([asking], timeout=patience))[0]:
                patience = joined.heartbeat
                if member.state(self._now()) is not WorkerState.ALIVE:
                    try:
                        await ask("registration", deadline=rpc.PROBE_SECONDS)
                    except (WorkerUnavailable, DeadlineExceeded):
                        if not asking.done():
                            raise
            return asking.result()
        finally:
            asking.cancel()

    async def _ask_incarnation(
        self,
        address: str,
        incarnation: str,
        method: str,
        *arguments: Any,
        deadline: float,
        **named: Any,
    ) -> Any:
        """The one way to a worker: what is simulated is simulated here."""
        with timed_question(self._measures, address, method):
            return await rpc.ask_worker(
                address,
                WORKER_UID,
                incarnation,
                method,
                *arguments,
                deadline=deadline,
                here=self.address,
                **named,
            )

    def _now(self) -> float:
        """The loop's clock, which all deadlines are kept by: monotonic, in seconds."""
        return asyncio.get_running_loop().time()

    def _at(self, address: str) -> Member:
        """The worker at an address; raises `NotFound`."""
        member = self._cluster.members.get(address)
        if member is None:
            raise NotFound(
                f"there is no worker at {address!r}", {"hint": f"there are: {self._cluster.listed}"}
            )
        return member


def _is_own(error: VirtualEnvError) -> bool:
    """Whether a worker said what went wrong, rather than nothing."""
    return not isinstance(error, WorkerUnavailable | DeadlineExceeded)
