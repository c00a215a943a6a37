"""What a host that can't reach its indexes asks another one to resolve for it.

Comes in: a request, and the facts of the host that asks. Goes out: to a worker of the same
platform, which plans with these facts, and with its own indexes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.request import LaunchRequest

_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
_TAG = re.compile("[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class HostQuestion(Record, name="question of another host"):
    """A request over the facts of another host.

    `interpreter` is the one to resolve for, `demand` the `EnvSpec.demand` of what is asked for
    there. Of the host what is `unusable` does not serve, each with the reason; `unfit` is what does
    not allow this Python, by name and version, with its ``Requires-Python``.
    """

    request: LaunchRequest
    host: HostFacts
    interpreter: Interpreter
    demand: str
    unusable: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def check_record(self) -> None:
        """Raise `InvalidRecord` for facts that no host has: files are named by them."""
        if not _TAG.fullmatch(self.host.interpreter.best_tag):
            raise InvalidRecord("question of another host: its tags are not valid")
        for each in self.host.distributions:
            try:
                Version(each.version)
            except InvalidVersion:
                raise InvalidRecord("question of another host: a version is not valid") from None
            if not _NAME.fullmatch(each.name):
                raise InvalidRecord(
                    "question of another host: the name of a distribution is not valid"
                )
