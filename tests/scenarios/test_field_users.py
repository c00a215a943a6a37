"""Who we are and where we may write: users without entry or home, temporary folders, sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.field import STRANGER, Field, open_field

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]


@pytest.fixture
def field(index: Index, uv_cache: Path) -> Iterator[Field]:
    with open_field(index, uv_cache) as opened:
        yield opened


@pytest.fixture
def stranger(field: Field) -> Field:
    """A user without entry, who may write to one folder, which is the home."""
    field.home.mkdir()
    os.chown(field.home, STRANGER, STRANGER)
    return field.as_user(STRANGER).having(HOME=None, UV_CACHE_DIR=None)


@pytest.mark.parametrize("home", [None, "/", "/nonexistent", "relative"])
def test_a_user_without_entry_and_home_directory_launches_into_a_home_that_is_named(
    stranger: Field, home: str | None
) -> None:
    field = stranger.having(HOME=home)
    launched = field.launch("lantern==1.0")
    assert launched.status == 0, launched.errors
    assert (field.store / "uv-cache").is_dir()
    assert field.run("list").document["list"][0]["state"] == "ready"
    check = field.run("doctor").check("user")
    assert (check["verdict"], f"user {STRANGER}" in check["found"]) == ("ok", True)


@pytest.mark.parametrize("home", [None, "/"])
def test_without_any_place_for_a_home_the_error_names_the_variable_to_set(
    stranger: Field, home: str | None
) -> None:
    field = stranger.having(HOME=home, XINFERENCE_HOME=None)
    for words in (["list"], ["models"], ["launch", "magika-1"], ["gc"], ["logs", "glow"]):
        said = field.run(*words)
        assert said.status == 2, said.errors
        assert "XINFERENCE_HOME" in said.error["details"]["hint"]
    doctor = field.run("doctor")
    assert "XINFERENCE_HOME" in doctor.check("settings")["hint"]


def test_a_home_directory_that_may_not_be_written_to_needs_none(field: Field) -> None:
    user = Path(field.environ["HOME"])
    user.chmod(0o555)
    field.home.mkdir()
    os.chown(field.home, STRANGER, STRANGER)
    field = field.as_user(STRANGER).having(UV_CACHE_DIR=None)
    assert field.launch("lantern==1.0").status == 0
    assert os.listdir(user) == []


def test_as_root_in_the_home_of_a_user_the_users_cache_is_left_alone(field: Field) -> None:
    user = Path(field.environ["HOME"])
    cache = user / ".cache" / "uv"
    cache.mkdir(parents=True)
    for each in (user, cache.parent, cache):
        os.chown(each, STRANGER, STRANGER)
    field = field.having(UV_CACHE_DIR=None, XINFERENCE_HOME=None)
    launched = field.launch("lantern==1.0")
    assert launched.status == 0, launched.errors
    assert os.listdir(cache) == []
    assert (user / ".xinference/virtualenv/store/uv-cache").is_dir()


@pytest.mark.parametrize("kind", ["long", "missing", "file"])
def test_whatever_tmpdir_names_a_launch_works(field: Field, kind: str) -> None:
    place = field.folder / ("a" * 90 if kind == "long" else "temporary")
    if kind == "long":
        place.mkdir()
    elif kind == "file":
        place.touch()
    field = field.having(TMPDIR=str(place))
    launched = field.launch("lantern==1.0")
    assert launched.status == 0, launched.errors
    assert field.run("doctor").check("temporary files")["verdict"] == "ok"


def test_a_folder_for_sockets_that_is_too_long_is_named(field: Field) -> None:
    field = field.having(XOSCAR_DIR=str(field.folder / ("a" * 60)))
    # Looking needs no sockets.
    assert field.run("list").status == 0
    said = field.run("gc")
    assert said.status == 2
    assert "too long" in said.error["message"] and "XOSCAR_DIR" in said.error["details"]["hint"]
    assert field.run("doctor").check("sockets")["verdict"] == "failed"


READ_ONLY = """
mount --bind {home} {home}
mount --bind / /mnt
mount -o remount,bind,ro /mnt
mount --bind {home} /mnt{home}
mount -t proc proc /mnt/proc
mount --rbind /dev /mnt/dev
cd /mnt
exec chroot /mnt "$@"
"""


def test_a_read_only_root_without_a_place_for_temporary_files_works_with_a_home(
    field: Field,
) -> None:
    field.home.mkdir()
    closed = field.having(UV_CACHE_DIR=None).under(READ_ONLY.format(home=field.home))
    launched = closed.launch("lantern==1.0")
    assert launched.status == 0, launched.errors
    assert (field.store / "tmp").is_dir()
    check = closed.run("doctor").check("temporary files")
    assert check["verdict"] == "warning" and "TMPDIR" in check["hint"]


def test_shared_memory_that_is_missing_is_named_by_doctor(field: Field) -> None:
    closed = field.under("mount -t tmpfs -o ro none /dev/shm")
    assert closed.launch("lantern==1.0").status == 0
    check = closed.run("doctor").check("shared memory")
    assert check["verdict"] == "failed" and "tmpfs" in check["hint"]


def test_a_version_manager_of_another_user_is_skipped(stranger: Field) -> None:
    place = stranger.folder / "pyenv"
    (place / "versions").mkdir(parents=True)
    place.chmod(0o700)
    field = stranger.having(PYENV_ROOT=str(place))
    launched = field.launch("lantern==1.0")
    assert launched.status == 0, launched.errors
