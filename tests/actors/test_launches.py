"""The builds that launches share, as far as they need no uv."""

from __future__ import annotations

from typing import Any, cast

from tests import fakes
from xinference_venv.actors.board import Build
from xinference_venv.actors.launches import Launches


def test_a_build_that_ended_late_does_not_drop_the_one_in_its_place() -> None:
    nothing = cast(Any, None)
    launches = Launches(
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
