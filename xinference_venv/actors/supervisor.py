"""The supervisor: one actor for the cluster, which asks the workers and joins what they say."""

from __future__ import annotations

from typing import Any

from xinference_venv.actors.membership import SUPERVISOR_UID as SUPERVISOR_UID
from xinference_venv.actors.supervisor_jobs import SupervisorJobs
from xinference_venv.lease import Holder
from xinference_venv.replicas import differing

# For what may read every file of every environment, or build some anew.
_CARE_SECONDS = 3600.0


class VirtualEnvSupervisorActor(SupervisorJobs):
    """The environments of all workers: `SupervisorJobs` makes them, this lists and removes them.

    What is asked of several workers is answered as far as they answer: `unreachable` names the
    others, each with the reason, its state, and how old its last snapshot is.
    """

    # Leases

    async def bind_lease(self, worker_address: str, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to a process of the worker's host."""
        await self._ask(self._at(worker_address), "bind_lease", env_id, lease_id, pid)

    async def release_lease(self, worker_address: str, env_id: str, lease_id: str) -> None:
        """Give a lease back."""
        await self._ask(self._at(worker_address), "release_lease", env_id, lease_id)

    # Inventory

    async def list_virtual_envs(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        worker_ip: str | None = None,
        python_version: str | None = None,
    ) -> dict[str, Any]:
        """``{"list": entries, "unreachable": [...], "differing": [...]}``.

        `differing` names the models whose replicas were not built from one lock.
        """
        answer = await self._gather(
            worker_ip, "list_virtual_envs", model_name, model_engine, python_version
        )
        return {**answer, "differing": differing(answer["list"])}

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
            # A thousand environments take their time; a worker that is silent is told apart.
            deadline=_CARE_SECONDS,
            deed=True,
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
        answer: dict[str, Any] = await self._ask(
            self._at(worker_address), "read_log", log_id, offset
        )
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
        """``{"list": a report for each worker, "unreachable": [...]}``; see the worker's.

        Of hosts that share a home only one can judge a lease: what any worker calls alive, none
        releases without `force`.
        """
        alive: list[dict[str, Any]] = []
        if not force:
            leases = (await self.list_leases())["list"]
            alive = [
                each
                for each in leases
                if each["lease_id"] in lease_ids and each["holder"] == Holder.ALIVE
            ]
        living = {each["lease_id"] for each in alive}
        others = [each for each in lease_ids if each not in living]
        answer = await self._gather(worker_ip, "release_leases", others, force=force, deed=True)
        refusals = [
            {
                "released": [],
                "refused": [each],
                "absent": [],
                "deleted": [],
                "worker_address": each["worker_address"],
            }
            for each in alive
        ]
        return {**answer, "list": [*answer["list"], *refusals]}

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
            deed=True,
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
            deed=True,
        )

    async def list_models(self, worker_ip: str | None = None) -> list[dict[str, Any]]:
        """The models of one worker's catalogue, of one that is alive if it can be chosen."""
        [member] = self._fleet.choose([worker_ip] if worker_ip else [], 1, self._now())
        answer: list[dict[str, Any]] = await self._ask(member, "list_models")
        return answer
