"""An environment that the drop-in for Xinference changes in its place: the record in it.

Written with every change, read by the next call, by listings and by checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from xinference_venv._util.records import Record
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.sentences import sentence


@dataclass(frozen=True, kw_only=True)
class InPlaceRecord(Record, name="record of an environment", version=1):
    """The state of one environment.

    `asked` are the requirements of all calls that hold still, plain PEP 508 without credentials;
    `calls` the digests of the specs of those calls. `contents` are the names of the metadata
    folders that were in its site-packages, `host_fingerprint` is of the host that `lock` is over.
    """

    asked: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    host_fingerprint: str
    interpreter: Interpreter
    lock: EnvLock


def distributions_now(
    record: InPlaceRecord, there: Iterable[tuple[str, str]]
) -> Iterator[LockedDistribution]:
    """The distributions of an environment whose users may have changed it since by hand.

    `there` are name and version of each that it has of its own.
    """
    known = {each.name: each for each in record.lock.with_role(Role.INSTALLED)}
    own = dict(there)
    for name, version in own.items():
        each = known.get(name)
        if each is None:
            yield LockedDistribution(
                name=name, role=Role.INSTALLED, version=version, why="it was installed by hand"
            )
        elif each.version not in (None, version):
            yield replace(each, version=version, why=f"by hand, in place of {each.version}")
        else:
            # Where the lock can't tell the version, only the install could.
            yield replace(each, version=version)
    for each in record.lock.distributions:
        if each.role is Role.SHADOWED and each.name not in own:
            why = sentence("what was installed in its place was uninstalled")
            yield replace(each, role=Role.INHERITED, why=why)
        elif each.role is not Role.INSTALLED:
            yield each
