"""The worker's actor, as far as it needs no pool."""

from __future__ import annotations

from typing import Any, cast

import pytest

from xinference_venv.actors.worker import VirtualEnvWorkerActor


class _Membership:
    """A membership that can't be ended."""

    async def leave(self) -> None:
        raise KeyError("workers")


class _Service:
    """A service that says whether it was stopped."""

    stopped = False

    async def stop(self) -> None:
        self.stopped = True


async def test_no_uv_goes_on_although_the_cluster_can_not_be_left() -> None:
    worker = VirtualEnvWorkerActor.__new__(VirtualEnvWorkerActor)
    service = _Service()
    worker._keeping = None
    worker._membership = cast(Any, _Membership())
    worker._service = cast(Any, service)
    with pytest.raises(KeyError):
        await worker.stop()
    assert service.stopped
