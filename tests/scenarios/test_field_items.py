"""One odd item in a store: it is named with its path, and all else goes on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.field import STRANGER, Field, Said, open_field

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]


@pytest.fixture
def field(index: Index, uv_cache: Path) -> Iterator[Field]:
    with open_field(index, uv_cache) as opened:
        yield opened


def skipped(said: Said) -> dict[str, str]:
    """Reason by path of what a listing names as skipped."""
    return {each["path"]: each["reason"] for each in said.document["skipped"]}


def check_all_else_goes_on(field: Field) -> None:
    """Another model is launched and removed, garbage collected."""
    launched = field.launch("lantern==2.0", model="shine")
    assert launched.status == 0, launched.errors + launched.output
    for words in (["gc"], ["remove", "shine"]):
        said = field.run(*words)
        assert said.status == 0, (words, said.output)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


def loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES = [
    "hosts/probe-00000000000000000000000000000000.json",
    "processes/0000000000000000-1.json",
    "logs/20260101T000000.000000-abcdef.log",
    "leases/0123456789abcdef",
    "locks/key-00000000000000000000000000000000.lock",
    "stubs/0000",
    "wheels/0000",
    "staging/0000",
    "trash/0000",
    "envs/0000",
    "keys/00000000000000000000000000000000.json",
]


@pytest.mark.parametrize("make", [pipe, device, loop])
def test_what_is_no_regular_file_hangs_nothing_wherever_it_is(
    field: Field, make: Callable[[Path], None]
) -> None:
    assert field.run("list").status == 0
    for place in PLACES:
        make(field.store / place)
    (field.home / "virtualenv" / "models").mkdir()
    make(field.home / "virtualenv" / "models" / "odd.json")
    check_all_else_goes_on(field)
    assert field.run("logs", "glow").status == 3
    found = field.run("doctor")
    assert found.status == 0, found.output + found.errors


@pytest.mark.parametrize("make", [pipe, device, loop])
def test_a_record_that_is_no_regular_file_is_broken_and_heals(
    field: Field, make: Callable[[Path], None]
) -> None:
    env_id = field.launch("lantern==1.0").document["env_id"]
    for name in ("xinference-venv.json", "xinference-venv.lock.json", "key"):
        path = field.store / "envs" / env_id / name
        if name == "key":
            [path] = (field.store / "keys").iterdir()
        path.unlink()
        make(path)
    [entry] = field.run("list", "glow").document["list"]
    assert entry["state"] == "broken"
    again = field.launch("lantern==1.0")
    assert again.status == 0, again.output
    assert field.run("list", "glow").document["list"][0]["state"] == "ready"


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    done = subprocess.run(["chattr", "+i", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this file system has no immutable files: {done.stderr.strip()}")
    try:
        yield
    finally:
        for each in [path, *path.parents[2].glob(f"trash/*/{path.name}"), *_everywhere(path)]:
            subprocess.run(["chattr", "-i", each], capture_output=True, check=False)


def _everywhere(path: Path) -> list[Path]:
    store = next(each for each in path.parents if each.name == "store")
    return [each for each in store.rglob(path.name) if each.is_file()]


def test_a_file_that_can_not_be_deleted_is_named_and_keeps_nothing_else(field: Field) -> None:
    env_id = field.launch("lantern==1.0").document["env_id"]
    with immutable(field.store / "envs" / env_id / "pyvenv.cfg"):
        removed = field.run("remove", "glow")
        assert removed.status == 0, removed.output
        assert not (field.store / "envs" / env_id).exists()
        listed = field.run("list")
        assert listed.document["list"] == []
        [(path, reason)] = skipped(listed).items()
        assert "/trash/" in path and "not permitted" in reason
        check = field.run("doctor").check("store")
        assert check["verdict"] == "warning" and "/trash/" in check["found"]
        check_all_else_goes_on(field)
    assert skipped(field.run("list")) == {}


def test_a_folder_that_can_not_be_moved_is_named_and_others_are_removed(field: Field) -> None:
    env_id = field.launch("lantern==1.0").document["env_id"]
    env = field.store / "envs" / env_id
    subprocess.run(["chattr", "+i", env], check=True)
    try:
        removed = field.run("remove", "glow")
        assert removed.status != 0 and str(env) in removed.output
        assert str(env) in field.run("gc").output
        check_all_else_goes_on(field)
    finally:
        subprocess.run(["chattr", "-i", env], check=True)


CLOSED = ["leases/closed", "trash/closed", "staging/closed", "../v4/closed", "../v3/closed"]


def test_what_another_user_closed_is_named_and_all_else_goes_on(field: Field) -> None:
    field.home.mkdir()
    os.chown(field.home, STRANGER, STRANGER)
    user = field.as_user(STRANGER).having(UV_CACHE_DIR=None, HOME=None)
    env_id = user.launch("lantern==1.0").document["env_id"]
    closed = [Path(os.path.normpath(field.store / each)) for each in CLOSED]
    for path in closed:
        path.mkdir(parents=True)
        # Who owns the folder above may delete an empty one.
        (path / "something").touch()
    spec = field.home / "virtualenv" / "models" / "closed.json"
    spec.parent.mkdir()
    spec.touch()
    env = field.store / "envs" / env_id
    for path in (*closed, spec, env):
        os.chown(path, 0, 0)
        path.chmod(0)
    check_all_else_goes_on(user)
    listed = user.run("list")
    [entry] = listed.document["list"]
    assert entry["state"] == "broken" and str(env) in entry["reason"]
    named = "\n".join(skipped(listed))
    assert [str(path) for path in closed if str(path) not in named] == [], named
    assert user.run("models").status == 0


def test_one_launch_with_sudo_leaves_the_home_to_its_user(field: Field) -> None:
    field.home.mkdir()
    os.chown(field.home, STRANGER, STRANGER)
    user = field.as_user(STRANGER).having(UV_CACHE_DIR=None)
    os.chown(field.environ["HOME"], STRANGER, STRANGER)
    assert user.launch("lantern==1.0").status == 0
    root = field.having(UV_CACHE_DIR=None)
    assert root.launch("lantern==2.0", model="theirs").status == 0
    assert root.launch("lantern==1.0").status == 0
    check_all_else_goes_on(user)
    again = user.launch("lantern==1.0")
    assert again.status == 0, again.output
    listed = user.run("list").document
    assert "list" in listed, listed
    states = {each["model_name"]: each["state"] for each in listed["list"]}
    assert states == {"glow": "ready", "theirs": "ready"}


def test_a_home_on_a_read_only_file_system_can_be_looked_at(field: Field) -> None:
    assert field.launch("lantern==1.0").status == 0
    closed = field.under(
        f"mount --bind {field.home} {field.home}\nmount -o remount,bind,ro {field.home}"
    )
    [entry] = closed.run("list").document["list"]
    assert entry["state"] == "ready"
    assert closed.run("packages", "glow").status == 0
    refused = closed.launch("lantern==2.0", model="shine")
    assert refused.status == 6 and "ead-only" in json.dumps(refused.document)
    assert closed.run("doctor").check("home")["verdict"] == "failed"


MACHINE_ID = Path("/etc/machine-id")
# One that prepares what a model of a container uses, says so, and lives on.
_POD = """
import asyncio, os, sys
from xinference_venv import LaunchRequest, local_client

async def main():
    async with local_client(os.environ) as client:
        await client.prepare(LaunchRequest.from_dict(
            {"model_name": "glow", "virtualenv": {
                "packages": ["lantern==1.0"], "index_url": os.environ["TEST_INDEX"],
                "inherit_pip_config": False}}))
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_lease_of_a_pod_of_the_same_name_is_unknown_until_it_is_released(field: Field) -> None:
    """Two runs of a container under one host name, without machine-id, share a home."""
    pod = replace(
        field.under("mount --bind /dev/null /etc/machine-id" if MACHINE_ID.exists() else ""),
        limits=(
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"),
            *("bash", "-c", 'hostname pod-0 && exec "$@"', "bash"),
        ),
    )
    if subprocess.run(pod.command("true"), check=False).returncode:
        pytest.skip("this machine lets nobody make containers")
    running = subprocess.Popen(
        pod.command(str(pod.python), "-c", _POD), env=dict(pod.environ), stdout=subprocess.PIPE
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        # Linux gives the number of a namespace that has ended to the next one, and then it is known
        # that nobody of the earlier one lives.
        kept = os.open(f"/proc/{running.pid}/ns/pid_for_children", os.O_RDONLY)
        check_is_kept(pod)
    finally:
        running.kill()
        running.communicate()
    try:
        # Whether it is still there, its next run can't know.
        check_is_kept(pod)
        [report] = pod.run("release", "--stale", "1h").document["list"]
        assert report["released"] == []
        [report] = pod.run("release", "--stale", "0s").document["list"]
        assert [each["holder"] for each in report["released"]] == ["unknown"]
        assert pod.run("remove", "glow").status == 0
    finally:
        os.close(kept)


def check_is_kept(pod: Field) -> None:
    """Nothing takes away an environment whose holder is unknown."""
    [lease] = pod.run("leases").document["list"]
    assert lease["holder"] == "unknown"
    assert lease["process"]["host"] == "pod-0"
    refused = pod.run("remove", "glow")
    assert refused.status != 0, refused.output
    assert pod.run("gc", "--max-bytes", "0").status in (0, 8)
    assert pod.run("list").document["list"][0]["state"] == "ready"
