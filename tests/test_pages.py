"""Every command of README and docs is run here as a reader types it, page by page, or is named with
the reason why not.

Pages that show real models ask PyPI; the others have an index of tiny wheels of the same names.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.index import Index
from tests.pages import ROOT, Reader, Step, steps_of
from tests.wheels import build_wheel
from xinference_venv.settings import WIRE_KEY_VARIABLE

# They lead somewhere else, show what others say, or are made from the code.
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pages in (ROOT.glob("README*.md"), (ROOT / "docs").rglob("*.md"))
    for page in pages
    if "build" not in page.relative_to(ROOT).parts
)
TRANSLATIONS = {"README.zh.md": "README.md", "docs/tutorial.zh.md": "docs/tutorial.md"}
"""Pages that have the commands of others: test_docs_commands sees to that."""

NOT_RUN = {
    ("docs/contributing.md", ""): "of this suite, and of what .ci/run runs",
    ("docs/cluster.md", "xinference-venv prefetch"): "takes a numpy of PyPI;"
    " tests/scenarios/test_prefetch.py",
    ("docs/field.md", "pytest"): "of this suite",
    ("docs/benchmarks.md", ""): "benchmarks, minutes to hours each",
    ("docs/measured.md", ""): "benchmarks, minutes to hours each",
    ("docs/examples.md", ""): "hundreds of MB of torch; tests/scenarios/test_examples.py starts it",
    ("docs/embedding.md", "python examples/"): "a minute of PyPI; tests/scenarios/test_examples.py",
    ("docs/how-to/services.md", ""): "takes systemd, and is root's to do",
    ("docs/how-to/kubernetes.md", ""): "takes Kubernetes; tests/test_kubernetes_page.py reads it",
    ("docs/how-to/xinference-docker.md", "docker"): "takes docker, and an image of 10 GB",
    ("docs/xinference.md", "pip install"): "the environment of the tests has it already",
    ("docs/xinference.md", "python -m"): "takes Xinference; scripts/xinference-check runs it",
    ("docs/xinference.md", "systemctl"): "takes systemd and a service of Xinference",
    ("docs/how-to/gpu.md", "xinference-venv launch GOT-OCR2_0"): "resolves torch on PyPI",
    ("docs/how-to/gpu.md", "xinference-venv launch qwen2.5-omni"): "resolves vllm on PyPI",
    **{
        (page, "pip uninstall"): "leaves nothing to run the next page with"
        for page in ("docs/how-to/disk.md", "docs/xinference.md")
    },
    ("docs/how-to/disk.md", "uv cache clean"): "leaves the next page to fetch all again",
    ("docs/how-to/disk.md", "xinference-venv launch magika-1 #"): "takes a disk that is full;"
    " tests/scenarios/test_disk_faults.py makes one",
    **{
        ("docs/how-to/patching.md", begins): "takes the package wheel of PyPI"
        for begins in ("pip install wheel", "python -m wheel", "edit", "sed", "mv")
    },
    ("docs/how-to/patching.md", "xinference-venv launch lamp --spec lamp.json -vp"): "takes a"
    " server of Git; tests/scenarios/test_source_builds.py has repositories",
    ("docs/how-to/python-versions.md", "xinference-venv launch magika-1 --python-version 3.9"): (
        "takes a host without Python 3.9"
    ),
    ("README.md", ""): "hundreds of MB of PyPI; scripts/test-fresh runs it on an empty Debian",
}
"""By page, and how a command begins: why it is not run."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How a page is followed.

    `first` is what its reader has done already; `before` what is done before the command that
    begins so, which the page has in words or leaves to its reader.
    """

    first: tuple[str, ...] = ()
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


CTRL_C = "Ctrl-C in every terminal"
KEY = "export XOSCAR_AUTH_KEY=a-secret"
SPECIFY = """specify() {
    mkdir -p ~/.xinference/virtualenv/models
    echo "{\\"model_name\\": \\"$1\\", \\"virtualenv\\": {\\"packages\\": [$2]}}" \\
        >~/.xinference/virtualenv/models/$1.json
}"""
SUPERVISOR = "xinference-venv supervisor --host 10.0.0.1"
NEW_HOME = "export XINFERENCE_HOME=$(mktemp -d)"


def worker(number: int, supervisor: str = "10.0.0.1") -> str:
    """Starts a worker of a cluster."""
    network = supervisor.rpartition(".")[0]
    return f"xinference-venv worker --supervisor {supervisor}:9797 --host {network}.{number}"


REAL = {
    "docs/tutorial.md": Scenario(before={"xinference-venv remove --all": (CTRL_C,)}),
}
"""Of real packages, in the virtual environment that the page makes, next to a checkout."""

SCENARIOS = {
    "docs/cli.md": Scenario(
        first=(
            SPECIFY,
            """specify glow '"lantern==1.0"'; specify shine '"lantern==1.0"'""",
            """specify toy '"six"'; specify toy2 '"six", "wick"'""",
            *(f"xinference-venv launch {each}" for each in ("glow", "shine", "toy", "toy2")),
        ),
        before={"xinference-venv watch": (KEY, SUPERVISOR, worker(2))},
    ),
    "docs/cluster.md": Scenario(
        before={
            "xinference-venv supervisor --host 127.0.0.1": (CTRL_C,),
            "export XINFERENCE_VENV_SUPERVISOR=10": (
                *(CTRL_C, SUPERVISOR),
                *(worker(2), worker(3), worker(4)),
            ),
        }
    ),
    "docs/how-to/air-gapped.md": Scenario(
        first=(KEY, SUPERVISOR),
        before={
            "xinference-venv import": (
                "xinference-venv supervisor --host 10.9.0.1",
                worker(2, "10.9.0.1"),
            ),
            "xinference-venv launch magika-1": (NEW_HOME,),
            "export XINFERENCE_VIRTUAL_ENV_FIND_LINKS": ("export PIP_CONFIG_FILE=/dev/null",),
            "ls wheels": ("cp wheels/* /srv/wheels",),
        },
    ),
    "docs/how-to/disk.md": Scenario(
        first=(
            *(SPECIFY, """specify lamp '"lantern"'"""),
            *("xinference-venv launch lamp", "xinference-venv launch magika-1"),
        ),
        # The last command before files are found damaged.
        before={
            "export XINFERENCE_VIRTUAL_ENV_MAX_UNUSED": (
                "rm $(find /data/.xinference -path '*/dotenv/main.py')",
            )
        },
    ),
    "docs/how-to/gpu.md": Scenario(
        first=(SPECIFY, """specify my-model '"accel"'""", "cp ~/.xinference/*/models/*.json .")
    ),
    "docs/how-to/mirror.md": Scenario(
        first=(SPECIFY, """specify lamp '"lantern"'""", "cp ~/.xinference/*/models/*.json .")
    ),
    "docs/how-to/moving-from-xinference.md": Scenario(
        first=(
            "python=$(python -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])')",
            "old=~/.xinference/virtualenv",
            "for each in v2/qwen2.5-omni v3/magika-1/$python v4/lamp/vllm/$python; do"
            " python -m venv --without-pip $old/$each || exit; done",
        ),
        before={
            "xinference-venv launch magika-1": (
                "$old/v3/magika-1/$python/bin/python -c 'import time; time.sleep(900)' &",
            ),
            "ls -l": ("kill %1", "wait || true", "xinference-venv launch magika-1"),
        },
    ),
    "docs/how-to/patching.md": Scenario(),
    "docs/how-to/python-versions.md": Scenario(),
    "docs/metrics.md": Scenario(
        first=(
            KEY,
            SUPERVISOR,
            worker(2),
            "xinference-venv web --supervisor 10.0.0.1:9797 --port WEB_PORT",
        )
    ),
    "docs/rest.md": Scenario(
        first=(
            "export XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS=/srv",
            "xinference-venv web --port WEB_PORT",
        )
    ),
    "docs/troubleshooting.md": Scenario(first=("xinference-venv launch magika-1",)),
    "docs/xinference.md": Scenario(),
}


def is_run(step: Step) -> bool:
    """Whether no reason stands against it."""
    return reason(step) is None


def reason(step: Step) -> tuple[str, str] | None:
    """The entry of `NOT_RUN` that a command is of."""
    found = [key for key in NOT_RUN if key[0] == step.page and step.command.startswith(key[1])]
    return found[0] if found else None


def commands_of(page: str) -> list[Step]:
    return [each for each in steps_of(page) if isinstance(each, Step)]


def test_every_command_of_every_page_is_run_or_has_a_reason_why_not() -> None:
    without = [
        str(step)
        for page in PAGES
        if page not in TRANSLATIONS and page not in (*SCENARIOS, *REAL)
        for step in commands_of(page)
        if is_run(step)
    ]
    assert without == []


def test_no_reason_is_of_a_command_that_is_gone() -> None:
    used = {reason(step) for page in PAGES for step in commands_of(page)}
    assert set(NOT_RUN) - used == set()
    begun = [
        (page, begins)
        for page, scenario in (*SCENARIOS.items(), *REAL.items())
        for begins in scenario.before
        if not any(each.command.startswith(begins) for each in commands_of(page) if is_run(each))
    ]
    assert begun == []
    assert all((ROOT / page).exists() for page in (*SCENARIOS, *REAL, *TRANSLATIONS))


@pytest.fixture
def tiny_wheels(tmp_path: Path, index: Index) -> None:
    """What the pages launch, as small as it can be."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "wick", "1.0")
    build_wheel(folder, "lantern", "1.0", requires=["wick"])
    build_wheel(folder, "lantern", "2.0", requires=["wick"])
    build_wheel(folder, "six", "1.17.0")
    build_wheel(folder, "xoscar", importlib.metadata.version("xoscar"))
    build_wheel(folder, "torch", "2.8.0")
    build_wheel(folder, "accel", "1.0", requires=["torch"])
    for name in ("wheels", "wheels-ours"):
        (tmp_path / "srv" / name).mkdir(parents=True)
    build_wheel(tmp_path / "srv" / "wheels", "tinylib", "1.0")
    build_wheel(tmp_path / "srv" / "wheels-ours", "lantern", "2.0+ours.1", requires=["wick"])
    build_wheel(folder, "python-dotenv", "1.2.4", modules={"dotenv/main.py": ""})
    for version in ("0.6.3", "1.0.1"):
        build_wheel(folder, "magika", version, requires=["python-dotenv"])


@pytest.fixture
def reader(
    tmp_path: Path, environ: Mapping[str, str], index: Index, tiny_wheels: None
) -> Iterator[Reader]:
    """Somebody with a home and a folder that are new, and addresses that nobody else uses."""
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    ours = {"XINFERENCE_HOME", "XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE", WIRE_KEY_VARIABLE}
    kept = {name: value for name, value in environ.items() if name not in ours}
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    network = f"127.{os.getpid() % 200 + 20}"
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory() as sockets:
        variables = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "TMPDIR": sockets,
            "PIP_CACHE_DIR": str(tmp_path / "pip-cache"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": index.url,
        }
        meanings = {
            r"(?<![\w./~])/srv\b": f"{tmp_path}/srv",
            r"(?<![\w./~])/data\b": f"{tmp_path}/data",
            r"/etc/pip\.conf": f"{tmp_path}/home/.config/pip/pip.conf",
            r"\b10\.0\.0\.(?=\d)": f"{network}.0.",
            r"\b10\.9\.0\.(?=\d)": f"{network}.9.",
            r"\b127\.0\.0\.1:9797\b": f"{network}.0.1:9797",
            r"(?<=--host )127\.0\.0\.(?=\d)": f"{network}.0.",
            r"\b127\.0\.0\.1:9798\b": f"127.0.0.1:{port}",
            "WEB_PORT": str(port),
            r"https://mirror\.example/simple": index.url,
        }
        with Reader(folder=folder, environ=variables, meanings=meanings) as running:
            yield running


def follow(reader: Reader, page: str) -> None:
    """Take every step of a page, with what its scenario does before."""
    scenario = REAL.get(page) or SCENARIOS[page]

    def do(command: str) -> None:
        if command == CTRL_C:
            reader.close_terminals()
            return
        reader.follow(Step(page=page, line=0, command=command))

    for command in scenario.first:
        do(command)
    for step in steps_of(page):
        if isinstance(step, Step):
            if not is_run(step):
                continue
            for begins, commands in scenario.before.items():
                if step.command.startswith(begins):
                    for command in commands:
                        do(command)
        reader.follow(step)


@pytest.mark.uv
@pytest.mark.skipif(sys.platform != "linux", reason="other loopback addresses are those of Linux")
@pytest.mark.parametrize("page", SCENARIOS)
def test_the_commands_of_a_page_do_what_it_says(page: str, reader: Reader) -> None:
    follow(reader, page)


@pytest.mark.uv
@pytest.mark.network
@pytest.mark.parametrize("page", REAL)
def test_the_commands_of_a_page_about_real_models_do_what_it_says(
    page: str, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    checkout = folder / "xinference-venv"
    checkout.mkdir(parents=True)
    for name in ("README.md", "setup.cfg", "pyproject.toml", "LICENSE", "MANIFEST.in"):
        shutil.copy2(ROOT / name, checkout)
    shutil.copytree(ROOT / "xinference_venv", checkout / "xinference_venv")
    (tmp_path / "home").mkdir()
    # Indexes as they are configured here.
    ours = ("XINFERENCE_", "XOSCAR_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with tempfile.TemporaryDirectory() as sockets:
        variables = {**kept, "HOME": str(tmp_path / "home"), "TMPDIR": sockets}
        variables["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        with Reader(folder=folder, environ=variables) as reader:
            follow(reader, page)
