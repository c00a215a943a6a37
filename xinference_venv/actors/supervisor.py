"""The supervisor: one actor for the cluster, which asks the workers and joins what they say.

It keeps nothing that it can't ask again: the workers, by address, and a way to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import xoscar as xo

from xinference_venv.actors import rpc
from xinference_venv.actors.worker import WORKER_UID
from xinference_venv.errors import NotFound, UnknownJob, VirtualEnvError

SUPERVISOR_UID = "xinference_venv_supervisor"
_ASK_SECONDS = 30.0
_PLAN_SECONDS = 3600.0
# For what may read every file of every environment, or build some anew.
_CARE_SECONDS = 3600.0


class VirtualEnvSupervisorActor(xo.StatelessActor):  # type: ignore[misc]
    """The environments of all workers. Stateless in xoscar's sense: calls run beside each other.

    A job of the cluster is named ``JOB@ADDRESS``. What is asked of several workers is answered
    as far as they answer: `unreachable` names the others, each with the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[str, str] = {}

    async def register_worker(self, address: str, incarnation: str) -> None:
        """Add a worker, or note that it was started anew."""
        self._workers[address] = incarnation

    async def list_workers(self) -> list[dict[str, str]]:
        """The workers' addresses."""
        return [{"worker_address": address} for address in sorted(self._workers)]

    # Jobs

    async def prepare(self, request: dict[str, Any], worker_ip: str | None = None) -> str:
        """Start a launch on one worker: of `worker_ip` (or address), else the first one."""
        address = self._select(worker_ip)[0]
        return f"{await self._ask(address, 'prepare', request)}@{address}"

    async def wait(self, job: str, since: int = 0, timeout: float = 30.0) -> dict[str, Any]:
        """A job's new events, result or error; see `VirtualEnvWorkerActor.wait`."""
        job_id, address = self._job(job)
        deadline = timeout + _ASK_SECONDS
        answer: dict[str, Any] = await rpc.call(
            address,
            WORKER_UID,
            "wait",
            job_id,
            since,
            timeout,
            deadline=deadline,
            here=self.address,
        )
        return {**answer, "worker_address": address}

    async def cancel(self, job: str) -> None:
        """Cancel a job; returns when nothing of it is left."""
        job_id, address = self._job(job)
        await self._ask(address, "cancel", job_id)

    async def plan(self, request: dict[str, Any], worker_ip: str | None = None) -> dict[str, Any]:
        """What a launch would do on a worker, resolved and not built."""
        address = self._select(worker_ip)[0]
        answer: dict[str, Any] = await rpc.call(
            address, WORKER_UID, "plan", request, deadline=_PLAN_SECONDS, here=self.address
        )
        return {**answer, "worker_address": address}

    # Leases

    async def bind_lease(self, worker_address: str, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to a process of the worker's host."""
        await self._ask(worker_address, "bind_lease", env_id, lease_id, pid)

    async def release_lease(self, worker_address: str, env_id: str, lease_id: str) -> None:
        """Give a lease back."""
        await self._ask(worker_address, "release_lease", env_id, lease_id)

    # Inventory

    async def list_virtual_envs(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        worker_ip: str | None = None,
        python_version: str | None = None,
    ) -> dict[str, Any]:
        """``{"list": entries, "unreachable": [{worker_address, error}]}``."""
        return await self._gather(
            worker_ip, "list_virtual_envs", model_name, model_engine, python_version
        )

    async def list_virtual_env_packages(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
        worker_ip: str | None = None,
    ) -> dict[str, Any]:
        """As `list_virtual_envs`, each entry with its packages."""
        return await self._gather(
            worker_ip, "list_virtual_env_packages", model_name, model_engine, python_version
        )

    async def remove_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        worker_ip: str | None = None,
        *,
        dry_run: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        """``{"list": a report for each worker, "unreachable": [...]}``; see the worker's."""
        return await self._gather(
            worker_ip,
            "remove_virtual_env",
            model_name,
            model_engine,
            python_version,
            dry_run=dry_run,
            force=force,
        )

    async def logs(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
        worker_ip: str | None = None,
        count: int = 1,
    ) -> dict[str, Any]:
        """``{"list": logs, "unreachable": [...]}``: the newest of each worker."""
        return await self._gather(
            worker_ip, "logs", model_name, model_engine, python_version, count
        )

    async def read_log(self, worker_address: str, log_id: str, offset: int = 0) -> dict[str, Any]:
        """More of one log of a worker; see `VirtualEnvWorkerActor.read_log`."""
        answer: dict[str, Any] = await self._ask(worker_address, "read_log", log_id, offset)
        return answer

    # Care

    async def list_leases(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        worker_ip: str | None = None,
    ) -> dict[str, Any]:
        """``{"list": leases, "unreachable": [...]}``: who uses which environment."""
        return await self._gather(
            worker_ip, "list_leases", model_name, model_engine, python_version
        )

    async def release_leases(
        self, lease_ids: list[str], worker_ip: str | None = None, *, force: bool = False
    ) -> dict[str, Any]:
        """``{"list": a report for each worker, "unreachable": [...]}``; see the worker's."""
        return await self._gather(worker_ip, "release_leases", lease_ids, force=force)

    async def collect_garbage(
        self,
        worker_ip: str | None = None,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """``{"list": a report for each worker, "unreachable": [...]}``; see the worker's."""
        return await self._gather(
            worker_ip,
            "collect_garbage",
            max_bytes=max_bytes,
            older_than=older_than,
            prune_uv_cache=prune_uv_cache,
            dry_run=dry_run,
            deadline=_CARE_SECONDS,
        )

    async def verify_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        worker_ip: str | None = None,
        *,
        hashes: bool = False,
        repair: bool = False,
    ) -> dict[str, Any]:
        """``{"list": a finding for each environment, "unreachable": [...]}``."""
        return await self._gather(
            worker_ip,
            "verify_virtual_env",
            model_name,
            model_engine,
            python_version,
            hashes=hashes,
            repair=repair,
            deadline=_CARE_SECONDS,
        )

    async def list_models(self, worker_ip: str | None = None) -> list[dict[str, Any]]:
        """The models of one worker's catalogue."""
        answer: list[dict[str, Any]] = await self._ask(self._select(worker_ip)[0], "list_models")
        return answer

    async def _gather(
        self,
        worker_ip: str | None,
        method: str,
        *arguments: Any,
        deadline: float = _ASK_SECONDS,
        **named: Any,
    ) -> dict[str, Any]:
        """Ask the selected workers at once; nobody's silence delays or hides another's answer."""
        addresses = self._select(worker_ip)

        async def ask(address: str) -> Any:
            try:
                return await self._ask(address, method, *arguments, deadline=deadline, **named)
            except VirtualEnvError as error:
                if error.code in ("worker_unavailable", "deadline_exceeded"):
                    return error
                raise

        answers = await asyncio.gather(*map(ask, addresses))
        told: list[Any] = []
        unreachable = []
        for address, answer in zip(addresses, answers, strict=True):
            if isinstance(answer, VirtualEnvError):
                unreachable.append({"worker_address": address, "error": answer.to_dict()})
            elif isinstance(answer, list):
                told += answer
            else:
                told.append({**answer, "worker_address": address})
        return {"list": told, "unreachable": unreachable}

    async def _ask(
        self,
        address: str,
        method: str,
        *arguments: Any,
        deadline: float = _ASK_SECONDS,
        **named: Any,
    ) -> Any:
        return await rpc.call(
            address,
            WORKER_UID,
            method,
            *arguments,
            deadline=deadline,
            here=self.address,
            **named,
        )

    def _select(self, worker_ip: str | None) -> list[str]:
        """The workers of an IP or at an address, or all; raises `NotFound` when there is none."""
        chosen = [
            address
            for address in sorted(self._workers)
            if worker_ip is None or worker_ip in (address, address.rpartition(":")[0])
        ]
        if not chosen:
            there = _listed(self._workers)
            which = "" if worker_ip is None else f" at {worker_ip!r}"
            raise NotFound(f"there is no worker{which}", {"hint": f"there are: {there}"})
        return chosen

    def _job(self, job: str) -> tuple[str, str]:
        job_id, _, address = job.partition("@")
        if address not in self._workers:
            raise UnknownJob(
                f"there is no job {job!r}",
                {"hint": f"jobs are named JOB@WORKER; workers are: {_listed(self._workers)}"},
            )
        return job_id, address


def _listed(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses)) or "none"
