"""Where a bundle serves, and what is said where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import distribution, host, interpreter, line, locked, spec
from tests.planning.test_bundle import SPEC, make_bundle, make_lock
from xinference_venv.errors import InvalidInput
from xinference_venv.planning.bundle import Demand
from xinference_venv.planning.bundle_fit import lock_for
from xinference_venv.planning.lock import Role
from xinference_venv.settings import InheritMode


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
    for other in (host(), host(distribution("numpy", "1.26"))):
        with pytest.raises(InvalidInput, match=r"numpy 2\.0"):
            lock_for(make_bundle(lock), SPEC, other)


def test_without_the_host_nothing_of_it_counts() -> None:
    alone = replace(SPEC, inherit=InheritMode.NONE)
    lock = make_lock(inherit=InheritMode.NONE, host_digest=None)
    bundle = make_bundle(lock, demand=Demand.of(alone))
    assert lock_for(bundle, alone, host(distribution("new"))).host_digest is None


def test_another_python_or_platform_is_named() -> None:
    bundle = make_bundle()
    here = replace(SPEC, interpreter=interpreter("3.12.1"))
    with pytest.raises(InvalidInput, match=r"Python 3\.11.*3\.12\.1"):
        lock_for(bundle, here, host())
    markers = {**interpreter().markers, "platform_machine": "aarch64"}
    here = replace(SPEC, interpreter=interpreter(markers=markers))
    with pytest.raises(InvalidInput, match="aarch64"):
        lock_for(bundle, here, host())
    here = replace(SPEC, interpreter=interpreter(tags=("cp311-cp311-other",)))
    with pytest.raises(InvalidInput, match="can't run here"):
        lock_for(bundle, here, host())


def test_another_patch_release_or_library_of_the_host_is_no_other_platform() -> None:
    tags = (*interpreter().tags, "py3-none-manylinux_2_5_x86_64")
    here = replace(SPEC, interpreter=interpreter("3.11.9", tags=tags))
    assert lock_for(make_bundle(), here, host()).python_version == "3.11.9"


def test_what_is_asked_for_otherwise_here_is_named() -> None:
    here = spec(line("new>=2", "new"))
    with pytest.raises(InvalidInput, match=r"new>=1.*new>=2"):
        lock_for(make_bundle(), here, host())
    with pytest.raises(InvalidInput, match="settings"):
        lock_for(make_bundle(), replace(SPEC, excludes=("numpy",)), host())
