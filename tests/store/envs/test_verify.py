"""A close look at whole and damaged environments, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import key
from tests.store.conftest import REAL_PYTHON, end, key_record, lease_by, lock_of, rubbish, tree
from tests.wheels import fake_distribution
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvRecord
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.broken_marker import FAULTS_KEPT
from xinference_venv.store.envs.inspect import inspect_env
from xinference_venv.store.envs.verify import (
    CHECKED_SECONDS,
    broken_at_a_glance,
    check_env,
    due_envs,
    lease_of_lock,
)
from xinference_venv.store.paths import (
    BROKEN_NAME,
    LAYER_NAME,
    LOCK_NAME,
    OWN_FILES_NAME,
    RECORD_NAME,
)
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store, interpreter_facts

SITE = "lib/python3.11/site-packages"
Children = Callable[[], subprocess.Popen[bytes]]


def publish(store: Store, *names: str, job_id: str = "job") -> str:
    """The id of an environment that is whole in every file, and that nobody uses."""
    lock = lock_of(*names)
    env = store.make_staging_folder(job_id) / "env"
    for name in names:
        module = name.replace("-", "_")
        fake_distribution(env / SITE, name, "1.0", files={f"{module}/__init__.py": "x = 1\n"})
    (env / "bin").mkdir()
    (env / "bin" / "python").symlink_to(REAL_PYTHON)
    (env / "bin" / "activate").write_text("# activates\n")
    host = store.layout.root / "host"
    host.mkdir(exist_ok=True)
    (host / "of_the_host.py").write_text("")
    (env / LAYER_NAME / "0").mkdir(parents=True)
    (env / LAYER_NAME / "0" / "of_the_host.py").symlink_to(host / "of_the_host.py")
    inspection = inspect_env(env, env / SITE)
    assert inspection.faults == ()
    own_files = {"version": 1, "sizes": dict(inspection.own_files)}
    store.disk.write_json(env / OWN_FILES_NAME, own_files, durable=True)
    record = EnvRecord.of(
        lock,
        size_bytes=inspection.size_bytes,
        files=inspection.files,
        created=time.time(),
        interpreter=interpreter_facts(REAL_PYTHON),
    )
    store.describe(env, record, lock)
    lease = store.publish(env, record, model_name="a-model", process=this_process())
    store.delete_trashed(store.trash_staging_folder(job_id))
    store.point_key(key_record(key(job_id), lease.env_id))
    store.leases.release(lease.env_id, lease.lease_id)
    return lease.env_id


def look(store: Store, env_id: str, *, hashes: bool = False) -> tuple[str, ...] | None:
    return check_env(store, env_id, hashes=hashes, pause=lambda: None)


def flip(env: Path) -> None:
    """Change a byte, and no size."""
    (env / SITE / "numpy" / "__init__.py").write_text("x = 2\n")


def test_a_whole_environment_has_no_fault_and_gets_no_mark(store: Store) -> None:
    env_id = publish(store, "numpy", "torch")
    assert look(store, env_id) == ()
    assert look(store, env_id, hashes=True) == ()
    assert not (store.layout.env(env_id) / BROKEN_NAME).exists()


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda env: (env / SITE / "numpy" / "__init__.py").unlink(), f"{SITE}/numpy/__init__.py is m"),
    (lambda env: (env / SITE / "numpy" / "__init__.py").write_text("x"), "has 1 bytes, its RECORD"),
    (lambda env: (env / SITE / "numpy-1.0.dist-info" / "RECORD").unlink(), "RECORD can't be read"),
    (lambda env: (env / SITE / "numpy-1.0.dist-info" / "RECORD").write_text(""), "RECORDs name 5"),
    (lambda env: shutil.rmtree(env / SITE / "numpy-1.0.dist-info"), "numpy is in the lock and not"),
    (lambda env: fake_distribution(env / SITE, "extra", "1.0"), "extra is installed and not in"),
    (
        lambda env: (env / SITE / "numpy-1.0.dist-info").rename(env / SITE / "numpy-2.0.dist-info"),
        "numpy 2.0 is installed, the lock says 1.0",
    ),
    (lambda env: shutil.rmtree(env / SITE), "its packages can't be looked at"),
    (lambda env: (env / "bin" / "activate").unlink(), "bin/activate is missing"),
    (lambda env: (env / "bin" / "activate").write_text(""), "bin/activate has 0 bytes, it was bui"),
    (lambda env: (env / OWN_FILES_NAME).unlink(), f"{OWN_FILES_NAME} is missing"),
    (lambda env: (env / OWN_FILES_NAME).write_text("{"), f"{OWN_FILES_NAME} is damaged"),
    (lambda env: (env / OWN_FILES_NAME).write_text("{}"), "'sizes' must be a mapping"),
    (lambda env: (env / LOCK_NAME).unlink(), f"{LOCK_NAME} is missing"),
    (lambda env: (env / LOCK_NAME).write_text("{"), f"{LOCK_NAME} is damaged"),
    (lambda env: (env / LOCK_NAME).write_text("{}"), "environment lock: "),
    (lambda env: swap_platform(env / LOCK_NAME), "is not the lock that it was built from"),
    (lambda env: (env / RECORD_NAME).unlink(), "has no record"),
    (lambda env: (env / RECORD_NAME).write_text("[]"), "environment record: it must be a mapping"),
    (lambda env: (env / "bin" / "python").unlink(), "bin/python leads to no interpreter"),
    (lambda env: shutil.rmtree(env / LAYER_NAME), f"{LAYER_NAME}, the folder of links"),
    (
        lambda env: (env / LAYER_NAME / "0" / "of_the_host.py").resolve().unlink(),
        f"{LAYER_NAME}/0/of_the_host.py leads nowhere",
    ),
]


def swap_platform(lock: Path) -> None:
    lock.write_text(lock.read_text().replace("a platform", "another one"))


@pytest.mark.parametrize(("damage", "fault"), DAMAGES)
def test_a_damaged_environment_is_marked_with_what_is_wrong_until_that_is_mended(
    store: Store, tmp_path: Path, damage: Callable[[Path], object], fault: str
) -> None:
    env_id = publish(store, "numpy", "torch")
    env = store.layout.env(env_id)
    host = store.layout.root / "host"
    shutil.copytree(env, tmp_path / "copy", symlinks=True)
    damage(env)
    found = look(store, env_id)
    assert found
    assert any(fault in each for each in found), found
    with pytest.raises(InvalidRecord):
        store.env_record(env_id)
    assert list(broken_at_a_glance(store)) == [env_id]

    mark = (env / BROKEN_NAME).read_bytes()
    shutil.rmtree(env)
    (tmp_path / "copy").rename(env)
    (env / BROKEN_NAME).write_bytes(mark)
    (host / "of_the_host.py").write_text("")
    with pytest.raises(InvalidRecord):
        store.env_record(env_id)
    assert look(store, env_id) == ()
    assert store.env_record(env_id).env_id == env_id
    assert broken_at_a_glance(store) == {}


def test_only_a_look_that_compares_contents_takes_back_what_such_a_look_found(
    store: Store,
) -> None:
    env_id = publish(store, "numpy")
    env = store.layout.env(env_id)
    flip(env)
    assert look(store, env_id) == ()
    fault = f"{SITE}/numpy/__init__.py has other content than its RECORD says"
    assert look(store, env_id, hashes=True) == (fault,)
    # It compares, whatever was asked for.
    assert look(store, env_id) == (fault,)
    with pytest.raises(InvalidRecord, match="has other content"):
        store.env_record(env_id)
    (env / SITE / "numpy" / "__init__.py").write_text("x = 1\n")
    assert look(store, env_id) == ()
    store.env_record(env_id)


def test_a_link_of_the_host_that_never_led_anywhere_is_no_fault(store: Store) -> None:
    env_id = publish(store, "numpy")
    dangling = store.layout.root / "host" / "dangling"
    dangling.symlink_to("/nowhere")
    (store.layout.env(env_id) / LAYER_NAME / "0" / "dangling").symlink_to(dangling)
    assert look(store, env_id) == ()


def test_links_to_data_files_of_the_host_are_looked_at_too(store: Store) -> None:
    env_id = publish(store, "numpy")
    share = store.layout.env(env_id) / "share" / "man"
    share.mkdir(parents=True)
    (share / "host.1").symlink_to("/nowhere/host.1")
    assert look(store, env_id) == (
        "share/man/host.1 leads nowhere: /nowhere/host.1 was removed from the host",
    )


def test_through_a_link_in_place_of_an_environment_nothing_is_read_or_written(
    store: Store, tmp_path: Path
) -> None:
    env_id = publish(store, "numpy")
    env = store.layout.env(env_id)
    env.rename(tmp_path / "elsewhere")
    env.symlink_to(tmp_path / "elsewhere")
    before = (tree(tmp_path / "elsewhere"), (tmp_path / "elsewhere").stat().st_mtime_ns)
    assert look(store, env_id) == (f"{env} is a link",)
    assert (tree(tmp_path / "elsewhere"), (tmp_path / "elsewhere").stat().st_mtime_ns) == before


def test_a_folder_that_became_a_link_is_not_walked(store: Store, tmp_path: Path) -> None:
    env_id = publish(store, "numpy")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dangling").symlink_to("/nowhere")
    (store.layout.env(env_id) / "share").symlink_to(elsewhere)
    assert look(store, env_id) == ()


def test_of_many_faults_a_bounded_number_is_kept(store: Store) -> None:
    env_id = publish(store, "numpy")
    env = store.layout.env(env_id)
    for number in range(1000):
        (env / LAYER_NAME / "0" / str(number)).symlink_to("/nowhere/at/all")
    found = look(store, env_id)
    assert found is not None
    assert len(found) == FAULTS_KEPT + 1
    assert found[-1] == f"and {1000 - FAULTS_KEPT} more faults"
    assert (env / BROKEN_NAME).stat().st_size < 10_000


# What changes meanwhile


def test_an_environment_that_is_removed_during_the_check_has_no_faults(store: Store) -> None:
    env_id = publish(store, "numpy")
    (store.layout.env(env_id) / SITE / "numpy" / "__init__.py").unlink()

    def remove() -> None:
        store.disk.discard(store.layout.env(env_id), store.layout.trash)

    assert check_env(store, env_id, hashes=False, pause=remove) is None
    assert not store.layout.env(env_id).exists()
    assert look(store, "0123abcd") is None
    assert rubbish(store) == []


def test_an_environment_that_is_built_again_during_the_check_is_checked_again(store: Store) -> None:
    env_id = publish(store, "numpy")
    (store.layout.env(env_id) / SITE / "numpy" / "__init__.py").unlink()
    (store.layout.env(env_id) / RECORD_NAME).unlink()
    times: list[int] = []

    def heal() -> None:
        if not times:
            times.append(1)
            publish(store, "numpy", job_id="healing")

    assert check_env(store, env_id, hashes=False, pause=heal) == ()
    store.env_record(env_id)


class ReadOnly(Disk):
    """A disk that takes no mark."""

    def write_json(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        if path.name == BROKEN_NAME:
            raise StoreError(f"could not write {path}: Read-only file system")
        super().write_json(path, value, durable=durable)


def test_what_is_found_is_reported_even_if_it_can_not_be_marked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "virtualenv", ReadOnly())
    env_id = publish(store, "numpy")
    assert look(store, env_id) == ()
    (store.layout.env(env_id) / SITE / "numpy" / "__init__.py").unlink()
    found = look(store, env_id)
    assert found is not None
    fault, mark = found
    assert fault == f"{SITE}/numpy/__init__.py is missing"
    assert mark.startswith("it can't be marked: could not write ")


# When


def test_an_environment_is_due_a_day_after_it_was_built_or_checked(store: Store) -> None:
    old, new, ahead = (
        publish(store, name, job_id=name) for name in ("numpy", "torch", "transformers")
    )
    older = publish(store, "xoscar", job_id="xoscar")
    now = time.time()
    assert due_envs(store, now) == []
    for env_id, at in ((old, CHECKED_SECONDS), (older, 3 * CHECKED_SECONDS), (ahead, -3600.0)):
        os.utime(store.layout.env(env_id), (now - at, now - at))
    # A time that has not come yet was set by somebody else.
    assert due_envs(store, now) == [older, old, ahead]
    assert look(store, older) == ()
    assert due_envs(store, now + 1) == [old, ahead]
    assert new not in due_envs(store, now + 1)


# Environments beside


def broken_in_use(store: Store, child: subprocess.Popen[bytes]) -> str:
    env_id = publish(store, "numpy")
    lease_by(store, env_id, child)
    (store.layout.env(env_id) / SITE / "numpy" / "__init__.py").unlink()
    assert look(store, env_id)
    return env_id


def test_the_one_next_to_a_broken_one_in_use_is_found_whole_by_the_lock(
    store: Store, children: Children
) -> None:
    child = children()
    old = broken_in_use(store, child)
    with pytest.raises(InvalidRecord):
        lease_of_lock(store, old, contents="", model_name="another", process=this_process())
    beside = publish(store, "numpy", job_id="healing")
    assert beside == f"{old}x1"
    publish(store, "torch", job_id="torch")
    assert (
        lease_of_lock(store, old, contents="", model_name="another", process=this_process()).env_id
        == beside
    )

    # Broken and in use as well: the third one is found, also when the second one is gone.
    (store.layout.env(beside) / SITE / "numpy" / "__init__.py").unlink()
    assert look(store, beside)
    third = publish(store, "numpy", job_id="healing again")
    assert third == f"{old}x2"
    shutil.rmtree(store.layout.env(beside))
    assert (
        lease_of_lock(store, old, contents="", model_name="another", process=this_process()).env_id
        == third
    )
    end(child)
    assert look(store, third, hashes=True) == ()


def test_the_locks_own_environment_comes_before_those_next_to_it(
    store: Store, children: Children
) -> None:
    child = children()
    old = broken_in_use(store, child)
    beside = publish(store, "numpy", job_id="healing")
    (store.layout.env(old) / SITE / "numpy" / "__init__.py").write_text("x = 1\n")
    assert look(store, old) == ()
    for _ in range(2):
        lease = lease_of_lock(store, old, contents="", model_name="another", process=this_process())
        assert lease.env_id == old
    assert store.env_record(beside).env_id == beside
