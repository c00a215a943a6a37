"""An independent look at a home: does the disk hold what the store promises?

It shares no code with the package and knows the documented layout alone.
``python -m tests.scenarios.checker HOME`` prints a line for each violation, and ends with status
1 if there is any. What is asked of the environments holds at every moment, also in the middle of
a storm; that nothing is left over holds once all workers have ended and one was started anew.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = "xinference-venv.json"
LOCK = "xinference-venv.lock.json"
BROKEN = "xinference-venv-broken.json"
LAUNCHER = "xinference-venv-python"
AT_THE_TOP = frozenset({"v3", "v4", "store", "models"})
IN_THE_STORE = frozenset(
    {
        *(
            "envs",
            "packages",
            "joined",
            "broken",
            "proofs",
            "staging",
            "trash",
            "stubs",
            "wheels",
            "locks",
            "leases",
            "logs",
        ),
        *("keys", "hosts", "processes", "uv-cache", "resolutions", "relay"),
        *("file-system.json", "first-seen.json"),
    }
)
_WORKER_ID = re.compile(r"worker-[0-9]+\.json")
IMPORT_SECONDS = 60
# A file or link that is written beside its place before it is renamed.
_BESIDE = re.compile(r"\..+[.-][0-9a-f]{8}")
_IMPORT = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    found[name] = [getattr(module, "__version__", None), module.__file__]
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Violation:
    """What is wrong with a path; `kind` is one word for programs, `text` is for people."""

    kind: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.text}"


def check_home(home: Path, *, settled: bool, imports: bool = True) -> list[Violation]:
    """All that is wrong; `settled` asks for leftovers too, `imports` starts interpreters."""
    root = home / "virtualenv"
    store = root / "store"
    found = [*_links(root), *_leases(store)]
    for env in _entries(store / "envs"):
        found += check_environment(env, imports=imports)
    if settled:
        found += _unaccounted(root)
        found += _processes(store)
    return sorted(found)


def check_environment(env: Path, *, imports: bool = True) -> list[Violation]:
    """What is wrong with an environment; one that is deleted meanwhile is not judged."""
    before = _inode(env)
    found = [Violation(kind="environment", path=str(env), text=each) for each in _faults(env)]
    if imports and not found:
        found = [Violation(kind="import", path=str(env), text=each) for each in _imports(env)]
    return found if before is not None and _inode(env) == before else []


def environment_of(link: Path) -> Path | None:
    """The environment that a key's link leads to, if that is one of its own store."""
    with suppress(OSError):
        target = Path(os.path.normpath(link.parent / link.readlink()))
        store = next(each / "store" for each in link.parents if (each / "store").is_dir())
        # Releases before views had the virtual environment itself there.
        if target.name == "venv" and target.is_dir() and not target.is_symlink():
            target = target.parent
        if target.parent == store / "envs" and target.is_dir() and not target.is_symlink():
            return target
    return None


def is_alive(process: Any) -> bool:
    """Whether a process, as leases and notes name it, lives on this host."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    if (process["host"], process["boot"]) != (platform.node(), boot):
        return False
    try:
        text = Path(f"/proc/{int(process['pid'])}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    state, *fields = text.rpartition(")")[2].split()
    return state not in "ZX" and fields[18] == process["start"]


# Keys


def _links(root: Path) -> Iterator[Violation]:
    """Each key's link must lead to an environment of this store; folders are older ones."""
    for path in _key_paths(root):
        if not path.is_symlink() or _BESIDE.fullmatch(path.name):
            continue
        before = _target(path)
        if environment_of(path) is None and _target(path) == before is not None:
            yield Violation(kind="link", path=str(path), text=f"leads to {before}, no environment")


def _target(link: Path) -> str | None:
    with suppress(OSError):
        return str(link.readlink())
    return None


def _key_paths(root: Path) -> Iterator[Path]:
    """What stands where a key may: ``v4/{model}/{engine}/{python}``, ``v3/{model}/{python}``."""
    for model in _entries(root / "v4"):
        for engine in _entries(model):
            yield from _entries(engine)
    for model in _entries(root / "v3"):
        yield from _entries(model)


def _link_of(root: Path, key: Any) -> Path:
    if key["model_engine"] is None:
        return root / "v3" / str(key["model_name"]) / str(key["python_version"])
    parts = (key["model_name"], key["model_engine"], key["python_version"])
    return (root / "v4").joinpath(*map(str, parts))


# Environments


def _faults(env: Path) -> Iterator[str]:
    try:
        record, lock = (json.loads((env / name).read_bytes()) for name in (RECORD, LOCK))
        id_in_record = record["env_id"]
        locked = {
            each["name"]: each["version"]
            for each in lock["distributions"]
            if each["role"] == "installed"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"its record or lock can't be read: {error!r}"
        return
    if id_in_record != env.name:
        yield f"its record is of {id_in_record}"
    if os.path.lexists(env / BROKEN):
        yield "it is marked as broken"
    for name in ("python", LAUNCHER):
        if not os.access(_venv(env) / "bin" / name, os.X_OK):
            yield f"bin/{name} can't be started"
    installed = {}
    for metadata in _distributions(env):
        name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
        installed[re.sub(r"[-_.]+", "-", name).lower()] = version
        yield from _file_faults(metadata)
    for name in sorted(installed.keys() | locked.keys()):
        there, wanted = installed.get(name, "absent"), locked.get(name, "absent")
        # None: which version it is, only the install told.
        if there == "absent" or wanted not in (None, there):
            yield f"{name} is {there}, its lock says {wanted}"


def _venv(env: Path) -> Path:
    return env / "venv" if (env / "venv").is_dir() else env


def _distributions(env: Path) -> list[Path]:
    """The metadata of what is installed: in the view what leads into the store, not to the host."""
    store = env.parent.parent.resolve()
    shown = sorted(env.glob("view/lib/python3.*/site-packages/*.dist-info"))
    own = [each for each in shown if each.resolve().is_relative_to(store)]
    return own or sorted(env.glob("lib/python3.*/site-packages/*.dist-info"))


def _file_faults(metadata: Path) -> Iterator[str]:
    """Every file of a distribution must be there with the size and content of its RECORD."""
    try:
        rows = list(csv.reader((metadata / "RECORD").read_text("utf-8").splitlines()))
    except OSError as error:
        yield f"{metadata.name}/RECORD can't be read: {error}"
        return
    for name, announced, size in rows:
        try:
            content = (metadata.parent / name).read_bytes()
        except OSError:
            yield f"{name} is missing"
            continue
        if size and int(size) != len(content):
            yield f"{name} has {len(content)} bytes, not {size}"
            continue
        algorithm, _, wanted = announced.partition("=")
        if algorithm:
            digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest())
            if digest.rstrip(b"=").decode() != wanted:
                yield f"{name} has another content than its RECORD says"


def _imports(env: Path) -> Iterator[str]:
    """The environment's own interpreter must import all of its own modules, from itself."""
    versions = {}
    for metadata in _distributions(env):
        version = metadata.name.removesuffix(".dist-info").partition("-")[2]
        for row in csv.reader((metadata / "RECORD").read_text("utf-8").splitlines()):
            module = re.fullmatch(r"(\w+)(?:/__init__)?\.py", row[0])
            if module is not None:
                versions[module[1]] = version
    command = [str(_venv(env) / "bin" / "python"), "-I", "-B", "-c", _IMPORT, *sorted(versions)]
    try:
        output = subprocess.run(
            command, cwd="/", env={}, capture_output=True, timeout=IMPORT_SECONDS, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        yield error.stderr.decode(errors="replace").strip()
        return
    except (OSError, subprocess.TimeoutExpired) as error:
        yield str(error)
        return
    for name, (version, file) in json.loads(output).items():
        if not Path(file).resolve().is_relative_to(env.parent.parent.resolve()):
            yield f"{name} is imported from {file}"
        elif version not in (None, versions[name]):
            yield f"{name} says that it is {version}, not {versions[name]}"


# Leases


def _leases(store: Path) -> Iterator[Violation]:
    """What a living process leases must be there; that it is whole is asked of each."""
    for path in sorted((store / "leases").glob("*/*.json")):
        try:
            lease = json.loads(path.read_bytes())
            held = is_alive(lease["process"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Violation(kind="lease", path=str(path), text=f"can't be read: {error!r}")
            continue
        env = store / "envs" / path.parent.name
        if held and not (env / RECORD).is_file() and path.exists() and is_alive(lease["process"]):
            pid = lease["process"]["pid"]
            yield Violation(kind="lease", path=str(path), text=f"process {pid} has lost {env}")


def _is_leased(store: Path, env_id: str) -> bool:
    for path in (store / "leases" / env_id).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if is_alive(json.loads(path.read_bytes())["process"]):
                return True
    return False


# What nobody accounts for


def _unaccounted(root: Path) -> Iterator[Violation]:
    store = root / "store"
    for path, why in (
        *_strangers(root),
        *_keys_without_use(root),
        *_envs_without_use(root),
        *_leases_without_use(store),
        *((each, "is left of a build") for each in _entries(store / "staging")),
        *((each, "is left of a removal") for each in _entries(store / "trash")),
        *((each, "was written beside its place and left") for each in _beside(root)),
    ):
        yield Violation(kind="unaccounted", path=str(path), text=why)


def _strangers(root: Path) -> Iterator[tuple[Path, str]]:
    for each in _entries(root):
        if each.name not in AT_THE_TOP and not any(each.rglob("pyvenv.cfg")):
            yield each, "belongs to nothing"
    for each in _entries(root / "store"):
        if each.name not in IN_THE_STORE and not _WORKER_ID.fullmatch(each.name):
            yield each, "belongs to nothing"
    for each in _entries(root / "store" / "locks"):
        if each.suffix != ".lock":
            yield each, "is no lock"


def _keys_without_use(root: Path) -> Iterator[tuple[Path, str]]:
    for path in _key_paths(root):
        if not path.is_symlink() and not (path / "pyvenv.cfg").is_file():
            yield path, "is neither a link nor an environment"
    for version in ("v3", "v4"):
        for folder, folders, names in os.walk(root / version):
            if not folders and not names:
                yield Path(folder), "is an empty folder"
    for path in _entries(root / "store" / "keys"):
        try:
            link = _link_of(root, json.loads(path.read_bytes())["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield path, f"can't be read: {error!r}"
            continue
        if not link.is_symlink():
            yield path, f"is of a key that is gone: {link}"


def _envs_without_use(root: Path) -> Iterator[tuple[Path, str]]:
    linked = {environment_of(path) for path in _key_paths(root)}
    for env in _entries(root / "store" / "envs"):
        if env not in linked and not _is_leased(root / "store", env.name):
            yield env, "has neither key nor lease"


def _leases_without_use(store: Path) -> Iterator[tuple[Path, str]]:
    for folder in _entries(store / "leases"):
        if not (store / "envs" / folder.name).is_dir():
            yield folder, "is of an environment that is gone"
        leases = _entries(folder)
        if not leases:
            yield folder, "is an empty folder"
        for path in leases:
            with suppress(OSError, ValueError, KeyError, TypeError):
                if not is_alive(json.loads(path.read_bytes())["process"]):
                    yield path, "is of a process that has ended"


def _beside(root: Path) -> Iterator[Path]:
    """What was not renamed; environments are looked at from outside, sources not at all."""
    store = root / "store"
    for folder, folders, names in os.walk(root):
        if Path(folder).parent == store / "envs":
            folders.clear()
        if Path(folder) == store:
            folders[:] = [each for each in folders if each != "uv-cache"]
        for name in (*names, *folders):
            if _BESIDE.fullmatch(name):
                yield Path(folder, name)


def _processes(store: Path) -> Iterator[Violation]:
    """Nobody builds: there are no notes of processes, and no uv that works in this store."""
    for path in _entries(store / "processes"):
        yield Violation(kind="process", path=str(path), text="is a note of a process")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            where = [os.readlink(folder / "cwd"), *arguments]
            if os.path.basename(arguments[0]) == "uv" and any(str(store) in at for at in where):
                text = f"works in {store}: {' '.join(arguments)}"
                yield Violation(kind="process", path=str(folder), text=text)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder by name; what is none is empty."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _inode(path: Path) -> int | None:
    with suppress(OSError):
        return path.lstat().st_ino
    return None


def main(home: str) -> int:
    """Check a home where nobody builds; returns the exit status."""
    violations = check_home(Path(home), settled=True)
    for each in violations:
        print(each)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
