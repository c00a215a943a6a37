"""Examines a host: asks uv, interpreters, disk, indexes and the store, and says what is wrong.

Comes in: the variables of the process. Comes out: a `Diagnosis`. Nothing is changed but a folder
for trying things out, which is gone at the end, and what uv answered, which is kept in a store
that is there; no part of it that fails, or does not end, hides another.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import platform
import pwd
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xinference_venv._util.disk_threads import in_abandonable_thread
from xinference_venv._util.humanize import duration_text
from xinference_venv.diagnosis.checks import Check, Diagnosis, failed, failed_by, ok
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
from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.host import Accelerator, HostFacts
from xinference_venv.planning.index_answers import places_of
from xinference_venv.planning.sources import combine_sources
from xinference_venv.sentences import sentence
from xinference_venv.service.host_answers import remembered_facts
from xinference_venv.service.index_probe import answers_of
from xinference_venv.service.open_uv import needed_versions, uv_environment
from xinference_venv.service.phases import unforeseen_error
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

_log = logging.getLogger(__name__)

_PROGRAM = "xinference_venv"
# Less than a supervisor waits for all of a worker's checks.
_LOOK_SECONDS = 100.0
# Of a look with several parts, each: one that hangs does not hide the others.
_PART_SECONDS = 40.0
_Look = Callable[[], Sequence[Check]]


async def examine(ambient: Mapping[str, str]) -> Diagnosis:
    """What is wrong with this host for a process with these variables; raises nothing of ours."""
    at = time.time()
    found: list[Places] = []

    def begin() -> Sequence[Check]:
        settings, checks = _settings(ambient)
        found.append(places_with(settings, ambient))
        return checks

    checks = [*await checks_of("home", in_abandonable_thread(begin))]
    for places in found:
        host = _Host(ambient=ambient, places=places)
        looks = [
            ("uv", host.uv()),
            ("host python", host.python()),
            ("index", host.sources()),
            ("environments", host.store()),
            *((name, in_abandonable_thread(look)) for name, look in host.looks()),
        ]
        parts = await asyncio.gather(*(checks_of(*look) for look in looks))
        checks += (check for part in parts for check in part)
    return Diagnosis(
        host_name=platform.node(),
        release=importlib.metadata.version(_PROGRAM),
        at=at,
        checks=tuple(checks),
    )


async def checks_of(
    name: str, look: Awaitable[Sequence[Check]], deadline: float = _LOOK_SECONDS
) -> Sequence[Check]:
    """The checks of a look, or one that says why it gave none.

    One that does not end, as at a disk that does not answer, is not waited for any longer.
    """
    try:
        async with asyncio.timeout(deadline):
            return await look
    except VirtualEnvError as error:
        return [failed_by(name, error)]
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:
            found = sentence("no answer within {time}", time=duration_text(deadline))
            return [failed(name, found, sentence("see whether a network mount hangs"))]
        return [failed_by(name, store_error(error))]
    except (MemoryError, RuntimeError):
        # The system gives this process no more memory, or no more threads.
        raise
    except Exception as error:  # noqa: BLE001 (the edge of a look)
        # A defect of one look hides nothing that others found.
        _log.exception("the look at %r failed", name)
        return [failed_by(name, unforeseen_error(error))]


async def _part(name: str, look: _Look) -> Sequence[Check]:
    """The checks of a part of a look, which hides no other part."""
    return await checks_of(name, in_abandonable_thread(look), _PART_SECONDS)


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
    """The looks of an examination; none depends on what another one gives."""

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
        program = await in_abandonable_thread(partial(find_uv, self.settings.uv_path))
        facts = await self._uv_facts(program)
        return [
            uv_check(program, facts.version, needed_versions("uv")),
            python_check(facts.pythons, downloads=self.settings.python_downloads),
        ]

    async def _uv_facts(self, program: str) -> UvFacts:
        """What uv says; it is asked where it may say something else than at the last time."""
        environment = await self._environment()
        layout = StorePaths(self._root)
        known = await in_abandonable_thread(partial(remembered_uv, layout, program, environment))
        if known is None:
            from xinference_venv.uv.subprocess import Uv

            stamps = await in_abandonable_thread(partial(stamps_of_uv, program, environment))
            known = await ask_uv(Uv(program=program, door=_door(environment)))
            await in_abandonable_thread(partial(remember_uv, layout, stamps, known))
        return known

    async def python(self) -> list[Check]:
        """Whether the interpreter that environments inherit from runs, and its packages fit."""
        host = await in_abandonable_thread(self._remembered) or await self._asked()
        interpreter = host.interpreter
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
            *await _part("host bytecode", lambda: [self._bytecode(host)]),
            xoscar_check(host, needed_versions("xoscar")),
            accelerator_check(*await probe_accelerator(self, interpreter)),
        ]

    def _bytecode(self, host: HostFacts) -> Check:
        """Whether the host's packages have their bytecode, or get it."""
        found = uncompiled_distributions(host.interpreter, host.distributions)
        kept = not self.ambient.get("PYTHONDONTWRITEBYTECODE") and all(
            os.access(each, os.W_OK) for each in host.interpreter.search_path
        )
        return bytecode_check(host, found, kept=kept)

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
        distributions, skipped = await in_abandonable_thread(
            partial(read_distributions, interpreter)
        )
        return HostFacts(
            interpreter=interpreter,
            distributions=distributions,
            accelerator=Accelerator(),
            skipped=skipped,
        )

    async def sources(self) -> list[Check]:
        """Whether every place of packages answers, and with which time."""
        sources = combine_sources(
            model=None,
            engine_extra_index_urls=(),
            engine_index_strategy=None,
            pip=await in_abandonable_thread(partial(pip_config_of, self.ambient)),
            launch_find_links=(),
            offline=self.settings.offline_install,
        )
        places = places_of(sources)
        answers = await answers_of(places, await self._environment())
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

    async def store(self) -> list[Check]:
        """Whether what is there is whole, and who holds it."""
        store = await in_abandonable_thread(self._open_store)
        if store is None:
            return [
                ok(
                    "environments",
                    sentence("there are no environments yet below {root}", root=self._root),
                )
            ]
        parts = await asyncio.gather(
            _part("environments", partial(_environments, store)),
            _part("leases", partial(_leases, store)),
            _part("held locks", partial(_locks, store)),
        )
        # Last: it tells what the others could not visit.
        skipped = await _part("store", partial(_skipped, store))
        return [check for part in (*parts, skipped) for check in part]

    def _open_store(self) -> Store | None:
        """The store; None where there is none."""
        try:
            # Not `Path.is_dir`: since Python 3.14 it is false for what can't be looked at, too.
            os.stat(self._root / "store")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Store.open(self._root)

    def looks(self) -> Iterator[tuple[str, _Look]]:
        """What is looked at in threads: at the disks, at what the system allows, at Xinference."""
        yield "home", self._home
        for folder in (self._root, self._cache):
            yield "free space", partial(self._room, folder, _space)
            yield "free inodes", partial(self._room, folder, _inodes)
            yield "quota", partial(self._room, folder, _quota)
        yield "owner", lambda: [self._owner()]
        yield "user", lambda: [self._user()]
        yield "temporary files", lambda: [self._temporary()]
        yield "sockets", lambda: [self._sockets()]
        yield (
            "shared memory",
            lambda: [shared_memory_check(shared_memory_fault(), SHARED_MEMORY_HINT)],
        )
        yield "file names", lambda: [file_names_check(sys.getfilesystemencoding())]
        yield "open files", lambda: [_open_files()]
        yield "xinference", lambda: [xinference_check(running_xinference(self._user_home))]
        yield "xinference service", lambda: [self._service()]

    def _home(self) -> Sequence[Check]:
        """Whether the home lies where environments can be made, of files of uv's cache."""
        return file_system_checks(probe_home(self._root, self._cache), str(self._cache))

    def _room(self, folder: Path, check: Callable[[Path], Check]) -> Sequence[Check]:
        """What is free where the home or uv's cache is; that of one disk is shown once."""
        place = nearest_existing(folder)
        if folder != self._root and same_file_system(place, self._root):
            return []
        return [check(place)]

    def _owner(self) -> Check:
        place = nearest_existing(self._root)
        return owner_check(str(place), root=os.geteuid() == 0, open_places=open_to_all(place))

    @property
    def _user_home(self) -> str:
        return self.places.user_home

    def _temporary(self) -> Check:
        return temporary_check(self.places.temporary, usual=temporary_folder(self.ambient))

    def _sockets(self) -> Check:
        named = self.ambient.get(SOCKET_VARIABLE)
        folder = named or self._user_home
        return sockets_check(folder, named=bool(named), fault=socket_folder_fault(folder))

    def _service(self) -> Check:
        """Whether an Xinference that systemd starts has the drop-in on."""
        units = dict(service_units(self._user_home, self.ambient))
        return service_check({str(unit): is_on for unit, is_on in units.items()})

    def _user(self) -> Check:
        """Who this process is, and whether its home directory is there."""
        home, uid = self._user_home, os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = None
        return user_check(uid, name, home, usable=may_write(home))

    async def run(self, command: Sequence[str], *, deadline: float) -> Finished:
        """Run a program, as what asks interpreters and drivers wants it."""
        return await _door(await self._environment()).run(command, deadline=deadline)

    async def _environment(self) -> dict[str, str]:
        """The variables of uv, of which files of pip's configuration say some."""
        return await in_abandonable_thread(partial(uv_environment, self.places, self.ambient))


def _space(place: Path) -> Check:
    return space_check("free space", str(place), free_bytes(place))


def _inodes(place: Path) -> Check:
    return inodes_check(str(place), free_inodes(place))


def _quota(place: Path) -> Check:
    return quota_check(str(place), quota_left(place, min(free_bytes(place), LITTLE_BYTES)))


def _open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return open_files_check(-1 if soft == resource.RLIM_INFINITY else soft)


def _environments(store: Store) -> Sequence[Check]:
    """Whether the environments are whole, and show the host's packages as they are now."""
    broken = {env_id[:12]: why for env_id, why in broken_at_a_glance(store).items()}
    # The walk keeps what of the keys can't be read.
    places = list(store.key_places())
    old = old_directories(store.layout, places)
    in_place = [each for each in old if is_in_place(each.path)]
    broken |= {
        str(each.key): sentence("its interpreter is gone")
        for each in in_place
        if not (each.path / "bin" / "python").exists()
    }
    return [
        environments_check(len(names_in(str(store.layout.envs))) + len(in_place), broken),
        changed_views_check(changed_views(store, places, in_place)),
    ]


def _leases(store: Store) -> Sequence[Check]:
    """Whether it is known of each lease if its process lives."""
    leases = [each for env in store.leases.env_ids() for each in store.leases.of(env)]
    unjudged = [str(lease) for lease, holder in leases if holder is Holder.UNKNOWN]
    return [leases_check(len(leases), unjudged)]


def _locks(store: Store) -> Sequence[Check]:
    """Whether who holds locks goes on."""
    return [locks_check(*lock_holders(store.layout.locks))]


def _skipped(store: Store) -> Sequence[Check]:
    """What of the store can't be visited, or not be deleted."""
    left = left_in_trash(store, time.time())
    return [skipped_check([*map(str, store.skipped.all()), *left])]


def _door(environment: Mapping[str, str]) -> ProcessRunner:
    """A door of its own: one of a worker may be taken by its builds for an hour.

    What starts processes is not imported before one is to be started.
    """
    from xinference_venv.uv.subprocess import ProcessRunner

    return ProcessRunner(environment=environment, slots=2)
