"""The locks that a worker gives to others: of environments that are ready, and of running jobs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

from xinference_venv._util.records import digest_of
from xinference_venv._util.tasks import cancel
from xinference_venv.errors import NotFound, PythonNotFound
from xinference_venv.inventory.env import KeyRecord
from xinference_venv.inventory.reports import Survey
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence
from xinference_venv.service.jobs import Job
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.wheel_relay import Reachable
from xinference_venv.settings import RelayMode

# So long an answer is kept for who is just between two questions; later it is asked afresh.
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class LockSharing:
    """The locks of one worker's launches, and those that it finds for other hosts."""

    launches: LaunchService
    _running: dict[str, asyncio.Task[EnvLock]] = field(default_factory=dict)

    async def survey(self, request: LaunchRequest) -> Survey:
        """See `WorkerService.survey`."""
        try:
            host, spec = await self.launches.specify(request, download=False)
        except PythonNotFound:
            if not self.launches.settings.python_downloads:
                raise
            # The launch downloads it; what it is then is not known yet.
            return Survey(group=None, ready=False)
        if spec is None:
            return Survey(group=None, ready=False)
        seen = host.digest if spec.sees_host else None
        group = digest_of([spec.digest, spec.interpreter.platform_digest, seen])
        known = await asyncio.to_thread(self._known, host, spec)
        return Survey(group=group, ready=known is not None)

    async def lock_if_ready(self, request: LaunchRequest) -> EnvLock | None:
        """The lock of the environment that a launch would find ready; None without one."""
        host, spec = await self.launches.specify(request, download=False)
        if spec is None:
            return None
        known = await asyncio.to_thread(self._known, host, spec)
        return None if known is None else await self._lock_of(known.env_id)

    async def of_job(self, job: Job, timeout: float) -> EnvLock | None:
        """The lock of a job, as soon as it has one; waits at most `timeout` seconds."""
        until = time.monotonic() + timeout
        while job.lock is None and not job.journal.phase.is_last:
            if (left := until - time.monotonic()) <= 0:
                return None
            await job.change(left)
        if job.lock is None and job.result is not None and job.result.env_id is not None:
            return await self._lock_of(job.result.env_id)
        return job.lock

    async def can_plan(self, interpreter: Interpreter, reachable: Reachable) -> bool:
        """Whether this host can resolve for one with an interpreter like that."""
        if self.launches.settings.relay is RelayMode.OFF:
            return False
        if await self.launches.interpreter_like(interpreter) is None:
            return False
        return await reachable.indexes()

    async def for_host(self, question: HostQuestion, timeout: float) -> EnvLock | None:
        """The lock of another host's question; None while it is not found after `timeout`.

        Equal questions have one answer. Raises what `LaunchService.resolve_for` does.
        """
        if self.launches.settings.relay is RelayMode.OFF:
            raise NotFound(sentence("XINFERENCE_VIRTUAL_ENV_RELAY is off there"))
        key = digest_of(question.to_dict())
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self.launches.resolve_for(question))
            self._running[key] = task
            task.add_done_callback(partial(self._forget_later, key))
        await asyncio.wait([task], timeout=timeout)
        return task.result() if task.done() else None

    def _forget_later(self, key: str, task: asyncio.Task[EnvLock]) -> None:
        if not task.cancelled():
            # Retrieved, in case no one asks again.
            task.exception()
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, lambda: self._running.pop(key, None))

    async def stop(self) -> None:
        """End what is being resolved for other hosts."""
        await cancel(*self._running.values())

    def _known(self, host: HostFacts, spec: EnvSpec) -> KeyRecord | None:
        return self.launches.preparation(spec, host, None).known()

    async def _lock_of(self, env_id: str) -> EnvLock | None:
        return await asyncio.to_thread(self.launches.store.lock_of, env_id)
