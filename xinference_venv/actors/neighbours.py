"""The other workers of a cluster as a worker reaches them: the supervisor says who can help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xinference_venv.actors import rpc
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.inventory.reports import LockAnswer
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.relay import Neighbour, WheelFile, WheelPart
from xinference_venv.planning.remote_question import HostQuestion

# A worker that fetches, unpacks and resolves for others may be slow to answer.
_ANSWER_SECONDS = 20.0
# The supervisor asks workers in turn, each of which may ask an index that does not answer.
_SURVEY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class ClusterNeighbours:
    """The workers that the supervisor at an address knows; `here` is this worker's own."""

    supervisor: str
    here: str

    async def relays_of(self, wheel: WheelFile) -> Sequence[Neighbour]:
        """The workers that can fetch a wheel for others, this one among them."""
        to = rpc.to_supervisor(self.supervisor, deadline=_SURVEY_SECONDS, here=self.here)
        return await rpc.supervisor_by(to).relays_of(wheel)

    async def part(
        self, neighbour: Neighbour, wheel: WheelFile, offset: int, timeout: float
    ) -> WheelPart:
        """The bytes of a wheel from an offset on, or how many its relay has so far."""
        return await self._worker(neighbour, timeout).relay(wheel, offset, timeout)

    async def planners_for(self, interpreter: Interpreter) -> Sequence[Neighbour]:
        """The workers that can resolve for a host with such an interpreter."""
        to = rpc.to_supervisor(self.supervisor, deadline=_SURVEY_SECONDS, here=self.here)
        return await rpc.supervisor_by(to).planners_for(interpreter)

    async def plan_for_host(
        self, neighbour: Neighbour, question: HostQuestion, timeout: float
    ) -> LockAnswer:
        """The lock that a worker found for this host, or its error; neither while it resolves."""
        return await self._worker(neighbour, timeout).plan_for_host(question, timeout)

    def _worker(self, neighbour: Neighbour, timeout: float) -> WorkerProtocol:
        deadline = timeout + _ANSWER_SECONDS
        return rpc.worker_by(
            rpc.to_worker(
                neighbour.address, neighbour.incarnation, deadline=deadline, here=self.here
            )
        )
