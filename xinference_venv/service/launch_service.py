"""Launches on one host: from a request to a lease on a ready environment, for many at once.

Equal launches share one build, launches of one key wait for each other, and what is there and
right already takes neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.tasks import cancel, finish_in_thread
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidRecord,
    InvalidSource,
    JobCancelled,
    NotFound,
    PythonNotFound,
    VirtualEnvError,
)
from xinference_venv.inventory.job_state import GiveBack
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.lease import Lease
from xinference_venv.inventory.replicas import taken_back
from xinference_venv.inventory.reports import LaunchPlan
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.observability.waiting import counted_waiting
from xinference_venv.planning.allowed_sources import AllowedSources, allowed_hosts, place_of
from xinference_venv.planning.bundle_fit import lock_for
from xinference_venv.planning.catalog import Catalog, ModelEntry
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pip_config import PipConfig, local_path
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.requirements import Origin
from xinference_venv.planning.source_builds import build_digest, origins_of
from xinference_venv.planning.sources import check_launch_find_links
from xinference_venv.planning.spec import (
    EnvSpec,
    PlanningFacts,
    describe,
    plan_spec,
    wants_environment,
)
from xinference_venv.sentences import sentence
from xinference_venv.service.build_log import BuildLog, log_failure
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.service.jobs import (
    AskLock,
    Build,
    BundleFiles,
    Job,
    JobRegistry,
    no_lock_elsewhere,
    start_job_task,
)
from xinference_venv.service.phases import in_phase, unforeseen_error
from xinference_venv.service.prepare import Preparation, staging_folder
from xinference_venv.service.remote_planner import RemotePlanner
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.settings import Settings
from xinference_venv.store.atomic import name_error, store_error
from xinference_venv.store.catalog import load_catalog
from xinference_venv.store.envs.launcher import LAUNCHER_NAME
from xinference_venv.store.host_files import real_directory
from xinference_venv.store.installed_models import InstalledModels
from xinference_venv.store.lease_admin import release_unbound
from xinference_venv.store.legacy.layouts import check_free
from xinference_venv.store.locks import hold_lock
from xinference_venv.store.model_files import InstalledFiles, find_xinference
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import Priority, Uv

_T = TypeVar("_T")

# How long a job that ends waits for its lease to be given back; that goes on in the background.
_CLEAR_SECONDS = 1.0
# Is given the lease that a thread takes, whatever else becomes of the thread.
_Take = Callable[[Lease], None]

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LaunchService:
    """The jobs of a worker and the builds they share; `address` names the worker in errors.

    `on_built` is called after each build.
    """

    store: Store
    uv: Uv
    settings: Settings
    hosts: HostFactsReader
    address: str = ""
    registry: JobRegistry = field(default_factory=JobRegistry)
    measures: MetricRegistry = field(default_factory=MetricRegistry)
    builds: dict[tuple[EnvKey, str], Build] = field(default_factory=dict)
    on_built: Callable[[], None] = lambda: None
    fetcher: WheelFetcher | None = None
    """What gets wheels through other workers, in a cluster."""
    planner: RemotePlanner | None = None
    """What lets other workers resolve, in a cluster."""
    _key_locks: dict[EnvKey, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    _returning: set[asyncio.Task[None]] = field(default_factory=set)
    _installed: InstalledModels | None = field(default=None, init=False)

    def start(
        self,
        request: LaunchRequest,
        given: EnvLock | None,
        *,
        job_id: str | None = None,
        ask: AskLock = no_lock_elsewhere,
        background: bool = False,
        asked_by: str | None = None,
        bundle: BundleFiles | None = None,
    ) -> Job:
        """Start a job; `ask` may find a lock elsewhere when there is none here.

        One in the `background` comes after all others, one of a `bundle` takes its lock and
        wheels. `asked_by` names who wants it.
        """
        job = self.registry.open(request, job_id)
        job.ask = ask
        job.carry_out = partial(self._carry_out, job)
        job.background = background
        job.asked_by = asked_by
        job.bundle = bundle
        job.say(Phase.QUEUED, sentence("queued for {model_name}", model_name=request.model_name))
        job.task = start_job_task(job, self._run(job, given), self.measures, self.address)
        return job

    async def cancel(self, job: Job) -> None:
        """Cancel a job and wait until nothing of it is left; an ended one is left as it is."""
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])

    async def take_back(self, job: Job) -> None:
        """Let a ready job be cancelled, for its launch failed elsewhere; its lease is given back.

        Returns when it is, or after a moment.
        """
        job.take_back(taken_back(self.address))
        if job.state.is_given_up:
            await self._cleared(job)

    async def stop(self) -> None:
        """Cancel every job and wait until its uv has ended."""
        await asyncio.gather(*(self.cancel(job) for job in self.registry.running()))
        # The leases of a process that has ended count no more.
        await cancel(*self._returning)

    async def models(self) -> tuple[ModelEntry, ...]:
        """The models of the catalogue."""
        search_path = await self.hosts.search_path()

        def read() -> tuple[ModelEntry, ...]:
            return tuple(self._catalog(search_path).models.values())

        return await asyncio.to_thread(read)

    def _catalog(self, search_path: Sequence[str]) -> Catalog:
        """The built-in models, those of the Xinference that is installed, and the users' own.

        Blocks on the disk.
        """
        package = find_xinference(search_path)
        if package is None:
            self._installed = None
        elif self._installed is None or self._installed.files.package != package:
            self._installed = InstalledModels(InstalledFiles(package, Path(self.settings.home)))
        own = Path(self.settings.spec_dir)
        return load_catalog(own, [], self.store.skipped, self._installed)

    async def plan(self, request: LaunchRequest) -> LaunchPlan:
        """What a launch would do, resolved and not built: the spec, and the lock or None."""
        host, spec = await self.specify(request, download=True)
        if spec is None:
            return self._planned(None, None)
        preparation = self.preparation(spec, host, None, request)
        known = None if request.refresh else await asyncio.to_thread(preparation.known)
        if known is not None:
            lock = await asyncio.to_thread(self.store.lock_of, known.env_id)
            if lock is not None:
                return self._planned(spec, lock)
        try:
            async with staging_folder(self.store, spec.interpreter, preparation.trashed) as folder:
                resolving = in_phase(
                    Phase.RESOLVING, preparation.resolve(folder, refresh=request.refresh)
                )
                lock = await self._of_the_disk(resolving)
        finally:
            await BUILDING.finish(self.store.delete_trashed, *preparation.trashed)
        return self._planned(spec, lock)

    def _planned(self, spec: EnvSpec | None, lock: EnvLock | None) -> LaunchPlan:
        return LaunchPlan(
            enabled=spec is not None,
            spec=None if spec is None else describe(spec),
            lock=lock,
            worker_address=self.address,
        )

    async def specify(
        self, request: LaunchRequest, *, download: bool
    ) -> tuple[HostFacts, EnvSpec | None]:
        """The host as it is now, and what a request means on it; None: no environment.

        An interpreter that is not there is downloaded, if the settings allow it, or
        `PythonNotFound` says that it is missing.
        """
        host = await self.hosts.facts()
        if not wants_environment(request, self.settings):
            return host, None
        interpreter = await self.hosts.interpreter(
            request.python_version, host.interpreter, download=download
        )
        return host, await asyncio.to_thread(self._plan, request, host, interpreter)

    async def interpreter_like(self, other: Interpreter) -> Interpreter | None:
        """The interpreter of this host that can use the same wheels as one of another host."""
        host = await self.hosts.facts()
        try:
            own = await self.hosts.interpreter(other.version, host.interpreter, download=False)
        except PythonNotFound:
            return None
        return own if own.platform_digest == other.platform_digest else None

    async def resolve_for(self, question: HostQuestion) -> EnvLock:
        """The lock of a request over the facts of another host, from the indexes of this one.

        Raises `NotFound` where this host can't resolve for that one, or is set to plan something
        else, and what a launch raises.
        """
        interpreter = await self.interpreter_like(question.interpreter)
        if interpreter is None:
            raise NotFound(
                sentence(
                    "there is no Python {version} for that platform",
                    version=question.interpreter.version,
                )
            )
        search_path = (await self.hosts.facts()).interpreter.search_path
        spec = await asyncio.to_thread(
            self._plan, question.request, question.host, interpreter, search_path
        )
        if spec is None or spec.demand != question.demand or spec.sources.no_build_isolation:
            raise NotFound(
                sentence(
                    "by its own settings and models it would plan something else for {model_name}",
                    model_name=question.request.model_name,
                )
            )
        preparation = self.preparation(spec, question.host, None)
        try:
            async with staging_folder(self.store, interpreter, preparation.trashed) as folder:
                resolving = preparation.resolve_for(question, folder)
                return await self._of_the_disk(resolving)
        finally:
            await BUILDING.finish(self.store.delete_trashed, *preparation.trashed)

    @asynccontextmanager
    async def hold_key(
        self, key: EnvKey, purpose: str, *, deadline: float, on_wait: Callable[[str], None]
    ) -> AsyncIterator[None]:
        """Be the only one, in this process and among those that share the home, with this key.

        Raises `DeadlineExceeded` when others keep it for longer than `deadline` seconds.
        """
        lock = self._key_locks[key]
        if lock.locked():
            on_wait(sentence("waiting for another launch or a removal of {key}", key=key))
        try:
            async with asyncio.timeout(deadline):
                await lock.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                sentence(
                    "waited {deadline} s for another launch or a removal of {key}",
                    deadline=f"{deadline:g}",
                    key=key,
                )
            ) from None
        try:
            async with hold_lock(
                self.store.key_lock(key),
                purpose=sentence("{purpose} of {key}", purpose=purpose, key=key),
                deadline=deadline,
                on_wait=on_wait,
            ):
                yield
        finally:
            lock.release()

    async def _run(self, job: Job, given: EnvLock | None) -> None:
        """One job to its end, which is always an event."""
        try:
            job.result = await self._of_the_disk(self._result(job, given))
            where = job.result.real_path or job.result.python
            job.say(Phase.READY, sentence("ready: {where}", where=where))
        except VirtualEnvError as error:
            await self._give_up(job)
            job.error = error.with_details(host=self.address)
            job.say(Phase.FAILED, str(error))
            if not job.logged:
                await log_failure(self.store, job.request, job.job_id, error, asked_by=job.asked_by)
        except asyncio.CancelledError:
            try:
                await self._give_up(job)
            finally:
                job.error = JobCancelled(
                    sentence(
                        "the job for {model_name} was cancelled", model_name=job.request.model_name
                    )
                )
                job.say(Phase.CANCELLED, str(job.error))
        except Exception as error:
            # The edge of the job: an unforeseen error must reach whoever waits, and keep nothing.
            await self._give_up(job)
            job.error = unforeseen_error(error).with_details(host=self.address)
            job.say(Phase.FAILED, str(job.error))
            raise

    async def _of_the_disk(self, work: Awaitable[_T]) -> _T:
        """The same, with what the file system refuses, or can't name, as an error of ours."""
        try:
            return await work
        except UnicodeEncodeError as error:
            raise name_error(error) from error
        except OSError as error:
            raise store_error(error) from error

    async def _result(self, job: Job, given: EnvLock | None) -> PreparedEnvironment:
        request = job.request
        host = await self.hosts.facts()
        if not wants_environment(request, self.settings):
            return self._host_itself(host)
        interpreter = await self.hosts.interpreter(
            request.python_version,
            host.interpreter,
            download=True,
            say=job.say,
        )

        def plan(take: _Take) -> tuple[EnvSpec | None, PreparedEnvironment | None]:
            spec = self._plan(request, host, interpreter)
            if spec is None or given is not None or job.bundle is not None or request.refresh:
                return spec, None
            return spec, self._existing(job, self.preparation(spec, host, None), take)

        # One way to a thread and back for all that a relaunch takes.
        spec, existing = await self._in_thread(job, plan)
        if spec is None:
            return self._host_itself(host)
        if job.bundle is not None:
            given = await BUILDING.finish(self._unbundle, job.bundle, spec, host)
        return existing or await self._built(job, spec, host, given)

    def _unbundle(self, came: BundleFiles, spec: EnvSpec, host: HostFacts) -> EnvLock:
        """The lock of a bundle for this host; wheels that were built for it are kept as if they
        were built here.
        """
        lock = lock_for(came.bundle, spec, host)
        for name, origin in origins_of(lock).items():
            build = build_digest(
                origin,
                lock,
                isolated=not spec.sources.no_build_isolation,
                build_constraints=spec.build_constraints,
            )
            self.store.wheels.keep(Path(came.paths[name]), build)
        return lock

    def _existing(
        self, job: Job, preparation: Preparation, take: _Take
    ) -> PreparedEnvironment | None:
        """The environment of the key, leased, when it is right and whole; blocks on the disk."""
        known = preparation.known()
        lease = None if known is None else self._lease(job, known.env_id, take)
        if known is None or lease is None:
            return None
        self.store.touch(known, host_fingerprint=preparation.host.fingerprint)
        return self._prepared(lease, preparation.spec, uv_calls=0)

    async def _built(
        self, job: Job, spec: EnvSpec, host: HostFacts, given: EnvLock | None
    ) -> PreparedEnvironment:
        """Join the build of an equal spec, or start one."""
        together = (spec.key, spec.digest)
        build = self.builds.get(together)
        if build is None:
            build = self._new_build(spec, job)
            self.builds[together] = build
            build.join(job)
            build.task = asyncio.create_task(self._build(spec, host, build, job, given))
            build.task.add_done_callback(partial(self._forget, together, build))
        else:
            build.join(job)
        if not job.background:
            self._hurry(spec.key)
        assert build.task is not None
        try:
            # Shielded: this job may be cancelled while others wait on.
            env_id, calls = await asyncio.shield(build.task)
        except asyncio.CancelledError:
            build.jobs.remove(job)
            if not build.jobs and not build.task.done():
                self._forget(together, build)
                await cancel(build.task)
            raise
        if job.lease is None:
            await self._in_thread(job, partial(self._lease, job, env_id))
        if job.lease is None:
            raise NotFound(
                sentence(
                    "the environment of {key} was removed while it was launched", key=spec.key
                ),
                {"hint": sentence("launch again")},
            )
        return await asyncio.to_thread(self._prepared, job.lease, spec, uv_calls=calls)

    def _hurry(self, key: EnvKey) -> None:
        """Let what was brought ahead of need be in the background no more where it is needed now:
        a build of this key, and an equal one of another key, which it waits for.
        """
        builds = [*self.builds.values()]
        of_key = [each for each in builds if each.spec.key == key]
        env_ids = {each.env_id for each in of_key if each.env_id is not None}
        for each in builds:
            if each.priority.background and (each in of_key or each.env_id in env_ids):
                self.uv.door.hurry(str(each.spec.key), each.priority)

    def _forget(self, together: tuple[EnvKey, str], build: Build, _: object = None) -> None:
        """Let no job join a build any more; a newer one in its place stays."""
        if self.builds.get(together) is build:
            del self.builds[together]

    async def _build(
        self, spec: EnvSpec, host: HostFacts, build: Build, job: Job, given: EnvLock | None
    ) -> tuple[str, int]:
        """Make the environment, alone for its key; returns its id and the uv calls it took."""
        preparation = self.preparation(spec, host, build, job.request)
        try:
            return await self._build_alone(preparation, build, job, given)
        finally:
            # Others with the same key do not wait for it.
            await BUILDING.finish(self.store.delete_trashed, *preparation.trashed)

    async def _build_alone(
        self, preparation: Preparation, build: Build, job: Job, given: EnvLock | None
    ) -> tuple[str, int]:
        spec = preparation.spec
        async with build.log.kept():
            if given is None:
                # Before the key is held: who is asked may share the home, and need the key.
                given = await job.ask(lambda line: build.say(Phase.RESOLVING, line))
            holding = self.hold_key(
                spec.key,
                "launch",
                deadline=float(self.settings.build_timeout),
                on_wait=lambda line: build.say(Phase.QUEUED, line),
            )
            async with counted_waiting(self.measures, "key", holding):
                if given is None and not job.request.refresh:
                    # Another process, or a job before this one, may have made it meanwhile.
                    existing = await self._in_thread(job, partial(self._existing, job, preparation))
                    if existing is not None and existing.env_id is not None:
                        return existing.env_id, 0
                taking = asyncio.to_thread(check_free, self.store.layout, spec.key)
                await in_phase(Phase.QUEUED, taking)
                keeping = await preparation.run(given, refresh=job.request.refresh)
                try:
                    for each in list(build.jobs):
                        if each in build.jobs:
                            # It may have been cancelled while another one got its lease.
                            await self._in_thread(each, partial(self._lease, each, keeping.env_id))
                finally:
                    await finish_in_thread(
                        self.store.release_lease, keeping.env_id, keeping.lease_id
                    )
                self.on_built()
                return keeping.env_id, preparation.uv.calls

    def _lease(self, job: Job, env_id: str, take: _Take) -> Lease | None:
        """Take a lease for a job, held by this process until it is bound; not on a broken one."""
        try:
            lease = self.store.take_lease(
                env_id,
                model_name=job.request.model_name,
                model_uid=job.request.model_uid,
                process=this_process(),
            )
        except InvalidRecord:
            return None
        take(lease)
        return lease

    async def _in_thread(self, job: Job, work: Callable[[_Take], _T]) -> _T:
        """Do work in a thread that may take a lease for a job, also while that ends."""
        taken: list[Lease] = []

        def ended(_: object) -> None:
            self._carry_out(job, job.state.thread_ended(taken))

        job.state.thread_began()
        working = asyncio.ensure_future(asyncio.to_thread(work, taken.append))
        working.add_done_callback(ended)
        return await asyncio.shield(working)

    async def _give_up(self, job: Job) -> None:
        """Let a job have no result; returns when no lease is left of it, or after a moment."""
        self._carry_out(job, job.state.give_up())
        await self._cleared(job)

    async def _cleared(self, job: Job) -> None:
        """Wait, for a moment at most, until no lease is left of a job that was given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEAR_SECONDS):
                await job.cleared.wait()

    def _carry_out(self, job: Job, instructions: Iterable[GiveBack]) -> None:
        """Begin to do what is to be done with the lease of a job."""
        for each in instructions:
            returning = asyncio.create_task(self._give_back(job, each))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
        if job.state.is_clear:
            job.cleared.set()

    async def _give_back(self, job: Job, instruction: GiveBack) -> None:
        await asyncio.sleep(instruction.after)
        lease = instruction.lease
        try:
            await asyncio.to_thread(release_unbound, self.store, lease)
        except VirtualEnvError as error:
            _log.warning("a lease on %s will be released later: %s", job.job_id, error)
            self._carry_out(job, job.state.not_given_back(lease))
        else:
            job.state.given_back(lease)
            self._carry_out(job, ())

    def _prepared(self, lease: Lease, spec: EnvSpec, *, uv_calls: int) -> PreparedEnvironment:
        env_id = lease.env_id
        # Not whether it is whole: that was seen when it was leased.
        record = self.store.record_of(env_id)
        real_path = self.store.venv_of(env_id)
        return PreparedEnvironment(
            enabled=True,
            python=str(real_path / "bin" / LAUNCHER_NAME),
            env_id=env_id,
            path=str(self.store.layout.key_link(spec.key)),
            real_path=str(real_path),
            lease_id=lease.lease_id,
            lock_digest=record.lock_digest,
            uv_calls=uv_calls,
            warnings=record.warnings,
            worker_address=self.address,
        )

    def _host_itself(self, host: HostFacts) -> PreparedEnvironment:
        return PreparedEnvironment(
            enabled=False, python=host.interpreter.executable, worker_address=self.address
        )

    def _plan(
        self,
        request: LaunchRequest,
        host: HostFacts,
        interpreter: Interpreter,
        search_path: Sequence[str] | None = None,
    ) -> EnvSpec | None:
        """The spec of a request on this host; blocks on the disk.

        `search_path` is this host's own where the facts are of another one.
        """
        allowed = self.settings.find_links_allowed_roots
        find_links = check_launch_find_links(
            request.virtual_env_find_links, allowed, real_directory
        )
        if request.virtualenv is not None:
            # A block that comes with the request is as little trusted as the rest of it.
            local = filter(None, map(local_path, request.virtualenv.find_links))
            check_launch_find_links(list(local), allowed, real_directory)
        around = PlanningFacts(
            catalog=self._catalog(search_path or host.interpreter.search_path),
            host=host,
            interpreter=interpreter,
            pip=self.hosts.pip(),
            settings=self.settings,
        )
        spec = plan_spec(request, around, find_links=find_links)
        if spec is not None:
            self._allowed(request, around.pip).check(_places_named(request, spec))
        for place in () if spec is None else spec.sources.find_links:
            path = local_path(place)
            if path is not None and real_directory(path) is None:
                raise InvalidSource(
                    sentence(
                        "The find-links folder {path} does not exist on this host", path=repr(path)
                    ),
                    {
                        "hint": sentence(
                            "it comes from the model's block or from pip's configuration"
                        )
                    },
                )
        return spec

    def _allowed(self, request: LaunchRequest, pip: PipConfig | None) -> AllowedSources:
        """What a request may name on this host."""
        settings = self.settings
        return AllowedSources(
            roots=settings.find_links_allowed_roots,
            hosts=allowed_hosts(settings.allowed_hosts, pip, restricted=request.restricted),
            real_path=real_directory,
        )

    def preparation(
        self,
        spec: EnvSpec,
        host: HostFacts,
        build: Build | None,
        request: LaunchRequest | None = None,
    ) -> Preparation:
        """The preparation of a spec, with a count of its own of the uv processes it takes.

        With the request that it came from, another worker may resolve it.
        """

        def on_wait(resolving: bool, reason: str) -> None:
            if build is not None:
                build.say(Phase.RESOLVING if resolving else Phase.INSTALLING, reason)

        return Preparation(
            store=self.store,
            uv=self.uv.of_job(
                str(spec.key), on_wait, Priority() if build is None else build.priority
            ),
            spec=spec,
            host=host,
            deadline=float(self.settings.build_timeout),
            resolution_max_age=self.settings.resolution_max_age,
            build=build,
            measures=self.measures,
            fetcher=self.fetcher,
            files={} if build is None else build.files,
            planner=None if request is None else self.planner,
            request=request,
        )

    def _new_build(self, spec: EnvSpec, job: Job) -> Build:
        priority = Priority(background=job.background)

        def on_lock(_: EnvLock) -> None:
            if not priority.background:
                self._hurry(spec.key)

        return Build(
            spec=spec,
            request=job.request,
            log=BuildLog.of(self.store, spec.key, job.job_id, job.asked_by),
            priority=priority,
            files={} if job.bundle is None else job.bundle.paths,
            on_lock=on_lock,
        )


def _places_named(request: LaunchRequest, spec: EnvSpec) -> list[str]:
    """The URLs that a request names by itself, not by the model or engine of the catalogue."""
    origins = {Origin.LAUNCH}
    places = []
    if (block := request.virtualenv) is not None:
        origins.add(Origin.MODEL)
        named = (block.index_url, *block.extra_index_url, *block.find_links)
        places = [each for each in named if each and not each.startswith("/")]
    lines = (place_of(each) for each in spec.requirements if each.origin in origins)
    return [*places, *filter(None, lines)]
