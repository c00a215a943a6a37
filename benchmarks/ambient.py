"""What all contestants of a benchmark share: interpreter, uv, sources, a scrubbed environment.

In comes the process's environment and pip's configuration, out go the same for everybody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from xinference_venv.planning.pip_config import PipConfig, parse_pip_config, pip_config_paths
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.store.host_files import read_present
from xinference_venv.uv.environment import scrubbed_environment
from xinference_venv.uv.program import find_uv


def model_block(packages: Sequence[str], index_url: str | None) -> ModelVirtualEnv:
    """The model's block, which names the sources: the one index, else those of pip's own."""
    pip = PipConfig(index_url=index_url) if index_url is not None else _pip_config()
    return ModelVirtualEnv(
        packages=tuple(packages),
        inherit_pip_config=False,
        index_url=pip.index_url,
        extra_index_url=pip.extra_index_url,
        find_links=pip.find_links,
        trusted_host=pip.trusted_host,
        index_strategy="unsafe-best-match" if pip.extra_index_url else None,
    )


def source_flags(block: ModelVirtualEnv) -> Iterator[str]:
    """The sources of a model's block, as uv takes them."""
    if block.index_url is not None:
        yield from ("--default-index", block.index_url)
    for url in block.extra_index_url:
        yield from ("--index", url)
    for place in block.find_links:
        yield from ("--find-links", place)
    for host in block.trusted_host:
        yield from ("--allow-insecure-host", host)
    if block.index_strategy is not None:
        yield from ("--index-strategy", block.index_strategy)


def _pip_config() -> PipConfig:
    paths = pip_config_paths(
        os.environ,
        prefix=sys.prefix,
        home=str(Path.home()),
        platform=sys.platform,
        present=os.path.exists,
    )
    return parse_pip_config(read_present(paths), os.environ)


def scrub_environment(cache: Path) -> None:
    """Give the peers, which run uv in this process's environment, what ours gives to its uv."""
    scrubbed = scrubbed_environment(os.environ, cache_dir=str(cache))
    os.environ.clear()
    os.environ.update(scrubbed, UV_NO_CONFIG="1")


def uv_cache() -> Path:
    """Where uv keeps what it fetched."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def uv_program() -> str:
    """The uv that everybody runs."""
    return find_uv(os.environ.get("XOSCAR_UV_PATH"))


def base_python() -> Path:
    """The interpreter that virtual environments are made from."""
    return Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
