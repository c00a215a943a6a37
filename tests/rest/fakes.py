"""A supervisor that answers as if all went well, and an application over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

import httpx
from fastapi import FastAPI

from tests import fakes
from tests.plain import of_json
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.client import Client
from xinference_venv.diagnosis.checks import failed, ok
from xinference_venv.errors import VirtualEnvError, WorkerUnavailable
from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.rest.app import create_app

ADDRESS = "10.0.0.1:4000"
LOG_ID = "20261122T143706.748091-abc"
_PREPARED = {
    "enabled": True,
    "python": "/home/bin/python",
    "env_id": "an-env",
    "path": "/home/v4/a-model/vllm/3.11",
    "real_path": "/home/store/envs/an-env",
    "lease_id": "a-lease",
    "lock_digest": "a-digest",
    "uv_calls": 4,
    "warnings": [],
    "worker_address": ADDRESS,
}
_WORKER = {
    "worker_address": ADDRESS,
    "state": "alive",
    "host_name": "a-host",
    "release": "0.1.0",
    "incarnation": "first",
    "snapshot": None,
    "snapshot_age": None,
    "worker_id": "w1",
    "draining": False,
}
SILENT = {
    **_WORKER,
    "worker_address": "10.0.0.2:4000",
    "state": "gone",
    "error": WorkerUnavailable("no answer").to_dict(),
}


def addressed(entry: Any) -> dict[str, Any]:
    return {**entry.to_dict(), "actor_ip_address": ADDRESS, "worker_address": ADDRESS}


def event(seq: int, phase: str) -> dict[str, Any]:
    missing = dict.fromkeys(("done", "total", "done_bytes", "total_bytes", "worker_address"))
    return {"seq": seq, "at": 1.0, "phase": phase, "message": "a line\nand another", **missing}


class FakeSupervisor:
    """`answers` by method replace the usual ones; an error is raised. `asked` tells who was."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.unreachable: list[dict[str, Any]] = []
        self.complete = True

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def answer(*arguments: Any, **named: Any) -> Any:
            self.asked.append((method, arguments, named))
            told = self.answers.get(method)
            if told is None:
                told = getattr(self, f"_{method}")(*arguments, **named)
            if isinstance(told, VirtualEnvError):
                raise told
            hint = get_type_hints(getattr(SupervisorProtocol, method))["return"]
            return told if hint is type(None) else of_json(hint, told)

        return answer

    def gathered(self, *entries: Any, **more: Any) -> dict[str, Any]:
        whole = {"unreachable": self.unreachable, "complete": self.complete}
        return {"list": list(entries), **whole, **more}

    def _list_virtual_envs(self, *_: Any) -> Any:
        return self.gathered(addressed(fakes.entry()), differing=[], skipped=[])

    def _list_virtual_env_packages(self, *_: Any) -> Any:
        packages = [{**fakes.locked("numpy").to_dict(), "size_bytes": 7}]
        return self.gathered({**addressed(fakes.entry()), "packages": packages})

    def _remove_virtual_env(self, *_: Any, dry_run: bool, force: bool) -> Any:
        entry = fakes.entry().to_dict()
        report = {"remove": [entry], "unlink": [], "refuse": [], "done": [], "dry_run": dry_run}
        return self.gathered({**report, "worker_address": ADDRESS})

    def _prepare(self, *_: Any, **__: Any) -> str:
        return f"abc@{ADDRESS}"

    def _wait(self, job: str, since: int, timeout: float) -> Any:
        events = [event(1, "queued"), event(2, "ready")]
        replica = {"worker_address": ADDRESS, "incarnation": "first", "phase": "ready"}
        return {
            "job_id": job,
            "phase": "ready",
            "events": [each for each in events if each["seq"] > since],
            "result": _PREPARED,
            "error": None,
            "workers": [{**replica, "result": _PREPARED, "error": None}],
        }

    def _cancel(self, *_: Any) -> Any:
        return ()

    def _release_lease(self, *_: Any) -> Any:
        return ()

    def _list_jobs(self, *_: Any) -> Any:
        job = {
            "job_id": "abc",
            "model_name": "a-model",
            "model_engine": None,
            "phase": "ready",
            "message": "ready",
            "started": 1.0,
            "changed": 2.0,
            "error": None,
            "worker_address": ADDRESS,
        }
        return self.gathered(job)

    def _plan(self, *_: Any) -> Any:
        return {"enabled": False, "spec": None, "lock": None, "worker_address": ADDRESS}

    def _collect_garbage(self, *_: Any, **__: Any) -> Any:
        report: dict[str, Any] = {
            **{name: [] for name in ("evict", "skipped", "in_use", "unneeded")},
            **dict.fromkeys(("bytes_before", "bytes_after", "freed_bytes"), 0),
            "dry_run": False,
            "max_bytes": None,
            "unmanaged": {"count": 0, "size_bytes": 0},
            "uv_cache": {
                "path": None,
                "error": None,
                **dict.fromkeys(("size_bytes", "shared_bytes", "pruned_bytes"), 0),
            },
        }
        return self.gathered({**report, "worker_address": ADDRESS})

    def _verify_virtual_env(self, *_: Any, **__: Any) -> Any:
        found: dict[str, Any] = {"faults": [], "repaired": None, "not_repaired": None}
        return self.gathered({**addressed(fakes.entry()), **found})

    def _lease(self) -> dict[str, Any]:
        return {**fakes.lease().to_dict(), "holder": "unknown", "keys": [fakes.key().to_dict()]}

    def _list_leases(self, *_: Any) -> Any:
        return self.gathered({**self._lease(), "worker_address": ADDRESS})

    def _release_leases(self, *_: Any, **__: Any) -> Any:
        report = {"released": [self._lease()], "refused": [], "absent": [], "deleted": []}
        return self.gathered({**report, "worker_address": ADDRESS})

    def _list_workers(self) -> Any:
        return [_WORKER]

    def _forget_worker(self, *_: Any) -> Any:
        return _WORKER

    def _drain_worker(self, *_: Any, draining: bool) -> Any:
        return {**_WORKER, "draining": draining}

    def _list_models(self, *_: Any) -> Any:
        text = {"model_name": "a-model", "model_type": None, "description": None}
        return [{**text, "packages": [], "origin": "built-in"}]

    def _disk_usage(self, *_: Any) -> Any:
        environment = {
            "env_id": "an-env",
            "keys": [fakes.key().to_dict()],
            "leases": [fakes.lease().to_dict()],
            "busy": False,
            "last_used": 1.0,
            "size_bytes": 30,
            "shared_bytes": 10,
        }
        report = {
            "environments": [environment],
            "unmanaged": {"count": 0, "size_bytes": 0},
            "uv_cache": {"path": None, "size_bytes": 0, "shared_bytes": 0},
            "free_bytes": 50,
            "total_bytes": 100,
        }
        return self.gathered({**report, "worker_address": ADDRESS})

    def _diagnose(self, *_: Any) -> Any:
        checks = [ok("uv", "uv 0.13.9").to_dict(), failed("home", "full", "free some").to_dict()]
        event_stream = {"host_name": "a-host", "release": "0.1.0", "at": 1.0, "checks": checks}
        return self.gathered({**event_stream, "worker_address": ADDRESS}, cluster=[])

    def _measure(self) -> Any:
        up, started = MetricRegistry(), MetricRegistry()
        up.set(metrics.UP, ADDRESS, value=1.0)
        started.set(metrics.STARTED, value=1.0)
        told = {**started.report().to_dict(), "worker_address": ADDRESS}
        return {
            "supervisor": up.report().to_dict(),
            "list": [told],
            "unreachable": self.unreachable,
        }

    def _history(self) -> Any:
        step = {"at": 300.0, "workers": 1, "free_bytes": 9}
        return {
            "step_seconds": 300.0,
            "steps": [{**step, "ended": {"ready": 1}, "phase_seconds": {"resolving": 0.5}}],
        }

    def _log(self) -> dict[str, Any]:
        return {
            "log_id": LOG_ID,
            "path": "/home/logs/a.log",
            "key": fakes.key().to_dict(),
            "job_id": "abc",
            "started": 1.0,
            "owner": fakes.process().to_dict(),
            "outcome": "ready",
            "ended": 2.0,
            "error": None,
        }

    def _logs(self, *_: Any) -> Any:
        return self.gathered({**self._log(), "text": "a line\n", "worker_address": ADDRESS})

    def _read_log(self, *_: Any) -> Any:
        return {"log": self._log(), "text": "a line\n", "offset": 7, "ended": True}


def app_of(supervisor: Any, **options: Any) -> FastAPI:
    client = Client(supervisor=supervisor)
    return create_app(client, **{"tokens": None, **options})


def browser(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    """Who asks the application; what it fails with unforeseen becomes an answer too."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)
