"""Where a bundle serves, and what is said where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import distribution, host, interpreter, line, locked, spec
from tests.planning.test_bundle import SPEC, make_bundle, make_lock
from xinference_venv.errors import InvalidInput
from xinference_venv.planning.bundle import Bundle, Demand
from xinference_venv.planning.bundle_fit import lock_for
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import Role
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.settings import InheritMode


def refuse(bundle: Bundle, here: EnvSpec, over: HostFacts | None = None) -> tuple[str, str | None]:
    """Why a bundle does not serve, and the hint."""
    with pytest.raises(InvalidInput) as caught:
        lock_for(bundle, here, over or host())
    begin = "the bundle of a-model does not fit this host: "
    assert caught.value.message.startswith(begin)
    return caught.value.message.removeprefix(begin), caught.value.hint


def test_the_lock_serves_a_host_that_has_what_it_inherits_whatever_else_that_has() -> None:
    inherited = make_lock()
    lock = replace(
        inherited,
        distributions=(*inherited.distributions, locked("numpy", Role.INHERITED, version="2.0")),
    )
    needs_old = distribution("pandas", "2.0", "new<1")
    here = host(distribution("numpy", "2.0"), needs_old, distribution("new", "0.9"))
    found = lock_for(make_bundle(lock), SPEC, here)
    assert {(each.name, each.role) for each in found.distributions} == {
        ("new", Role.INSTALLED),
        ("new", Role.SHADOWED),
        ("numpy", Role.INHERITED),
        ("pandas", Role.HIDDEN),
    }
    assert found.host_digest == here.digest
    assert found.platform_digest == SPEC.interpreter.platform_digest
    assert found.python_version == SPEC.interpreter.version
    assert found.spec_digest == SPEC.digest
    for other, there in (
        (host(), "none"),
        (host(distribution("numpy", "1.26")), "1.26"),
    ):
        assert refuse(make_bundle(lock), SPEC, other) == (
            f"it inherits from the host what this one has not: numpy 2.0 (here {there})",
            "export it on a host that has the same packages, or with --inherit none",
        )


def test_what_a_process_must_see_is_shown_although_what_is_installed_breaks_it() -> None:
    installed = make_lock()
    lock = replace(
        installed, distributions=(*installed.distributions, locked("cluster", Role.INHERITED))
    )
    here = host(distribution("cluster", "1.0", "new<1"), distribution("new", "0.9"))
    found = lock_for(make_bundle(lock), replace(SPEC, alone=("cluster",)), here)
    assert [each.name for each in found.with_role(Role.INHERITED)] == ["cluster"]
    why, _ = refuse(make_bundle(lock), SPEC, here)
    assert why.endswith(": cluster 1.0 (here 1.0)")


def test_without_the_host_nothing_of_it_counts() -> None:
    alone = replace(SPEC, inherit=InheritMode.NONE)
    lock = make_lock(inherit=InheritMode.NONE, host_digest=None)
    bundle = make_bundle(lock, demand=Demand.of(alone))
    assert lock_for(bundle, alone, host(distribution("new"))).host_digest is None


def test_another_python_or_platform_is_named() -> None:
    bundle = make_bundle()
    assert refuse(bundle, replace(SPEC, interpreter=interpreter("3.12.1"))) == (
        "it is for Python 3.11, and a launch here is for 3.12.1",
        "launch it there with Python 3.12, then export it",
    )
    markers = {**interpreter().markers, "platform_machine": "aarch64"}
    assert refuse(bundle, replace(SPEC, interpreter=interpreter(markers=markers))) == (
        "it is for x86_64, and this is aarch64",
        "export it on a host of the same platform",
    )
    assert refuse(bundle, replace(SPEC, interpreter=interpreter(tags=("cp311-cp311-other",)))) == (
        "new-1.0-py3-none-any.whl can't run here, where cp311-cp311-other is what fits best",
        "export it on a host of the same platform whose C library is not newer",
    )


def test_a_wheel_that_was_built_on_a_host_runs_where_its_libraries_do() -> None:
    own, newer, older = (
        f"cp311-cp311-{each}_x86_64" for each in ("linux", "manylinux_2_39", "manylinux_2_28")
    )
    wheels = {tag: f"wheels/new-1.0-{tag}.whl" for tag in (own, older)}
    for tag, here, serves in (
        (own, (newer, older, own), True),
        (own, (older, own), False),
        (older, (older, own), True),
        (older, (newer, own), False),
    ):
        bundle = make_bundle(
            interpreter=interpreter(tags=(newer, older, own)),
            files=(replace(make_bundle().files[0], path=wheels[tag]),),
        )
        where = replace(SPEC, interpreter=interpreter(tags=here))
        if serves:
            assert lock_for(bundle, where, host()).installed == {"new": "1.0"}
        else:
            why, _ = refuse(bundle, where)
            assert why.startswith(f"new-1.0-{tag}.whl can't run here, where {here[0]} is ")


def test_another_patch_release_or_library_of_the_host_is_no_other_platform() -> None:
    tags = (*interpreter().tags, "py3-none-manylinux_2_5_x86_64")
    here = replace(SPEC, interpreter=interpreter("3.11.9", tags=tags))
    assert lock_for(make_bundle(), here, host()).python_version == "3.11.9"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["new>=2"], "it was made for new>=1, and a launch here asks for new>=2 instead"),
        (
            ["new>=1", "six", "attrs"],
            "a launch here asks for attrs, six, too, which it was not made for",
        ),
        ([], "it was made for new>=1, too, which a launch here does not ask for"),
    ],
)
def test_what_is_asked_for_otherwise_here_is_named(asked: list[str], words: str) -> None:
    hint = "let both sides have the same models and settings"
    assert refuse(make_bundle(), spec(*map(line, asked))) == (words, hint)


def test_settings_that_differ_are_named_where_the_same_is_asked_for() -> None:
    why, _ = refuse(make_bundle(), replace(SPEC, excludes=("numpy",)))
    assert why == ("the settings of requirements (inherit, constraints, overrides, exclude) differ")
