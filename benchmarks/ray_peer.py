"""Ray's runtime environments: runs inside an interpreter that has Ray.

It is a program by itself. Reads a question a line from standard input, JSON, and answers each
with a line: the seconds until an actor was up in its environment, and until its first answer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import ray  # type: ignore[import-not-found]


class Rendering:
    """As `answering.Rendering`."""

    def answer(self) -> str:
        """Its answer."""
        import io

        from rich.console import Console
        from rich.markdown import Markdown

        console = Console(file=io.StringIO(), width=40)
        with console.capture() as captured:
            console.print(Markdown("# First\n\n* answer"))
        return captured.get()


class Multiplying:
    """As `answering.Multiplying`."""

    def answer(self) -> str:
        """Its answer."""
        import torch  # type: ignore[import-not-found]

        return str(float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()))


def answer(question: dict[str, Any]) -> list[float]:
    """Start the actor in an environment with these packages and let it answer once."""
    kind = {"Rendering": Rendering, "Multiplying": Multiplying}[question["actor"]]
    began = time.perf_counter()
    environment = {"uv": {"packages": question["packages"]}}
    actor = ray.remote(kind).options(runtime_env=environment, num_cpus=0).remote()
    ray.get(actor.__ray_ready__.remote())
    up = time.perf_counter()
    ray.get(actor.answer.remote())
    done = time.perf_counter()
    ray.kill(actor)
    return [up - began, done - up]


def main() -> None:
    """Answer until there are no more questions."""
    with (
        # Ray leaves its environments in its folder, gigabytes where torch is among them.
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        os.fdopen(os.dup(1), "w") as answers,
    ):
        os.dup2(2, 1)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        for line in sys.stdin:
            try:
                told: dict[str, Any] = {"seconds": answer(json.loads(line))}
            except Exception as error:  # noqa: BLE001
                # The edge of the process: whoever asked has to know.
                told = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(told) + "\n")
            answers.flush()
        ray.shutdown()


if __name__ == "__main__":
    main()
