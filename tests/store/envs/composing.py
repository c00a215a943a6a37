"""Environments composed from a plan to their end, as a launch does in two steps."""

from __future__ import annotations

from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.view import ViewPlan
from xinference_venv.store.envs.compose import Composed, Composition
from xinference_venv.store.envs.real_files import Placed
from xinference_venv.store.store import Store


def compose(
    store: Store,
    plan: ViewPlan,
    interpreter: Interpreter,
    *,
    env_id: str = "e1",
    placed: Placed | None = None,
) -> Composed:
    """The whole environment of a plan, at its place in the store."""
    composition = Composition(
        disk=store.disk,
        layout=store.layout,
        env=store.layout.env(env_id),
        plan=plan,
        interpreter=interpreter,
    )
    composition.begin(placed)
    return composition.complete()
