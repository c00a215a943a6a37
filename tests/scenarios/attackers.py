"""Another user of the same machine, for tests of what such a one can't do."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

STRANGER = 65534
"""A user that owns nothing."""
VICTIM = 61_234
"""A user without privileges that runs our processes."""


def as_user(user: int, *command: str) -> list[str]:
    """The command as another user without any privilege."""
    ids = ("--reuid", str(user), "--regid", str(user), "--clear-groups")
    return ["setpriv", *ids, "--bounding-set=-all", *command]


def _can_be_another() -> bool:
    """Whether another user can start this interpreter: one of root's own pyenv may be closed."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return False
    command = as_user(STRANGER, sys.executable, "-I", "-S", "-c", "")
    return not subprocess.run(command, capture_output=True, check=False).returncode


needs_root = pytest.mark.skipif(
    not _can_be_another(),
    reason="it takes root, setpriv and an interpreter that every user may start to act as another",
)


def run_as(user: int, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program as another user, to its end."""
    return subprocess.run(
        as_user(user, sys.executable, "-I", "-c", program, *arguments),
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def folder_of(user: int) -> Iterator[Path]:
    """A folder of a user's own, which others may look into."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        os.chown(folder, user, user)
        Path(folder).chmod(0o755)
        yield Path(folder)


def listening(pid: int) -> list[tuple[str, int]]:
    """The TCP addresses at which a process listens."""
    found = psutil.Process(pid).net_connections("tcp")
    return [(each.laddr.ip, each.laddr.port) for each in found if each.status == "LISTEN"]


class _RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def frame_that_makes(path: Path) -> bytes:
    """An xoscar message without a key; who unpickles it makes the directory."""
    header = pickle.dumps(_RunsCode(path))
    return struct.pack("<BQH", 1, len(header), 0) + header


SEND = """
import socket, sys
host, port, frame = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
with socket.create_connection((host, port), timeout=10) as connection:
    connection.sendall(frame)
    print(connection.recv(1))
"""


def send_as(user: int, address: tuple[str, int], frame: bytes) -> str:
    """What comes back when another user sends something to an address: at most a byte."""
    host, port = address
    return run_as(user, SEND, host, str(port), frame.hex()).stdout.strip()


def free_port() -> int:
    """A port of the loopback address that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
