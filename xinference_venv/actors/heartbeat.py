"""A worker's membership in a cluster: it registers, sends heartbeats, registers again if forgotten.

The supervisor may be restarted, or be out of reach, at any time: the worker goes on and tells
it again what it needs to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from xinference_venv.actors import rpc
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.errors import (
    DeadlineExceeded,
    IncompatibleVersion,
    InvalidInput,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import HEARTBEAT_SECONDS, Registration, WorkerSnapshot

_ANSWER_SECONDS = 5.0
_AGAIN_SECONDS = 0.5

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Heartbeats:
    """The worker's side; `snapshot` tells what a heartbeat carries.

    `models` tells of which models the worker has environments (None: not known). That is sent when
    it changes, and again to a supervisor that was restarted.
    """

    registration: Registration
    supervisor: str
    snapshot: Callable[[], Awaitable[WorkerSnapshot]]
    models: Callable[[], Awaitable[tuple[str, ...] | None]]
    _lost: bool = False
    _noted: tuple[str, ...] | None = None

    async def join(self, patience: float = 0.0) -> None:
        """Register; tries again for `patience` seconds without an answer.

        Raises `IncompatibleVersion`, `WorkerUnavailable` and `DeadlineExceeded`.
        """
        clock = asyncio.get_running_loop()
        until = clock.time() + patience
        waiting = False
        while True:
            try:
                await self._supervisor.register_worker(self.registration)
                return
            except (WorkerUnavailable, DeadlineExceeded) as error:
                if clock.time() >= until:
                    raise
                if not waiting:
                    why = str(error) if error.hint is None else f"{error} ({error.hint})"
                    logger.warning("%s; waiting for it for %g s", why, patience)
                    waiting = True
            await asyncio.sleep(_AGAIN_SECONDS)

    async def keep(self) -> None:
        """Send heartbeats until cancelled, or until another incarnation took this one's place."""
        while True:
            try:
                known = await self._supervisor.heartbeat(
                    self.registration.address,
                    self.registration.incarnation,
                    await self.snapshot(),
                )
                if not known:
                    self._noted = None
                    await self.join()
                await self._tell_models()
                if self._lost:
                    logger.info("the supervisor at %s is back", self.supervisor)
                    self._lost = False
            except InvalidInput as error:
                logger.error("not registering again: %s", error)
                return
            except VirtualEnvError as error:
                # Also one of a disk, here or there: a worker without heartbeats is taken for gone.
                if not self._lost:
                    logger.warning("%s; retrying", error)
                    self._lost = True
            except Exception:
                # No one waits for this task: what it raised would never be seen.
                if not self._lost:
                    logger.exception("a heartbeat failed; retrying")
                    self._lost = True
            await asyncio.sleep(self.registration.heartbeat or HEARTBEAT_SECONDS)

    async def _tell_models(self) -> None:
        models = await self.models()
        if models is None or models == self._noted:
            return
        # A supervisor of an earlier release asks every worker.
        with suppress(IncompatibleVersion):
            await self._supervisor.note_models(
                self.registration.address, self.registration.incarnation, models
            )
        self._noted = models

    async def leave(self) -> None:
        """Tell the supervisor that this worker ends; one that is gone, or refuses, is fine."""
        try:
            await self._supervisor.leave_worker(
                self.registration.address, self.registration.incarnation
            )
        except VirtualEnvError as error:
            logger.warning("%s", error)

    @cached_property
    def _supervisor(self) -> SupervisorProtocol:
        return rpc.supervisor_by(
            rpc.to_supervisor(
                self.supervisor,
                deadline=_ANSWER_SECONDS,
                here=self.registration.address,
                keep=True,
            )
        )
