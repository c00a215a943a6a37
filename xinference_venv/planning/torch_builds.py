"""Which build of torch's family goes with which: for one accelerator, or as the host's torch is.

Comes in: a resolution, the version of torch that the process sees, torch's backend. Comes out:
pins of other builds, and what to say of a build that was assumed or can't be had.
"""

from __future__ import annotations

from packaging.version import Version

from xinference_venv.errors import ResolutionFailed, UvFailed
from xinference_venv.planning.displacement import names_in
from xinference_venv.planning.pylock import Resolution, release_of
from xinference_venv.planning.sources import BUILT_AS_TORCH, TORCH_INDEX
from xinference_venv.sentences import sentence


def pins_as_torch(found: Resolution, torch: str) -> tuple[str, ...]:
    """Pins of what is installed next to this version of torch in another build than it.

    The public index has builds for CUDA: next to a torch ``+cpu`` they fail at import.
    """
    build = Version(torch).local
    if build is None:
        return ()
    return tuple(
        f"{name}=={release_of(version)}+{build}"
        for name, version in sorted(found.installed.items())
        if name in BUILT_AS_TORCH and version is not None and Version(version).local != build
    )


def no_builds_as_torch(error: UvFailed, torch: str, pins: tuple[str, ...]) -> ResolutionFailed:
    """What to say where no index has the builds that the host's torch works with.

    `error` may name some of the `pins` as those that are missing; they are the detail
    ``missing_builds``.
    """
    named = names_in(str(error))
    # By its name alone: versions and builds are words that others share.
    missing = [pin for pin in pins if pin.partition("==")[0] in named] or pins
    return ResolutionFailed(
        sentence(
            "the host's torch {torch} works only with {pins}, which no index that is"
            " asked has:\n{error}",
            torch=torch,
            pins=" and ".join(missing),
            error=error,
        ),
        {
            **error.details,
            "hint": _hint_for_builds(Version(torch).local),
            "missing_builds": [*missing],
        },
    )


def unreachable_torch_index(error: UvFailed, backend: str, torch: str | None) -> ResolutionFailed:
    """What to say where torch's index can't be reached and its builds must be had from there.

    `torch` is the host's version, where the host may serve.
    """
    builds = (
        sentence("builds for {backend}, as torch's backend is set,", backend=backend)
        if torch is None
        else sentence("builds that fit the host's torch {torch}", torch=torch)
    )
    message = sentence(
        "{builds} are at {place}, which can't be reached:\n{error}",
        builds=builds,
        place=f"{TORCH_INDEX}/{backend}",
        error=error,
    )
    hint = (
        sentence(
            "add a mirror of {place} to the extra index URLs, or set"
            " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND=none",
            place=f"{TORCH_INDEX}/{backend}",
        )
        if torch is None
        else _hint_for_builds(backend)
    )
    return ResolutionFailed(message, {**error.details, "hint": hint})


def assumed_build_warning(torch: str, *, from_index: bool) -> str:
    """Which build of torch a host without an accelerator gets, `from_index` of torch's or not."""
    if from_index:
        return sentence(
            "torch {torch} is the build for CPUs, since the host has no accelerator;"
            " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND names another one",
            torch=torch,
        )
    return sentence(
        "torch {torch} may be a build for CUDA although the host has no accelerator,"
        " since {torch_index} can't be reached",
        torch=torch,
        torch_index=TORCH_INDEX,
    )


def _hint_for_builds(build: str | None) -> str:
    """What to do where no index that answers has the builds that fit the host's torch."""
    return sentence(
        "install the package on the host from {place} or a mirror of it, or add that to the extra"
        " index URLs (pip's extra-index-url counts); or launch with --inherit none",
        place=f"{TORCH_INDEX}/{build}",
    )
