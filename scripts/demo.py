"""The main job on real input: two contradicting models at once, each in its own environment.

Run by ``scripts/demo``. Prints what happens, and ends with status 1 when anything is not what
it should be, or with the reason and what to do when the machine or the index stands in the way.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import xoscar as xo
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table

from xinference_venv._util.humanize import size_text
from xinference_venv.cli.common import report
from xinference_venv.client import Client, local_client
from xinference_venv.errors import JobCancelled, StoreError, VirtualEnvError
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.planning.request import LaunchRequest

REPOSITORY = Path(__file__).resolve().parents[1]
# The numpy that each of the two models must have found for itself. magika 0.5.1 allows no Python
# from 3.13 on, and neither does numpy 1.
NUMPY = (
    {"magika-0.5": SpecifierSet("<2"), "magika-1": SpecifierSet(">=2")}
    if sys.version_info < (3, 13)
    else {"magika-0.6": SpecifierSet("<2.4"), "magika-1": SpecifierSet(">=2.4")}
)
CONSOLE = Console(width=max(100, Console().width))


class FileTypeModel(xo.StatelessActor):  # type: ignore[misc]
    """A neural network that tells file types, whichever of the two magikas is installed.

    Defined in the main module, so that its code travels to the model's process by value.
    """

    def __init__(self) -> None:
        super().__init__()
        from magika import Magika

        self._magika = Magika()

    async def describe(self) -> dict[str, str]:
        """The interpreter, the versions, and the name of the network."""
        import sys
        from importlib.metadata import version

        import numpy

        return {
            "interpreter": sys.executable,
            "environment": sys.prefix,
            "magika": version("magika"),
            "numpy": numpy.__version__,
            "numpy from": str(numpy.__file__),
            "network": self._magika.get_model_name(),
        }

    async def classify(self, paths: list[str]) -> list[tuple[str, float]]:
        """A label and a score for each file."""
        from pathlib import Path

        labels = []
        for result in self._magika.identify_paths([Path(path) for path in paths]):
            # magika 0.6 renamed the label and moved the score.
            if hasattr(result, "score"):
                labels.append((str(result.output.label), float(result.score)))
            else:
                labels.append((str(result.output.ct_label), float(result.output.score)))
        return labels


def expect(truth: bool, what: str) -> None:
    """End the demo when something is not what it should be."""
    if not truth:
        raise SystemExit(f"NOT AS IT SHOULD BE: {what}")


def make_files(folder: Path) -> dict[Path, str]:
    """Files to classify, and what each of them is: made ones, and some of the repository."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    pixels = b"".join(
        b"\0" + bytes((x * 4, y * 4, 128)[c] for x in range(64) for c in range(3))
        for y in range(64)
    )
    data = b"IDAT" + zlib.compress(pixels)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (chunk, data, b"IEND")
    )
    models = [{"name": f"model-{n}", "layers": n, "sizes": [n, n + 1]} for n in range(40)]
    made = {
        "statistics.py": (
            b"import math\n\n\ndef mean(values):\n    return math.fsum(values) / len(values)\n" * 8,
            "python",
        ),
        "models.json": (json.dumps(models, indent=2).encode(), "json"),
        "gradient.png": (png, "png"),
        "interpreter": (Path(sys.executable).resolve().read_bytes()[:200_000], "elf"),
        "notes.md": (
            b"# Notes\n\nSome *emphasis*, a [link](https://example.org) and a list:\n\n"
            b"- one\n- two\n\n## More\n\n```python\nprint(1)\n```\n" * 6,
            "markdown",
        ),
    }
    for name, (content, _) in made.items():
        (folder / name).write_bytes(content)
    truth = {folder / name: label for name, (_, label) in made.items()}
    for path in sorted((REPOSITORY / "xinference_venv").glob("*.py")):
        if path.stat().st_size > 2000:
            truth[path] = "python"
    truth[REPOSITORY / "README.md"] = "markdown"
    return truth


async def launch(client: Client, names: Sequence[str]) -> dict[str, PreparedEnvironment]:
    """Launch several models at once."""
    start = time.monotonic()

    def watch(name: str) -> Any:
        def on_event(event: JobEvent) -> None:
            CONSOLE.print(
                f"  {time.monotonic() - start:6.2f} s  {name:<12} {event.phase:<12} ", end=""
            )
            CONSOLE.print(event.message, markup=False, highlight=False, soft_wrap=True)

        return on_event

    environments = await asyncio.gather(
        *(
            client.prepare(
                LaunchRequest(model_name=name, model_uid=f"{name}-0"), on_event=watch(name)
            )
            for name in names
        )
    )
    CONSOLE.print(f"  both ready after {time.monotonic() - start:.2f} s")
    return dict(zip(names, environments, strict=True))


async def show_list(client: Client) -> int:
    """Print the environments; returns how many there are."""
    answer = await client.supervisor.list_virtual_envs(EVERY)
    expect(not answer.unreachable, "every worker answers")
    table = Table("model", "Python", "state", "MiB", "own", "from the host", "in use by")
    for entry in (each.entry for each in answer.list):
        users = ", ".join(f"{x.model_uid} ({x.process.pid})" for x in entry.leases)
        row = [entry.key.model_name, str(entry.python), entry.state.value]
        row += [f"{(entry.size_bytes or 0) / 2**20:.1f}", str(entry.installed)]
        table.add_row(*row, str(entry.inherited), users or "-")
    CONSOLE.print(table)
    return len(answer.list)


async def run(client: Client, folder: Path) -> None:
    """The whole story."""
    names = list(NUMPY)
    for name in names:
        await client.supervisor.remove_virtual_env(Selection(model_name=name), force=True)

    CONSOLE.rule("launch both at once")
    environments = await launch(client, names)

    CONSOLE.rule("run both at once, each in a process of its own")
    truth = make_files(folder)
    paths = [str(path) for path in truth]
    processes = await asyncio.gather(
        *(client.start(environments[name], label=name) for name in names)
    )
    models = [
        await xo.create_actor(FileTypeModel, address=process.address, uid=name)
        for name, process in zip(names, processes, strict=True)
    ]
    told = await asyncio.gather(*(model.classify(paths) for model in models))
    for name, process, model in zip(names, processes, models, strict=True):
        facts = await model.describe()
        CONSOLE.print(f"[bold]{name}[/bold], process {process.pid}")
        for key, value in facts.items():
            CONSOLE.print(f"  {key}: {value}", highlight=False, soft_wrap=True)
        expect(facts["numpy"] in NUMPY[name], f"numpy of {name} is {NUMPY[name]}")
        expect(facts["environment"] == environments[name].real_path, f"environment of {name}")
    table = Table("file", *(f"{name}: label (score)" for name in names))
    for number, (path, label) in enumerate(truth.items()):
        cells = []
        for labels in told:
            found, score = labels[number]
            cells.append(f"{found} ({score:.3f})")
            expect(found == label, f"{path.name} is {label}, and was taken for {found}")
        table.add_row(path.name, *cells)
    CONSOLE.print(table)

    CONSOLE.rule("launch both again: nothing changed, so nothing to do")
    again = await launch(client, names)
    for name in names:
        calls = again[name].uv_calls
        CONSOLE.print(f"  {name}: {calls} calls of uv, the same environment")
        expect(calls == 0, f"the relaunch of {name} takes no uv")
        expect(again[name].env_id == environments[name].env_id, f"{name} has its environment")
        await client.release(again[name])

    CONSOLE.rule("list")
    expect(await show_list(client) == 2, "two environments are listed")

    CONSOLE.rule("try to remove one that is in use")
    [report] = (await client.supervisor.remove_virtual_env(Selection(model_name=names[0]))).list
    holders = [lease.process.pid for entry in report.plan.refuse for lease in entry.leases]
    CONSOLE.print(f"  refused: {names[0]} is used by process {', '.join(map(str, holders))}")
    expect(holders == [processes[0].pid] and not report.done, "removal in use is refused")

    CONSOLE.rule("stop the models, remove, list again")
    for process in processes:
        await process.stop()
    for name in names:
        [report] = (await client.supervisor.remove_virtual_env(Selection(model_name=name))).list
        CONSOLE.print(f"  removed: {', '.join(each.entry.path for each in report.done)}")
        expect(len(report.done) == 1, f"{name} is removed")
    expect(await show_list(client) == 0, "nothing is listed any more")


async def main() -> None:
    """Run the demo with the actors in this process."""
    with tempfile.TemporaryDirectory() as folder:
        async with local_client() as client:
            await run(client, Path(folder))


def show(story: Coroutine[Any, Any, None], seen: Sequence[str]) -> int:
    """Run a story to its end; returns the exit status. `seen` is what it has shown then.

    What a user can mend is said as the command line says it: what happened, and what to do.
    """
    try:
        asyncio.run(story)
    except VirtualEnvError as error:
        return report(error, as_json=False)
    except OSError as error:
        return report(StoreError(str(error)), as_json=False)
    except KeyboardInterrupt:
        return report(JobCancelled("interrupted"), as_json=False)
    CONSOLE.print("[bold green]All as it should be.[/bold green] What was shown:")
    for line in seen:
        CONSOLE.print(f"  - {line}", highlight=False, soft_wrap=True)
    kept = Path(os.environ.get("VIRTUAL_ENV", sys.prefix))
    CONSOLE.print(
        f"{kept} stays, {size_text(size_of(kept))}, for the next run; delete it when you like."
        " Next: docs/tutorial.md",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder, each counted once however many names it has."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            state = Path(parent, name).lstat()
            found[state.st_ino] = state.st_blocks * 512
    return sum(found.values())


if __name__ == "__main__":
    OLD, NEW = NUMPY
    sys.exit(
        show(
            main(),
            [
                f"{OLD} (numpy {NUMPY[OLD]}) and {NEW} (numpy {NUMPY[NEW]}), which no one"
                " environment can hold, ran at once, each in a process of its own",
                "what the host has was inherited wherever the requirements allowed it",
                "a launch that changes nothing called uv no more",
                "an environment in use was not removed; once its model had stopped, it was",
            ],
        )
    )
