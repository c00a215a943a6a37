"""What the supervisor costs for each of its workers, over simulated ones.

    python -m benchmarks.scale [--workers 100,1000,4000] [--rounds N]

Processor time of one process, in which the simulated workers act as well; there is no wire.
Nothing fails because it took long.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
import tracemalloc
from collections.abc import Sequence
from statistics import median

from benchmarks.common import aligned
from benchmarks.simulated import REQUEST, SimulatedCluster, simulate
from xinference_venv._util.own_process import collect_cycles_seldom
from xinference_venv.inventory.selection import EVERY


def main(arguments: Sequence[str]) -> int:
    """Measure clusters of several sizes and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", default="100,1000,4000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="of each, but for the launch")
    options = parser.parse_args(arguments)
    # As the process of a supervisor does.
    collect_cycles_seldom()
    head = (
        *("workers", "bytes a worker", "heartbeat us", "list ms", "list us a worker"),
        *("launch ms", "launch us a worker", "polls", "answer KiB"),
    )
    sizes = [int(each) for each in options.workers.split(",")]
    lines = [simulate(_measure(count, options.rounds)) for count in sizes]
    print(
        f"CPython {platform.python_version()}; processor time of supervisor and simulated workers,"
        f" median of {options.rounds} rounds; one launch on all\n\n{aligned(head, lines)}"
    )
    return 0


async def _measure(count: int, rounds: int) -> Sequence[str]:
    cluster = await SimulatedCluster.start(count)
    memory = await _memory(cluster)
    beats, lists = [], []
    for _ in range(rounds):
        start = time.process_time()
        await cluster.beat()
        beats.append(time.process_time() - start)
        start = time.process_time()
        await cluster.supervisor.list_virtual_envs(EVERY)
        lists.append(time.process_time() - start)
    await cluster.beat()
    start = time.process_time()
    answer, polls = await cluster.follow(await cluster.supervisor.prepare(REQUEST, everywhere=True))
    launch = time.process_time() - start
    beat, listing = median(beats), median(lists)
    return (
        *(f"{count}", f"{memory / count:.0f}", f"{beat / count * 1e6:.1f}"),
        *(f"{listing * 1e3:.1f}", f"{listing / count * 1e6:.0f}"),
        *(f"{launch * 1e3:.0f}", f"{launch / count * 1e6:.0f}", f"{polls}"),
        f"{len(json.dumps(answer)) / 1024:.0f}",
    )


async def _memory(cluster: SimulatedCluster) -> int:
    """Bytes that a supervisor takes for the workers that register and send a heartbeat."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    cluster.restart_supervisor()
    await cluster.beat()
    await cluster.beat()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
