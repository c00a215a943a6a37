"""Hosts to inherit from: installations of Python of their own, with real packages in them.

In come an empty folder and where packages come from, out goes the host's interpreter. A host is
a copy of the base installation and no virtual environment, as in a container image: from an
interpreter of a virtual environment `xoscar.virtualenv` would make environments that see the
base installation and nothing of the host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.ambient import base_python, source_flags, uv_program
from xinference_venv.planning.request import ModelVirtualEnv

SCIENTIFIC = ("numpy==1.26.4", "pandas==2.1.4", "scipy==1.11.4", "scikit-learn==1.3.2")
# Resolved as of this day.
POPULAR_DAY = "2024-09-15"
POPULAR = Path(__file__).with_name("popular.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a resolution would install: wheel sizes in bytes by name, None where not told."""

    versions: dict[str, str]
    sizes: dict[str, int | None]

    @property
    def total(self) -> int:
        """Bytes to download, as far as sizes are known."""
        return sum(size or 0 for size in self.sizes.values())

    @property
    def cuda(self) -> list[str]:
        """The packages for CUDA among them."""
        return sorted(n for n in self.sizes if n.startswith(("nvidia-", "cuda-", "triton")))


def planned(requirements: Sequence[str], block: ModelVirtualEnv, *flags: str) -> Planned:
    """What uv would install for requirements in an empty environment; nothing is installed."""
    if not requirements:
        return Planned(versions={}, sizes={})
    command = [uv_program(), "pip", "compile", "-", "--quiet", "--no-config", "--no-header"]
    command += [
        "--format",
        "pylock.toml",
        "--python",
        str(base_python()),
        *source_flags(block),
        *flags,
    ]
    answer = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, check=True, text=True
    )
    packages = tomllib.loads(answer.stdout)["packages"]
    return Planned(
        versions={each["name"]: each.get("version", "") for each in packages},
        sizes={
            each["name"]: next((wheel.get("size") for wheel in each.get("wheels", [])), None)
            for each in packages
        },
    )


def make_host(name: str, folder: Path, *, torch: str, block: ModelVirtualEnv) -> Path:
    """Make the host of a name; `torch` is what is wanted of it, where the host has it."""
    python = copy_installation(folder)
    wanted = [f"xoscar=={version('xoscar')}"]
    if name == "scientific":
        wanted += SCIENTIFIC
    else:
        plan = planned([torch], block)
        if plan.cuda:
            raise SystemExit(
                f"{torch} would bring {len(plan.cuda)} packages for CUDA: name a build for CPUs"
                " with --torch, and where it lies in pip's configuration"
            )
        wanted.append(f"torch=={plan.versions['torch']}")
    install(python, wanted, block)
    if name == "popular":
        flags = ("--exclude-newer", POPULAR_DAY, "--only-binary", ":all:")
        install(python, ["-r", str(POPULAR)], block, *flags)
    return python


def copy_installation(folder: Path) -> Path:
    """Copy the base installation without its packages; returns the copy's interpreter."""
    base = base_python()
    library = Path(os.__file__).parent
    place = folder / "lib" / library.name
    shutil.copytree(
        library,
        place,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*"),
    )
    (place / "site-packages").mkdir()
    (folder / "bin").mkdir()
    python = folder / "bin" / base.name
    shutil.copy2(base, python)
    prefix = "import sys; print(sys.prefix)"
    told = subprocess.run([python, "-c", prefix], capture_output=True, check=True, text=True)
    if Path(told.stdout.strip()) != folder:
        raise SystemExit(f"the installation of {base} can't be copied: take another Python")
    return python


def install(python: Path, requirements: Sequence[str], block: ModelVirtualEnv, *flags: str) -> None:
    command = [uv_program(), "pip", "install", "--quiet", "--no-config", "--python", str(python)]
    subprocess.run([*command, *source_flags(block), *flags, *requirements], check=True)
