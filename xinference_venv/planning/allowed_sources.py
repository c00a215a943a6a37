"""Which places a request may name: those that the operator of the host allows.

Comes in: the URLs and paths of a request, and what is allowed. Comes out: nothing, or a refusal,
whose text is the same for what does not exist and for what is not allowed: requests must not be
a way to find out what there is on the host or in its network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import PipConfig, host_of
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.sentences import sentence
from xinference_venv.settings import ALLOWED_HOSTS_VARIABLE, ALLOWED_ROOTS_VARIABLE

PYPI_HOSTS = frozenset({"pypi.org", "files.pythonhosted.org"})
_MAX_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedSources:
    """What requests may name: local places inside `roots`, and these `hosts` (None: any).

    `real_path` returns the real path of an existing directory, and None for anything else.
    """

    roots: Sequence[str]
    hosts: frozenset[str] | None
    real_path: Callable[[str], str | None]

    def check(self, places: Iterable[str]) -> None:
        """Raise `InvalidSource` for the first place that is not allowed."""
        for place in places:
            parts = urlsplit(place)
            if parts.scheme.rpartition("+")[2] == "file":
                if not self._is_inside(parts.scheme, parts.path):
                    raise InvalidSource(
                        sentence(
                            "{place} does not exist in an allowed folder",
                            place=quoted(place, _MAX_SHOWN),
                        ),
                        {
                            "hint": sentence(
                                "{allowed_roots_variable} names the folders that are allowed",
                                allowed_roots_variable=ALLOWED_ROOTS_VARIABLE,
                            )
                        },
                    )
            elif self.hosts is not None and parts.hostname not in self.hosts:
                raise InvalidSource(
                    sentence(
                        "{place} is on a host that requests may not name",
                        place=quoted(place, _MAX_SHOWN),
                    ),
                    {
                        "hint": sentence(
                            "{allowed_hosts_variable} names the hosts that are allowed; a token"
                            " with the scope virtualenv:sources may name any where it is not set",
                            allowed_hosts_variable=ALLOWED_HOSTS_VARIABLE,
                        )
                    },
                )

    def _is_inside(self, scheme: str, path: str) -> bool:
        """Whether a folder, or the folder of a file, lies in a root."""
        if scheme.startswith("git+"):
            # uv takes what follows the last `@` for the revision, a slash in it or not.
            path = path.rpartition("@")[0] or path
        path = unquote(path)
        roots = [real for root in self.roots if (real := self.real_path(root)) is not None]
        real = self.real_path(path) or self.real_path(str(PurePosixPath(path).parent))
        return real is not None and any(PurePosixPath(real).is_relative_to(each) for each in roots)


def allowed_hosts(
    configured: Sequence[str], pip: PipConfig | None, *, restricted: bool
) -> frozenset[str] | None:
    """The hosts that a request may name; None: any.

    Those that are `configured`; where none are, a `restricted` request may name those of pip's
    configuration and PyPI.
    """
    if configured:
        return frozenset(configured)
    if not restricted:
        return None
    places = () if pip is None else (pip.index_url or "", *pip.extra_index_url, *pip.find_links)
    return PYPI_HOSTS | frozenset(filter(None, map(host_of, places)))


def place_of(line: RequirementLine) -> str | None:
    """The URL that a requirement names, if any."""
    return line.text.rpartition(" @ ")[2] if line.is_direct else None
