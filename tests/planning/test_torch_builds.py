"""Which build of torch's family goes with the host's torch, and what is said where none is."""

from __future__ import annotations

import pytest

from tests.fakes import wheel_package
from xinference_venv.errors import ResolutionFailed, UvFailed
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.torch_builds import (
    assumed_build_warning,
    no_builds_as_torch,
    pins_as_torch,
    unreachable_torch_index,
)

FAILED = UvFailed("uv pip compile failed", {"output": "no solution", "hint": "uv's own"})


def installs(**versions: str) -> Resolution:
    packages = tuple(wheel_package(name, version) for name, version in versions.items())
    return Resolution(packages=packages, inherited={})


def test_what_works_with_a_torch_of_its_build_alone_is_pinned_to_the_hosts_build() -> None:
    found = installs(torchvision="0.23.0", torchaudio="2.8.0+cu128", numpy="2.0", xformers="0.0.32")
    assert pins_as_torch(found, "2.8.0+cpu") == ("torchaudio==2.8.0+cpu", "torchvision==0.23.0+cpu")


def test_what_has_the_hosts_build_needs_no_pin_and_does_not_spare_the_others_theirs() -> None:
    found = installs(torchaudio="2.8.0+cpu", torchvision="0.23.0")
    assert pins_as_torch(found, "2.8.0+cpu") == ("torchvision==0.23.0+cpu",)


def test_next_to_a_torch_that_names_no_build_nothing_is_pinned() -> None:
    assert pins_as_torch(installs(torchvision="0.23.0+cu128"), "2.8.0") == ()


def test_what_comes_from_a_place_without_a_version_is_not_pinned() -> None:
    from_place = Resolution(packages=({"name": "torchvision"},), inherited={})
    assert pins_as_torch(from_place, "2.8.0+cpu") == ()


def test_builds_that_no_index_has_are_named_with_the_hosts_torch_and_uvs_reason() -> None:
    pins = ("torchaudio==2.8.0+cpu", "torchvision==0.23.0+cpu")
    error = no_builds_as_torch(FAILED, "2.8.0+cpu", pins)
    assert type(error) is ResolutionFailed
    assert error.message == (
        "the host's torch 2.8.0+cpu works only with torchaudio==2.8.0+cpu and"
        " torchvision==0.23.0+cpu, which no index that is asked has:\nuv pip compile failed"
    )
    assert error.details["output"] == "no solution"
    assert error.details["missing_builds"] == [*pins]
    assert error.hint == (
        "install the package on the host from https://download.pytorch.org/whl/cpu or a mirror of"
        " it, or add that to the extra index URLs (pip's extra-index-url counts); or launch with"
        " --inherit none"
    )


def test_only_the_builds_that_uv_names_as_missing_are_named() -> None:
    pins = ("torchaudio==2.8.0+cpu", "torchvision==0.23.0+cpu")
    error = no_builds_as_torch(
        UvFailed("there is no version of torchvision==0.23.0+cpu"), "2.8.0+cpu", pins
    )
    assert "works only with torchvision==0.23.0+cpu, which" in error.message


@pytest.mark.parametrize(
    ("torch", "message", "hint"),
    [
        (
            None,
            "builds for cu128, as torch's backend is set, are at"
            " https://download.pytorch.org/whl/cu128, which can't be reached:\n"
            "uv pip compile failed",
            "add a mirror of https://download.pytorch.org/whl/cu128 to the extra index URLs, or set"
            " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND=none",
        ),
        (
            "2.8.0+cu128",
            "builds that fit the host's torch 2.8.0+cu128 are at"
            " https://download.pytorch.org/whl/cu128, which can't be reached:\n"
            "uv pip compile failed",
            "install the package on the host from https://download.pytorch.org/whl/cu128 or a"
            " mirror of it, or add that to the extra index URLs (pip's extra-index-url counts); or"
            " launch with --inherit none",
        ),
    ],
)
def test_an_index_of_torch_that_is_not_reached_is_named_with_what_is_wanted_there(
    torch: str | None, message: str, hint: str
) -> None:
    error = unreachable_torch_index(FAILED, "cu128", torch)
    assert type(error) is ResolutionFailed
    assert (error.message, error.hint) == (message, hint)
    assert error.details["output"] == "no solution"


def test_a_build_that_was_assumed_is_named_with_why_and_where_it_came_from() -> None:
    assert assumed_build_warning("2.8.0+cpu", from_index=True) == (
        "torch 2.8.0+cpu is the build for CPUs, since the host has no accelerator;"
        " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND names another one"
    )
    assert assumed_build_warning("2.8.0", from_index=False) == (
        "torch 2.8.0 may be a build for CUDA although the host has no accelerator,"
        " since https://download.pytorch.org/whl can't be reached"
    )
