"""Examines a host: asks uv, interpreters, disk, indexes and the store, and says what is wrong.

Comes in: the variables of the process. Comes out: a `Diagnosis`. Nothing is changed but a folder
for trying things out, which is gone at the end, and what uv answered, which is kept in a store
that is there; no part of it that fails hides another.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import pwd
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv.diagnosis.checks import Check, Diagnosis, failed_by, ok
from xinference_venv.diagnosis.filesystem_probe import lock_holders, open_to_all, probe_home
from xinference_venv.diagnosis.host_checks import (
    LITTLE_BYTES,
    accelerator_check,
    bytecode_check,
    changed_views_check,
    clock_check,
    conflict_checks,
    environments_check,
    file_names_check,
    file_system_checks,
    inodes_check,
    leases_check,
    locks_check,
    open_files_check,
    owner_check,
    python_check,
    quota_check,
    service_check,
    shared_memory_check,
    skipped_check,
    sockets_check,
    space_check,
    temporary_check,
    user_check,
    uv_check,
    xinference_check,
    xoscar_check,
)
from xinference_venv.diagnosis.index_checks import index_check
from xinference_venv.errors import InvalidInput, InvalidSource, VirtualEnvError
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.host import Accelerator, HostFacts
from xinference_venv.planning.index_answers import places_of
from xinference_venv.planning.sources import combine_sources
from xinference_venv.sentences import sentence
from xinference_venv.service.host_answers import remembered_facts
from xinference_venv.service.index_probe import answers_of
from xinference_venv.service.open_uv import needed_versions, uv_environment
from xinference_venv.service.pip_files import pip_config_of
from xinference_venv.service.places import (
    NO_HOME,
    SOCKET_VARIABLE,
    Places,
    places_with,
    read_settings,
    socket_folder_fault,
    temporary_folder,
)
from xinference_venv.service.uv_facts import (
    UvFacts,
    ask_uv,
    remember_uv,
    remembered_uv,
    stamps_of_uv,
)
from xinference_venv.settings import Settings
from xinference_venv.store.atomic import store_error
from xinference_venv.store.drop_in import running_xinference, service_units
from xinference_venv.store.envs.verify import broken_at_a_glance
from xinference_venv.store.host.changes import changed_views
from xinference_venv.store.host.compiled import uncompiled_distributions
from xinference_venv.store.host.scan import read_distributions
from xinference_venv.store.host_files import (
    SHARED_MEMORY_HINT,
    free_bytes,
    free_inodes,
    may_write,
    nearest_existing,
    quota_left,
    same_file_system,
    shared_memory_fault,
)
from xinference_venv.store.keys import names_in
from xinference_venv.store.legacy.layouts import is_in_place, old_directories
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import left_in_trash
from xinference_venv.uv.interpreters import probe_accelerator, probe_interpreter
from xinference_venv.uv.program import find_uv

if TYPE_CHECKING:
    from xinference_venv.uv.subprocess import Finished, ProcessRunner

_PROGRAM = "xinference_venv"


async def examine(ambient: Mapping[str, str]) -> Diagnosis:
    """What is wrong with this host for a process with these variables; raises nothing of ours."""
    at = time.time()
    settings, checks = _settings(ambient)
    places = await asyncio.to_thread(places_with, settings, ambient)
    host = _Host(ambient=ambient, places=places)
    parts = await asyncio.gather(
        host.uv(),
        host.python(),
        host.sources(),
        asyncio.to_thread(host.disk),
        asyncio.to_thread(host.store),
        asyncio.to_thread(host.limits),
        asyncio.to_thread(host.xinference),
    )
    return Diagnosis(
        host_name=platform.node(),
        release=importlib.metadata.version(_PROGRAM),
        at=at,
        checks=(*checks, *(check for part in parts for check in part)),
    )


def _settings(ambient: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """The settings as far as they can be read, and what is wrong with the others."""
    variables = dict(ambient)
    checks = []
    while True:
        try:
            settings = read_settings(variables)
        except InvalidInput as error:
            checks.append(failed_by("settings", error))
            name = error.details["variable"]
            if variables.pop(name, None) is None:
                # There is no place for a home: all else can still be looked at.
                variables[name] = NO_HOME
        else:
            return settings, checks or [
                ok("settings", sentence("the environment variables can be read"))
            ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Host:
    """The parts of an examination; each gives checks, whatever it meets."""

    ambient: Mapping[str, str]
    places: Places

    @property
    def _root(self) -> Path:
        return self.places.root

    @property
    def settings(self) -> Settings:
        """The settings as far as they can be read."""
        return self.places.settings

    @property
    def _cache(self) -> Path:
        return Path(self.places.uv_cache)

    async def uv(self) -> list[Check]:
        """Whether uv is there, runs, and finds interpreters."""
        try:
            program = find_uv(self.settings.uv_path)
            facts = await self._uv_facts(program)
        except VirtualEnvError as error:
            return [failed_by("uv", error)]
        return [
            uv_check(program, facts.version, needed_versions("uv")),
            python_check(facts.pythons, downloads=self.settings.python_downloads),
        ]

    async def _uv_facts(self, program: str) -> UvFacts:
        """What uv says; it is asked where it may say something else than at the last time."""
        environment = uv_environment(self.places, self.ambient)
        layout = StorePaths(self._root)
        if (known := await asyncio.to_thread(remembered_uv, layout, program, environment)) is None:
            from xinference_venv.uv.subprocess import Uv

            stamps = await asyncio.to_thread(stamps_of_uv, program, environment)
            known = await ask_uv(Uv(program=program, door=_door(environment)))
            await asyncio.to_thread(remember_uv, layout, stamps, known)
        return known

    async def python(self) -> list[Check]:
        """Whether the interpreter that environments inherit from runs, and its packages fit."""
        try:
            host = await asyncio.to_thread(self._remembered) or await self._asked()
        except VirtualEnvError as error:
            return [failed_by("host python", error)]
        interpreter = host.interpreter
        found = await UPKEEP.run(uncompiled_distributions, interpreter, host.distributions)
        kept = not self.ambient.get("PYTHONDONTWRITEBYTECODE") and all(
            os.access(each, os.W_OK) for each in interpreter.search_path
        )
        accelerator, unknown = await probe_accelerator(self, interpreter)
        return [
            ok(
                "host python",
                sentence(
                    "{version} at {executable}",
                    version=interpreter.version,
                    executable=interpreter.executable,
                ),
            ),
            *conflict_checks(host),
            bytecode_check(host, found, kept=kept),
            xoscar_check(host, needed_versions("xoscar")),
            accelerator_check(accelerator, unknown),
        ]

    def _remembered(self) -> HostFacts | None:
        """What a launch found out of the interpreter, if that is ours: one that may not even start
        is asked.
        """
        if self.settings.host_python is not None:
            return None
        try:
            return remembered_facts(StorePaths(self._root), sys.executable)
        except VirtualEnvError:
            # Another check says whether the home can be read.
            return None

    async def _asked(self) -> HostFacts:
        """What the interpreter and its packages say themselves; raises `PythonNotFound`."""
        interpreter = await probe_interpreter(self, self.settings.host_python or sys.executable)
        distributions, skipped = await asyncio.to_thread(read_distributions, interpreter)
        return HostFacts(
            interpreter=interpreter,
            distributions=distributions,
            accelerator=Accelerator(),
            skipped=skipped,
        )

    async def sources(self) -> list[Check]:
        """Whether every place of packages answers, and with which time."""
        try:
            sources = combine_sources(
                model=None,
                engine_extra_index_urls=(),
                engine_index_strategy=None,
                pip=pip_config_of(self.ambient),
                launch_find_links=(),
                offline=self.settings.offline_install,
            )
        except InvalidSource as error:
            return [failed_by("index", error)]
        places = places_of(sources)
        answers = await answers_of(places, uv_environment(self.places, self.ambient))
        asked = list(zip(places, answers, strict=True))
        checks = [index_check(place, answer) for place, answer in asked]
        if not any(place.what == "index" for place in places):
            why = (
                sentence("offline: no public index")
                if self.settings.offline_install
                else sentence("no index")
            )
            checks.append(ok("index", sentence("{why} is configured", why=why)))
        ahead = {place.host: answer.ahead for place, answer in asked if answer.ahead is not None}
        return [*checks, clock_check(ahead)]

    def disk(self) -> list[Check]:
        """Whether the home and uv's cache lie where environments can be made, with room."""
        found = probe_home(self._root, self._cache)
        place, cache = Path(found.place), nearest_existing(self._cache)
        checks = [*file_system_checks(found, str(self._cache))]
        places = [place] if same_file_system(cache, place) else [place, cache]
        for each in places:
            checks.append(space_check("free space", str(each), free := free_bytes(each)))
            checks.append(inodes_check(str(each), free_inodes(each)))
            checks.append(quota_check(str(each), quota_left(each, min(free, LITTLE_BYTES))))
        root = os.geteuid() == 0
        return [*checks, owner_check(str(place), root=root, open_places=open_to_all(place))]

    def store(self) -> list[Check]:
        """Whether what is there is whole, and who holds it."""
        try:
            # Not `Path.is_dir`: since Python 3.14 it is false for what can't be looked at, too.
            os.stat(self._root / "store")
        except (FileNotFoundError, NotADirectoryError):
            return [
                ok(
                    "environments",
                    sentence("there are no environments yet below {root}", root=self._root),
                )
            ]
        except OSError as error:
            return [failed_by("environments", store_error(error))]
        try:
            store = Store.open(self._root)
            glanced = broken_at_a_glance(store)
            broken = {env_id[:12]: why for env_id, why in glanced.items()}
            # The walk keeps what of the keys can't be read.
            places = list(store.key_places())
            old = old_directories(store.layout, places)
            in_place = [each for each in old if is_in_place(each.path)]
            broken |= {
                str(each.key): sentence("its interpreter is gone")
                for each in in_place
                if not (each.path / "bin" / "python").exists()
            }
            changed = changed_views(store, places, in_place)
            leases = [each for env in store.leases.env_ids() for each in store.leases.of(env)]
        except VirtualEnvError as error:
            return [failed_by("environments", error)]
        except OSError as error:
            return [failed_by("environments", store_error(error))]
        unjudged = [str(lease) for lease, holder in leases if holder is Holder.UNKNOWN]
        held, stopped = lock_holders(store.layout.locks)
        return [
            environments_check(len(names_in(str(store.layout.envs))) + len(in_place), broken),
            changed_views_check(changed),
            leases_check(len(leases), unjudged),
            locks_check(held, stopped),
            skipped_check([*map(str, store.skipped.all()), *left_in_trash(store, time.time())]),
        ]

    def xinference(self) -> list[Check]:
        """Whether an Xinference that runs here, or is started by systemd, has the drop-in on."""
        home = self.places.user_home
        units = dict(service_units(home, self.ambient))
        return [
            xinference_check(running_xinference(home)),
            service_check({str(unit): is_on for unit, is_on in units.items()}),
        ]

    def limits(self) -> list[Check]:
        """Whether the system lets processes open what they need, and talk to each other."""
        named = self.ambient.get(SOCKET_VARIABLE)
        folder = named or self.places.user_home
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return [
            self._user(),
            temporary_check(self.places.temporary, usual=temporary_folder(self.ambient)),
            sockets_check(folder, named=bool(named), fault=socket_folder_fault(folder)),
            shared_memory_check(shared_memory_fault(), SHARED_MEMORY_HINT),
            file_names_check(sys.getfilesystemencoding()),
            open_files_check(-1 if soft == resource.RLIM_INFINITY else soft),
        ]

    def _user(self) -> Check:
        """Who this process is, and whether its home directory is there."""
        home, uid = self.places.user_home, os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = None
        return user_check(uid, name, home, usable=may_write(home))

    async def run(self, command: Sequence[str], *, deadline: float) -> Finished:
        """Run a program, as what asks interpreters and drivers wants it."""
        environment = uv_environment(self.places, self.ambient)
        return await _door(environment).run(command, deadline=deadline)


def _door(environment: Mapping[str, str]) -> ProcessRunner:
    """A door of its own: one of a worker may be taken by its builds for an hour.

    What starts processes is not imported before one is to be started.
    """
    from xinference_venv.uv.subprocess import ProcessRunner

    return ProcessRunner(environment=environment, slots=2)
