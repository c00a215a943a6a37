"""A model of the store, in a few mappings, that the real one must agree with after every step.

Hypothesis chooses the steps: launches whose locks collide, leases of processes that live and die,
removals, damage, crashes between two operations of the disk, and starts after them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes import key
from tests.faulty_disk import Death, FaultyDisk, dying
from tests.store.conftest import (
    REAL_PYTHON,
    ended_process,
    identity_of,
    key_record,
    lock_of,
    remove_entry,
    rubbish,
)
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.env import EnvRecord, EnvState
from xinference_venv.inventory.eviction import EvictionPolicy, plan_eviction
from xinference_venv.inventory.inventory import plan_removal
from xinference_venv.inventory.lease import ProcessIdentity
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.disk_usage import measure, usages_of
from xinference_venv.store.gc import move_to_trash
from xinference_venv.store.listing import entries_of
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.store.sweep import sweep

LOCKS = {name: lock_of(name) for name in ("numpy", "torch")}
KEYS = (key("a"), key("a", None), key("b"), key("b", "vllm", "3.12"))
FILES = ("bin/python", "lib/one.py", "lib/deep/two.py")
DEAD = ended_process()
ON_ANOTHER_HOST = replace(this_process(), host="another-host", boot="of-its-own")

# Who holds a lease: this process, one of two that can be killed, or one that can't be judged.
US, FIRST, SECOND, ELSEWHERE = "us", "first", "second", "elsewhere"
UNREADABLE = "unreadable"

picks = st.integers(0, 99)
names = st.sampled_from(sorted(LOCKS))
keys = st.sampled_from(KEYS)
holders = st.sampled_from([US, FIRST, SECOND, ELSEWHERE])


@dataclass
class Model:
    """What is there: environments with the content of their files, None for a broken one; what
    keys mean; leases that count, each with its environment and its holder.
    """

    envs: dict[str, str | None]
    keys: dict[EnvKey, str]
    leases: dict[str, tuple[str, str]]

    def used(self, env_id: str) -> bool:
        return any(leased == env_id for leased, _ in self.leases.values())

    def needed(self, env_id: str) -> bool:
        return self.used(env_id) or env_id in self.keys.values()

    def place_for(self, lock: EnvLock) -> str:
        """Where a build of this lock goes: its own place, or beside a broken one in use."""
        env_id, number = lock.env_id, 0
        while self.envs.get(env_id) is None and self.used(env_id):
            number += 1
            env_id = f"{lock.env_id}x{number}"
        return env_id

    def delete_if_unused(self, env_id: str) -> bool:
        if self.needed(env_id):
            return False
        self.envs.pop(env_id, None)
        return True

    def sweep(self) -> None:
        for env_id in list(self.envs):
            self.delete_if_unused(env_id)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # Whether a write is flushed can't be seen here, so it need not take its time.
        shared = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
        self.root = self.folder / "virtualenv"
        self.model = Model(envs={}, keys={}, leases={})
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.builds = 0
        self.open()

    def teardown(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        shutil.rmtree(self.folder)

    def open(self) -> None:
        self.disk = FaultyDisk()
        self.store = Store.open(self.root, self.disk)

    def process(self, holder: str) -> ProcessIdentity:
        if holder == US:
            return this_process()
        if holder == ELSEWHERE:
            return ON_ANOTHER_HOST
        if holder not in self.children:
            self.children[holder] = subprocess.Popen(["sleep", "1000"])
        return identity_of(self.children[holder])

    # Building and attaching

    def build(self, lock: EnvLock, process: ProcessIdentity) -> str:
        """Stage and publish; the content of the files is of this build alone."""
        self.builds += 1
        content = f"build {self.builds}"
        staged = self.store.make_staging_folder(f"job-{self.builds}") / "env"
        for file in FILES:
            (staged / file).parent.mkdir(parents=True, exist_ok=True)
            (staged / file).write_text(content)
        record = EnvRecord.of(
            lock,
            size_bytes=len(content) * len(FILES),
            files=len(FILES),
            created=time.time(),
            interpreter=interpreter_facts(REAL_PYTHON),
        )
        self.store.describe(staged, record, lock)
        lease = self.store.publish(staged, record, model_name="m", process=process)
        self.store.delete_trashed(self.store.trash_staging_folder(f"job-{self.builds}"))
        self.published = lease.env_id, lease.lease_id
        return lease.env_id

    def launch(self, of: EnvKey, name: str, process: ProcessIdentity) -> None:
        """The steps of a launch, as a worker does them."""
        env_id = self.build(LOCKS[name], process)
        previous = self.store.env_of(of)
        self.store.point_key(key_record(of, env_id))
        if previous is not None and previous != env_id:
            self.store.delete_if_unused(previous)

    def model_build(self, name: str, holder: str) -> str:
        env_id = self.model.place_for(LOCKS[name])
        if self.model.envs.get(env_id) is None:
            self.model.envs[env_id] = f"build {self.builds}"
        self.model.leases[self.published[1]] = (env_id, holder)
        return env_id

    @rule(name=names, holder=holders)
    def publish(self, name: str, holder: str) -> None:
        env_id = self.build(LOCKS[name], self.process(holder))
        assert env_id == self.model_build(name, holder)

    @rule(of=keys, name=names, holder=holders, release=st.booleans())
    def launch_and_bind(self, of: EnvKey, name: str, holder: str, release: bool) -> None:
        previous = self.model.keys.get(of)
        self.launch(of, name, this_process())
        env_id = self.model_build(name, US)
        assert self.store.env_of(of) == env_id
        self.model.keys[of] = env_id
        if previous is not None and previous != env_id:
            self.model.delete_if_unused(previous)
        lease_id = self.published[1]
        if release:
            self.store.leases.release(env_id, lease_id)
            del self.model.leases[lease_id]
        else:
            self.store.leases.bind(env_id, lease_id, self.process(holder))
            self.model.leases[lease_id] = (env_id, holder)

    # Leases

    @precondition(lambda self: self.model.envs)
    @rule(pick=picks, holder=holders)
    def take(self, pick: int, holder: str) -> None:
        env_id = self.an_env(pick)
        process = self.process(holder)
        try:
            lease = self.store.take_lease(env_id, model_name="m", model_uid=None, process=process)
        except InvalidRecord:
            assert self.model.envs[env_id] is None
        else:
            assert self.model.envs[env_id] is not None
            self.model.leases[lease.lease_id] = (env_id, holder)

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks, holder=holders)
    def bind(self, pick: int, holder: str) -> None:
        lease_id, env_id = self.a_lease(pick)
        if self.model.leases[lease_id][1] == UNREADABLE:
            with pytest.raises(InvalidRecord):
                self.store.leases.bind(env_id, lease_id, self.process(holder))
            return
        self.store.leases.bind(env_id, lease_id, self.process(holder))
        self.model.leases[lease_id] = (env_id, holder)

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks, then_delete=st.booleans())
    def release(self, pick: int, then_delete: bool) -> None:
        lease_id, env_id = self.a_lease(pick)
        self.store.leases.release(env_id, lease_id)
        del self.model.leases[lease_id]
        if then_delete:
            self.delete(env_id)

    @precondition(lambda self: self.children)
    @rule(pick=picks)
    def kill_a_holder(self, pick: int) -> None:
        holder = sorted(self.children)[pick % len(self.children)]
        child = self.children.pop(holder)
        child.kill()
        child.wait()
        self.model.leases = {
            lease_id: lease for lease_id, lease in self.model.leases.items() if lease[1] != holder
        }

    # Removing

    @rule(name=st.sampled_from(["a", "b", None]), force=st.booleans())
    def remove(self, name: str | None, force: bool) -> None:
        wanted = Selection(model_name=name)
        plan = plan_removal(entries_of(self.store), wanted.matches, force=force)
        meant = {of: env for of, env in self.model.keys.items() if wanted.matches(of)}
        staying = {env for of, env in self.model.keys.items() if of not in meant}
        in_use = {of for of, env in meant.items() if self.model.used(env)}
        refused = set() if force else {of for of in in_use if meant[of] not in staying}
        assert {each.key for each in plan.refuse} == refused
        assert {each.key for each in plan.unlink} == in_use - refused
        assert {each.key for each in plan.remove} == meant.keys() - in_use
        if plan.refuse:
            return
        for entry in (*plan.remove, *plan.unlink):
            del self.model.keys[entry.key]
            gone = remove_entry(self.store, entry)
            assert gone == self.model.delete_if_unused(meant[entry.key])

    @rule(percent=st.sampled_from([0, 50, 100]))
    def evict(self, percent: int) -> None:
        usages = measure(self.store, usages_of(self.store, ()), lambda: False)
        limit = sum(each.added_bytes for each in usages) * percent // 100
        plan = plan_eviction(usages, EvictionPolicy(max_bytes=limit), now=time.time())
        for each in plan.evict:
            env_id = each.usage.env_id
            assert not self.model.used(env_id)
            trashed = move_to_trash(self.store, each.usage)
            assert trashed is not None
            self.store.disk.delete(trashed)
            self.model.keys = {of: env for of, env in self.model.keys.items() if env != env_id}
            self.model.envs.pop(env_id, None)
        # What nobody needs goes whatever the limit, and all that is not in use for none.
        stays = self.model.needed if percent else self.model.used
        assert all(map(stays, self.model.envs))

    @precondition(lambda self: self.model.envs)
    @rule(pick=picks)
    def delete_if_unused(self, pick: int) -> None:
        self.delete(self.an_env(pick))

    def delete(self, env_id: str) -> None:
        assert self.store.delete_if_unused(env_id) == self.model.delete_if_unused(env_id)

    @rule()
    def sweep(self) -> None:
        sweep(self.store)
        self.model.sweep()
        self.check_nothing_is_unaccounted()

    @rule()
    def start_again(self) -> None:
        self.open()
        self.sweep()

    # Damage and death

    @precondition(lambda self: self.model.envs)
    @rule(pick=picks, how=st.sampled_from(["gone", "cut", "another", "folder"]))
    def damage_an_environment(self, pick: int, how: str) -> None:
        env_id = self.an_env(pick)
        path = self.store.layout.env(env_id) / RECORD_NAME
        if self.model.envs[env_id] is None:
            return
        content = path.read_bytes()
        path.unlink()
        match how:
            case "cut":
                path.write_bytes(content[: len(content) * pick // 100])
            case "another":
                path.write_text(json.dumps({**json.loads(content), "env_id": "0" * 32}))
            case "folder":
                path.mkdir()
        self.model.envs[env_id] = None

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks)
    def damage_a_lease(self, pick: int) -> None:
        """It counts until somebody gives it back."""
        lease_id, env_id = self.a_lease(pick)
        path = self.store.layout.leases_of(env_id) / f"{lease_id}.json"
        path.write_bytes(path.read_bytes()[:pick])
        self.model.leases[lease_id] = (env_id, UNREADABLE)

    @precondition(lambda self: self.model.keys)
    @rule(pick=picks)
    def damage_a_key_record(self, pick: int) -> None:
        of = sorted(self.model.keys, key=str)[pick % len(self.model.keys)]
        path = self.store.layout.keys / f"{of.digest}.json"
        if path.exists():
            path.write_bytes(path.read_bytes()[: 3 * pick])

    @rule(of=keys, name=names, at=st.integers(0, 20))
    def crash_in_a_launch(self, of: EnvKey, name: str, at: int) -> None:
        before = self.model.keys.get(of)
        place = self.model.place_for(LOCKS[name])
        with self.dying_at(at):
            self.launch(of, name, DEAD)
        now = self.store.env_of(of)
        assert now in {before, place}
        if now is not None:
            self.model.keys[of] = now
        self.adopt(place)

    @rule(of=keys, at=st.integers(0, 8))
    def crash_in_a_removal(self, of: EnvKey, at: int) -> None:
        planned = [each for each in entries_of(self.store) if each.key == of]
        with self.dying_at(at):
            for entry in planned:
                remove_entry(self.store, entry)
        if self.store.env_of(of) is None:
            self.model.keys.pop(of, None)
        self.model.sweep()
        self.check_nothing_is_unaccounted()

    @contextmanager
    def dying_at(self, at: int) -> Iterator[None]:
        """Let the process die at an operation of the disk, and start another one."""
        self.disk.break_at(at, dying)
        with suppress(Death):
            yield
        # What it staged is owned by the dead now.
        for owner in self.store.layout.staging.glob("*.owner"):
            owner.write_text(json.dumps(DEAD.to_dict()))
        self.open()
        sweep(self.store)

    def adopt(self, place: str) -> None:
        """After a crash in a launch: what it built is there whole, or it is as it was before, or
        the broken one that was to be replaced is gone.
        """
        built = f"build {self.builds}"
        if self.model.needed(place):
            contents = self.contents(place)
            whole = contents == dict.fromkeys(FILES, built)
            if self.model.envs.get(place) is None and whole:
                self.model.envs[place] = built
            elif not contents:
                assert self.model.envs.get(place) is None
                self.model.envs.pop(place, None)
        self.model.sweep()
        self.check_nothing_is_unaccounted()

    # Looking

    def an_env(self, pick: int) -> str:
        return sorted(self.model.envs)[pick % len(self.model.envs)]

    def a_lease(self, pick: int) -> tuple[str, str]:
        # Their ids are random: by age, so that the same choices give the same run.
        lease_id = list(self.model.leases)[pick % len(self.model.leases)]
        return lease_id, self.model.leases[lease_id][0]

    def contents(self, env_id: str) -> dict[str, str]:
        env = self.store.layout.env(env_id)
        return {file: (env / file).read_text() for file in FILES if (env / file).exists()}

    @invariant()
    def the_listing_says_what_the_model_says(self) -> None:
        listed = {entry.key: entry for entry in entries_of(self.store)}
        assert {of: entry.env_id for of, entry in listed.items()} == self.model.keys
        for of, entry in listed.items():
            env_id = self.model.keys[of]
            ready = self.model.envs.get(env_id) is not None
            assert entry.state is (EnvState.READY if ready else EnvState.BROKEN)
            assert bool(entry.reason) is not ready
            assert {lease.lease_id for lease in entry.leases} == {
                lease_id for lease_id, (leased, _) in self.model.leases.items() if leased == env_id
            }
            assert {*entry.shared_with, of} == {
                other for other, meant in self.model.keys.items() if meant == env_id
            }

    @invariant()
    def what_is_ready_is_whole(self) -> None:
        for env_id, content in self.model.envs.items():
            if content is not None:
                assert self.contents(env_id) == dict.fromkeys(FILES, content)
                assert self.store.env_record(env_id).files == len(FILES)
                assert self.store.lock_of(env_id) in LOCKS.values()

    @invariant()
    def no_file_of_a_leased_environment_is_missing(self) -> None:
        for env_id, _ in self.model.leases.values():
            assert list(self.contents(env_id)) == list(FILES)
            assert (self.store.layout.env(env_id) / LOCK_NAME).exists()

    def check_nothing_is_unaccounted(self) -> None:
        assert rubbish(self.store) == []
        on_disk = {each.name for each in self.store.layout.envs.iterdir()}
        assert on_disk == self.model.envs.keys()
        # Leases of the dead stay until somebody looks at them, but not beyond the environment.
        assert {each.name for each in self.store.layout.leases.iterdir()} <= on_disk


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, print_blob=True
)
TestTheStoreAgreesWithItsModel = StoreMachine.TestCase
