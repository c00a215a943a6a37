"""Inheritance over real packages of PyPI: what breaks in production, and that it does not here."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import xoscar as xo
from uv import find_uv_bin

from tests.index import Index
from tests.scenarios.hosts import Host, another_python, findable, lock_of, of_role, visible
from tests.scenarios.steps import says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import ResolutionFailed
from xinference_venv.planning.lock import Role
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths
from xinference_venv.uv.environment import scrubbed_environment

pytestmark = [pytest.mark.uv, pytest.mark.network]

MakeHost = Callable[..., Host]

FITTED = (
    "importlib.import_module('sklearn.linear_model').LinearRegression()"
    ".fit([[0], [1]], [0, 1]).predict([[2]]).round().tolist()"
)
SUMMED = "int(importlib.import_module('pandas').DataFrame({'a': [1, 2]}).a.sum())"


@pytest.fixture(scope="session")
def make_host(tmp_path_factory: pytest.TempPathFactory, uv_cache: Path) -> MakeHost:
    """Makes hosts of real packages, each once for all tests of a run."""
    made: dict[tuple[str, ...], Host] = {}

    def make(*packages: str) -> Host:
        if packages not in made:
            host = Host(prefix=tmp_path_factory.mktemp("hosts") / "host")
            environ = scrubbed_environment(os.environ, cache_dir=str(uv_cache))
            python = os.path.realpath(sys.executable)
            for command in (
                ["venv", str(host.prefix), "--python", python],
                ["pip", "install", "--python", host.python, *packages],
            ):
                subprocess.run(
                    [find_uv_bin(), *command, "--no-config", "--quiet"], check=True, env=environ
                )
            made[packages] = host
        return made[packages]

    return make


def asking(*packages: str, model: str = "glow", **more: Any) -> LaunchRequest:
    """A launch of a model whose packages come from PyPI."""
    find_links = more.pop("find_links", [])
    block = {"packages": packages, "find_links": find_links, "inherit_pip_config": False}
    return LaunchRequest.from_dict({"model_name": model, "virtualenv": block, **more})


# A pure Python package under another that pins it


@pytest.fixture
def aws(make_host: MakeHost, environ: dict[str, str]) -> Host:
    """A host whose botocore needs an old urllib3. Named before `client`, as every host."""
    host = make_host("botocore==1.29.165", "requests==2.31.0", "urllib3==1.26.20")
    host.serve(environ)
    return host


async def test_a_model_that_fits_the_host_keeps_it_whole(
    aws: Host, client: Client, layout: StorePaths
) -> None:
    env = await client.prepare(asking("requests"))
    assert of_role(lock_of(layout, env), Role.INSTALLED) == {}
    assert await says(env.python, version_of("urllib3")) == "1.26.20"
    assert await says(env.python, version_of("botocore.session")) is not None


async def test_what_a_newer_urllib3_breaks_is_hidden(
    aws: Host, client: Client, layout: StorePaths
) -> None:
    env = await client.prepare(asking("urllib3>=2.2", "requests"))
    assert of_role(lock_of(layout, env), Role.INSTALLED).keys() == {"urllib3"}
    assert of_role(lock_of(layout, env), Role.HIDDEN) == {"botocore": "1.29.165"}
    assert await findable(env, "botocore", "requests") == ["requests"]
    assert "botocore" not in await visible(env)
    assert await says(env.python, version_of("requests")) == "2.31.0"


@pytest.mark.parametrize("asked", ["by the cluster", "by the model"])
async def test_what_is_needed_with_a_newer_urllib3_is_resolved_afresh(
    aws: Host, client: Client, asked: str
) -> None:
    if asked == "by the cluster":
        request = asking("urllib3>=2.2", must_import=["botocore"])
    else:
        request = asking("urllib3>=2.2", "botocore")
    env = await client.prepare(request)
    seen = await visible(env)
    assert seen["urllib3"].startswith("2.")
    assert seen["botocore"] != "1.29.165"
    used = "type(importlib.import_module('botocore.session').Session()).__name__"
    assert await says(env.python, used) == "Session"


async def test_what_can_not_be_had_together_fails_with_the_names_of_both(
    aws: Host, client: Client
) -> None:
    with pytest.raises(ResolutionFailed) as caught:
        await client.prepare(asking("urllib3>=2.2", "botocore==1.29.165"))
    words = " ".join(str(caught.value).split())
    assert "botocore==1.29.165 depends on urllib3" in words
    assert "urllib3>=2.2" in words
    # The request contradicts itself: no way around the host helps.
    assert caught.value.hint == "ask for other versions"


# Compiled packages over numpy


@pytest.fixture
def sciences(make_host: MakeHost, environ: dict[str, str]) -> Host:
    """A host with the classics, all compiled against numpy 1."""
    host = make_host("numpy==1.26.4", "pandas==2.1.4", "scipy==1.11.4", "scikit-learn==1.3.2")
    host.serve(environ)
    return host


@pytest.mark.parametrize("mode", ["host", "exact"])
async def test_a_newer_numpy_hides_what_was_compiled_against_the_older_one(
    sciences: Host, client: Client, mode: str
) -> None:
    env = await client.prepare(asking("numpy>=2", inherit=mode))
    assert (await visible(env))["numpy"].startswith("2.")
    assert await findable(env, "numpy", "pandas", "scipy", "sklearn") == ["numpy"]
    added = "importlib.import_module('numpy').arange(3).sum().item()"
    assert await says(env.python, added) == 3


@pytest.mark.parametrize("mode", ["host", "exact"])
async def test_what_a_model_uses_over_a_newer_numpy_works(
    sciences: Host, client: Client, layout: StorePaths, mode: str
) -> None:
    request = asking("numpy>=2", "scikit-learn", "pandas", inherit=mode)
    env = await client.prepare(request)
    lock = lock_of(layout, env)
    assert {"numpy", "scipy", "scikit-learn", "pandas"} <= of_role(lock, Role.INSTALLED).keys()
    # What numpy has nothing to do with is still the host's.
    assert {"joblib", "threadpoolctl", "pytz"} & of_role(lock, Role.INHERITED).keys()
    assert await says(env.python, FITTED) == [2.0]
    assert await says(env.python, SUMMED) == 3


# Builds that no index has


async def test_a_torch_that_no_index_has_is_inherited_and_nothing_of_cuda_comes(
    environ: dict[str, str], tmp_path: Path, layout: StorePaths
) -> None:
    host = Host.make(tmp_path / "host", environ)
    torch = "2.8.0a0+34c6371d24.nv25.8"
    source = f"__version__ = {torch!r}\n"
    needs = ("filelock", "typing-extensions>=4.10.0", "sympy>=1.13.3", "networkx", "jinja2")
    host.add("torch", torch, *needs, "fsspec", files={"torch/__init__.py": source})
    host.add("torchvision", "0.23.0a0+428a54c9", "numpy", f"torch=={torch}", "pillow>=5.3.0")
    host.add("triton", "3.3.1+gitdeadbeef")
    async with local_client(environ) as client:
        env = await client.prepare(asking("accelerate", "peft"))
        lock = lock_of(layout, env)
        installed = of_role(lock, Role.INSTALLED)
        assert {"accelerate", "peft"} <= installed.keys()
        assert of_role(lock, Role.INHERITED) == {"torch": torch}
        assert [name for name in installed if name.startswith(("nvidia", "cuda", "triton"))] == []
        assert await says(env.python, version_of("torch")) == torch
        assert await findable(env, "accelerate", "peft", "torchvision") == [
            "accelerate",
            "peft",
            "torchvision",
        ]


# Hosts over hosts, and other interpreters


async def test_a_host_that_shows_another_one_is_inherited_from_to_its_end(
    aws: Host, environ: dict[str, str], tmp_path: Path, layout: StorePaths
) -> None:
    outer = Host.make(tmp_path / "outer", environ)
    (outer.site / "nested.pth").write_text(f"import site; site.addsitedir({str(aws.site)!r})\n")
    async with local_client(environ) as client:
        whole = await client.prepare(asking("requests"))
        assert of_role(lock_of(layout, whole), Role.INSTALLED) == {}
        assert await says(whole.python, version_of("urllib3")) == "1.26.20"

        env = await client.prepare(asking("urllib3>=2.2", "requests"))
        assert of_role(lock_of(layout, env), Role.INSTALLED).keys() == {"urllib3"}
        assert await findable(env, "botocore", "requests") == ["requests"]


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """The model's class as this process knows it: by name, without its packages."""
    module = types.ModuleType("inheritance_model")
    exec("import xoscar as xo\n\nclass Model(xo.StatelessActor): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "inheritance_model", module)
    found: type[Any] = module.Model
    return found


async def test_a_model_of_another_python_is_called_with_the_xoscar_of_the_host(
    environ: dict[str, str],
    index: Index,
    tmp_path: Path,
    layout: StorePaths,
    model_class: type[Any],
) -> None:
    source = (
        "import platform\nimport xoscar as xo\n\n\nclass Model(xo.StatelessActor):\n"
        "    def report(self, words):\n"
        "        return platform.python_version(), [*words, 'heard']\n"
    )
    folder = tmp_path / "links"
    folder.mkdir()
    build_wheel(folder, "inheritance-model", "99.0", modules={"inheritance_model.py": source})
    environ["XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"] = str(folder)
    async with local_client(environ) as client:
        other = await another_python(client, index)
        packages = ["inheritance-model==99.0"]
        request = asking(*packages, python_version=other, find_links=[str(folder)])
        env = await client.prepare(request)
        lock = lock_of(layout, env)
        assert of_role(lock, Role.INHERITED) == {}
        assert of_role(lock, Role.INSTALLED)["xoscar"] == version("xoscar")

        process = await client.start(env, label="another")
        model = await xo.create_actor(model_class, address=process.address, uid="model")
        told, answer = await model.report(["said"])
        assert told.startswith(f"{other}.") and told != platform.python_version()
        assert answer == ["said", "heard"]
