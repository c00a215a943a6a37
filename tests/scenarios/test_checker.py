"""The checker itself: a whole home has no violation, and each kind of damage is seen."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.scenarios import checker
from tests.scenarios.checker import Violation, check_environment, check_home
from tests.wheels import build_wheel

ENV_ID = "a" * 32
KEY = {"model_name": "glow", "model_engine": "vllm", "python_version": "3.11"}
DEAD = {"host": platform.node(), "pid": 1, "start": "0"}


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _living() -> dict[str, Any]:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {**DEAD, "boot": _boot(), "pid": os.getpid(), "start": fields[19]}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Home:
    """A home with one environment, made by hand, that a key means and this process leases."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "virtualenv"
        self.store = self.root / "store"
        self.env = self.store / "envs" / ENV_ID
        self.link = self.root / "v4" / "glow" / "vllm" / "3.11"
        self.key = self.store / "keys" / "one.json"
        self.lease = self.store / "leases" / ENV_ID / "one.json"
        minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = self.env / "lib" / minor / "site-packages"
        self._build_environment()
        self.link.parent.mkdir(parents=True)
        self.link.symlink_to(os.path.relpath(self.env, self.link.parent))
        _write(self.key, {"key": KEY, "env_id": ENV_ID})
        _write(self.lease, {"process": _living()})
        for name in ("staging", "trash", "locks", "processes", "logs"):
            (self.store / name).mkdir()
        (self.store / "locks" / "key-1.lock").touch()

    def _build_environment(self) -> None:
        self.packages.mkdir(parents=True)
        with zipfile.ZipFile(build_wheel(self.path, "lantern", "1.0")) as wheel:
            wheel.extractall(self.packages)
        (self.env / "bin").mkdir()
        (self.env / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
        (self.env / "bin" / checker.LAUNCHER).symlink_to("python")
        home = Path(os.path.realpath(sys.executable)).parent
        (self.env / "pyvenv.cfg").write_text(f"home = {home}\n")
        locked = [{"name": "lantern", "version": "1.0", "role": "installed"}]
        _write(self.env / checker.LOCK, {"distributions": locked})
        _write(self.env / checker.RECORD, {"env_id": ENV_ID})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _seen(home: Home, *, settled: bool = True, imports: bool = False) -> list[Violation]:
    return check_home(home.path, settled=settled, imports=imports)


def _replace(path: Path, content: str) -> None:
    path.unlink()
    path.write_text(content)


def _lead(home: Home, target: Path | str) -> None:
    home.link.unlink()
    home.link.symlink_to(target)


def _no_use(home: Home) -> None:
    shutil.rmtree(home.root / "v4")
    home.key.unlink()
    shutil.rmtree(home.lease.parent)


def _lost(home: Home) -> None:
    shutil.rmtree(home.root / "v4")
    home.key.unlink()
    shutil.rmtree(home.env)


Damage = Callable[[Home], object]

OF_ENVIRONMENTS: dict[str, tuple[Damage, str]] = {
    "no record": (lambda h: (h.env / checker.RECORD).unlink(), "can't be read"),
    "no lock": (lambda h: (h.env / checker.LOCK).unlink(), "can't be read"),
    "half a record": (lambda h: _replace(h.env / checker.RECORD, '{"env'), "can't be read"),
    "another's record": (lambda h: _write(h.env / checker.RECORD, {"env_id": "b"}), "is of b"),
    "marked": (lambda h: _write(h.env / checker.BROKEN, {}), "marked as broken"),
    "no interpreter": (lambda h: _lead_python(h), "bin/python can't be started"),
    "no launcher": (lambda h: (h.env / "bin" / checker.LAUNCHER).unlink(), "can't be started"),
    "missing file": (lambda h: (h.packages / "lantern.py").unlink(), "lantern.py is missing"),
    "another size": (lambda h: _replace(h.packages / "lantern.py", ""), "has 0 bytes, not"),
    "another content": (
        lambda h: _replace(h.packages / "lantern.py", '__version__ = "2.0"\n'),
        "another content",
    ),
    "no RECORD": (lambda h: next(h.packages.glob("*/RECORD")).unlink(), "RECORD can't be read"),
    "not installed": (
        lambda h: shutil.rmtree(h.packages / "lantern-1.0.dist-info"),
        "lantern is absent, its lock says 1.0",
    ),
    "not locked": (
        lambda h: _write(h.env / checker.LOCK, {"distributions": []}),
        "lantern is 1.0, its lock says absent",
    ),
    "another version": (
        lambda h: _write(
            h.env / checker.LOCK,
            {"distributions": [{"name": "lantern", "version": "2.0", "role": "installed"}]},
        ),
        "lantern is 1.0, its lock says 2.0",
    ),
}

UNACCOUNTED: dict[str, tuple[Damage, str]] = {
    "staging": (lambda h: (h.store / "staging" / "job").mkdir(), "left of a build"),
    "owner": (lambda h: (h.store / "staging" / "job.owner").touch(), "left of a build"),
    "trash": (lambda h: (h.store / "trash" / "x").mkdir(), "left of a removal"),
    "environment": (_no_use, "neither key nor lease"),
    "beside a record": (
        lambda h: (h.key.parent / ".a.json.0123456789ab-77-1.5-0123abcd").touch(),
        "beside",
    ),
    "beside a link": (lambda h: (h.link.parent / ".3.11.0123abcd").symlink_to("x"), "beside"),
    "beside a lease": (
        lambda h: (h.lease.parent / ".a.json.0123456789ab-77-1.5-0123abcd").touch(),
        "beside",
    ),
    "beside an environment's": (lambda h: (h.env / ".x.json.0123abcd").touch(), "beside"),
    "a key's record": (lambda h: shutil.rmtree(h.root / "v4"), "of a key that is gone"),
    "half a key's record": (lambda h: _replace(h.key, "{"), "can't be read"),
    "folder of a model": (lambda h: (h.root / "v3" / "glow").mkdir(parents=True), "empty folder"),
    "file of a key": (lambda h: (h.link.parent / "3.12").touch(), "neither a link nor"),
    "folder of leases": (lambda h: (h.store / "leases" / "b").mkdir(), "environment that is gone"),
    "no leases": (lambda h: h.lease.unlink(), "empty folder"),
    "lease of the dead": (
        lambda h: _write(h.lease, {"process": {**DEAD, "boot": _boot()}}),
        "process that has ended",
    ),
    "lease of another boot": (
        lambda h: _write(h.lease, {"process": {**_living(), "boot": "x"}}),
        "process that has ended",
    ),
    "stranger": (lambda h: (h.root / "what").mkdir(), "belongs to nothing"),
    "stranger in the store": (lambda h: (h.store / "what").touch(), "belongs to nothing"),
    "stranger among locks": (lambda h: (h.store / "locks" / "what").touch(), "is no lock"),
}


def _lead_python(home: Home) -> None:
    (home.env / "bin" / "python").unlink()
    (home.env / "bin" / "python").symlink_to("/nowhere")


def test_a_whole_home_has_no_violation(home: Home) -> None:
    assert _seen(home, imports=True) == []
    assert checker.main(str(home.path)) == 0


def test_it_shares_no_code_with_the_package() -> None:
    assert not re.search(r"(import|from) xinference_venv", Path(checker.__file__).read_text())


def test_an_empty_home_has_no_violation(tmp_path: Path) -> None:
    assert check_home(tmp_path, settled=True) == []


@pytest.mark.parametrize("name", OF_ENVIRONMENTS)
def test_damage_of_an_environment_is_seen_at_every_moment(home: Home, name: str) -> None:
    damage, words = OF_ENVIRONMENTS[name]
    damage(home)
    found = _seen(home, settled=False)
    assert {each.kind for each in found if each.path == str(home.env)} == {"environment"}
    assert words in " ".join(map(str, found))
    assert checker.main(str(home.path)) == 1


@pytest.mark.parametrize("name", UNACCOUNTED)
def test_what_no_one_accounts_for_is_seen_once_all_have_settled(home: Home, name: str) -> None:
    damage, words = UNACCOUNTED[name]
    damage(home)
    found = _seen(home)
    assert found
    assert {each.kind for each in found} <= {"unaccounted", "lease"}
    assert words in " ".join(map(str, found))


@pytest.mark.parametrize("target", ["../../../store/envs/b", "/tmp", "3.11", "../../.."])
def test_a_link_that_leads_to_no_environment_of_the_store_is_seen(home: Home, target: str) -> None:
    _lead(home, target)
    assert [each.kind for each in _seen(home, settled=False)] == ["link"]


def test_an_environment_that_is_itself_a_link_is_no_environment(home: Home, tmp_path: Path) -> None:
    home.env.rename(tmp_path / "elsewhere")
    home.env.symlink_to(tmp_path / "elsewhere")
    assert "link" in {each.kind for each in _seen(home, settled=False)}


def test_a_living_process_that_has_lost_its_environment_is_seen(home: Home) -> None:
    _lost(home)
    [found] = _seen(home, settled=False)
    assert found.kind == "lease"
    assert f"process {os.getpid()} has lost {home.env}" in found.text


def test_a_lease_that_cannot_be_read_is_seen(home: Home) -> None:
    _replace(home.lease, "{")
    assert [each.kind for each in _seen(home, settled=False)] == ["lease"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("raise RuntimeError('out of oil')\n", "out of oil"),
        ('__version__ = "2.0"\n', "says that it is 2.0, not 1.0"),
    ],
)
def test_an_environment_whose_modules_cannot_be_imported_is_seen(
    home: Home, content: str, words: str
) -> None:
    shutil.rmtree(home.packages)
    home.packages.mkdir()
    with zipfile.ZipFile(
        build_wheel(home.path, "lantern", "1.0", modules={"lantern.py": content})
    ) as wheel:
        wheel.extractall(home.packages)
    [found] = check_environment(home.env)
    assert found.kind == "import"
    assert words in found.text


def test_a_module_that_comes_from_elsewhere_is_seen(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (home.packages / "lantern.py").rename(outside / "lantern.py")
    (home.packages / "lantern.py").symlink_to(outside / "lantern.py")
    [found] = check_environment(home.env)
    assert "lantern is imported from" in found.text


def test_an_interpreter_that_cannot_be_started_is_seen(home: Home) -> None:
    _replace(home.env / "bin" / "python", "#!/nowhere\n")
    (home.env / "bin" / "python").chmod(0o755)
    [found] = check_environment(home.env)
    assert found.kind == "import"


def test_notes_of_processes_are_seen(home: Home) -> None:
    _write(home.store / "processes" / "1.json", {"process": DEAD})
    assert [each.kind for each in _seen(home)] == ["process"]


async def test_a_uv_that_still_works_in_the_store_is_seen(home: Home) -> None:
    staged = home.store / "staging" / "job"
    uv = await asyncio.create_subprocess_exec(
        *(find_uv_bin(), "pip", "compile", "-", "--no-config", "--offline"),
        *("--cache-dir", str(staged)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        found = [each for each in _seen(home) if each.kind == "process"]
    finally:
        uv.kill()
        await uv.communicate()
    [process] = found
    assert process.path == f"/proc/{uv.pid}"
    assert [each for each in _seen(home) if each.kind == "process"] == []
