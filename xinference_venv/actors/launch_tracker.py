"""A launch on several workers, followed from the supervisor: events joined, the policy applied.

What is known here can be asked again of the workers, who all know who else takes part; so a
supervisor that was started anew follows on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from xinference_venv.errors import (
    DeadlineExceeded,
    JobCancelled,
    UnknownJob,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.jobs import EVENTS_KEPT, JobEvent, Phase
from xinference_venv.inventory.replicas import Replica, error_of, is_lost, phase_of

_POLL_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
# An answer says how every worker fares: what many say at about the same time goes into one.
_TOGETHER_SECONDS = 0.1
# So long a worker that can't be reached may come back: a network that was split heals.
_GRACE_SECONDS = 10.0


class Ask(Protocol):
    """Asks one incarnation of a worker; see `rpc.ask_worker`."""

    def __call__(
        self,
        address: str,
        incarnation: str,
        method: str,
        *arguments: Any,
        deadline: float,
        **named: Any,
    ) -> Awaitable[Any]: ...


@dataclass(kw_only=True, eq=False)
class LaunchTracker:
    """One launch; `is_gone` tells whether a worker was given up."""

    job_id: str
    require: int
    ask: Ask
    is_gone: Callable[[str], bool]
    replicas: dict[str, Replica]
    events: list[JobEvent] = field(default_factory=list)
    _next: int = 1
    _ended: Phase | None = None
    _task: asyncio.Task[None] | None = None
    _lost: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def start(
        cls,
        job_id: str,
        members: Iterable[tuple[str, str]],
        *,
        require: int,
        ask: Ask,
        is_gone: Callable[[str], bool],
        failed: Mapping[str, VirtualEnvError],
    ) -> LaunchTracker:
        """Follow the jobs of these workers (address, incarnation); `failed` ones never began."""
        replicas = {}
        for address, incarnation in members:
            replica = Replica(worker_address=address, incarnation=incarnation)
            if address in failed:
                replica = replace(replica, phase=Phase.FAILED, error=failed[address].to_dict())
            replicas[address] = replica
        launch = cls(job_id=job_id, require=require, ask=ask, is_gone=is_gone, replicas=replicas)
        for address, error in failed.items():
            launch._say(address, Phase.FAILED, error.message)
        launch._task = asyncio.create_task(launch._follow_all())
        return launch

    @property
    def has_ended(self) -> bool:
        """Whether every replica has, and the policy was applied."""
        return self._ended is not None

    async def wait(self, since: int, timeout: float) -> dict[str, Any]:
        """The events after number `since` and how it stands; waits for the first new one."""
        if not self._after(since) and not self.has_ended:
            await _wait_for(self._changed, timeout)
        await _wait_for(self._over, min(timeout, _TOGETHER_SECONDS))
        replicas = list(self.replicas.values())
        phase = self._ended or phase_of(replicas, self.require)
        ready = [each for each in replicas if each.phase is Phase.READY]
        failed = self._ended in (Phase.FAILED, Phase.CANCELLED)
        return {
            "job_id": self.job_id,
            "phase": phase.value if self.has_ended or not phase.is_last else Phase.PUBLISHING.value,
            "events": [event.to_dict() for event in self._after(since)],
            "result": dict(ready[0].result or {}) if self._ended is Phase.READY else None,
            "error": error_of(replicas).to_dict() if failed else None,
            "workers": [each.to_dict() for each in replicas],
        }

    async def cancel(self) -> None:
        """Cancel the jobs of all workers; returns when nothing of them is left, or unreachable."""
        await self._cancel_running()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Follow no more; the workers' jobs go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _after(self, since: int) -> list[JobEvent]:
        # A number of before a restart is one that was not given yet: all is news then.
        since = since if since < self._next else 0
        return [event for event in self.events if event.seq > since]

    async def _follow_all(self) -> None:
        running = [
            asyncio.create_task(self._follow(replica))
            for replica in list(self.replicas.values())
            if not replica.phase.is_last
        ]
        try:
            await self._cancel_if_lost()
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
        replicas = list(self.replicas.values())
        if is_lost(replicas, self.require):
            await asyncio.gather(
                *(self._give_back(each) for each in replicas if each.phase is Phase.READY)
            )
        self._ended = phase_of(replicas, self.require)
        self._over.set()
        self._wake()

    async def _follow(self, replica: Replica) -> None:
        """Follow one worker's job, and end the launch with it where the policy says so."""
        try:
            await self._follow_to_end(replica)
        except VirtualEnvError as error:
            # An unexpected error must end this part too: a caller waits for the launch.
            self._end(replica.worker_address, Phase.FAILED, error)
        if self.replicas[replica.worker_address].phase is not Phase.READY:
            await self._cancel_if_lost()

    async def _cancel_if_lost(self) -> None:
        if not self._lost and is_lost(list(self.replicas.values()), self.require):
            self._lost = True
            await self._cancel_running()

    async def _follow_to_end(self, replica: Replica) -> None:
        """Follow one worker's job to its end, or to that of the worker."""
        address, since = replica.worker_address, 0
        silent_since: float | None = None
        while not self.replicas[address].phase.is_last:
            try:
                answer = await self.ask(
                    address,
                    replica.incarnation,
                    "wait",
                    self.job_id,
                    since,
                    _POLL_SECONDS,
                    deadline=_POLL_SECONDS + _ANSWER_SECONDS,
                )
            except (WorkerUnavailable, DeadlineExceeded) as error:
                now = asyncio.get_running_loop().time()
                silent_since = silent_since or now
                refused = isinstance(error, WorkerUnavailable)
                patience = now - silent_since
                if self.is_gone(address) or (refused and patience > _GRACE_SECONDS):
                    self._end(address, Phase.FAILED, error)
                    return
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            except UnknownJob:
                self._end(
                    address,
                    Phase.FAILED,
                    WorkerUnavailable(f"the worker at {address} was restarted during the launch"),
                )
                return
            silent_since = None
            for data in answer["events"]:
                event = JobEvent.from_dict(data)
                since = event.seq
                self._add(replace(event, worker_address=address))
            phase = Phase(answer["phase"])
            self.replicas[address] = replace(
                self.replicas[address],
                phase=phase,
                result=answer["result"],
                error=answer["error"],
            )
            self._wake()

    async def _cancel_running(self) -> None:
        async def cancel(replica: Replica) -> None:
            try:
                await self.ask(
                    replica.worker_address,
                    replica.incarnation,
                    "cancel",
                    self.job_id,
                    deadline=_POLL_SECONDS,
                )
            except VirtualEnvError as error:
                self._end(replica.worker_address, Phase.FAILED, error)

        running = [each for each in self.replicas.values() if not each.phase.is_last]
        await asyncio.gather(*map(cancel, running))

    async def _give_back(self, replica: Replica) -> None:
        """Give the lease of a ready replica back, since the launch failed elsewhere."""
        result = replica.result or {}
        if result.get("lease_id") is not None:
            try:
                await self.ask(
                    replica.worker_address,
                    replica.incarnation,
                    "release_lease",
                    result["env_id"],
                    result["lease_id"],
                    deadline=_POLL_SECONDS,
                )
            except VirtualEnvError:
                # It is not bound: the worker gives it back by itself.
                return
        error = JobCancelled(f"ready on {replica.worker_address}, given back: others failed")
        self.replicas[replica.worker_address] = replace(
            replica, phase=Phase.CANCELLED, result=None, error=error.to_dict()
        )

    def _end(self, address: str, phase: Phase, error: VirtualEnvError) -> None:
        if self.replicas[address].phase.is_last:
            return
        self.replicas[address] = replace(self.replicas[address], phase=phase, error=error.to_dict())
        self._say(address, phase, error.message)

    def _say(self, address: str, phase: Phase, message: str) -> None:
        self._add(
            JobEvent(seq=0, at=time.time(), phase=phase, message=message, worker_address=address)
        )
        self._wake()

    def _add(self, event: JobEvent) -> None:
        self.events.append(replace(event, seq=self._next))
        self._next += 1
        del self.events[: max(0, len(self.events) - EVENTS_KEPT)]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _wait_for(event: asyncio.Event, timeout: float) -> None:
    """Wait for an event, for `timeout` seconds at most."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass
