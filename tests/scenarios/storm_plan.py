"""What a storm does, decided beforehand: operations by chance, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.wheels import build_wheel

MODELS = tuple((f"model-{number}", "transformers" if number % 2 else None) for number in range(10))
# Some of them are solved by the same packages.
SOLVABLE = (
    ("lantern==1.0",),
    ("lantern==1.0", "wick"),
    ("lantern==2.0",),
    ("lantern>=2", "wick>=2"),
    ("lantern==1.0", "wick==1.0"),
    ("match",),
    ("match", "oil==1.0"),
    ("oil==2.0",),
    ("oil==2.0", "lantern==2.0"),
    ("match", "lantern==1.0"),
)
UNSOLVABLE = (("lantern==2.0", "wick==1.0"), ("match", "oil==2.0"))


class Kind(StrEnum):
    """What an operation does."""

    LAUNCH = "launch"
    SERVE = "launch and serve"
    KEEP = "launch and keep the lease"
    CANCEL = "launch and cancel"
    REMOVE = "remove"
    FORCE = "remove by force"
    LIST = "list"
    KILL_WORKER = "kill a worker"
    KILL_CHILD = "kill a subprocess of a worker"
    KILL_MODEL = "kill a model"


_WEIGHTS = {
    Kind.LAUNCH: 40,
    Kind.SERVE: 13,
    Kind.KEEP: 4,
    Kind.CANCEL: 10,
    Kind.REMOVE: 9,
    Kind.FORCE: 7,
    Kind.LIST: 6,
    Kind.KILL_WORKER: 3,
    Kind.KILL_CHILD: 4,
    Kind.KILL_MODEL: 4,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation; `moment` counts events of jobs, for what happens in the middle of others."""

    kind: Kind
    model: str
    engine: str | None
    packages: tuple[str, ...]
    refresh: bool
    worker: int
    moment: int


def plan_storm(seed: int, count: int) -> list[Operation]:
    """So many operations; the same for the same seed."""
    chance = random.Random(seed)
    operations = []
    for _ in range(count):
        model, engine = chance.choice(MODELS)
        operations.append(
            Operation(
                kind=chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0],
                model=model,
                engine=engine,
                packages=chance.choice(SOLVABLE if chance.random() < 0.92 else UNSOLVABLE),
                refresh=chance.random() < 0.1,
                worker=chance.randrange(2),
                moment=chance.randint(1, 12),
            )
        )
    return operations


def build_wheels(folder: Path) -> None:
    """What the models ask for."""
    for version in ("1.0", "2.0"):
        build_wheel(folder, "wick", version)
        build_wheel(folder, "oil", version)
    build_wheel(folder, "lantern", "1.0", requires=["wick"])
    build_wheel(folder, "lantern", "2.0", requires=["wick>=2"])
    build_wheel(folder, "match", "1.0", requires=["oil<2"])
