"""Does a view behave like one real site-packages? The same packages in both, looked at alike.

    python -m benchmarks.parity [--folder DIR] [--index-url URL] [--half] [PACKAGE]...

One environment is made by a launch, one by bare uv from the versions that the launch locked. The
same program then looks at both in processes of their own: names at the top, files that a walk
from inside each package finds, what pkgutil and importlib.metadata name, where resources and run
paths lead, what each module's import brings. With `--half` every second distribution is on the
host. Printed are the packages that were joined, with the number of files and why, and what differs;
the exit status says whether anything does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ambient import (
    base_python,
    model_block,
    scrub_environment,
    source_flags,
    uv_cache,
    uv_program,
)
from xinference_venv.client import local_client
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE
from xinference_venv.store.envs.view_record import read_view
from xinference_venv.store.store import Store

PACKAGES = (
    *("numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "pillow", "sympy", "networkx"),
    *("google-cloud-storage", "google-cloud-bigquery", "google-auth-oauthlib", "grpcio-status"),
    *("azure-identity", "azure-storage-blob", "azure-keyvault-secrets", "azure-mgmt-core"),
    *("opentelemetry-sdk", "opentelemetry-exporter-otlp", "opentelemetry-instrumentation-requests"),
    *("sphinx", "sphinxcontrib-mermaid", "zope.interface", "zope.event", "zope.proxy"),
    *("jaraco.text", "jaraco.collections", "backports.tarfile", "backports.zstd", "keyring"),
    *("starlette", "fastapi", "uvicorn", "aiohttp", "flask", "django", "gradio", "jupyterlab"),
    *("requests", "httpx", "boto3", "pyarrow", "sqlalchemy", "pydantic", "protobuf", "ruff"),
    *("transformers", "tokenizers", "sentencepiece", "huggingface-hub", "safetensors"),
)

# Runs in both environments; paths are told relative to the folder of packages.
_LOOK = r"""
import importlib, importlib.metadata, importlib.resources, importlib.util, json, os, pkgutil, site
import glob, sys, sysconfig
[folder] = [each for each in site.getsitepackages() if each.endswith("site-packages")]
# What installing by hand leaves, and what is only there to find the view.
OWN = ("_virtualenv", "__pycache__", "zzzz-xinference", "zzzz_xinference")
found = {}
names = sorted(name for name in os.listdir(folder) if not name.startswith(OWN))
found["names"] = names
# Before anything is imported: setuptools puts a folder of its own copies of others on the path.
distributions, missing = {}, []
for each in importlib.metadata.distributions():
    name = each.metadata["Name"]
    distributions[name] = each.version
    for file in each.files or ():
        text = str(file)
        if text.endswith((".pyc", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")):
            continue
        if "uv_cache" not in text and not os.path.exists(each.locate_file(file)):
            missing.append(name + ": " + text)
found["distributions"], found["missing"] = distributions, sorted(missing)
found["entry points"] = sorted(
    f"{each.group}: {each.name} = {each.value}"
    for one in importlib.metadata.distributions() for each in one.entry_points
)
walks, globs, resources = {}, {}, {}
for name in names:
    top = os.path.join(folder, name)
    if not os.path.isdir(top) or name.endswith(".dist-info"):
        continue
    files = set()
    for place, folders, inside in os.walk(top):
        folders[:] = [each for each in folders if each != "__pycache__"]
        files.update(os.path.relpath(os.path.join(place, each), folder) for each in inside)
    walks[name] = len(files), sorted(files)[:3], sorted(files)[-3:]
    globbed = glob.glob(os.path.join(glob.escape(top), "**", "*.py"), recursive=True)
    globs[name] = len(globbed)
    if name.isidentifier():
        try:
            spec = importlib.util.find_spec(name)
        except Exception as error:
            resources[name] = type(error).__name__
            continue
        if spec and spec.submodule_search_locations:
            places = [str(each) for each in spec.submodule_search_locations]
            resources[name] = (
                sorted(each.name for each in importlib.resources.files(name).iterdir()
                       if each.name != "__pycache__"),
                [os.path.relpath(each, folder) for each in places],
                sorted(each.name for each in pkgutil.iter_modules(places)),
            )
found["walks"], found["globs"], found["resources"] = walks, globs, resources
found["modules"] = sorted(each.name for each in pkgutil.iter_modules([folder])
                          if not each.name.startswith(OWN))
found["programs"] = sorted(
    name for name in os.listdir(os.path.join(sys.prefix, "bin"))
    if not name.startswith(("python", "activate", "xinference", "deactivate", "pydoc"))
)
share = os.path.join(sys.prefix, "share")
found["share"] = sorted(
    os.path.relpath(os.path.join(place, each), share)
    for place, _, inside in os.walk(share) for each in inside
)
imported = {}
for name in found["modules"]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(null, each)
        try:
            importlib.import_module(name)
            words = sorted(each for each in sys.modules if each.partition(".")[0] == name)
            with open("/proc/self/maps") as maps:
                mapped = {os.path.basename(each.split()[-1]) for each in maps if ".so" in each}
            answer = [len(words), sorted(mapped)]
        except BaseException as error:
            answer = [type(error).__name__, str(error).replace(folder, "")[:80]]
        os.write(writer, json.dumps(answer).encode()[:60000])
        os._exit(0)
    os.close(writer)
    content = b""
    while chunk := os.read(reader, 65536):
        content += chunk
    os.close(reader)
    os.waitpid(child, 0)
    imported[name] = json.loads(content or b"null")
found["imported"] = imported
print(json.dumps(found))
"""


def main(arguments: Sequence[str]) -> int:
    """Make both, look at both, print what differs."""
    parser = argparse.ArgumentParser(prog="benchmarks.parity", description=__doc__)
    parser.add_argument("--folder", help="where to make them; by default a temporary folder")
    parser.add_argument("--index-url", help="the only index, instead of pip's configuration")
    parser.add_argument("--half", action="store_true", help="every second one is on the host")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        differences = asyncio.run(
            compare(
                Path(folder),
                options.packages or PACKAGES,
                half=options.half,
                index_url=options.index_url,
            )
        )
    for line in differences:
        print(line)
    return 1 if differences else 0


async def compare(
    folder: Path, packages: Sequence[str], *, half: bool, index_url: str | None
) -> list[str]:
    """Make the two environments in a folder; a line for each difference."""
    python = str(base_python())
    sources = tuple(source_flags(model_block((), index_url)))
    scrub_environment(uv_cache())
    real, host = folder / "real", folder / "host"
    for venv in (real, host):
        _run(uv_program(), "venv", "--python", python, str(venv))
    environ = {
        **os.environ,
        "XINFERENCE_HOME": str(folder / "home"),
        ALLOWED_ROOTS_VARIABLE: "/",
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(host / "bin" / "python"),
    }
    (folder / "asked.txt").write_text("\n".join(packages))
    resolved = folder / "locked.txt"
    compiling = ("pip", "compile", *sources, "--no-header", "--no-annotate", "--python", python)
    _run(uv_program(), *compiling, str(folder / "asked.txt"), "--output-file", str(resolved))
    pins = [line for line in resolved.read_text().split("\n") if line.strip()]
    installing = ("pip", "install", *sources, "--no-deps", "--python")
    _run(uv_program(), *installing, str(real / "bin" / "python"), *pins)
    if half:
        _run(uv_program(), *installing, str(host / "bin" / "python"), *pins[::2])
    block = model_block(pins, index_url).to_dict()
    request = LaunchRequest.from_dict({"model_name": "parity", "virtualenv": block})
    async with local_client(environ) as client:
        made = await client.prepare(request)
    print(f"{len(pins)} distributions, {len(made.warnings)} warnings")
    for warning in made.warnings:
        print(f"  {warning}")
    for line in _joined(Path(environ["XINFERENCE_HOME"], "virtualenv"), str(made.env_id)):
        print(line)
    ours = _look(Path(str(made.real_path)) / "bin" / "python")
    theirs = _look(real / "bin" / "python")
    return list(_differences(theirs, ours))


def _joined(root: Path, env_id: str) -> Iterator[str]:
    """A table of the joined trees of an environment: who, how many files, and why."""
    store = Store.open(root)
    view = read_view(store.disk, store.layout.env(env_id))
    assert view is not None
    plan = view.plan
    names = {
        folder: record.key.name
        for folder in plan.trees
        if (record := store.packages.record(folder)) is not None
    }
    yield f"{len(plan.links)} links, {len(plan.trees)} packages, {len(plan.joined)} joined trees"
    for folder in plan.joined:
        joined = store.joined.record(folder)
        assert joined is not None
        members = [names.get(str(each.tree), each.label) for each in joined.plan.members]
        why = "; ".join(plan.reasons[folder])
        yield f"| {', '.join(sorted(members))} | {joined.files} | {why} |"


def _look(python: Path) -> dict[str, Any]:
    done = subprocess.run([python, "-P", "-c", _LOOK], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _differences(real: dict[str, Any], view: dict[str, Any]) -> list[str]:
    lines = []
    for what, wanted in real.items():
        found = view[what]
        if isinstance(wanted, dict):
            for name in sorted(wanted.keys() | found.keys()):
                if wanted.get(name) != found.get(name):
                    lines.append(
                        f"{what}: {name}: real {str(wanted.get(name))[:300]},"
                        f" view {str(found.get(name))[:300]}"
                    )
            print(f"{what}: {len(wanted)} compared")
        else:
            lines += [
                f"{what}: only in the real one: {each}" for each in wanted if each not in found
            ]
            lines += [f"{what}: only in the view: {each}" for each in found if each not in wanted]
            print(f"{what}: {len(wanted)} compared")
    return lines


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
