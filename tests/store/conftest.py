"""What the tests with the real disk share: a store, environments in it, processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.fakes import key, lock, wheel_package
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Lease, ProcessIdentity
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.first_seen import FirstSeen
from xinference_venv.store.process_identity import identify, this_process
from xinference_venv.store.removal import remove_entries
from xinference_venv.store.store import Store, interpreter_facts

REAL_PYTHON = os.path.realpath(sys.executable)


def known_for_long(root: Path) -> Store:
    """A store whose home has always been where it is."""
    store = Store.open(root)
    path = store.layout.store / "first-seen.json"
    seen = FirstSeen.from_dict(store.disk.read_json(path))
    store.disk.write_json(path, replace(seen, since=0.0).to_dict(), durable=False)
    return Store.open(root)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return known_for_long(tmp_path / "home" / "virtualenv")


@pytest.fixture
def children() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that do nothing until they are ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()


def identity_of(child: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = identify(child.pid)
    assert identity is not None
    return identity


def ended_process() -> ProcessIdentity:
    """The identity of a process of this host that has lived."""
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(child)
    child.communicate()
    return identity


def lock_of(*names: str) -> EnvLock:
    return lock(*map(wheel_package, names))


def env_record(of: EnvLock) -> EnvRecord:
    return EnvRecord.of(
        of,
        size_bytes=1234,
        files=1,
        created=time.time(),
        interpreter=interpreter_facts(REAL_PYTHON),
    )


def staged(store: Store, job_id: str = "job", content: str = "built") -> Path:
    """What a build has made, before it is published."""
    env = store.make_staging_folder(job_id) / "env"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").write_text(content)
    return env


def publish(store: Store, of: EnvLock, *, job_id: str = "job", content: str = "built") -> Lease:
    """A published environment, kept by the lease that is returned alone."""
    env = staged(store, job_id, content)
    store.describe(env, env_record(of), of)
    lease = store.publish(env, env_record(of), model_name="a-model", process=this_process())
    store.delete_trashed(store.trash_staging_folder(job_id))
    return lease


def key_record(of: EnvKey, env_id: str, last_used: float = 1_700_000_000.0) -> KeyRecord:
    return KeyRecord(
        key=of,
        env_id=env_id,
        spec_digest="a spec",
        host_fingerprint="a host",
        created=1_700_000_000.0,
        last_used=last_used,
    )


def attached(store: Store, *names: str, of: EnvKey | None = None) -> str:
    """The id of an environment that a key means and that nobody uses."""
    made = lock_of(*names)
    lease = publish(store, made, job_id=f"job-{'-'.join(names)}")
    store.point_key(key_record(of or key(), made.env_id))
    store.leases.release(made.env_id, lease.lease_id)
    return made.env_id


def remove_entry(store: Store, entry: EnvEntry) -> bool:
    """Remove an entry with its files; tells whether these are gone, raises why it stays."""
    [removed] = remove_entries(store, [entry])
    store.delete_trashed(removed.trashed)
    if removed.error is not None:
        raise removed.error
    return removed.gone


def tree(folder: Path) -> list[str]:
    """Everything below a folder, links not followed."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def envs(store: Store) -> list[str]:
    return sorted(each.name for each in store.layout.envs.iterdir())


def rubbish(store: Store) -> list[str]:
    return tree(store.layout.staging) + tree(store.layout.trash)


def lease_by(store: Store, env_id: str, child: subprocess.Popen[bytes]) -> None:
    store.take_lease(env_id, model_name="a-model", model_uid=None, process=identity_of(child))


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


def make_venv(env: Path) -> Path:
    """A real environment of the running interpreter; its site-packages are returned."""
    subprocess.run(
        [
            *(find_uv_bin(), "venv", str(env), "--relocatable", "--python", REAL_PYTHON),
            *("--quiet", "--no-config", "--no-project"),
        ],
        check=True,
        env={"PATH": os.environ["PATH"], "UV_CACHE_DIR": str(env.parent / "uv-cache")},
    )
    [site_packages] = env.glob("lib/python3*/site-packages")
    return site_packages
