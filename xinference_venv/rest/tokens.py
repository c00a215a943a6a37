"""Who may do what: bearer tokens (RFC 6750) and their scopes.

Comes in: the text of a token file, and the token of a request. Comes out: the scopes it has. Only
digests are kept, so neither the file nor the memory of the server gives a token away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from xinference_venv.errors import InvalidInput

_LINE = re.compile(
    r"sha256:(?P<digest>[0-9a-f]{64})(?:\s+name=(?P<name>[\w.@-]{1,64}))?"
    r"(?P<scopes>(?:\s+\S+)+)"
)
_SHOWN_DIGITS = 8
_HINT = (
    "allowed is 'sha256:DIGEST [name=NAME] SCOPE...', DIGEST being the token's sha256 in"
    " hexadecimal digits"
)


class Scope(StrEnum):
    """What a token allows, with the names that Xinference gives them."""

    LIST = "virtualenv:list"
    """See what is there."""
    CREATE = "virtualenv:create"
    """Prepare, plan and cancel launches, verify and repair."""
    SOURCES = "virtualenv:sources"
    """Let launches name any host that the worker's settings allow, not only those of its own
    configuration and PyPI."""
    DELETE = "virtualenv:delete"
    """Remove environments, collect garbage, release leases, drain and forget workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The digests of the tokens that are known, the scopes of each, the names of those with one."""

    scopes: dict[str, frozenset[Scope]] = field(repr=False)
    names: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token file: ``sha256:DIGEST [name=NAME] SCOPE...`` a line; ``#`` begins a comment.

        Raises `InvalidInput`, which shows no word of a line, since it may be a token.
        """
        found: dict[str, frozenset[Scope]] = {}
        names: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            content = line.partition("#")[0].strip()
            if not content:
                continue
            read = _LINE.fullmatch(content)
            if read is None:
                raise InvalidInput(
                    f"line {number} of the token file can't be read", {"hint": _HINT}
                )
            try:
                found[read["digest"]] = frozenset(map(Scope, read["scopes"].split()))
            except ValueError:
                raise InvalidInput(
                    f"line {number} of the token file names a scope that is not known",
                    {"hint": f"allowed are {', '.join(Scope)}"},
                ) from None
            if read["name"] is not None:
                names[read["digest"]] = read["name"]
        if not found:
            raise InvalidInput("the token file has no token", {"hint": _HINT})
        return cls(scopes=found, names=names)

    def become(self, other: Tokens) -> None:
        """Be the tokens of another reading of the file, for all who hold these."""
        self.scopes.clear()
        self.scopes.update(other.scopes)
        self.names.clear()
        self.names.update(other.names)

    def scopes_of(self, token: str) -> frozenset[Scope] | None:
        """What a token allows, None for one that is not known; takes as long for any."""
        digest = self._known(token)
        return None if digest is None else self.scopes[digest]

    def name_of(self, token: str) -> str | None:
        """What a token is called: its name in the file, else how its digest begins, which gives
        nothing of it away; None for one that is not known.
        """
        digest = self._known(token)
        return None if digest is None else self.names.get(digest, digest[:_SHOWN_DIGITS])

    def _known(self, token: str) -> str | None:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found: str | None = None
        for known in self.scopes:
            if hmac.compare_digest(known, digest):
                found = known
        return found
