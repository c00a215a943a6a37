"""Nothing outside the home is deleted or changed: whatever names are given, whatever is planted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import key, process
from tests.store.conftest import attached, key_record, lock_of, publish, remove_entry, tree
from xinference_venv.errors import StoreError, VirtualEnvError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.atomic import Disk
from xinference_venv.store.legacy.layouts import check_free, remove_old
from xinference_venv.store.listing import entries_of
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

State = dict[str, tuple[int, int, bytes]]


@contextmanager
def canary(folder: Path) -> Iterator[Path]:
    """A tree outside of the home, which looks like parts of a store, and is what it was before."""
    outside = folder / "outside"
    for place in ("3.11/bin", "vllm/3.11/bin", "a-model/vllm/3.11/bin", "3.11.json", ".3.11.x"):
        (outside / place).mkdir(parents=True)
        (outside / place / "precious").write_text(place)
    (outside / "a-lease.json").write_text("{}")
    (outside / "pyvenv.cfg").write_text("version = 3.11.7\n")
    before = state(outside)
    yield outside
    assert state(outside) == before


def state(folder: Path) -> State:
    found = {}
    for path in sorted(folder.rglob("*")):
        told = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (told.st_mtime_ns, told.st_ino, content)
    return found


# Names

PIECES = ["..", ".", "/", "//", "\\", "\0", "\n", "~", "a", "outside", "store", "envs", "x" * 300]
NAMES = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=40)
CLIMBING = "../" * 12 + "tmp"


@settings(max_examples=60, deadline=None)
@given(model=NAMES, engine=st.none() | NAMES, python=NAMES, env_id=NAMES, lease_id=NAMES)
@example(model="..", engine="..", python="..", env_id="..", lease_id="..")
@example(model="/", engine="/", python="/", env_id="/", lease_id="/")
@example(model="", engine="", python="", env_id="", lease_id="")
@example(model=CLIMBING, engine=None, python="3.11", env_id=CLIMBING, lease_id=CLIMBING)
@example(model="\0", engine="\0", python="\0", env_id="\0", lease_id="\0")
@example(model="../../outside", engine=None, python="3.11", env_id="../../../outside", lease_id="x")
def test_no_name_leads_out_of_the_home(
    model: str, engine: str | None, python: str, env_id: str, lease_id: str
) -> None:
    of = EnvKey(model_name=model, model_engine=engine, python_version=python)
    with tempfile.TemporaryDirectory() as name, canary(Path(name).resolve()) as outside:
        home = outside.parent / "home"
        store = Store.open(home / "virtualenv")
        kept = attached(store, "numpy", of=key("kept"))
        entry = EnvEntry(
            key=of,
            path=os.path.join(store.layout.root, *of.parts),
            real_path="/",
            state=EnvState.UNMANAGED,
        )
        for attempt in (
            lambda: store.env_of(of),
            lambda: store.unlink_key(of),
            lambda: check_free(store.layout, of),
            lambda: store.point_key(key_record(of, kept)),
            lambda: store.unlink_key(of),
            lambda: remove_old(store.layout, store.disk, Path(entry.path)),
            lambda: remove_entry(store, entry),
            lambda: store.delete_if_unused(env_id),
            lambda: store.env_record(env_id),
            lambda: store.lock_of(env_id),
            lambda: store.leases.of(env_id),
            lambda: store.leases.prune(env_id),
            lambda: store.leases.find(env_id, lease_id),
            lambda: store.leases.release(env_id, lease_id),
            lambda: store.leases.bind(env_id, lease_id, process()),
            lambda: store.leases.take(
                env_id, model_name="m", model_uid=None, process=this_process()
            ),
        ):
            with suppress(VirtualEnvError):
                attempt()
        assert sorted(each.name for each in home.parent.iterdir()) == ["home", "outside"]
        assert [each.name for each in home.iterdir()] == ["virtualenv"]


# Links

PLACES = ("v4", "v4/a-model", "v4/a-model/vllm", "v4/a-model/vllm/3.11", "v3", "v2", "a-model")
ENVIRONMENT = "store/envs/{env_id}"
FOLDERS = (
    *("envs", "staging", "trash", "stubs", "wheels", "locks", "leases", "logs", "keys", "hosts"),
    "processes",
)


def plant(place: Path, outside: Path) -> None:
    """Put a link in the place of what is there."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside)


def everything(store: Store, env_id: str) -> list[Callable[[], object]]:
    """All that changes the disk."""
    of = key()
    return [
        lambda: [remove_entry(store, each) for each in entries_of(store)],
        lambda: store.leases.prune(env_id),
        lambda: store.leases.release(env_id, "a-lease"),
        lambda: store.delete_if_unused(env_id),
        lambda: store.unlink_key(of),
        lambda: sweep(store),
        lambda: store.make_staging_folder("3.11"),
        lambda: store.delete_trashed(store.trash_staging_folder("3.11")),
        lambda: store.sweep_wheels(),
        lambda: check_free(store.layout, of),
        lambda: store.point_key(key_record(of, publish(store, lock_of("numpy")).env_id)),
        lambda: sweep(store),
    ]


@pytest.mark.parametrize(
    "place", [*PLACES, *(f"store/{name}" for name in FOLDERS), ENVIRONMENT, "store/leases/{env_id}"]
)
def test_a_planted_link_leads_nothing_out_of_the_home(
    store: Store, tmp_path: Path, place: str
) -> None:
    env_id = attached(store, "numpy")
    with canary(tmp_path) as outside:
        plant(store.layout.root / place.format(env_id=env_id), outside)
        for attempt in everything(store, env_id):
            with suppress(VirtualEnvError):
                attempt()


@pytest.mark.parametrize("place", ["store", *(f"store/{name}" for name in FOLDERS)])
def test_a_store_whose_folders_are_links_is_not_opened(
    store: Store, tmp_path: Path, place: str
) -> None:
    with canary(tmp_path) as outside:
        plant(store.layout.root / place, outside)
        with pytest.raises(StoreError, match="a link leads to its folder") as caught:
            Store.open(store.layout.root)
        assert "XINFERENCE_HOME" in str(caught.value.hint)


def test_a_home_that_is_a_link_is_opened_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    assert Store.open(tmp_path / "home").layout.root == tmp_path / "disk"


@pytest.mark.parametrize("place", [*PLACES[:4], "v3", "v3/a-model", "v2/a-model", "a-model"])
def test_a_planted_link_is_listed_as_what_it_is_and_removed_alone(
    store: Store, tmp_path: Path, place: str
) -> None:
    with canary(tmp_path) as outside:
        link = store.layout.root / place
        plant(link, outside)
        [entry] = entries_of(store)
        assert (entry.path, entry.state, entry.size_bytes) == (str(link), EnvState.UNMANAGED, None)
        assert entry.reason == f"a link to {outside}"
        assert remove_entry(store, entry)
        assert not link.is_symlink()
        assert entries_of(store) == []


def test_an_environment_that_is_a_link_is_broken_and_built_again(
    store: Store, tmp_path: Path
) -> None:
    env_id = attached(store, "numpy")
    moved = tmp_path / "moved"
    shutil.move(store.layout.env(env_id), moved)
    store.layout.env(env_id).symlink_to(moved)
    before = state(moved)
    [entry] = entries_of(store)
    assert (entry.state, entry.reason) == (
        EnvState.BROKEN,
        f"{store.layout.env(env_id)} is a link",
    )
    publish(store, lock_of("numpy"))
    assert not store.layout.env(env_id).is_symlink()
    assert state(moved) == before
    [entry] = entries_of(store)
    assert entry.state is EnvState.READY


@pytest.mark.parametrize(
    "operation",
    [
        lambda path: Disk().write(path, b"", durable=False),
        lambda path: Disk().swap_link(path, Path("/etc")),
        lambda path: Disk().copy(Path(__file__), path),
        lambda path: Disk().rename(path, path.with_name("new")),
        lambda path: Disk().unlink(path),
        lambda path: Disk().delete(path),
        lambda path: Disk().discard(path, path.parents[1] / "trash"),
        lambda path: Disk().discard(path.parents[1] / "real", path.parent),
    ],
)
def test_the_door_to_the_disk_changes_nothing_through_a_link(
    tmp_path: Path, operation: Callable[[Path], None]
) -> None:
    (tmp_path / "real").mkdir()
    with canary(tmp_path) as outside:
        (tmp_path / "link").symlink_to(outside)
        with pytest.raises(StoreError, match="a link leads to its folder"):
            operation(tmp_path / "link" / "3.11")
        assert not Disk().remove_empty(tmp_path / "link" / "3.11")
    assert tree(tmp_path / "real") == []
