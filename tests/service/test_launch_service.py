"""The builds that launches share, as far as they need no uv."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from tests import fakes
from xinference_venv.service.jobs import Build
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.prepare import stubs_of
from xinference_venv.store.atomic import Disk
from xinference_venv.store.store import Store


class _Overtaken(Disk):
    """A disk on which somebody else is always the first to give a directory its name."""

    def rename(self, source: Path, target: Path, *, durable: bool = True) -> None:
        shutil.copytree(source, target)
        super().rename(source, target, durable=durable)


def test_two_builds_that_make_the_stubs_of_a_host_at_once_share_them(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "virtualenv", _Overtaken())
    host = fakes.host(fakes.distribution("numpy", "1.26.4"))
    place = stubs_of(store, host, tmp_path / "scratch")
    assert [each.suffix for each in place.iterdir()] == [".whl"]
    assert stubs_of(store, host, tmp_path / "another") == place


def test_a_build_that_ended_late_does_not_drop_the_one_in_its_place() -> None:
    nothing = cast(Any, None)
    launches = LaunchService(
        store=nothing, uv=nothing, settings=fakes.settings(), hosts=nothing, address="here"
    )
    spec = fakes.spec()
    together = (spec.key, spec.digest)
    ended, newer = (Build(spec=spec, log=nothing) for _ in range(2))
    launches.builds[together] = newer

    launches._forget(together, ended)
    assert launches.builds == {together: newer}
    launches._forget(together, newer)
    assert launches.builds == {}
