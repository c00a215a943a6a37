"""Compare what an installed Xinference asks of its managers with what ours make of it.

    python scripts/xinference_specs.py [--own] [--json FILE]

Runs in the environment of Xinference, without starting it. Each model of each kind, in each of
its formats, goes through the worker's own code for every engine that Xinference has packages of
and that the model names; the call of ``install_packages`` is taken down instead of done. Of each
call the requirement lines of `xoscar.virtualenv` and of ours are compared. Prints the counts and
each difference with the first model that has it. With `--own` only models that have packages of
their own go through, each for the first engine that these name.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xinference
from xinference.core.virtual_env_manager import (
    ENGINE_VIRTUALENV_MODEL_FORMAT_PACKAGES,
    ENGINE_VIRTUALENV_PACKAGES,
)
from xinference.core.worker import WorkerActor
from xinference.model.core import VirtualEnvSettings
from xoscar.virtualenv.uv import UVVirtualEnvManager

from xinference_venv.planning.requirements import engines_named
from xinference_venv.xinference import InPlaceEnvManager

_ENGINE_IN_MARKER = re.compile(r"#(?:model_)?engine#\s*==\s*[\"']([^\"']+)[\"']")


class _Noted(Exception):
    """A call was taken down, and nothing more is to be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """A model as Xinference would launch it."""

    model: str
    engine: str | None
    model_format: str | None
    block: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What ``install_packages`` is called with."""

    packages: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    skip_installed: bool


class _Recorder(UVVirtualEnvManager):  # type: ignore[misc]
    """Takes down the call that installs."""

    call: Call | None = None

    def install_packages(self, packages: list[str], **kwargs: Any) -> None:
        names = ("engine", "model_engine")
        self.call = Call(
            packages=tuple(packages),
            variables=tuple((name, kwargs[name]) for name in names if name in kwargs),
            skip_installed=bool(kwargs.get("skip_installed")),
        )
        raise _Noted


def launches(*, own: bool) -> Iterator[Launch]:
    """Every model with each format and engine; `own`: only those with packages, for one engine."""
    for file in sorted(Path(xinference.__file__).parent.glob("model/*/models/*.json")):
        entries = json.loads(file.read_text("utf-8"))
        for entry in entries if isinstance(entries, list) else []:
            if "model_name" not in entry:
                continue
            block = entry.get("virtualenv") or {}
            specs = entry.get("model_specs") or [entry]
            formats = {each.get("model_format") for each in specs}
            packages = block.get("packages") or ()
            named = _ENGINE_IN_MARKER.findall(" ".join(packages))
            engines = {*ENGINE_VIRTUALENV_PACKAGES, *ENGINE_VIRTUALENV_MODEL_FORMAT_PACKAGES}
            chosen: tuple[str | None, ...] = (None, *sorted({*engines, *map(str.lower, named)}))
            if own:
                first = [each.lower() for each in engines_named(packages)[:1]]
                chosen = (*first, None)[:1] if packages else ()
            for engine in chosen:
                for model_format in sorted(formats, key=str):
                    yield Launch(
                        model=f"{file.parent.parent.name}/{entry['model_name']}",
                        engine=engine,
                        model_format=model_format,
                        block=block,
                    )


def call_of(launch: Launch, folder: Path) -> Call | str | None:
    """What the worker calls; why it refuses the launch; None where it installs nothing."""
    manager = _Recorder(folder / "3.11.0")
    settings = (
        VirtualEnvSettings(**{**launch.block, "inherit_pip_config": False})
        if launch.block.get("packages")
        else None
    )
    try:
        WorkerActor._prepare_virtual_env(
            manager,
            settings,
            None,
            launch.engine,
            model_name=launch.model.partition("/")[2],
            model_format=launch.model_format,
        )
    except _Noted:
        return manager.call
    except ValueError as error:
        return str(error)
    return None


def lines_of(call: Call, manager: type[Any]) -> list[str] | str:
    """The requirement lines of a manager, or what it raises."""
    try:
        return list(manager.process_packages(list(call.packages), **dict(call.variables)))
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str]) -> int:
    """Compare all; give the exit status."""
    parser = argparse.ArgumentParser(prog="python scripts/xinference_specs.py")
    parser.add_argument("--own", action="store_true", help="packages of models alone, see above")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the calls, each once")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    calls: dict[Call, list[str]] = {}
    refused: dict[str, list[str]] = {}
    count = nothing = 0
    with tempfile.TemporaryDirectory() as folder:
        for launch in launches(own=options.own):
            count += 1
            called = call_of(launch, Path(folder))
            name = f"{launch.model} ({launch.engine or 'no engine'})"
            if called is None:
                nothing += 1
            elif isinstance(called, str):
                refused.setdefault(called, []).append(name)
            else:
                calls.setdefault(called, []).append(name)
    differences = 0
    for call, models in calls.items():
        theirs, ours = lines_of(call, UVVirtualEnvManager), lines_of(call, InPlaceEnvManager)
        if theirs == ours:
            continue
        differences += 1
        print(f"{models[0]} and {len(models) - 1} more")
        if isinstance(theirs, str) or isinstance(ours, str):
            print(f"  xoscar: {theirs}\n  ours:   {ours}")
            continue
        print(f"  only xoscar: {[each for each in theirs if each not in ours]}")
        print(f"  only ours:   {[each for each in ours if each not in theirs]}")
        if {*theirs} == {*ours}:
            print("  the same lines, in another order or some of them twice")
    for reason, models in refused.items():
        print(f"refused by Xinference, {models[0]} and {len(models) - 1} more: {reason}")
    print(
        f"{count} launches: {sum(map(len, calls.values()))} calls, {len(calls)} of them different;"
        f" {nothing} install nothing; {differences} calls with other lines"
    )
    if options.json is not None:
        noted = [
            {
                "models": models,
                "packages": call.packages,
                "variables": dict(call.variables),
                "skip_installed": call.skip_installed,
            }
            for call, models in calls.items()
        ]
        options.json.write_text(json.dumps(noted, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
