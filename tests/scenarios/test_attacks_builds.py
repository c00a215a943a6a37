"""What the code of a build can read of secrets, run with the real uv and git."""

from __future__ import annotations

import base64
import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.steps import asking
from tests.wheels import build_sdist, git_repository
from xinference_venv.client import local_client
from xinference_venv.settings import WIRE_KEY_VARIABLE

pytestmark = pytest.mark.uv

# Notes its own variables, the command lines of all processes above it and what is in its open
# files, whenever it is imported.
_SPY = """
import os
seen = [repr(dict(os.environ))]
pid = os.getpid()
while pid > 1:
    seen.append(open(f"/proc/{pid}/cmdline", errors="replace").read())
    if pid != int(os.environ["SPIED_OWNER"]):
        seen.append(open(f"/proc/{pid}/environ", errors="replace").read())
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2:
        try:
            os.set_blocking(int(name), False)
            seen.append(repr(os.read(int(name), 100_000)))
        except OSError:
            pass
with open(os.environ["SPIED"], "a") as file:
    file.write("\\n".join(seen) + "\\n")
"""


async def test_a_build_reads_neither_the_key_nor_passwords_of_indexes(
    environ: dict[str, str], tmp_path: Path, index: Index
) -> None:
    spied = tmp_path / "spied"
    build_sdist(tmp_path / "wheels", "curious", "1.0", backend=_SPY)
    url = index.require_auth("somebody", "password-of-the-index")
    environ["SPIED"] = str(spied)
    # Of this process: what it was started with is the tests' own affair.
    environ["SPIED_OWNER"] = str(os.getpid())
    block = {"packages": ["curious"], "index_url": url, "inherit_pip_config": False}
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, virtualenv=block))
    assert made.env_id is not None
    seen = spied.read_text()
    assert "PATH" in seen
    assert environ[WIRE_KEY_VARIABLE] not in seen
    assert "password-of-the-index" not in seen
    assert base64.b64encode(b"somebody:password-of-the-index").decode() not in seen


@contextmanager
def _private_repository(folder: Path) -> Iterator[str]:
    """Serves a bare repository to who has the password; comes with host and port."""
    expected = "Basic " + base64.b64encode(b"me:password-of-git").decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") == expected:
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests say nothing."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


async def test_the_password_of_a_repository_is_in_no_argument_vector(
    environ: dict[str, str], tmp_path: Path, index: Index
) -> None:
    served = _bare_repository(tmp_path)
    trace = tmp_path / "trace"
    # git notes in it whatever program it runs, with all arguments.
    environ["GIT_TRACE"] = str(trace)
    with _private_repository(served) as host:
        line = f"tool @ git+http://me:password-of-git@{host}/tool.git"
        async with local_client(environ) as client:
            made = await client.prepare(asking(index, line))
    assert made.env_id is not None
    traced = trace.read_text()
    assert f"http://{host}/tool.git" in traced
    assert "password-of-git" not in traced
    assert _files_with(b"password-of-git", Path(environ["XINFERENCE_HOME"])) == []


def _bare_repository(folder: Path) -> Path:
    """A folder with ``tool.git``, as a server of files alone may have it."""
    repository = git_repository(build_sdist(folder, "tool", "1.0"), folder / "repository")
    bare = folder / "served" / "tool.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repository), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    return bare.parent


def _files_with(secret: bytes, folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if secret in path.read_bytes()]
