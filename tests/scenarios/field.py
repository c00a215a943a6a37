"""Real conditions of the field: mounts, users and limits that a test makes for one command.

Comes in: a script that mounts, and the user to run as. Comes out: what the command line said.
Mounts live in a mount namespace of the command's own, so nothing of them is left. A condition
that this machine can't make is skipped with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

import xinference_venv
from tests.index import Index

STRANGER = 54321
"""A user that no machine has an entry for."""
_SITE = Path(xinference_venv.__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a command left: exit status, its JSON document (else None), output and errors."""

    status: int
    document: Any
    output: str
    errors: str

    @property
    def error(self) -> dict[str, Any]:
        """The error of the document."""
        found: dict[str, Any] = self.document["error"]
        return found

    def check(self, name: str) -> dict[str, Any]:
        """One check of `doctor` by name, the gravest if there are several."""
        checks = [each for each in self.document["list"][0]["checks"] if each["name"] == name]
        order = ("failed", "warning", "ok")
        found: dict[str, Any] = min(checks, key=lambda each: order.index(each["verdict"]))
        return found


@dataclass(frozen=True, kw_only=True)
class Field:
    """Runs commands of ours under conditions; `folder` may be read by every user."""

    folder: Path
    python: Path
    environ: Mapping[str, str]
    mounts: str = ""
    uid: int | None = None
    limits: Sequence[str] = field(default=())

    def under(self, mounts: str) -> Field:
        """The same after a script of mounts, which ends at its first error."""
        return replace(self, mounts=f"{self.mounts}\n{mounts}")

    def as_user(self, uid: int) -> Field:
        """The same as another user."""
        return replace(self, uid=uid)

    def having(self, **variables: str | None) -> Field:
        """The same with other variables; None takes one away."""
        merged = {**self.environ, **variables}
        return replace(
            self, environ={name: each for name, each in merged.items() if each is not None}
        )

    @property
    def home(self) -> Path:
        """Where the home of the command is."""
        return Path(self.environ["XINFERENCE_HOME"])

    @property
    def store(self) -> Path:
        """The folder that is ours alone in the home."""
        return self.home / "virtualenv" / "store"

    def command(self, *words: str) -> list[str]:
        """The whole command line: namespace, mounts, user, ours."""
        user = [] if self.uid is None else ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}"]
        user += [] if self.uid is None else ["--clear-groups"]
        script = f'set -e\n{self.mounts}\nexec "$@"\n'
        return [
            *("unshare", "--mount", "bash", "-c", script, "bash"),
            *(*user, *self.limits, *words),
        ]

    def run(self, *words: str, timeout: float = 120.0) -> Said:
        """Run a command of `xinference-venv` with ``--json``."""
        done = subprocess.run(
            self.command(str(self.python), "-m", "xinference_venv", *words, "--json"),
            env=dict(self.environ),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
        except json.JSONDecodeError:
            document = None
        return Said(
            status=done.returncode, document=document, output=done.stdout, errors=done.stderr
        )

    def launch(self, *packages: str, model: str = "glow", more: Sequence[str] = ()) -> Said:
        """Launch a model with packages of the test's index."""
        spec = self.folder / f"{model}.json"
        block = {
            "packages": packages,
            "index_url": self.environ["TEST_INDEX"],
            "inherit_pip_config": False,
        }
        spec.write_text(json.dumps({"model_name": model, "virtualenv": block}))
        return self.run("launch", model, "--spec", str(spec), *more)


@cache
def _cannot_mount() -> str | None:
    if os.geteuid() != 0:
        return "mounting takes root"
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"this machine lets nobody mount: {done.stderr}"


@contextmanager
def open_field(index: Index, uv_cache: Path) -> Iterator[Field]:
    """A field whose folder, interpreter and packages every user may read."""
    if (why := _cannot_mount()) is not None:
        pytest.skip(why)
    # Those of pytest are for their owner alone.
    with tempfile.TemporaryDirectory(prefix="field-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        python = _interpreter(folder)
        environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder / "user"),
            "XINFERENCE_HOME": str(folder / "home"),
            "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(python),
            "TEST_INDEX": index.url,
            "UV_CACHE_DIR": str(uv_cache),
            "PIP_CONFIG_FILE": os.devnull,
            "LANG": "C.UTF-8",
        }
        (folder / "user").mkdir()
        yield Field(folder=folder, python=python, environ=environ)


def _interpreter(folder: Path) -> Path:
    """An interpreter that every user may start, with what we need."""
    libraries = Path(pytest.__file__).parents[1]
    running = Path(os.path.realpath(sys.executable))
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    bases = [running, *filter(None, [_found(wanted)])]
    base = next((each for each in bases if _open_to_all(each)), None)
    if base is None or not _open_to_all(libraries):
        pytest.skip(f"no {wanted} that every user of this machine may start")
    prefix = folder / "python"
    command = [find_uv_bin(), "venv", "-q", "--python", str(base), str(prefix)]
    subprocess.run(command, check=True, capture_output=True)
    [site] = prefix.glob("lib/python3.*/site-packages")
    for name in os.listdir(libraries):
        # The tree of the repository is on the path of its own, by the line below.
        if not name.startswith("__editable__") and not name.endswith(".pth"):
            (site / name).symlink_to(libraries / name)
    (prefix / "bin" / "uv").symlink_to(find_uv_bin())
    (site / "product.pth").write_text(f"{_SITE}\n")
    return prefix / "bin" / "python"


def _found(name: str) -> Path | None:
    found = shutil.which(name, path="/usr/local/bin:/usr/bin")
    return None if found is None else Path(os.path.realpath(found))


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (path, *path.parents))
