"""The locks that a worker gives to others: of environments that are ready, and of running jobs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from xinference_venv._util.records import digest_of
from xinference_venv.errors import PythonNotFound
from xinference_venv.inventory.env import KeyRecord
from xinference_venv.inventory.reports import Survey
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.service.jobs import Job
from xinference_venv.service.launch_service import LaunchService


@dataclass(frozen=True, kw_only=True)
class LockSharing:
    """The locks of one worker's launches."""

    launches: LaunchService

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

    def _known(self, host: HostFacts, spec: EnvSpec) -> KeyRecord | None:
        return self.launches.preparation(spec, host, None).known()

    async def _lock_of(self, env_id: str) -> EnvLock | None:
        return await asyncio.to_thread(self.launches.store.lock_of, env_id)
