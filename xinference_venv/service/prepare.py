"""The way of one environment, from spec to a key that means it: resolve, build, verify, publish.

Everything that acts is called from here; what is decided, the nouns decide. Whatever happens,
cancelling included, nothing half-made stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from packaging.utils import canonicalize_name

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.humanize import counted
from xinference_venv._util.records import digest_of
from xinference_venv._util.tasks import cancel, finish_in_thread
from xinference_venv.errors import (
    BuildFailed,
    InvalidInput,
    InvalidRecord,
    ResolutionFailed,
    StoreError,
    VerificationFailed,
)
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.lease import Lease
from xinference_venv.observability import metrics
from xinference_venv.observability.metrics import Source
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.observability.waiting import counted_waiting
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.import_proof import ProofFailure
from xinference_venv.planning.index_answers import LOGIN_HINT, places_of
from xinference_venv.planning.lock import EnvLock, locked_distributions
from xinference_venv.planning.overlay import host_part, still_sound
from xinference_venv.planning.package import PackageKey, Release, unfit_for
from xinference_venv.planning.pip_config import local_path
from xinference_venv.planning.provenance import explain_distributions
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.question import question_of
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.source_builds import with_built
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import joined, sentence
from xinference_venv.service.assemble import Assembly, Contents
from xinference_venv.service.index_probe import answers_of
from xinference_venv.service.jobs import Build
from xinference_venv.service.phases import in_phase
from xinference_venv.service.remote_planner import RemotePlanner
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.service.wheel_relay import ANY_PROJECT
from xinference_venv.store.envs.compose import Composed, Composition
from xinference_venv.store.envs.verify import lease_of_lock
from xinference_venv.store.host.changes import HostChanges
from xinference_venv.store.locks import hold_lock
from xinference_venv.store.paths import VENV_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.resolutions import state_of_folders
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.uv.messages import could_not_fetch, failed_builds, missing_in
from xinference_venv.uv.stub_wheels import write_stubs
from xinference_venv.uv.subprocess import Uv

_T = TypeVar("_T")

# Of so many names that no index seems to have, the pages are looked at.
_PROBED_NAMES = 3
_MOST_UNFIT = 10


@dataclass(kw_only=True)
class Preparation:
    """One spec on its way to an environment; `deadline` is in seconds for each uv process."""

    store: Store
    uv: Uv
    spec: EnvSpec
    host: HostFacts
    deadline: float
    resolution_max_age: float = 0.0
    """For how many seconds an equal question gets the answer of an earlier one."""
    build: Build | None = None
    measures: MetricRegistry = field(default_factory=MetricRegistry)
    fetcher: WheelFetcher | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """The paths of wheels that are here, by package: nothing of them is fetched."""
    planner: RemotePlanner | None = None
    """What lets another worker resolve where the indexes can't be reached."""
    request: LaunchRequest | None = None
    """What the spec came from, for such a worker."""
    trashed: list[Path] = field(default_factory=list)
    """What lies in the trash, for the caller to delete when it holds no lock any more."""
    _unfit: dict[Release, str] = field(default_factory=dict, init=False)
    """What does not allow this Python, with its ``Requires-Python``."""
    _resolutions: int = field(default=0, init=False)
    _recent: str | None = field(default=None, init=False)
    """The question whose earlier answer was taken."""

    def say(self, phase: Phase, message: str, **progress: int | None) -> None:
        """Report to the jobs of the build; a dry run has none."""
        if self.build is not None:
            self.build.say(phase, message, **progress)

    def note(self, line: str) -> None:
        """Write to the log of the build."""
        if self.build is not None:
            self.build.note(line)

    @property
    def assembly(self) -> Assembly:
        """What makes an environment of a lock."""
        return Assembly(
            store=self.store,
            uv=self.uv,
            spec=self.spec,
            host=self.host,
            deadline=self.deadline,
            say=self.say,
            note=self.note,
            fetcher=self.fetcher,
            files=self.files,
        )

    def known(self) -> KeyRecord | None:
        """What the key refers to, when it is right for this spec and host.

        No subprocess, no network: spec and host unchanged, or the host changed in nothing that
        the environment shows.
        """
        record = self.store.key_record(self.spec.key)
        if record is None or record.spec_digest != self.spec.digest:
            return None
        if self.spec.sees_host and record.host_fingerprint != self.host.fingerprint:
            then = self.store.saved_host(record.host_fingerprint)
            lock = self.store.lock_of(record.env_id)
            if then is None or lock is None or not still_sound(lock, then, self.host):
                return None
        return record

    async def run(self, given: EnvLock | None, *, refresh: bool) -> Lease:
        """Make the environment and point the key at it; `given` is a lock that is known already.

        With `refresh` and none given it is resolved again, whatever the key refers to.

        Returns a lease of this process, which keeps the environment until the callers have
        their own. Raises `InvalidInput` for a given lock of another platform or host.
        """
        if given is not None and not self._fits(given):
            raise InvalidInput(
                sentence(
                    "the lock given for {key} was made for another kind of host", key=self.spec.key
                ),
                {"hint": sentence("launch without it, so that this host resolves")},
            )
        interpreter = self.spec.interpreter
        unusable: dict[str, str] = {}
        failed: set[str] = set()
        while True:
            try:
                # Of its own: links into the store hold where an environment lies as deep as it
                # will lie.
                async with (
                    staging_folder(self.store, interpreter, self.trashed) as folder,
                    staging_folder(self.store, interpreter, self.trashed) as env,
                ):
                    return await self._make(
                        folder, env, given, refresh=refresh, unusable=unusable, failed=failed
                    )
            except _UnprovedError as error:
                again = _released(error.failures)
                if again.keys() <= unusable.keys():
                    raise _unproved(error.failures) from None
                names, why = ", ".join(again), error.failures[0]
                failed |= {failure.package.name for failure in error.failures}
            self.say(
                Phase.RESOLVING,
                sentence("resolving again without the host's {names}: {why}", names=names, why=why),
            )
            unusable |= again
            given, refresh = None, True

    async def _make(
        self,
        folder: Path,
        env: Path,
        given: EnvLock | None,
        *,
        refresh: bool,
        unusable: Mapping[str, str],
        failed: Collection[str],
    ) -> Lease:
        """The same in two private folders, of which `env` becomes the environment.

        Of the host what is `unusable` does not serve, each with the reason; packages that
        `failed` must be importable.
        """
        if changed := await asyncio.to_thread(self._changed_on_host):
            self.note(
                f"the host changed since the environment of {self.spec.key} was made"
                f" ({', '.join(changed)}): another one is composed; processes of the old one see"
                " what the host has now"
            )
        lock = given or (None if refresh else self._kept_lock())
        while True:
            if lock is None:
                self.say(
                    Phase.RESOLVING,
                    sentence(
                        "resolving {requirements}",
                        requirements=counted(len(self.spec.requirements), "requirement"),
                    ),
                )
                resolving = self.resolve(folder, unusable, refresh=refresh and not unusable)
                lock = await in_phase(Phase.RESOLVING, resolving)
            wheels = await in_phase(Phase.RESOLVING, self.assembly.wheels_for(lock, folder))
            lock = with_built(lock, wheels)
            if self.build is not None:
                self.build.know(lock)
            async with self._building(lock):
                try:
                    contents = await self.assembly.gather(lock, folder)
                except BuildFailed as error:
                    if self._recent is None:
                        raise
                    # What was found a few minutes ago may be gone from its index.
                    self.note(f"{error.message}: resolving again")
                    await finish_in_thread(self.store.resolutions.forget, self._recent)
                    lock, self._recent = None, None
                    continue
                # uv ignores upper bounds: https://github.com/astral-sh/uv/issues/4022
                unfit = unfit_for(self.spec.interpreter.version, contents.packages)
                if not unfit:
                    return await self._finish(lock, contents, env, failed)
            self._unfit |= unfit
            if len(self._unfit) > _MOST_UNFIT:
                raise self._too_many_unfit()
            lock = None

    async def _finish(
        self, lock: EnvLock, contents: Contents, env: Path, failed: Collection[str]
    ) -> Lease:
        """Compose what was gathered, verify and publish it, unless there is one like it."""
        if (lease := await self._share(lock, contents, failed)) is not None:
            return lease
        composition = await self.assembly.begin(contents, env)
        # What is durable takes long on many disks: it is written while the interpreter looks.
        completing = asyncio.create_task(self._complete(composition, lock, contents, env))
        try:
            self.say(Phase.VERIFYING, sentence("verifying what was composed"))
            await in_phase(Phase.VERIFYING, self.assembly.verify(lock, contents, env, completing))
            record = await completing
            await self._prove_imports(lock, contents, failed, env / VENV_NAME)
            self.say(Phase.PUBLISHING, sentence("publishing"))
        finally:
            await cancel(completing)
        publish = partial(
            self.store.publish,
            env,
            record,
            model_name=self.spec.key.model_name,
            process=this_process(),
        )
        lease = await self._attached(publish)
        self._count(contents)
        return lease

    async def _complete(
        self, composition: Composition, lock: EnvLock, contents: Contents, env: Path
    ) -> EnvRecord:
        """Make the rest of an environment, and describe it; its record."""
        composed = await in_phase(Phase.COMPOSING, BUILDING.finish(composition.complete))
        record = self._record(lock, contents, composed)
        await BUILDING.finish(self.store.describe, env, record, lock)
        return record

    def _too_many_unfit(self) -> ResolutionFailed:
        """Each is known only once it is downloaded, so not all that there are are tried."""
        listed = ", ".join(f"{name} {version}" for name, version in sorted(self._unfit))
        python = self.spec.interpreter.version
        return ResolutionFailed(
            sentence(
                "all of these are for another Python than {python}: {listed}",
                python=python,
                listed=listed,
            ),
            {
                "hint": sentence(
                    "ask for releases that are for this Python, or launch for another one"
                )
            },
        )

    def _changed_on_host(self) -> tuple[str, ...]:
        """What the key's environment inherits and the host has otherwise since that was made."""
        record = self.store.key_record(self.spec.key)
        if record is None or not self.spec.sees_host:
            return ()
        changes = HostChanges(store=self.store)
        return changes.shown_in(record.env_id, record.host_fingerprint)

    async def _prove_imports(
        self, lock: EnvLock, contents: Contents, failed: Collection[str], venv: Path
    ) -> None:
        """Raise `_UnprovedError` for what does not work next to the host's packages."""
        failures = await self.assembly.find_import_failures(lock, contents, venv, failed)
        if failures:
            for failure in failures:
                self.note(failure.output)
            raise _UnprovedError(failures)

    def _kept_lock(self) -> EnvLock | None:
        """The lock of an environment that is broken now: it is healed to what it was."""
        record = self.store.key_record(self.spec.key)
        if record is None or record.spec_digest != self.spec.digest:
            return None
        lock = self.store.lock_of(record.env_id)
        # A lock that was changed in place is of another environment.
        own = self.store.layout.own_id(record.env_id)
        if lock is None or lock.env_id != own or not self._fits(lock):
            return None
        self.note(f"healing {self.store.layout.env(record.env_id)}")
        return lock

    def _fits(self, lock: EnvLock) -> bool:
        """Whether a lock is of this platform, and over a host in the state of this one."""
        host = self.host.digest if self.spec.sees_host else None
        platform = self.spec.interpreter.platform_digest
        made_for = (lock.platform_digest, lock.inherit, lock.host_digest)
        return made_for == (platform, self.spec.inherit, host)

    async def resolve(
        self,
        folder: Path,
        unusable: Mapping[str, str] = MappingProxyType({}),
        *,
        refresh: bool = False,
    ) -> EnvLock:
        """The lock of the spec on this host, with its reasons; raises `ResolutionFailed`.

        Of the host what is `unusable` does not serve, each with the reason. Without `refresh` it
        may be the lock of an equal question that was asked not long ago.
        """
        question = await question_to_uv(self.spec, self.host, self.uv)
        if question is not None and not (refresh or unusable or self._unfit):
            find = partial(
                self.store.resolutions.find,
                question,
                now=time.time(),
                max_age=self.resolution_max_age,
            )
            lock = await finish_in_thread(find)
            if lock is not None and lock.spec_digest == self.spec.digest and self._fits(lock):
                self.note("an equal request was resolved not long ago")
                self._recent = question
                return lock
        asked = time.time()
        lock = await self._resolve_anywhere(folder, unusable, refresh=refresh)
        if question is not None and self.resolution_max_age > 0:
            keep = partial(self.store.resolutions.keep, question, lock, now=asked)
            await finish_in_thread(keep)
        return lock

    async def resolve_for(self, question: HostQuestion, folder: Path) -> EnvLock:
        """The lock that another host asks for."""
        self._unfit |= {
            (name, version): allowed
            for name, versions in question.unfit.items()
            for version, allowed in versions.items()
        }
        return await self.resolve(folder, question.unusable, refresh=question.request.refresh)

    async def _resolve_anywhere(
        self, folder: Path, unusable: Mapping[str, str], *, refresh: bool
    ) -> EnvLock:
        """Resolve here, or at a worker that can reach its indexes where this one can't."""
        asked = False
        named = next((line.name for line in self.spec.requirements if line.name), ANY_PROJECT)
        if self.planner is not None and not await self.planner.reaches(self.spec.sources, named):
            lock, asked = await self._resolve_elsewhere(unusable), True
            if lock is not None:
                return lock
        try:
            return await self._resolve_afresh(folder, unusable, refresh=refresh)
        except ResolutionFailed as error:
            if asked or not could_not_fetch(error):
                raise
            lock = await self._resolve_elsewhere(unusable)
            if lock is None:
                raise
            return lock

    async def _resolve_elsewhere(self, unusable: Mapping[str, str]) -> EnvLock | None:
        """The lock that another worker finds over the facts of this host, None without one."""
        # What is built without isolation needs the packages of this host.
        if self.planner is None or self.request is None or self.spec.sources.no_build_isolation:
            return None
        unfit: dict[str, dict[str, str]] = {}
        for (name, version), allowed in self._unfit.items():
            unfit.setdefault(name, {})[version] = allowed
        question = HostQuestion(
            request=self.request,
            host=self.host,
            interpreter=self.spec.interpreter,
            demand=self.spec.demand,
            unusable=unusable,
            unfit=unfit,
        )
        say = partial(self.say, Phase.RESOLVING)
        lock = await self.planner.plan(question, say=say, note=self.note)
        if lock is not None and not self._fits(lock):
            self.note("the lock that came is of another kind of host")
            return None
        return lock

    async def _resolve_afresh(
        self, folder: Path, unusable: Mapping[str, str], *, refresh: bool
    ) -> EnvLock:
        """The same, asked of uv. What was unpacked here before and is known not to allow this
        Python is not in it.
        """
        stubs = (
            await finish_in_thread(stubs_of, self.store, self.host, folder)
            if self.spec.skip_installed
            else None
        )
        afresh = dict.fromkeys(self.spec.afresh, sentence("it may be a build for processors alone"))
        unusable = {**afresh, **unusable}
        while True:
            resolution, hidden = await self._resolve(folder, stubs, unusable, refresh=refresh)
            unfit = await finish_in_thread(self._known_unfit, resolution)
            if unfit.keys() <= self._unfit.keys():
                break
            self._unfit |= unfit
        warnings = [
            sentence(
                "the host's {name} {version} is not used: {why}",
                name=name,
                version=self.host.versions[name],
                why=why,
            )
            for name, why in unusable.items()
        ]
        resolution = replace(resolution, warnings=(*resolution.warnings, *warnings))
        reasons = self.spec.reasons()
        not_shown = host_part(hidden, resolution.installed, self.host)
        distributions = explain_distributions(
            (*locked_distributions(resolution, reasons), *not_shown),
            resolution.requirers,
            reasons=reasons,
            host=self.host,
        )
        return await self.assembly.lock(resolution, distributions)

    async def _explained(self, error: ResolutionFailed) -> ResolutionFailed:
        """The same error; where an index answers with a page that asks for a login, it says so.

        To uv such a page is one of an index that has no version of anything.
        """
        names = sorted(missing_in(str(error)))[:_PROBED_NAMES]
        indexes = [each for each in places_of(self.spec.sources) if each.what == "index"]
        pages = [each.of_project(canonicalize_name(name)) for each in indexes for name in names]
        answers = await answers_of(pages, self.uv.door.environment)
        for page, answer in zip(pages, answers, strict=True):
            if answer.login:
                return ResolutionFailed(
                    sentence(
                        "{shown} is not a page of an index, but asks for a login:\n{error}",
                        shown=page.shown,
                        error=error,
                    ),
                    {**error.details, "hint": LOGIN_HINT},
                )
        return error

    async def _resolve(
        self,
        folder: Path,
        stubs: Path | None,
        unusable: Mapping[str, str],
        *,
        refresh: bool,
    ) -> tuple[Resolution, Mapping[str, str]]:
        self._resolutions += 1
        scratch = await self._subfolder(folder, f"resolution-{self._resolutions}")
        resolver_in = partial(
            self.assembly.resolver,
            self.host,
            stubs,
            unfit=dict(self._unfit),
            unusable=unusable,
            refresh=refresh,
        )
        try:
            return await resolver_in(scratch).resolve()
        except ResolutionFailed as error:
            others = self._without(failed_builds(str(error)))
            if others is None:
                raise await self._explained(error) from error
            # What a build without isolation imports may be among the request's other packages.
            scratch = await self._subfolder(scratch, "with-others")
            python = await self._install_others(others, folder)
            return await resolver_in(scratch, build_python=python).resolve()

    def _known_unfit(self, resolution: Resolution) -> dict[Release, str]:
        """What of a resolution was unpacked here before and does not allow this Python."""
        version = self.spec.interpreter.version
        keys = filter(None, map(PackageKey.of, resolution.packages))
        records = filter(None, map(self.store.packages.get, keys))
        return unfit_for(version, records)

    def _without(self, names: Collection[str]) -> EnvSpec | None:
        """The spec of the request's other packages, where builds see them and there are any."""
        if not names or not self.spec.sources.no_build_isolation:
            return None
        others = tuple(line for line in self.spec.requirements if line.name not in names)
        if not others or len(others) == len(self.spec.requirements):
            return None
        return replace(self.spec, requirements=others)

    async def _install_others(self, others: EnvSpec, folder: Path) -> str:
        """An environment with the request's other packages and the host; its interpreter."""
        self.say(
            Phase.RESOLVING, sentence("installing the other packages for a build without isolation")
        )
        place = await self._subfolder(folder, "others")
        preparation = replace(self, spec=others, build=None)
        lock = await preparation.resolve(place)
        lock = with_built(lock, await preparation.assembly.wheels_for(lock, place))
        contents = await preparation.assembly.gather(lock, folder)
        composed = await preparation.assembly.compose(contents, place / "env")
        return str(composed.venv / "bin" / "python")

    async def _subfolder(self, folder: Path, name: str) -> Path:
        made = folder / name
        await finish_in_thread(self.store.disk.make_directory, made)
        return made

    def _count(self, contents: Contents) -> None:
        """Measure a build that is done."""
        self._came_from(Source.WARM if contents.was_cached else Source.COLD)
        self.measures.add(metrics.DOWNLOADED, by=contents.fetched_bytes)
        self.measures.add(metrics.INSTALLED, "linked", by=contents.linked_bytes)
        self.measures.add(metrics.INSTALLED, "copied", by=contents.copied_bytes)

    def _came_from(self, source: Source) -> None:
        if self.build is not None:
            self.build.came_from(source)

    def _building(self, lock: EnvLock) -> AbstractAsyncContextManager[None]:
        """Be the only one of those that share the home who builds this lock.

        Who waits here holds its key's lock, and who holds the lock of a build waits for no key,
        so no two wait for each other.
        """
        lock_of_build = hold_lock(
            self.store.build_lock(lock.env_id),
            purpose=sentence("the build of the same packages for {key}", key=self.spec.key),
            deadline=self.deadline,
            on_wait=lambda line: self.say(Phase.INSTALLING, line),
        )
        return counted_waiting(self.measures, "packages", lock_of_build)

    async def _share(
        self, lock: EnvLock, contents: Contents, failed: Collection[str]
    ) -> Lease | None:
        """Point the key at an environment that is there already; None when there is none."""
        take = partial(
            lease_of_lock,
            self.store,
            lock.env_id,
            contents=contents.digest,
            model_name=self.spec.key.model_name,
            process=this_process(),
        )
        try:
            lease = await self._attached(take, partial(self._prove_imports, lock, contents, failed))
        except (InvalidRecord, StoreError):
            return None
        self.say(Phase.PUBLISHING, sentence("an environment with this lock is there already"))
        self._came_from(Source.SHARED)
        return lease

    async def _attached(
        self,
        take: Callable[[], Lease],
        prove: Callable[[Path], Awaitable[None]] | None = None,
    ) -> Lease:
        """Point the key at the environment that `take` takes a lease on.

        With `prove`, which raises when it does not work, its imports are checked first.

        When that fails or is cancelled, the lease is given back, and with it the environment if
        nothing else needs it.
        """
        taken: list[Lease] = []
        linked = False
        try:
            await finish_in_thread(lambda: taken.append(take()))
            [lease] = taken
            if prove is not None:
                venv = self.store.venv_of(lease.env_id)
                await self.assembly.check_imports(venv)
                await prove(venv)
            await finish_in_thread(self._attach, lease.env_id)
            linked = True
            return lease
        finally:
            if taken and not linked:
                env_id, lease_id = taken[0].env_id, taken[0].lease_id
                await finish_in_thread(self.store.release_lease, env_id, lease_id)

    def _record(self, lock: EnvLock, contents: Contents, composed: Composed) -> EnvRecord:
        return EnvRecord.of(
            lock,
            warnings=contents.plan.warnings,
            size_bytes=composed.size_bytes,
            files=composed.files,
            created=time.time(),
            interpreter=interpreter_facts(self.spec.interpreter.base_executable),
            contents=contents.digest,
            trees=contents.plan.trees,
            joined=contents.plan.joined,
        )

    def _attach(self, env_id: str) -> None:
        """Point the key at an environment, on which this process has a lease."""
        now = time.time()
        request = None if self.build is None else self.build.request
        previous = self.store.env_of(self.spec.key)
        self.store.point_key(
            KeyRecord(
                key=self.spec.key,
                env_id=env_id,
                spec_digest=self.spec.digest,
                host_fingerprint=self.host.fingerprint if self.spec.sees_host else "",
                created=now,
                last_used=now,
                request=None if request is None else request.to_keep(),
            )
        )
        if previous is not None and previous != env_id:
            # Whoever runs in it holds a lease; without one it is not needed any more. The key has
            # its environment already: that the old one stays is no reason to fail a launch.
            with self.store.skipped.visiting(self.store.layout.env(previous)):
                _, trashed = self.store.trash_if_unused(previous)
                self.trashed += [] if trashed is None else [trashed]


class _UnprovedError(Exception):
    """Something of an environment does not work next to the host's packages."""

    def __init__(self, failures: Sequence[ProofFailure]) -> None:
        super().__init__(failures)
        self.failures = failures


def _released(failures: Iterable[ProofFailure]) -> dict[str, str]:
    """The host distributions that may be why, each with the reason."""
    return {name: str(failure) for failure in failures for name in failure.release}


def _unproved(failures: Sequence[ProofFailure]) -> VerificationFailed:
    return VerificationFailed(
        joined(map(str, failures[:5])),
        {
            "output": "\n".join(failure.output for failure in failures),
            "phase": Phase.VERIFYING.value,
            "hint": sentence(
                "what the packages declare fits together, what they do does not: ask for"
                " other versions, or for what is missing; --no-proof (no_proof in a"
                " request, or XINFERENCE_VIRTUAL_ENV_PROOF=0) publishes it all the same"
            ),
        },
    )


async def question_to_uv(spec: EnvSpec, host: HostFacts, uv: Uv) -> str | None:
    """What is asked of the indexes, if an answer of some minutes ago may be taken."""
    folders = filter(None, map(local_path, spec.sources.find_links))
    state = await finish_in_thread(state_of_folders, folders)
    return question_of(
        spec,
        host,
        uv_version=await uv.version(),
        folders=state,
        index_settings=uv.index_settings,
    )


def stubs_of(store: Store, host: HostFacts, folder: Path) -> Path:
    """The stubs of a host; made once for all builds in a private `folder`, and renamed to their
    place. Blocks.
    """
    place = store.layout.stubs / host.digest
    if not place.is_dir():
        made = folder / "stubs"
        store.disk.make_directory(made)
        write_stubs(host, made)
        try:
            store.disk.rename(made, place)
        except StoreError:
            # Another build made the same at the same time.
            if not place.is_dir():
                raise
    # In use: what was not for a day may be cleared away.
    store.disk.touch(place)
    return place


@asynccontextmanager
async def staging_folder(
    store: Store, interpreter: Interpreter, trashed: list[Path]
) -> AsyncIterator[Path]:
    """A private folder to build in for an interpreter; at the end it is moved to the trash.

    Where it lies is added to `trashed`, to be deleted when no lock is held any more.

    Builds for one interpreter take turns at the same paths: uv starts every interpreter that it
    meets at a new path, which takes as long as linking thousands of files, and remembers what it
    learns by the path.
    """
    place = digest_of(interpreter_facts(interpreter.base_executable))[:16]
    taken: list[Path] = []
    try:
        await finish_in_thread(lambda: taken.append(store.make_staging_folder(place)))
        await asyncio.to_thread(store.file_system)
        yield taken[0]
    finally:
        for folder in taken:
            left = await finish_in_thread(store.trash_staging_folder, folder.name)
            trashed += [] if left is None else [left]
