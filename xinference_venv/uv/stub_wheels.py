"""Metadata-only wheels ("stubs") of the host's distributions, by which uv's resolver sees them.

A stub carries the interpreter's best tag and a huge build tag: with less, an index wheel of the
same version wins and uv reads the index's metadata instead of the host's. The build tag is also
how a lock knows an inherited distribution. Stubs are for resolving only, never installed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv._util.files import write_private_file
from xinference_venv.planning.host import HostDistribution, HostFacts, is_of_extra

STUB_BUILD_TAG = "99999999"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def write_stubs(host: HostFacts, folder: Path) -> None:
    """Write a stub wheel of every host distribution into an empty folder."""
    tag = host.interpreter.best_tag
    for each in host.distributions:
        content = stub_wheel(
            each, tag, host_versions=host.versions, markers=host.interpreter.markers
        )
        write_private_file(folder / stub_file_name(each, tag), content)


def stub_file_name(distribution: HostDistribution, tag: str) -> str:
    """The name of a stub wheel (PEP 427)."""
    name = distribution.name.replace("-", "_")
    return f"{name}-{distribution.version}-{STUB_BUILD_TAG}-{tag}.whl"


def stub_wheel(
    distribution: HostDistribution,
    tag: str,
    *,
    host_versions: Mapping[str, str],
    markers: Mapping[str, str],
) -> bytes:
    """The bytes of a stub wheel; equal for equal input.

    What the host itself violates is relaxed to the bare name: a conflict that the host lives
    with must not make the resolver shadow its packages.
    """
    folder = f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {distribution.name}"]
    lines += [f"Version: {distribution.version}"]
    lines += [f"Provides-Extra: {extra}" for extra in distribution.extras]
    lines += [
        f"Requires-Dist: {_relaxed(r, host_versions, markers)}" for r in distribution.requires
    ]
    files = {
        f"{folder}/METADATA": "\n".join(lines) + "\n",
        f"{folder}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: xinference_venv\nRoot-Is-Purelib: false\nTag: {tag}\n"
        ),
    }
    files[f"{folder}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{folder}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _FIXED_TIME), text)
    return content.getvalue()


def _relaxed(requirement: str, host_versions: Mapping[str, str], markers: Mapping[str, str]) -> str:
    # An extra's requirement is not violated by a host that never asked for the extra.
    if is_of_extra(requirement):
        return requirement
    parsed = Requirement(requirement)
    found = host_versions.get(canonicalize_name(parsed.name))
    applies = parsed.marker is None or parsed.marker.evaluate({**markers, "extra": ""})
    if not applies or found is None or parsed.specifier.contains(found, prereleases=True):
        return requirement
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    marker = f" ; {parsed.marker}" if parsed.marker else ""
    return f"{parsed.name}{extras}{marker}"
