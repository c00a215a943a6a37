"""The store after crashes between any two of its steps, and what a sweep makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import (
    attached,
    ended_process,
    env_record,
    envs,
    key_record,
    lease_by,
    lock_of,
    publish,
    rubbish,
    staged,
    tree,
)
from xinference_venv.errors import InvalidRecord
from xinference_venv.store.atomic import Disk
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

KEY = key()
STAGE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from xinference_venv.store.store import Store

folder = Store.open(Path(sys.argv[1])).make_staging_folder("job-of-the-dead")
(folder / "half").write_text("")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_sweep_deletes_what_no_one_needs_and_keeps_the_rest(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    meant = attached(store, "numpy")
    child = children()
    used = attached(store, "torch", of=key("second"))
    lease_by(store, used, child)
    store.unlink_key(key("second"))
    unused = attached(store, "scipy", of=key("third"))
    store.unlink_key(key("third"))
    (store.layout.trash / "grave" / "deep").mkdir(parents=True)
    assert unused in envs(store)
    sweep(store)
    assert envs(store) == sorted([meant, used])
    assert rubbish(store) == []


def test_a_crash_while_staging_leaves_nothing_after_the_next_sweep(store: Store) -> None:
    died = subprocess.run(
        [sys.executable, "-c", STAGE_AND_DIE, str(store.layout.root)], check=False
    )
    assert died.returncode == -9
    assert tree(store.layout.staging) == [
        "job-of-the-dead",
        "job-of-the-dead.owner",
        "job-of-the-dead/half",
    ]
    sweep(store)
    assert rubbish(store) == []


def test_a_build_that_runs_is_not_swept(store: Store) -> None:
    env = staged(store, "running")
    other = Store.open(store.layout.root)
    sweep(other)
    assert (env / "bin" / "python").exists()
    assert oct(env.parent.stat().st_mode)[-3:] == "700"
    store.delete_trashed(store.trash_staging_folder("running"))
    assert rubbish(store) == []


def test_a_build_whose_owner_can_not_be_judged_is_not_swept(store: Store) -> None:
    env = staged(store, "elsewhere")
    owner = replace(this_process(), host="another-host")
    path = store.layout.staging / "elsewhere.owner"
    path.write_text(json.dumps(owner.to_dict()))
    sweep(store)
    assert env.exists()
    path.write_text(json.dumps(ended_process().to_dict()))
    sweep(store)
    assert rubbish(store) == []


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_staging_without_an_owner_is_swept(store: Store, content: str | None) -> None:
    staged(store, "lost")
    path = store.layout.staging / "lost.owner"
    path.unlink() if content is None else path.write_text(content)
    sweep(store)
    assert rubbish(store) == []


def test_a_crash_after_the_owner_was_noted_leaves_nothing(store: Store) -> None:
    path = store.layout.staging / "early.owner"
    path.write_text(json.dumps(ended_process().to_dict()))
    sweep(store)
    assert rubbish(store) == []


def test_a_crash_between_publishing_and_attaching_leaves_nothing_that_is_ready(
    store: Store,
) -> None:
    made = lock_of("numpy")
    lease = publish(store, made)
    # The publisher dies: its lease is that of a dead process.
    store.leases.bind(made.env_id, lease.lease_id, ended_process())
    assert store.env_of(KEY) is None
    sweep(store)
    assert envs(store) == []
    assert tree(store.layout.leases) == []


def test_a_crash_between_the_record_and_the_link_of_a_key_keeps_the_old_meaning(
    store: Store,
) -> None:
    old = attached(store, "numpy")
    new = publish(store, lock_of("torch")).env_id

    class Dying(Disk):
        def swap_link(self, link: Path, target: Path) -> None:
            raise SystemExit

    dying = replace(store, disk=Dying())
    with pytest.raises(SystemExit):
        dying.point_key(key_record(KEY, new))
    assert store.env_of(KEY) == old
    # What is noted is not of this environment, so the next launch does not trust it.
    assert store.key_record(KEY) is None


def test_a_crash_between_moving_to_the_trash_and_deleting_is_finished_by_a_sweep(
    store: Store,
) -> None:
    env_id = attached(store, "numpy")
    store.unlink_key(KEY)

    class Dying(Disk):
        def delete(self, path: Path) -> None:
            raise SystemExit

    with pytest.raises(SystemExit):
        replace(store, disk=Dying()).delete_if_unused(env_id)
    assert envs(store) == []
    assert rubbish(store) != []
    sweep(store)
    assert rubbish(store) == []


def test_a_crash_in_the_middle_of_a_swap_leaves_a_link_that_is_no_key(store: Store) -> None:
    env_id = attached(store, "numpy")
    link = store.layout.key_link(KEY)
    link.with_name(f".{link.name}.0123abcd").symlink_to(link.readlink())
    assert list(store.links()) == [(KEY, env_id)]


def test_a_link_whose_environment_is_gone_is_a_broken_key(store: Store) -> None:
    env_id = attached(store, "numpy")
    shutil.rmtree(store.layout.env(env_id))
    assert store.env_of(KEY) == env_id
    with pytest.raises(InvalidRecord, match="is gone or has no record"):
        store.env_record(env_id)
    publish(store, lock_of("numpy"))
    assert store.env_record(env_id).env_id == env_id


def test_an_environment_that_is_published_again_after_its_removal_is_read_again(
    store: Store,
) -> None:
    env_id = attached(store, "numpy")
    first = store.env_record(env_id)
    store.unlink_key(KEY)
    store.delete_if_unused(env_id)
    made = lock_of("numpy")
    record = replace(env_record(made), size_bytes=99)
    again = staged(store)
    store.describe(again, record, made)
    store.publish(again, record, model_name="m", process=this_process())
    assert store.env_record(env_id).size_bytes == 99 != first.size_bytes
