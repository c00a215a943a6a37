"""What a resolution asks, as a digest: equal questions have equal answers while no index changes.

Comes in: a spec, the host, what else decides the answer. Goes out: the digest, or None for what
can't be known to be unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

from xinference_venv._util.records import digest_of
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.planning.uv_files import IndexSettings

# Raised when an equal question gets another answer.
_FORMAT = 1


def question_of(
    spec: EnvSpec,
    host: HostFacts,
    *,
    uv_version: str,
    folders: Sequence[object],
    index_settings: IndexSettings,
) -> str | None:
    """The digest of what is asked of the indexes; `folders` is the state of local ones.

    None where a requirement names a file, an archive or a branch, or an index is a folder: these
    change without a trace here.
    """
    sources = spec.sources
    indexes = [*sources.extra_index_urls, *filter(None, [sources.index_url])]
    if any(line.is_direct for line in spec.requirements):
        return None
    if any(url.startswith("file:") for url in [*indexes, *sources.find_links]):
        return None
    return digest_of(
        [
            _FORMAT,
            uv_version,
            spec.digest,
            # Of these the lock's reasons and warnings are made.
            [[line.origin.value, line.written] for line in spec.requirements],
            spec.warnings,
            spec.afresh,
            host.digest if spec.sees_host else None,
            folders,
            index_settings,
        ]
    )
