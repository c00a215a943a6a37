"""What interpreters and accelerators are there, asked of the programs that know.

Comes out: `Interpreter` and `Accelerator` nouns. Nothing of a model's or the host's packages is
imported by the questions asked here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import packaging
from packaging.version import Version

from xinference_venv._util.records import Record
from xinference_venv._util.tasks import ignore
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidRecord,
    PythonNotFound,
    UvFailed,
)
from xinference_venv.planning.host import Accelerator, Interpreter
from xinference_venv.sentences import sentence
from xinference_venv.uv import interpreter_kind

if TYPE_CHECKING:
    from xinference_venv.uv.subprocess import Finished, Uv

_PROBE_SECONDS = 60.0
# It takes up to ten seconds for many GPUs that nothing uses.
_SMI_SECONDS = 30.0
_NO_DEVICES = 6
_INSTALL_SECONDS = 900.0

# Runs in the interpreter in question, which says where its packages are; and what it is, unless the
# one that asks is of the same program and build: two thirds of the time of the question. Our
# `packaging` is lent to it after its own search path was recorded: it may have an old one or none.
_ANSWER = "xinference-venv answers "
_PROBE = f"""\
{Path(interpreter_kind.__file__).read_text("utf-8")}
import json, sysconfig
own = [os.path.dirname(os.__file__), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
stdlib = {{os.path.realpath(os.path.join(p, q)) for p in own for q in ("", "lib-dynload")}}
path = [p for p in sys.path if p and os.path.isdir(p) and os.path.realpath(p) not in stdlib]
answer = {{"executable": sys.executable, "base_executable": program(), "search_path": path}}
lent, *asking = sys.argv[1:]
if asking != [program(), sys.version]:
    sys.path.insert(0, lent)
    answer.update(kind())
print({_ANSWER!r} + json.dumps(answer))
"""


class Door(Protocol):
    """What runs a program to its end, as `ProcessRunner` does."""

    async def run(self, command: Sequence[str], *, deadline: float) -> Finished:
        """Run a command, for `deadline` seconds at most."""


async def probe_interpreter(door: Door, python: str) -> Interpreter:
    """Ask an interpreter what it is; raises `PythonNotFound` when it can't say.

    A free-threaded build is refused: it keeps its packages in other folders, and the packages that
    each model's process needs have no wheels for it.

    One that a signal ends is asked once more: SIGKILL comes from outside (too little memory, an
    administrator) and says nothing of the interpreter.
    """
    lent = Path(packaging.__file__).parents[1]
    try:
        asking = (interpreter_kind.program(), sys.version)
        question = (python, "-c", _PROBE, str(lent), *asking)
        finished = await door.run(question, deadline=_PROBE_SECONDS)
        if finished.exit_status < 0:
            finished = await door.run(question, deadline=_PROBE_SECONDS)
        if finished.exit_status == 0:
            answer = json.loads(_answer(finished))
            if "tags" not in answer:
                answer |= interpreter_kind.kind()
            found = Interpreter.from_dict(answer)
            if not found.is_free_threaded:
                return found
            raise PythonNotFound(
                sentence(
                    "the interpreter {python} is a free-threaded build of Python {version},"
                    " which can't run models",
                    python=python,
                    version=found.version,
                ),
                {"hint": sentence("name one that is built with the global interpreter lock")},
            )
        words = finished.tail[-1] if finished.tail else f"it ended with {finished.ending}"
    except (OSError, json.JSONDecodeError, InvalidRecord) as error:
        words = str(error)
    raise PythonNotFound(
        sentence("the interpreter {python} does not work: {words}", python=python, words=words),
        {"hint": sentence("start it in a shell to see why, or name another one")},
    )


async def find_python(
    uv: Uv,
    wanted: str,
    *,
    allow_download: bool,
    on_line: Callable[[str], None],
    on_received: Callable[[int], None] = ignore,
) -> str:
    """The path of the newest CPython of version `wanted` (``3.12`` or ``3.12.1``) on this host.

    `on_received` hears each second how many bytes of a download have arrived. Raises
    `PythonNotFound`, which names the versions that are there.
    """
    from xinference_venv.uv import argv

    there = await installed_pythons(uv)
    if allow_download and not _matching(there, wanted):
        try:
            await uv(
                argv.python_install(wanted),
                deadline=_INSTALL_SECONDS,
                on_line=on_line,
                on_received=on_received,
            )
        except UvFailed as error:
            raise PythonNotFound(
                sentence(
                    "Python {wanted} is not on this host and could not be downloaded: {error}",
                    wanted=wanted,
                    error=error,
                ),
                error.details,
            ) from error
        there = await installed_pythons(uv)
    matching = _matching(there, wanted)
    if matching:
        return there[max(matching, key=Version)]
    found = ", ".join(sorted(there, key=Version)) or "none"
    raise PythonNotFound(
        sentence("Python {wanted} is not on this host; found: {found}", wanted=wanted, found=found),
        {
            "hint": sentence(
                "ask for one of these, install it, or let uv download it with"
                " XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS=1"
            )
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _ListedPython(Record, name="uv's list of interpreters"):
    """An entry of ``uv python list --output-format json``, as far as it is used."""

    implementation: str
    variant: str
    version: str
    path: str


async def installed_pythons(uv: Uv) -> dict[str, str]:
    """CPython interpreters by full version, the first found of each version."""
    # The arguments of uv are not imported where it is not asked.
    from xinference_venv.uv import argv

    finished = await uv(argv.python_list(), deadline=_PROBE_SECONDS)
    found: dict[str, str] = {}
    for entry in json.loads(finished.output):
        listed = _ListedPython.from_dict(entry)
        if listed.implementation == "cpython" and listed.variant == "default":
            found.setdefault(listed.version, listed.path)
    return found


def _matching(there: Mapping[str, str], wanted: str) -> list[str]:
    return [each for each in there if each == wanted or each.startswith(f"{wanted}.")]


async def probe_accelerator(
    door: Door, interpreter: Interpreter, *, deadline: float = _SMI_SECONDS
) -> tuple[Accelerator, tuple[str, ...]]:
    """CUDA by `nvidia-smi` and by the host torch's own version file; NPU by its device file.

    And what could not be found out, with the reason: a driver that hangs, for `deadline` seconds,
    or fails keeps no model from starting, and the host counts as one without GPUs. torch is not
    imported: that takes seconds, and its context stays on the GPU.
    """
    driver: str | None = None
    arch: str | None = None
    unknown: tuple[str, ...] = ()
    if (smi := shutil.which("nvidia-smi")) is not None:
        try:
            finished = await door.run((smi,), deadline=deadline)
            if found := re.search(r"CUDA Version:\s*(\d+\.\d+)", finished.output):
                driver = found[1]
            query = (smi, "--query-gpu=compute_cap", "--format=csv,noheader")
            finished = await door.run(query, deadline=deadline)
        except (DeadlineExceeded, OSError) as error:
            unknown = (f"GPUs: {error}",)
        else:
            if found := re.match(r"(\d+)\.(\d+)", finished.output):
                arch = f"sm_{found[1]}{found[2]}"
            elif finished.exit_status not in (0, _NO_DEVICES):
                words = " ".join(finished.output.split()) or finished.ending
                unknown = (f"GPUs: nvidia-smi: {words}",)
    has_cuda = arch is not None
    accelerator = Accelerator(
        has_cuda=has_cuda,
        cuda_version=(_torch_cuda(interpreter) or driver) if has_cuda else None,
        cuda_arch=arch,
        has_npu=os.path.lexists("/dev/davinci_manager"),  # noqa: ASYNC240 (a device file)
    )
    return accelerator, unknown


def _torch_cuda(interpreter: Interpreter) -> str | None:
    for entry in interpreter.search_path:
        file = Path(entry, "torch", "version.py")
        if file.is_file():
            text = ""
            with suppress(OSError):
                text = file.read_text("utf-8", "replace")
            found = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
            return found[1] if found else None
    return None


# Imports nothing that the interpreter has not imported already: it is started for each build.
_CHECK = """
import os, sys
found = set()
for place in sys.path:
    try:
        names = os.listdir(place) if place else []
    except OSError:
        continue
    for name in names:
        stem, kind = os.path.splitext(name)
        if kind in (".dist-info", ".egg-info"):
            name = stem.partition("-")[0].replace(".", "_").replace("_", "-").lower()
            found.add("-".join(filter(None, name.split("-"))))
here = os.path.dirname(os.path.realpath(sys.prefix))
seen, unseen, own = (set(names.split()) for names in sys.argv[1:])
for name in sorted(seen - found):
    print("fault:", name, "is not visible to the interpreter")
for name in sorted(unseen & found):
    print("fault:", name, "of the host is still visible")
for finder in sys.meta_path:
    kind = finder if isinstance(finder, type) else type(finder)
    if kind.__name__ == "PathFinder":
        break
    if kind.__module__.startswith(("_frozen_importlib", "_distutils_hack")):
        continue
    for name in sorted(own):
        spec = finder.find_spec(name, None)
        origin = getattr(spec, "origin", None) or ""
        if spec is not None and not origin.startswith(here):
            print("fault:", name, "would come from", origin, "by an import hook of the host")
print("checked")
"""


async def check_environment(
    door: Door,
    python: str,
    *,
    seen: Iterable[str],
    unseen: Iterable[str],
    own: Iterable[str] = (),
    deadline: float,
) -> list[str]:
    """Start an environment's interpreter and let it say what it can find, and where.

    Returns what is wrong: a distribution of `seen` that it does not find, one of `unseen` that
    it does, and a module of `own` that an editable install of the host would serve instead.
    """
    expected = (" ".join(names) for names in (seen, unseen, own))
    finished = await door.run((python, "-I", "-c", _CHECK, *expected), deadline=deadline)
    # What runs at the start of an interpreter (``.pth``) may print lines of its own.
    lines = finished.output.splitlines()
    if finished.exit_status != 0 or "checked" not in lines:
        words = " ".join(finished.tail[-3:]) or f"it ended with {finished.ending}"
        return [f"the interpreter does not start: {words}"]
    return [line.removeprefix("fault: ") for line in lines if line.startswith("fault: ")]


def _answer(finished: Finished) -> str:
    """The line of the answer: what runs at the start and at the end of an interpreter (``.pth``,
    ``sitecustomize``) may print lines of its own.
    """
    marked = (line.partition(_ANSWER) for line in finished.output.splitlines())
    return next((answer for _, found, answer in marked if found), "")


async def import_modules(
    door: Door, python: str, modules: Iterable[str], *, deadline: float
) -> str | None:
    """Import modules in a fresh interpreter; the traceback of what failed, or None."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    # Bytecode would be of the paths of now, which a staged environment soon leaves.
    finished = await door.run((python, "-B", "-c", code, *modules), deadline=deadline)
    if finished.exit_status == 0:
        return None
    return "\n".join(finished.tail) or f"the interpreter ended with {finished.ending}"
