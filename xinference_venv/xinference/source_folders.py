"""Folders of sources among the packages of a call: each is built to a wheel, and that is installed.

Xinference asks before an install what that will add. The wheel that was built for the answer is
kept among the built wheels of the store, and serves the install.

Xinference's own launches name them, so no allowed roots apply: whoever may launch there may name
an archive of any place, too.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.records import digest_of
from xinference_venv.errors import BuildFailed, InvalidRequirement
from xinference_venv.planning.pip_config import file_url
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.store.built_wheels import BuiltWheels
from xinference_venv.store.source_folders import state_of_sources
from xinference_venv.uv.installer import Builder
from xinference_venv.xinference.carry_over import contents_of


async def digest_with_folders(spec: EnvSpec) -> str:
    """The digest of a call, which is another one when a folder that it names has changed.

    Raises `InvalidRequirement` for a folder that can't be read.
    """
    folders = [each.folder for each in spec.requirements if each.folder is not None]
    states = [await asyncio.to_thread(_state_of, folder) for folder in folders]
    return digest_of([spec.digest, states]) if states else spec.digest


async def with_folders_built(builder: Builder, wheels: BuiltWheels) -> EnvSpec:
    """The spec of a builder with built wheels for the folders it names.

    Raises `BuildFailed` with the build's own words. The wheels stay as long as anything is staged.
    """
    spec = builder.spec
    lines = [
        line if line.folder is None else await _built(line, line.folder, builder, wheels)
        for line in spec.requirements
    ]
    return replace(spec, requirements=tuple(lines))


def _state_of(folder: str) -> str:
    try:
        return state_of_sources(folder)
    except OSError as error:
        raise InvalidRequirement(
            f"{folder} is not a folder of sources that can be read: {error.strerror}",
            {"hint": "name a folder with a pyproject.toml or setup.py, or an archive"},
        ) from None


async def _built(
    line: RequirementLine, folder: str, builder: Builder, wheels: BuiltWheels
) -> RequirementLine:
    if not builder.spec.allow_source_builds:
        raise BuildFailed(
            f"{folder} is a folder of sources, and source builds are forbidden",
            {"hint": "name a wheel, or set XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES=1"},
        )
    wheel = await _wheel_of(folder, builder, wheels)
    name = canonicalize_name(wheel.name.partition("-")[0])
    if line.name not in (None, name):
        raise BuildFailed(
            f"{folder} has the sources of {name}, not of {line.name}",
            {"hint": f"write {name} @ {file_url(folder)}"},
        )
    extras = ""
    if " @ " in line.text:
        extras = ",".join(sorted(Requirement(line.text).extras))
    named = f"{name}[{extras}]" if extras else name
    return replace(line, name=name, text=f"{named} @ {file_url(str(wheel))}")


async def _wheel_of(folder: str, builder: Builder, wheels: BuiltWheels) -> Path:
    """The wheel of a folder: one that was built of it as it is now, else a new one."""
    build = await asyncio.to_thread(_build_digest, folder, builder)
    found = await BUILDING.run(wheels.find, build, None)
    if found is None:
        found = await BUILDING.run(wheels.keep, await builder.build_folder(folder), build)
    return wheels.layout.built_wheels(found.sha256) / found.file_name


def _build_digest(folder: str, builder: Builder) -> str:
    """Equal as long as a build of a folder would see the same."""
    spec = builder.spec
    seen = [str(builder.env), contents_of(builder.env)] if spec.sources.no_build_isolation else []
    return digest_of(
        [
            *("folder of sources", folder, _state_of(folder), seen),
            *(spec.interpreter.platform_digest, spec.sources.identity(), spec.build_constraints),
        ]
    )
