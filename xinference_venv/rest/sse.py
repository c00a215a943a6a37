"""A launch as server-sent events (WHATWG HTML, 9.2): each with its number, so that a client that
lost the connection goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from starlette.responses import StreamingResponse

from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.reports import JobReport

END = "end"
"""The id of the last event."""
HEARTBEAT_SECONDS = 15.0
"""How often something is sent, so that no proxy takes the connection for dead."""
RETRY_MILLISECONDS = 2000
LONGEST_SECONDS = 3600.0
"""So long a stream lasts at most; the browser asks again, from where it was."""


@dataclass(kw_only=True)
class Streams:
    """The streams that are open, at most `most`, and `most_of_peer` of one address."""

    most: int = 200
    most_of_peer: int = 50
    _of_peer: Counter[str] = field(default_factory=Counter)

    def admits(self, peer: str) -> bool:
        """Whether one more may be opened by this address."""
        return self._of_peer[peer] < self.most_of_peer and self._of_peer.total() < self.most

    async def counted(self, peer: str, content: AsyncIterator[str]) -> AsyncIterator[str]:
        """The stream, which counts while it is open, for `LONGEST_SECONDS` at most."""
        self._of_peer[peer] += 1
        until = time.monotonic() + LONGEST_SECONDS
        try:
            async for each in content:
                yield each
                if time.monotonic() > until:
                    return
        finally:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]


class EventStream(StreamingResponse):
    """An answer of events that no proxy may keep back."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[str]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def event_stream(
    supervisor: SupervisorProtocol, job_id: str, since: int, answer: JobReport
) -> AsyncIterator[str]:
    """The events of a launch from its `answer` since a number on, until it ends."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    while True:
        for event in answer.events:
            since = event.seq
            yield _event("job", str(since), event.to_dict())
        if answer.has_ended:
            how = {name: each for name, each in answer.to_dict().items() if name != "events"}
            yield _event(END, END, how)
            return
        try:
            answer = await supervisor.wait(job_id, since, HEARTBEAT_SECONDS)
        except VirtualEnvError as error:
            yield _event("lost", str(since), error.to_dict())
            return
        if not answer.events:
            yield ": still there\n\n"


def _event(kind: str, number: str, data: Mapping[str, object]) -> str:
    # JSON in ASCII has no line break, which would end the data.
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n"
