"""The supervisor: one actor for the cluster, which asks the workers and joins what they say."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from xinference_venv.actors.heartbeat import SUPERVISOR_UID as SUPERVISOR_UID
from xinference_venv.actors.supervisor_jobs import SupervisorJobs
from xinference_venv.actors.supervisor_workers import ASK_SECONDS
from xinference_venv.diagnosis.checks import Diagnosis, cluster_checks
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.lease import Holder
from xinference_venv.inventory.replicas import differing
from xinference_venv.service.collect_metrics import measures_of_supervisor

# For what may read every file of every environment, or rebuild some.
_CARE_SECONDS = 3600.0
# Prometheus waits ten seconds for all of it.
_MEASURE_SECONDS = 5.0
# uv and every interpreter may take a minute to answer.
_DIAGNOSIS_SECONDS = 150.0
# For a walk over all files that an operator watches while it goes on.
_WALK_SECONDS = 50.0


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
        """``{"list": entries, "unreachable": [...], "differing": [...], "skipped": [...]}``.

        `differing` names the models whose replicas were not built from one lock, `skipped` what
        of the workers' stores could not be visited (`SkippedItem` with the worker's address).
        """
        answer = await self._gather(
            worker_ip, "list_virtual_envs", model_name, model_engine, python_version
        )
        skipped: list[dict[str, Any]] = []
        if answer["list"] or not answer["unreachable"]:
            # A worker of an earlier release does not know the question: it has nothing to say.
            with suppress(VirtualEnvError):
                skipped = (await self._gather(worker_ip, "list_skipped_items"))["list"]
        return {**answer, "differing": differing(answer["list"]), "skipped": skipped}

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
            # A thousand environments take their time; heartbeats show a worker that is gone.
            deadline=_CARE_SECONDS,
            changes_state=True,
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
        answer = await self._gather(
            worker_ip, "release_leases", others, force=force, changes_state=True
        )
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
            changes_state=True,
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
            changes_state=True,
        )

    async def disk_usage(self, worker_ip: str | None = None) -> dict[str, Any]:
        """``{"list": what is on the disk of each worker, "unreachable": [...]}``."""
        return await self._gather(
            worker_ip, "disk_usage", _WALK_SECONDS, deadline=_WALK_SECONDS + ASK_SECONDS
        )

    async def diagnose(self, worker_ip: str | None = None) -> dict[str, Any]:
        """``{"list": a `Diagnosis` of each host, "cluster": checks, "unreachable": [...]}``.

        The checks of the cluster compare the hosts: their clocks and releases.
        """
        sent = time.time()
        answer = await self._gather(worker_ip, "diagnose", deadline=_DIAGNOSIS_SECONDS)
        compared = cluster_checks(list(map(Diagnosis.from_dict, answer["list"])), sent)
        return {**answer, "cluster": [each.to_dict() for each in compared]}

    async def measure(self) -> dict[str, Any]:
        """``{"supervisor": its own, "list": those of each worker, "unreachable": [...]}``.

        All as `MetricRegistry`; the metric that a worker is up is 0 for those that did not answer.
        """
        replies: list[dict[str, Any]] = []
        unreachable: list[dict[str, Any]] = []
        with suppress(VirtualEnvError):
            # Where there is no worker, or none answers, the supervisor's own numbers say so.
            answer = await self._gather(None, "measure", deadline=_MEASURE_SECONDS)
            replies, unreachable = answer["list"], answer["unreachable"]
        own = measures_of_supervisor(
            self._cluster,
            self._measures,
            answered={each["worker_address"] for each in replies},
            complete=self._is_complete,
            now=self._now(),
        )
        return {"supervisor": own.to_dict(), "list": replies, "unreachable": unreachable}

    async def list_models(self, worker_ip: str | None = None) -> list[dict[str, Any]]:
        """The models of one worker's catalogue, of one that is alive if it can be chosen."""
        [member] = self._cluster.choose([worker_ip] if worker_ip else [], 1, self._now())
        answer: list[dict[str, Any]] = await self._ask(member, "list_models")
        return answer
