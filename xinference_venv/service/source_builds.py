"""The step between resolving and installing: each source of a lock is built to a wheel, once.

A lock comes in, resolved here or on another host; the wheels that take the place of its sources
go out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.source_builds import (
    BuiltWheel,
    build_digest,
    built_hashes,
    origins_of,
    without_sources,
)
from xinference_venv.sentences import sentence
from xinference_venv.store.built_wheels import BuiltWheels
from xinference_venv.uv.installer import Builder


@dataclass(frozen=True, kw_only=True)
class SourceBuilding:
    """Builds what the store has no wheel of, with the builder of an environment for this alone.

    `make` makes a builder's environment of a lock: what is built without isolation sees there
    what a model would see.
    """

    store: BuiltWheels
    builder: Builder
    make: Callable[[EnvLock, Builder], Awaitable[object]]
    say: Callable[[str], None]
    note: Callable[[str], None]

    async def wheels_for(self, lock: EnvLock) -> Sequence[BuiltWheel]:
        """A wheel that is here for each source of a lock; raises `BuildFailed`.

        A lock of another host names wheels that were built there. Built here, they may have
        other hashes, and are to be locked as what they are.
        """
        origins = origins_of(lock)
        if not origins:
            return []
        isolated = not self.builder.spec.sources.no_build_isolation
        builds = {
            name: build_digest(
                origins[name],
                lock,
                isolated=isolated,
                build_constraints=self.builder.spec.build_constraints,
            )
            for name in origins
        }
        hashes = built_hashes(lock)
        found = await asyncio.gather(
            *(BUILDING.run(self.store.find, builds[name], hashes.get(name)) for name in origins)
        )
        wheels = [wheel for wheel in found if wheel is not None]
        missing = sorted(origins.keys() - {wheel.name for wheel in wheels})
        if missing:
            self.say(sentence("building {missing} from source", missing=", ".join(missing)))
            if isolated:
                await self.builder.make_empty()
            else:
                await self.make(without_sources(lock), self.builder)
            built = await self.builder.build_wheels(
                [origins[name] for name in missing], isolated=isolated, on_line=self.note
            )
            wheels += await asyncio.gather(
                *(BUILDING.run(self.store.keep, path, builds[name]) for name, path in built.items())
            )
        return wheels
