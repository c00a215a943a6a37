"""A storm over one home: launches, removals and kills at once, at two worker processes.

A seed gives the operations; in which order the processes come to them is the system's. Whatever
should not happen is noted as a failure, and the storm goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import xoscar as xo

from tests.plain import plain
from tests.scenarios.checker import check_environment, check_home
from tests.scenarios.processes import WorkerProcess, worker_process
from tests.scenarios.steps import files_of, uv_processes
from tests.scenarios.storm_plan import SOLVABLE, Kind, Operation
from xinference_venv.errors import NotFound, UnknownJob, VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.model_process import bind
from xinference_venv.store.paths import StorePaths

AT_ONCE = 6
OPERATION_SECONDS = 90.0
# So long something that needs others to go on waits for them.
PATIENCE_SECONDS = 2.0
_ENDED = (ConnectionError, EOFError, xo.ServerClosed, WorkerUnavailable, UnknownJob)
# How a launch may fail when one of its processes was killed.
_BUILD_CODES = frozenset(
    {
        "python_not_found",
        "uv_failed",
        "build_failed",
        "resolution_failed",
        "install_failed",
        "verification_failed",
    }
)
# Imports a module when it is told to, and says from where.
_MODEL = """
import importlib, sys
print("up", flush=True)
for line in sys.stdin:
    print(importlib.import_module(line.strip()).__file__, flush=True)
"""


@dataclass(kw_only=True, eq=False)
class Model:
    """A process that runs in an environment, with a lease that is bound to it."""

    environment: PreparedEnvironment
    process: asyncio.subprocess.Process
    files: Mapping[str, tuple[int, str]]
    modules: Sequence[str]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def path(self) -> Path:
        """Its environment."""
        return Path(str(self.environment.real_path))

    async def loads(self, module: str) -> str:
        """Let it import a module; where it found it, empty when the process has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        async with self.turn:
            with suppress(ConnectionError):
                self.process.stdin.write(f"{module}\n".encode())
                await self.process.stdin.drain()
            return (await self.process.stdout.readline()).decode().strip()


@dataclass(kw_only=True, eq=False)
class Slot:
    """One of the workers: another process after each kill."""

    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    worker: WorkerProcess | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    kills: int = 0

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start its process."""
        worker = await self.stack.enter_async_context(worker_process(environ))
        async with self.changed:
            self.worker = worker
            self.changed.notify_all()

    async def running(self) -> WorkerProcess:
        """Its process, once there is one."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.worker is not None)
            assert self.worker is not None
            return self.worker

    async def kill(self) -> None:
        """End its process as kill -9 does, and what of it waits for an answer."""
        worker = await self.running()
        self.worker = None
        self.kills += 1
        await worker.kill()
        await self.stack.aclose()


@dataclass(kw_only=True, eq=False)
class Storm:
    """A storm under way: `outcomes` counts what operations came to, `failures` must stay empty."""

    environ: Mapping[str, str]
    index_url: str
    slots: tuple[Slot, Slot] = field(default_factory=lambda: (Slot(), Slot()))
    models: list[Model] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    child_kills: int = 0
    _kills_before: list[tuple[Hashable, int]] = field(default_factory=list)
    """Of each operation that runs: what it asks for, and the kills that can't have ended it."""
    _beats: int = 0
    _beat: asyncio.Condition = field(default_factory=asyncio.Condition)
    _hearing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def home(self) -> Path:
        """Where all of it happens."""
        return Path(self.environ["XINFERENCE_HOME"])

    async def run(self, operations: Sequence[Operation]) -> None:
        """Do the operations, several at once; returns when all are done and the workers dead."""
        try:
            await asyncio.gather(*(slot.start(self.environ) for slot in self.slots))
            waiting = iter(operations)
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._runner(waiting))
            await asyncio.gather(*(slot.kill() for slot in self.slots))
        finally:
            for slot in self.slots:
                await slot.stack.aclose()

    async def end_models(self) -> None:
        """Kill every model that is left."""
        await asyncio.gather(*(self._kill_model(model) for model in list(self.models)))

    async def check_models(self) -> None:
        """What runs must have all its files, as they were, and find its modules there."""
        for model in list(self.models):
            faults = await asyncio.to_thread(check_environment, model.path.parent, imports=False)
            there = await asyncio.to_thread(files_of, model.path.parent)
            faulty = [str(each) for each in faults]
            faulty += [name for name, was in model.files.items() if there.get(name) != was]
            for module in model.modules:
                place = await model.loads(module)
                if not Path(place).is_relative_to(model.path.parent):
                    faulty.append(f"{module} was imported from {place!r}")
            if faulty and model in self.models:
                self.failures.append(f"{model.path} under process {model.process.pid}: {faulty}")

    async def _runner(self, operations: Iterator[Operation]) -> None:
        for operation in operations:
            try:
                async with asyncio.timeout(OPERATION_SECONDS):
                    outcome = await self._do(operation)
            except TimeoutError:
                outcome = "timeout"
                self.failures.append(f"{operation} had no answer in {OPERATION_SECONDS:g} s")
            self.outcomes[f"{operation.kind}: {outcome}"] += 1
            await self._tick()

    async def _do(self, operation: Operation) -> str:
        """Do one operation; what came of it, in a word."""
        if operation.kind is Kind.KILL_WORKER:
            return await self._kill_worker(operation)
        if operation.kind is Kind.KILL_CHILD:
            return await self._kill_child(operation)
        if operation.kind is Kind.KILL_MODEL:
            await self._events(operation.moment)
            if not self.models:
                return "none"
            await self._kill_model(self.models[operation.moment % len(self.models)])
            return "done"
        slot = self.slots[operation.worker]
        worker = await slot.running()
        asked = (operation.model, operation.engine, operation.packages)
        # It may join the build of an equal one, of which something was killed before.
        before = (count for each, count in self._kills_before if each == asked)
        kills, child_kills = slot.kills, min(before, default=self.child_kills)
        self._kills_before.append((asked, child_kills))
        try:
            if operation.kind is Kind.LIST:
                return await self._list(worker)
            if operation.kind in (Kind.REMOVE, Kind.FORCE):
                return await self._remove(worker, operation)
            return await self._launch(worker, operation)
        except _ENDED as error:
            return self._judged(operation, error, fine=slot.kills > kills)
        except VirtualEnvError as error:
            solvable = operation.packages in SOLVABLE
            fine = error.code == "not_found" or (
                error.code in _BUILD_CODES
                and (
                    self.child_kills > child_kills
                    or (not solvable and error.code == "resolution_failed")
                )
            )
            return self._judged(operation, error, fine=fine)
        finally:
            self._kills_before.remove((asked, child_kills))

    def _judged(self, operation: Operation, error: BaseException, *, fine: bool) -> str:
        """Note an error that nothing in the storm explains."""
        if not fine:
            more = error.to_dict() if isinstance(error, VirtualEnvError) else ""
            self.failures.append(f"{operation}: {error!r} {more}")
        return error.code if isinstance(error, VirtualEnvError) else "worker ended"

    async def _launch(self, worker: WorkerProcess, operation: Operation) -> str:
        block = {
            "packages": operation.packages,
            "index_url": self.index_url,
            "inherit_pip_config": False,
        }
        request = LaunchRequest.from_dict(
            {
                "model_name": operation.model,
                "model_engine": operation.engine,
                "virtualenv": block,
                "refresh": operation.refresh,
            }
        )
        heard, enough = 0, asyncio.Event()

        def on_event(_: JobEvent) -> None:
            nonlocal heard
            heard += 1
            # A launch has few events of its own.
            if heard == (operation.moment + 1) // 2:
                enough.set()
            task = asyncio.create_task(self._tick())
            self._hearing.add(task)
            task.add_done_callback(self._hearing.discard)

        launch = asyncio.create_task(worker.client.prepare(request, on_event=on_event))
        if operation.kind is Kind.CANCEL:
            told = asyncio.create_task(enough.wait())
            await asyncio.wait([launch, told], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            launch.cancel()
        try:
            prepared = await launch
        except asyncio.CancelledError:
            if operation.kind is not Kind.CANCEL:
                self.failures.append(f"{operation} was cancelled by nobody")
            return "cancelled"
        if operation.packages not in SOLVABLE:
            self.failures.append(f"{operation} can't be ready")
        if operation.kind is Kind.SERVE:
            return await self._serve(worker, prepared)
        if operation.kind is not Kind.KEEP:
            await worker.client.release(prepared)
        return "ready"

    async def _serve(self, worker: WorkerProcess, prepared: PreparedEnvironment) -> str:
        path = Path(str(prepared.real_path))
        try:
            process = await asyncio.create_subprocess_exec(
                *(prepared.python, "-c", _MODEL),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except FileNotFoundError:
            # The lease was the worker's until now, and ended with it.
            raise WorkerUnavailable(f"{path} is gone") from None
        bound = False
        try:
            await bind(worker.client.worker, prepared, process.pid)
            bound = True
        except NotFound as error:
            raise WorkerUnavailable(f"the lease ended: {error}") from None
        finally:
            if not bound:
                process.kill()
                await process.communicate()
        files = await asyncio.to_thread(files_of, path.parent)
        own = [Path(name) for name in files if fnmatch(name, "view/lib/*/site-packages/[a-z]*.py")]
        modules = sorted(each.stem for each in own if each.parent.name == "site-packages")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        self.models.append(
            Model(environment=prepared, process=process, files=files, modules=modules)
        )
        return "serving"

    async def _remove(self, worker: WorkerProcess, operation: Operation) -> str:
        answer = plain(
            await worker.client.supervisor.remove_virtual_env(
                Selection(model_name=operation.model), force=operation.kind is Kind.FORCE
            )
        )
        [report] = answer["list"]
        if report["done"]:
            return "done"
        return "refused" if report["refuse"] else "absent"

    async def _list(self, worker: WorkerProcess) -> str:
        entries = await worker.client.entries()
        serving = {model.process.pid: model for model in self.models}
        for entry in entries:
            holders = [
                serving[each.process.pid] for each in entry.leases if each.process.pid in serving
            ]
            if entry.state != "ready" or not holders:
                continue
            faults = await asyncio.to_thread(
                check_environment, Path(entry.real_path).parent, imports=False
            )
            if faults and any(model in self.models for model in holders):
                self.failures.append(f"listed as ready and in use: {faults}")
        found = await asyncio.to_thread(check_home, self.home, settled=False, imports=False)
        self.failures += [str(each) for each in found]
        await self.check_models()
        return "done"

    async def _kill_worker(self, operation: Operation) -> str:
        await self._events(operation.moment)
        slot = self.slots[operation.worker]
        await slot.kill()
        await slot.start(self.environ)
        return "done"

    async def _kill_child(self, operation: Operation) -> str:
        """Kill a subprocess that a worker has noted, as soon as there is one at an event."""
        for _ in range(operation.moment + 20):
            await self._events(1)
            for pid in uv_processes(StorePaths(self.home / "virtualenv")):
                # Counted first: who waits for it may hear of its end before this goes on.
                self.child_kills += 1
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return "done"
        return "none"

    async def _kill_model(self, model: Model) -> None:
        self.models.remove(model)
        model.process.kill()
        await model.process.wait()

    async def _tick(self) -> None:
        async with self._beat:
            self._beats += 1
            self._beat.notify_all()

    async def _events(self, count: int) -> None:
        """Wait for so many events, unless nothing happens any more."""
        until = self._beats + count
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS), self._beat:
                await self._beat.wait_for(lambda: self._beats >= until)
