"""The full resolution of a spec on a host: what is installed, what comes from the host, and why.

Comes from uv's PEP 751 lock file, which names stubs where the host serves; goes into the build
(as a PEP 751 file of the installed part alone), the record, and over the wire to equal hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.sentences import sentence
from xinference_venv.settings import InheritMode

if TYPE_CHECKING:
    from xinference_venv.planning.key import EnvKey
    from xinference_venv.planning.pylock import Resolution

_REQUIRED = sentence("required by another package")


class Role(StrEnum):
    """What became of a distribution.

    `INSTALLED` in the environment; `INHERITED` from the host because the request needs it;
    `SHADOWED`: the host's is replaced by an installed one; `HIDDEN`: the host's is not shown.
    """

    INSTALLED = "installed"
    INHERITED = "inherited"
    SHADOWED = "shadowed"
    HIDDEN = "hidden"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LockedDistribution(Record, name="locked distribution"):
    """One distribution's part in the lock; `size` is of the wheel in bytes, where known.

    `why` is what forced it, as a chain from the request on. `asked`: the request itself asks
    for it. `requires` names what it requires of the others, in this resolution. `why_version` says
    why it is this version.
    """

    name: str
    role: Role
    version: str | None
    why: str
    size: int | None = None
    asked: bool = False
    requires: tuple[str, ...] = ()
    why_version: str = ""


@dataclass(frozen=True, kw_only=True)
class EnvLock(Record, name="environment lock", version=1):
    """Everything that decides what an environment will be.

    `packages` are the PEP 751 package tables of what is installed, without credentials.
    `host_digest` is None when nothing of the host is seen. `spec_digest` says which request was
    resolved; like `uv_version` and `warnings` it is no part of the identity.
    """

    packages: tuple[Mapping[str, Any], ...]
    distributions: tuple[LockedDistribution, ...]
    python_version: str
    platform_digest: str
    inherit: InheritMode
    host_digest: str | None
    spec_digest: str
    uv_version: str
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The lock's identity."""
        from xinference_venv.planning.pylock import identity_of

        return digest_of(
            [
                [identity_of(package) for package in self.packages],
                sorted([d.name, d.role, d.version] for d in self.distributions),
                self.python_version,
                self.platform_digest,
                self.inherit.value,
                self.host_digest,
            ]
        )

    @property
    def env_id(self) -> str:
        """The name of the environment's directory: equal locks share one."""
        return self.digest[:32]

    def with_role(self, role: Role) -> list[LockedDistribution]:
        """The distributions of one role, by name."""
        return sorted(each for each in self.distributions if each.role is role)

    @property
    def installed(self) -> dict[str, str | None]:
        """Version by name of what is installed; None where only the install tells it."""
        return {each.name: each.version for each in self.with_role(Role.INSTALLED)}

    @property
    def sizes(self) -> dict[str, int]:
        """Wheel size in bytes by name of what is installed, where known."""
        return {each.name: each.size for each in self.with_role(Role.INSTALLED) if each.size}

    def pylock(self) -> dict[str, Any]:
        """The PEP 751 document of the installed part."""
        from xinference_venv.planning.pylock import pylock_of

        return pylock_of(self.packages)

    def pylock_text(self, key: EnvKey) -> str:
        """That document as a ``pylock.toml``; above it comments with what the host has to have."""
        import tomli_w

        comments = [f"# {key}", f"# Python {self.python_version}"]
        inherited = self.with_role(Role.INHERITED)
        if inherited:
            comments.append("# Inherited from the host, and no part of this lock:")
            comments += [f"#   {each.name}=={each.version}" for each in inherited]
        return "\n".join([*comments, "", tomli_w.dumps(self.pylock())])

    def check_record(self) -> None:
        """Refuse what is no PEP 751 file, has no hash, or has a distribution's role twice."""
        from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

        if any("directory" in package for package in self.packages):
            raise InvalidRecord(
                sentence("environment lock: a package is a local directory, which has no hash")
            )
        try:
            Pylock.from_dict(self.pylock())
        except (PylockValidationError, PylockUnsupportedVersionError) as error:
            raise InvalidRecord(sentence("environment lock: {error}", error=error)) from None
        parts = {(each.name, each.role) for each in self.distributions}
        if len(parts) < len(self.distributions):
            raise InvalidRecord(
                sentence("environment lock: a distribution has the same role twice")
            )


def locked_distributions(
    resolution: Resolution, why: Mapping[str, str]
) -> list[LockedDistribution]:
    """The distributions of the resolution; `why` gives the reason by name where known."""
    from xinference_venv.planning.pylock import size_of

    installed = [
        LockedDistribution(
            name=package["name"],
            role=Role.INSTALLED,
            version=package.get("version"),
            why=why.get(package["name"], _REQUIRED),
            size=size_of(package),
            why_version=resolution.reasons.get(package["name"], ""),
        )
        for package in resolution.packages
    ]
    inherited = [
        LockedDistribution(
            name=name,
            role=Role.INHERITED,
            version=version,
            why=why.get(name, _REQUIRED),
            why_version=resolution.reasons.get(name, ""),
        )
        for name, version in resolution.inherited.items()
    ]
    return sorted([*installed, *inherited])
