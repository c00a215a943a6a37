"""What the manager's methods do: each decides, under the lock of the environment, what changes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement

from xinference_venv._util.records import digest_of
from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import (
    InvalidRecord,
    NotFound,
    StoreError,
)
from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.inventory.inventory import users_error
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.overlay import differing_names, hidden_names
from xinference_venv.planning.requirements import Origin
from xinference_venv.service.places import find_places
from xinference_venv.settings import InheritMode, Settings
from xinference_venv.store.in_place import read_in_place
from xinference_venv.store.locks import hold_lock
from xinference_venv.store.process_scan import users_of
from xinference_venv.store.store import Store
from xinference_venv.store.use_lock import hold_unused, note_launch, write_use_hook
from xinference_venv.uv.interpreters import probe_interpreter
from xinference_venv.xinference.carry_over import SETUP_MARK, contents_of, own_distributions
from xinference_venv.xinference.compiling import COMPILING
from xinference_venv.xinference.engine import (
    Engine,
    InstallOptions,
    Planner,
    check_place,
    needs_of_process,
)
from xinference_venv.xinference.rebuild import Change, CurrentEnvironment
from xinference_venv.xinference.record import Call, still_asked, unmet
from xinference_venv.xinference.source_folders import digest_with_folders

_log = logging.getLogger(__name__)


async def create(
    path: Path, environ: Mapping[str, str], python: str | None, *, clear: bool
) -> bool:
    """Make an environment at a path, or bring the one there up to date; whether it is new."""
    async with _alone(path, environ, "the creation") as engine:
        host = await engine.hosts.facts()
        if (path / "pyvenv.cfg").exists():
            if (path / "bin" / "python").exists() and not clear:
                await finish_in_thread(write_use_hook, engine.store.disk, path)
                await finish_in_thread(note_launch, path)
                await _follow_host(engine, path, host)
                return False
            # Without its interpreter nothing of it can be used.
            await finish_in_thread(_delete, engine.store, path)
        spec = engine.bare(host, await _chosen_interpreter(engine, host, python))
        current = CurrentEnvironment(path=path, record=None, own=())
        await Change(engine=engine, spec=spec, host=host, current=current).run(None)
        return True


async def install(
    path: Path,
    environ: Mapping[str, str],
    packages: Sequence[str],
    options: InstallOptions,
    *,
    just_made: bool,
) -> None:
    """Install packages into the environment at a path, unless this was done and still stands.

    One that is `just_made` was made by the launch that goes on.
    """
    async with _alone(path, environ, "the installation") as engine:
        found = await _change(engine, path, packages, options)
        if found is None:
            _log.info("%s has all of it already", path)
            return
        change, call = found
        await replace(change, just_made=just_made).run(call)
    COMPILING.look_soon()


async def plan(
    path: Path, environ: Mapping[str, str], packages: Sequence[str], options: InstallOptions
) -> list[str]:
    """What an install of packages would add to the environment at a path, as ``name==version``.

    What comes from a URL without a version is a name alone.
    """
    async with _alone(path, environ, "the planning") as engine:
        found = await _change(engine, path, packages, options)
        if found is None:
            return []
        change, call = found
        lock = await change.look(call)
    versions = ((each["name"], each.get("version")) for each in lock.packages)
    return [name if version is None else f"{name}=={version}" for name, version in versions]


async def process_packages(
    environ: Mapping[str, str], packages: Sequence[str], options: InstallOptions
) -> list[str]:
    """What is to be installed on this host for packages with placeholders and markers."""
    engine = await Engine.open(environ)
    host = await engine.hosts.facts()
    planner = Planner(engine=engine, options=options, host=host, interpreter=host.interpreter)
    spec = planner.spec(packages)
    lines = () if spec is None else spec.requirements
    return [line.text for line in lines if line.origin is not Origin.PROCESS]


async def remove(path: Path, environ: Mapping[str, str]) -> None:
    """Delete the environment at a path; without one there is nothing to do."""
    # The environment's own interpreter may do it, which has no uv.
    places = await asyncio.to_thread(find_places, environ)
    store = await asyncio.to_thread(Store.open, places.root)
    async with _lock(path, store, places.settings, "the removal"):
        await finish_in_thread(_delete, store, path)


@asynccontextmanager
async def _alone(path: Path, environ: Mapping[str, str], purpose: str) -> AsyncIterator[Engine]:
    """The engine, for whoever is alone with the environment at a path."""
    engine = await Engine.open(environ)
    async with _lock(path, engine.store, engine.settings, purpose):
        yield engine


@asynccontextmanager
async def _lock(path: Path, store: Store, settings: Settings, purpose: str) -> AsyncIterator[None]:
    check_place(store, path)
    async with hold_lock(
        store.layout.locks / f"in-place-{digest_of(str(path))[:32]}",
        purpose=f"{purpose} of {path}",
        deadline=float(settings.build_timeout),
        on_wait=_log.info,
    ):
        yield


async def _change(
    engine: Engine, path: Path, packages: Sequence[str], options: InstallOptions
) -> tuple[Change, Call] | None:
    """What installs packages together with what earlier calls asked for.

    None when this was done, and still stands.
    """
    if not (path / "bin" / "python").exists():
        raise NotFound(f"there is no environment at {path}", {"hint": "create it first"})
    host = await engine.hosts.facts()
    record = await asyncio.to_thread(_read, engine, path)
    interpreter = await _own_interpreter(engine, path, host, record)
    planner = Planner(engine=engine, options=options, host=host, interpreter=interpreter)
    spec = planner.spec(packages)
    if spec is None:
        return None
    digest = await digest_with_folders(spec)
    if record is not None and await asyncio.to_thread(_is_done, engine, path, record, digest, host):
        return None
    own = await asyncio.to_thread(own_distributions, path, interpreter)
    current = CurrentEnvironment(path=path, record=record, own=own)
    visible = current.seen(replace(spec, skip_installed=True), host)
    held = () if record is None else still_asked(record.asked, spec.requirements, visible)
    seen = current.seen(spec, host)
    together = planner.spec(
        packages, earlier=[text for text in held if Requirement(text).name in seen.by_name]
    )
    assert together is not None
    change = Change(engine=engine, spec=together, host=host, current=current)
    return change, Call(digest=digest, lines=spec.requirements, held=held)


def _is_done(
    engine: Engine, path: Path, record: InPlaceRecord, digest: str, host: HostFacts
) -> bool:
    """Whether a call was fulfilled, and nothing has changed since: neither environment nor host."""
    return (
        digest in record.calls
        and contents_of(path) == record.contents
        and _is_sound(engine, record, host)
    )


def _is_sound(engine: Engine, record: InPlaceRecord, host: HostFacts) -> bool:
    """Whether what an environment shows of the host is still what it was made for."""
    if record.lock.inherit is InheritMode.NONE or record.host_fingerprint == host.fingerprint:
        return True
    then = engine.store.saved_host(record.host_fingerprint)
    return (
        then is not None
        and host.interpreter.platform_digest == then.interpreter.platform_digest
        # It links to the host's packages by their places.
        and differing_names(then, host) <= hidden_names(record.lock)
    )


async def _follow_host(engine: Engine, path: Path, host: HostFacts) -> None:
    """Bring an environment that was made over another state of the host up to this one.

    What needs nothing of an index is done at once, under running processes too if they lose
    nothing by it. For the rest only a caller knows the sources: Xinference is to set it up again.
    Raises `InUse` where processes run in what would have to be replaced.
    """
    record = await asyncio.to_thread(_read, engine, path)
    if record is None or await asyncio.to_thread(_is_sound, engine, record, host):
        return
    spec = engine.bare(host, _as_of_now(record.interpreter, host))
    own = await asyncio.to_thread(own_distributions, path, spec.interpreter)
    current = CurrentEnvironment(path=path, record=record, own=own)
    then = await asyncio.to_thread(engine.store.saved_host, record.host_fingerprint)
    asked = (*record.asked, *needs_of_process(host))
    missing = unmet(asked, own, current.seen(spec, host))
    if then is not None:
        # Whoever uses an environment may have taken something out of it.
        missing -= unmet(asked, own, current.seen(spec, then))
    if not missing or not record.calls:
        _log.info("the host has changed: %s shows it as it is now", path)
        change = Change(engine=engine, spec=spec, host=host, current=current, keeps_setup=True)
        await change.run(None)
        return
    why = f"the host has changed, and it needs {', '.join(sorted(missing))} now"
    users = (await asyncio.to_thread(users_of, [path])).users.get(path, ())
    if users:
        raise users_error(
            str(path),
            users,
            consequence=f"; {why}, which can't be installed under what runs",
            hint="unload the models that run in it, then launch again",
        )
    _log.info("%s: %s", path, why)
    await finish_in_thread(engine.store.disk.unlink, path / SETUP_MARK)


async def _chosen_interpreter(engine: Engine, host: HostFacts, python: str | None) -> Interpreter:
    if python is None or python == host.interpreter.executable:
        return host.interpreter
    return _as_of_now(await probe_interpreter(engine.uv.door, python), host)


async def _own_interpreter(
    engine: Engine, path: Path, host: HostFacts, record: InPlaceRecord | None
) -> Interpreter:
    """The interpreter that an environment was made from."""
    if record is not None:
        return _as_of_now(record.interpreter, host)
    return _as_of_now(await probe_interpreter(engine.uv.door, str(path / "bin" / "python")), host)


def _as_of_now(interpreter: Interpreter, host: HostFacts) -> Interpreter:
    """The host's interpreter for one with the same base: the host may have got a patch release."""
    same = interpreter.base_executable == host.interpreter.base_executable
    return host.interpreter if same else interpreter


def _read(engine: Engine, path: Path) -> InPlaceRecord | None:
    """The record of an environment; None for one that others made, or whose record is damaged."""
    try:
        return read_in_place(engine.store.disk, path)
    except InvalidRecord as error:
        _log.warning("%s is treated as made by another program: %s", path, error)
        return None


def _delete(store: Store, path: Path) -> None:
    if not path.exists():
        return
    if not (path / "pyvenv.cfg").exists():
        raise StoreError(f"{path} is not a virtual environment", {"hint": "remove it yourself"})
    with hold_unused(path) as alone:
        users = users_of([path], with_locks=not alone).users.get(path, ())
        # Whoever removes what it has itself loaded knows of it.
        others = [each for each in users if each.pid != os.getpid()]
        if others:
            raise users_error(str(path), others, hint="unload the models that run in it first")
        store.disk.discard(path, store.layout.trash)
