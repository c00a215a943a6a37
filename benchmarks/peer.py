"""A way to `xoscar.virtualenv` inside a host's interpreter, where it looks at what is installed.

In come packages and a folder, out go an environment or the plan for one. The program on the
other side is `xoscar_peer`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import xoscar_peer
from xinference_venv.planning.request import ModelVirtualEnv


@dataclass(frozen=True, kw_only=True, slots=True)
class XoscarPeer:
    """One process of the host, which answers one question at a time."""

    process: subprocess.Popen[str]
    block: ModelVirtualEnv
    log: Path

    def make(self, env: Path, packages: Sequence[str], *, skip_installed: bool) -> Path:
        """Make an environment."""
        self._ask(env, packages, skip_installed=skip_installed, plan=False)
        return env

    def plan(self, env: Path, packages: Sequence[str], *, skip_installed: bool) -> list[str]:
        """The pins that would be installed into an environment, which is made and left empty."""
        return self._ask(env, packages, skip_installed=skip_installed, plan=True)

    def _ask(self, env: Path, packages: Sequence[str], **asked: bool) -> list[str]:
        sources: dict[str, Any] = {
            "index_url": self.block.index_url,
            "extra_index_url": list(self.block.extra_index_url),
            "find_links": list(self.block.find_links),
            "trusted_host": list(self.block.trusted_host),
            "index_strategy": self.block.index_strategy,
        }
        question = {"env": str(env), "packages": list(packages), "sources": sources, **asked}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": ["it ended"]}')
        if "error" in answer:
            words = self.log.read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"xoscar.virtualenv: {answer['error'][0]}\n{words}")
        return list(answer["told"])


@contextmanager
def xoscar_peer_of(python: Path, block: ModelVirtualEnv, log: Path) -> Iterator[XoscarPeer]:
    """Start the process in a host's interpreter, and end it."""
    program = str(Path(xoscar_peer.__file__))
    pipe = subprocess.PIPE
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [python, "-P", program], stdin=pipe, stdout=pipe, stderr=output, text=True
        ) as process,
    ):
        yield XoscarPeer(process=process, block=block, log=log)
