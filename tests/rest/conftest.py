"""A server as an operator starts it, over actors of its own process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.daemons import daemons
from tests.wheels import build_wheel

TOKEN = "a token with all scopes"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server and a client of it; `wheels` is a folder that launches may use."""

    url: str
    ask: httpx.Client
    home: Path
    wheels: Path
    said: Path

    def launch(self, model_name: str, *packages: str) -> dict[str, object]:
        """The body of a launch of packages of the folder."""
        block = {"packages": packages, "find_links": [str(self.wheels)]}
        return {"model_name": model_name, "virtualenv": block}


@pytest.fixture
def server(tmp_path: Path, environ: Mapping[str, str]) -> Iterator[Server]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    build_wheel(wheels, "small", "1.0", requires=["smaller"])
    build_wheel(wheels, "smaller", "2.0")
    tokens = tmp_path / "tokens"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens.write_text(
        f"sha256:{digest} virtualenv:list virtualenv:create virtualenv:delete\n", encoding="utf-8"
    )
    tokens.chmod(0o600)
    variables = {
        "XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL": "1",
        "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS": str(wheels),
    }
    with daemons(tmp_path / "d", environ) as running:
        options = ("--port", "0", "--token-file", str(tokens))
        web = running.start("web", *options, **variables).ready()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=web.address, headers=headers, timeout=60.0) as ask:
            yield Server(url=web.address, ask=ask, home=web.home, wheels=wheels, said=web.log)
        assert web.end() == 0
        assert "Traceback" not in web.said
