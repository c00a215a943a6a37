"""The error of a resolution that failed: uv's explanation, and what of the host is behind it."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv.errors import ResolutionFailed, UvFailed
from xinference_venv.planning.displacement import names_in
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.package import Release
from xinference_venv.planning.spec import EnvSpec, wire_bounds
from xinference_venv.sentences import joined, sentence
from xinference_venv.uv.messages import way_out


def unsolvable(
    error: UvFailed,
    *,
    spec: EnvSpec,
    host: HostFacts,
    unusable: Mapping[str, str],
    unfit: Mapping[Release, str],
    without_host: str | None = None,
) -> ResolutionFailed:
    """The error of a spec that has no solution over a host.

    `unusable` is what of the host was needed and may not serve, each with the reason; `unfit` are
    releases that do not allow this Python, with their ``Requires-Python``; `without_host` is why
    there is no solution without the host either, where that was asked.
    """
    message = str(error)
    if unusable:
        reasons = joined(
            sentence(
                "the host's {name} {version} can't be used, since {why}",
                name=name,
                version=host.versions[name],
                why=why,
            )
            for name, why in unusable.items()
        )
        message = sentence(
            "{reasons}; and installing it together with what is requested fails:\n{error}",
            reasons=reasons,
            error=error,
        )
    named = names_in(str(error))
    for (name, version), allowed in sorted(unfit.items()):
        if name in named:
            message = sentence(
                "{message}\n{name} {version} is for Python {allowed}, and this is Python {python}",
                message=message,
                name=name,
                version=version,
                allowed=allowed,
                python=spec.interpreter.version,
            )
    for bound in wire_bounds(host):
        name = canonicalize_name(Requirement(bound).name)
        if name in named:
            message = sentence(
                "{message}\n{bound} is required since a model process and its worker, which has"
                " {name} {version}, send each other what {name} writes",
                message=message,
                bound=bound,
                name=name,
                version=host.versions[name],
            )
    over_host = spec.sees_host and without_host is None
    hint = way_out(str(error), over_host=over_host, unusable=bool(unusable))
    details = {"hint": hint, "without_host": without_host}
    known = {name: value for name, value in details.items() if value is not None}
    return ResolutionFailed(message, {**known, **error.details})
