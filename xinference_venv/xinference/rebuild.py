"""One change of an environment in its place: resolve, build the whole new one, exchange.

Comes in: what an environment is now, and what is asked of it. The new environment is built in
the store's staging, verified, given what its users put into the old one, and then takes the
place of that in one step. Until then the old one is what it was, whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv._util.records import digest_of, to_plain
from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import InstallFailed, ResolutionFailed
from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.inventory.inventory import users_error
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role, locked_distributions
from xinference_venv.planning.overlay import differing_names, hidden_by, host_part, shown_names
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.requirements import Origin, RequirementLine
from xinference_venv.planning.source_builds import with_built
from xinference_venv.planning.spec import PROCESS_DISTRIBUTION, EnvSpec
from xinference_venv.service.assemble import Assembly, raise_faults
from xinference_venv.service.phases import in_phase
from xinference_venv.service.prepare import question_to_uv, staging_folder, stubs_of
from xinference_venv.settings import InheritMode
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.envs.proofs import is_proved, keep_proof
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME
from xinference_venv.store.process_scan import users_of
from xinference_venv.store.store import interpreter_facts
from xinference_venv.store.sweep import sweep
from xinference_venv.store.use_lock import (
    USE_NAME,
    hold_unused,
    share_use_lock,
    write_use_hook,
)
from xinference_venv.uv.stub_wheels import write_stubs
from xinference_venv.xinference.application import (
    Contradiction,
    application_needs,
    bounds_in_the_way,
    find_contradictions,
    possible_bounds,
    prove_application,
)
from xinference_venv.xinference.builtin_errors import without_ours
from xinference_venv.xinference.carry_over import carry_over, contents_of, own_names
from xinference_venv.xinference.engine import Engine
from xinference_venv.xinference.installation import Installation, UnusableError
from xinference_venv.xinference.path_guard import link_replaced, write_guard
from xinference_venv.xinference.record import Call, with_call, without_missing
from xinference_venv.xinference.source_folders import with_folders_built
from xinference_venv.xinference.swap import put_in_place

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CurrentEnvironment:
    """What an environment is: its record, if the drop-in made it, and what it has of its own."""

    path: Path
    record: InPlaceRecord | None
    own: tuple[HostDistribution, ...]

    def seen(self, spec: EnvSpec, host: HostFacts) -> HostFacts:
        """What an installer sees from inside: its own, and of the host what is shown.

        Of the host nothing unless the spec skips what is installed there.
        """
        shows_host = spec.sees_host and spec.skip_installed
        if shows_host and not self.own and spec.interpreter == host.interpreter:
            # What was worked out of the host's facts serves.
            return host
        versions = {each.name: each.version for each in self.own}
        hidden = hidden_by(versions, host, exempt=spec.alone)
        shown = host.distributions if shows_host else ()
        inherited = (each for each in shown if each.name not in hidden)
        return replace(
            host, interpreter=spec.interpreter, distributions=(*self.own, *inherited), skipped=()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the environment is to be; `kept` and `gone` are distributions that it has now.

    `contradictions` are what of it the application does not allow.
    """

    lock: EnvLock
    kept: tuple[HostDistribution, ...]
    gone: tuple[HostDistribution, ...]
    contradictions: tuple[Contradiction, ...]


@dataclass(kw_only=True)
class Change:
    """One change of the environment `current`, to what `spec` says over this host.

    With `keeps_setup` it asks nothing more of Xinference: what that has set up stays set up. An
    environment that is `just_made`, by the launch that goes on, has no other users than those that
    hold its lock, and the store was swept when it was made. What of the host is `not_offered` is
    installed where it is needed; what is `tolerated` is shown although it does not work.
    """

    engine: Engine
    spec: EnvSpec
    host: HostFacts
    current: CurrentEnvironment
    keeps_setup: bool = False
    just_made: bool = False
    not_offered: frozenset[str] = frozenset()
    tolerated: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        """The place of the environment."""
        return self.current.path

    @property
    def assembly(self) -> Assembly:
        """What makes an environment of a lock."""
        return Assembly(
            store=self.engine.store,
            uv=self.engine.uv,
            spec=self.spec,
            host=self.host,
            deadline=float(self.engine.settings.build_timeout),
            say=_say,
            note=_log.debug,
        )

    async def run(self, call: Call | None) -> None:
        """Make it, and note the call it is for, if any.

        Raises the errors of `BuildFailed`, and `InUse` when something would be replaced under a
        process that runs in the environment.
        """
        store = self.engine.store
        trashed: list[Path] = []
        try:
            async with staging_folder(store, self.spec.interpreter, trashed) as folder:
                if not self.just_made:
                    # What crashes left: perhaps no worker ever opens this store. Only now, that
                    # what was built to plan this change stays.
                    await finish_in_thread(sweep, store)
                change = await self._with_folders_built(folder)
                while True:
                    try:
                        await change._make(folder, call)
                        break
                    except UnusableError as error:
                        change = change._without(error.reasons)
                    except ResolutionFailed:
                        if not change.not_offered:
                            raise
                        # Perhaps nothing uses what does not work of it.
                        _log.warning("it is used all the same: nothing else has a solution")
                        tolerated = change.tolerated | change.not_offered
                        change = replace(change, not_offered=frozenset(), tolerated=tolerated)
        finally:
            # A launch does not wait until what it has replaced is deleted.
            UPKEEP.leave(store.delete_trashed, *trashed)
            if any(line.folder is not None for line in self.spec.requirements):
                UPKEEP.leave(store.sweep_wheels)

    async def _with_folders_built(self, folder: Path) -> Change:
        """The same change, with wheels for the folders of sources that it asks for."""
        builder = self.assembly.builder(folder, self.path)
        wheels = self.engine.store.wheels
        return replace(self, spec=await with_folders_built(builder, wheels))

    def _without(self, reasons: Mapping[str, str]) -> Change:
        """The same without distributions of the host that do not work, each with the reason."""
        for name, why in reasons.items():
            _log.warning("the host's %s is not used: %s", name, why)
        return replace(self, not_offered=self.not_offered | reasons.keys())

    async def _make(self, folder: Path, call: Call | None) -> None:
        """The same in a private folder."""
        question = await self._question(call)
        recent = None if question is None else await finish_in_thread(self._recent, question)
        if recent is not None:
            assert question is not None
            _log.info("an equal request was resolved not long ago")
            try:
                await self._apply(recent, folder, call)
            except InstallFailed as error:
                # What was found a few minutes ago may be gone from its index.
                _log.info("%s: resolving again", error.message)
                await finish_in_thread(self.engine.store.resolutions.forget, question)
            else:
                return
        await self._apply(await self._resolve(folder, call, question), folder, call)

    async def look(self, call: Call) -> EnvLock:
        """What the environment would be made; nothing of it is changed."""
        trashed: list[Path] = []
        try:
            async with staging_folder(self.engine.store, self.spec.interpreter, trashed) as folder:
                change = await self._with_folders_built(folder)
                question = await change._question(call)
                recent = None
                if question is not None:
                    recent = await finish_in_thread(change._recent, question)
                plan = recent or await change._resolve(folder, call, question)
                return plan.lock
        finally:
            UPKEEP.leave(self.engine.store.delete_trashed, *trashed)

    async def _resolve(self, folder: Path, call: Call | None, question: str | None) -> Plan:
        """What the environment is to be; kept as the answer to a question if there is one."""
        asked = time.time()
        plan = await in_phase(Phase.RESOLVING, self.plan(folder, call))
        if question is not None and not plan.contradictions:
            resolutions = self.engine.store.resolutions
            await finish_in_thread(partial(resolutions.keep, question, plan.lock, now=asked))
        return plan

    async def _question(self, call: Call | None) -> str | None:
        """What is asked of the indexes, where an answer may serve whoever asks the same."""
        if not self.spec.requirements or self.engine.settings.resolution_max_age <= 0:
            return None
        question = await question_to_uv(self.spec, self.host, self.engine.uv)
        if question is None:
            return None
        # What the environment has itself takes part in the answer, unless the call asks for other.
        own = [each.to_dict() for each in self.current.own]
        asked = () if call is None else ([line.text for line in call.lines], list(call.held))
        return digest_of(["in place", question, own, list(asked), *sorted(self.not_offered)])

    def _recent(self, question: str) -> Plan | None:
        """The plan that answered a question a few minutes ago, None without one."""
        max_age = self.engine.settings.resolution_max_age
        lock = self.engine.store.resolutions.find(question, now=time.time(), max_age=max_age)
        if lock is None or lock.spec_digest != self.spec.digest:
            return None
        left = lock.installed.keys() - {package["name"] for package in lock.packages}
        kept = tuple(each for each in self.current.own if each.name in left)
        gone = tuple(each for each in self.current.own if each not in kept)
        return Plan(lock=lock, kept=kept, gone=gone, contradictions=())

    async def _apply(self, plan: Plan, folder: Path, call: Call | None) -> None:
        """Make the environment what a plan says it is to be."""
        for warning in plan.lock.warnings:
            _log.warning("%s", without_ours(warning))
        if call is not None and self._is_as_planned(plan):
            _log.info("%s has all of it already", self.path)
            if self.current.record is not None:
                await finish_in_thread(self._note, plan, call, self.path)
            return
        await asyncio.to_thread(self._check_users_early, plan)
        env = folder / "env"
        plan = replace(plan, lock=await self._build(plan, folder, env))
        await finish_in_thread(self._note, plan, call, env)
        await finish_in_thread(self._exchange, plan, env)

    def _is_as_planned(self, plan: Plan) -> bool:
        """Whether the environment is what it is to be, so that nothing needs to be built."""
        if plan.lock.packages or plan.gone:
            return False
        record = self.current.record
        # Of one that others made the host is shown as they did, as long as nothing is installed.
        return record is None or (
            record.host_fingerprint == self.host.fingerprint and not self._shown_differently(plan)
        )

    def _shown_differently(self, plan: Plan) -> bool:
        record = self.current.record
        assert record is not None
        shown, will_be = (
            shown_names(lock, self.host, self.spec.alone) for lock in (record.lock, plan.lock)
        )
        return self.spec.sees_host and shown != will_be

    def _note(self, plan: Plan, call: Call | None, env: Path) -> None:
        """Write the record of an environment at `env`."""
        before = self.current.record
        asked, calls = (before.asked, before.calls) if before is not None else ((), ())
        if call is not None:
            asked, calls = with_call(before, call, plan.lock.installed)
        record = InPlaceRecord(
            asked=asked,
            calls=calls,
            contents=contents_of(env),
            host_fingerprint=self.host.fingerprint,
            interpreter=self.spec.interpreter,
            lock=plan.lock,
        )
        path = env / IN_PLACE_RECORD_NAME
        self.engine.store.disk.write_json(path, record.to_dict(), durable=True)

    # What it is to be

    async def plan(self, folder: Path, call: Call | None) -> Plan:
        """Resolve until all that is needed of the host can be shown with what is installed.

        What the application requires bounds it, as long as there is a solution.
        """
        seen = without_missing(
            self.current.seen(self.spec, self.host),
            [each.name for each in self.current.own],
            () if call is None else call.lines,
        )
        if self.not_offered:
            offered = (each for each in seen.distributions if each.name not in self.not_offered)
            seen = replace(seen, distributions=tuple(offered))
        roots = self.spec.roots if self.spec.skip_installed else ()
        # What may serve is decided by what is seen.
        spec = replace(self.spec, inherit=InheritMode.HOST, skip_installed=True)
        needs = application_needs(self.host) if self.spec.sees_host else {}
        bounds = possible_bounds(needs, spec.requirements)
        fresh = {name for name in roots if name not in seen.by_name}
        while True:
            asked = {line.name for line in spec.requirements}
            bounded = replace(
                spec,
                requirements=(*spec.requirements, *map(self._line, sorted(fresh - asked))),
                roots=tuple(name for name in roots if name not in fresh),
                constraints=(*spec.constraints, *bounds.values()),
            )
            try:
                resolution, lost = await self._resolved(bounded, seen, folder, bounds)
            except ResolutionFailed as error:
                if "missing_builds" in error.details:
                    raise  # Of these an index has none, whatever is bounded.
                in_the_way = bounds_in_the_way(bounds, error)
                if not in_the_way:
                    raise
                _log.info(
                    "resolving without what Xinference requires of %s",
                    ", ".join(sorted(in_the_way)),
                )
                bounds = {name: text for name, text in bounds.items() if name not in in_the_way}
                continue
            kept = tuple(
                each
                for each in self.current.own
                if each.name not in resolution.installed and each.name not in lost
            )
            versions = {each.name: each.version for each in kept} | resolution.installed
            hidden = (
                hidden_by(versions, self.host, exempt=spec.alone) if self.spec.sees_host else {}
            )
            needed = {*resolution.inherited, *self.spec.roots} - versions.keys()
            again = needed & hidden.keys()
            if not again:
                contradictions = find_contradictions(
                    needs, versions, resolution.requires, self.host
                )
                lock = await self._lock(resolution, kept, hidden)
                lock = replace(lock, warnings=(*lock.warnings, *map(str, contradictions)))
                gone = tuple(each for each in self.current.own if each not in kept)
                return Plan(lock=lock, kept=kept, gone=gone, contradictions=contradictions)
            names = ", ".join(sorted(again))
            _log.info("resolving again, since these of the host don't fit: %s", names)
            fresh |= again & {*self.spec.roots}
            offered = (each for each in seen.distributions if each.name not in again)
            seen = replace(seen, distributions=tuple(offered))

    async def _resolved(
        self, spec: EnvSpec, seen: HostFacts, folder: Path, bounds: Mapping[str, str]
    ) -> tuple[Resolution, Iterable[str]]:
        """The resolution of a spec, and the names of what is lost by it of what is seen.

        The `bounds` of the spec are those that give way where there is no solution.
        """
        if not spec.requirements:
            return Resolution(packages=(), inherited={}), ()
        scratch = folder / uuid.uuid4().hex
        await finish_in_thread(self.engine.store.disk.make_directory, scratch)
        stubs = await finish_in_thread(self._stubs, seen, scratch)
        resolver = replace(self.assembly, spec=spec).resolver(seen, stubs, scratch, yielding=bounds)
        resolution, hidden = await resolver.resolve()
        return resolution, hidden.keys() - resolution.installed.keys()

    def _stubs(self, seen: HostFacts, scratch: Path) -> Path:
        """The stubs of what is seen; those of the host itself are made once for all."""
        if seen.digest == self.host.digest:
            return stubs_of(self.engine.store, self.host, scratch)
        stubs = scratch / "stubs"
        self.engine.store.disk.make_directory(stubs)
        write_stubs(seen, stubs)
        return stubs

    def _line(self, root: str) -> RequirementLine:
        """What asks for a root afresh: actors speak one version of xoscar."""
        text = f"{root}=={self.host.versions[root]}" if root == PROCESS_DISTRIBUTION else root
        return RequirementLine(text=text, name=root, origin=Origin.PROCESS, written=text)

    async def _lock(
        self,
        resolution: Resolution,
        kept: Iterable[HostDistribution],
        hidden: dict[str, str],
    ) -> EnvLock:
        before = self.current.record
        locked = () if before is None else before.lock.distributions
        # A copy of the host that it does not show has a reason that is not one for its own.
        known = {
            each.name: each for each in locked if each.role in (Role.INSTALLED, Role.INHERITED)
        }
        there = []
        for each in kept:
            was = known.get(each.name)
            if was is None or (was.role, was.version) != (Role.INSTALLED, each.version):
                why = "it was there" if was is None else was.why
                was = LockedDistribution(
                    name=each.name, role=Role.INSTALLED, version=each.version, why=why
                )
            there.append(was)
        own = {each.name for each in there} | resolution.installed.keys()
        resolved = [
            each
            for each in locked_distributions(resolution, self.spec.reasons())
            if each.role is Role.INSTALLED or each.name not in own
        ]
        if not self.spec.requirements:
            # Nothing was asked for: what it inherited is what it inherits, as the host has it now.
            shown = self.host.versions.keys() - own - hidden.keys()
            resolved += [
                replace(each, version=self.host.versions[each.name])
                for each in known.values()
                if each.role is Role.INHERITED and each.name in shown
            ]
        hidden_or_shadowed = host_part(hidden, own, self.host)
        return await self.assembly.lock(resolution, (*there, *resolved, *hidden_or_shadowed))

    # Making it

    async def _build(self, plan: Plan, folder: Path, staged: Path) -> EnvLock:
        """Make the whole new environment at `staged`, and verify it; what it is."""
        assembly = self.assembly
        installation = Installation(assembly=assembly, tolerated=self.tolerated)
        wheels = await assembly.wheels_for(plan.lock, folder, make=installation.make)
        lock = with_built(plan.lock, wheels)
        await installation.make(lock, assembly.builder(folder, staged))
        await finish_in_thread(self._furnish, plan, staged)
        await in_phase(Phase.VERIFYING, self._check_visible(lock, staged))
        if plan.contradictions:
            await in_phase(Phase.VERIFYING, self._prove_application(plan, staged))
        return lock

    async def _check_visible(self, lock: EnvLock, staged: Path) -> None:
        """Raises `VerificationFailed` unless its interpreter sees what the lock says.

        What was proved once of the same packages and path files over the same host takes no
        process again.
        """
        store = self.engine.store
        proof = await finish_in_thread(self._visible, lock, staged)
        if await asyncio.to_thread(is_proved, store.disk, store.layout, proof):
            return
        raise_faults(await self.assembly.check_visible(lock, staged))
        await finish_in_thread(keep_proof, store.disk, store.layout, proof)

    def _visible(self, lock: EnvLock, staged: Path) -> str:
        """Equal for environments whose interpreters see the same."""
        site_packages = site_packages_of(staged)
        paths = sorted(site_packages.iterdir())
        lines = {each.name: each.read_bytes().hex() for each in paths if each.suffix == ".pth"}
        roles = sorted([each.name, each.role.value] for each in lock.distributions)
        interpreter = interpreter_facts(self.spec.interpreter.base_executable)
        return digest_of(
            [
                *("visible in place", [each.name for each in paths], lines),
                *(to_plain(lock.packages), roles, list(self.spec.alone)),
                *(self.host.fingerprint, to_plain(interpreter)),
            ]
        )

    async def _prove_application(self, plan: Plan, staged: Path) -> None:
        """Raises `VerificationFailed` unless the application works with what contradicts it.

        What was proved once of the same distributions over the same host takes no process again.
        """
        disk, layout = self.engine.store.disk, self.engine.store.layout
        installed = sorted(plan.lock.installed.items())
        proof = digest_of(["application", installed, self.host.fingerprint])
        if await asyncio.to_thread(is_proved, disk, layout, proof):
            return
        python = str(staged / "bin" / "python")
        await prove_application(self.engine.uv.door, python, plan.contradictions)
        await finish_in_thread(keep_proof, disk, layout, proof)

    def _furnish(self, plan: Plan, staged: Path) -> None:
        """What of the new environment is neither uv's nor the layer's."""
        if self.path.exists():
            host = self.host.distributions
            carry_over(
                self.path,
                staged,
                kept=plan.kept,
                gone=plan.gone,
                host=host,
                with_setup=self.keeps_setup,
            )
        disk = self.engine.store.disk
        replaced = {}
        if plan.lock.inherit is InheritMode.HOST:
            replaced = link_replaced(disk, staged, own_names(staged), self.host.distributions)
        search_path = self.host.interpreter.search_path
        write_guard(disk, site_packages_of(staged), search_path, replaced)
        write_use_hook(disk, staged)

    # Putting it in its place

    def _exchange(self, plan: Plan, staged: Path) -> None:
        self.engine.store.save_host(self.host)
        # Who starts in it now waits for the new one.
        with hold_unused(self.path) as alone:
            in_use = self._check_users(plan, with_locks=not alone)
            same_lock = not (self.path / USE_NAME).exists() or share_use_lock(self.path, staged)
            disk = self.engine.store.disk
            put_in_place(disk, staged, self.path, in_use=in_use, same_lock=same_lock)

    def _check_users_early(self, plan: Plan) -> None:
        """Raise `InUse` before all the work; after it all users are looked for again.

        Where no process holds the lock of the environment, it can hardly have any.
        """
        if not self.path.exists() or not self._changes(plan):
            return
        with hold_unused(self.path) as alone:
            pass
        if not alone:
            self._check_users(plan)

    def _check_users(self, plan: Plan, *, with_locks: bool = True) -> bool:
        """Whether processes run in the environment; raises `InUse` if they would lose anything."""
        if not self.path.exists() or (self.just_made and not with_locks):
            return False
        users = users_of([self.path], with_locks=with_locks).users.get(self.path, ())
        if users and (changes := self._changes(plan)):
            raise users_error(
                str(self.path),
                users,
                consequence=f", and {changes} would be replaced under it",
                hint="unload the models that run in it first; packages that only add to it can be"
                " installed at any time",
            )
        return bool(users)

    def _changes(self, plan: Plan) -> str:
        """What a process of now would not find as it was; empty when there is nothing."""
        record = self.current.record
        if record is None:
            return "what another program made there"
        then: HostFacts | None = self.host
        if record.host_fingerprint != self.host.fingerprint:
            then = self.engine.store.saved_host(record.host_fingerprint)
        if then is None:
            return "what has changed on the host"
        shown = shown_names(record.lock, then, self.spec.alone)
        will_be = shown_names(plan.lock, self.host, self.spec.alone)
        shown -= self._taken_away(then)
        lost = [each.name for each in plan.gone]
        if self.spec.sees_host:
            was, now = then.versions, self.host.versions
            lost += sorted(each for each in shown if each not in will_be or was[each] != now[each])
        return ", ".join(dict.fromkeys(lost))

    def _taken_away(self, then: HostFacts) -> frozenset[str]:
        """What of an earlier host is no more where it was.

        What another installation of Xinference on the same home has is still there.
        """
        here = self.host.interpreter.search_path
        differing = (then.by_name[name] for name in differing_names(then, self.host))
        return frozenset(
            each.name
            for each in differing
            if each.location in here or not Path(each.location, each.metadata).exists()
        )


def _say(phase: Phase, message: str, **progress: int | None) -> None:
    _log.log(logging.DEBUG if progress.get("done") else logging.INFO, "%s: %s", phase, message)
