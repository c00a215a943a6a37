"""File systems that can't all: no inodes or a quota, no links, no case, shared blocks, layers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.field import Field, Said, open_field
from tests.wheels import build_wheel

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]

HEAVY_BYTES = 8_000_000


@pytest.fixture
def field(index: Index, uv_cache: Path, wheels: Path) -> Iterator[Field]:
    build_wheel(wheels, "heavy", "1.0", modules={"heavy/data.txt": "y" * HEAVY_BYTES})
    with open_field(index, uv_cache) as opened:
        opened.home.mkdir()
        # uv's cache lies in the home then.
        yield opened.having(UV_CACHE_DIR=None)


def formatted(field: Field, program: str, *options: str) -> Path:
    """An image of a file system; skips where it can't be made."""
    if shutil.which(program) is None:
        pytest.skip(f"makes a file system with {program}")
    image = field.folder / "image"
    with image.open("wb") as file:
        # Sparse. Of what xfs reserves while much is written, 400 MiB had not enough once.
        file.truncate(1 << 30)
    done = subprocess.run([program, *options, str(image)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{program} failed: {done.stderr[-200:]}")
    return image


def mounted(field: Field, image: Path, script: str = "mount -o loop {image} {home}") -> Field:
    """The field with an image in the place of its home; skips where it can't be mounted."""
    made = field.under(script.format(image=image, home=field.home, folder=field.folder))
    done = subprocess.run(
        made.command("true"), env=dict(made.environ), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this machine can't mount it: {done.stderr[-200:]}")
    return made


def checks(said: Said, name: str) -> list[dict[str, Any]]:
    return [each for each in said.document["list"][0]["checks"] if each["name"] == name]


@pytest.mark.parametrize("inodes", [60, 250])
def test_a_file_system_without_inodes_is_named(field: Field, inodes: int) -> None:
    small = field.under(f"mount -t tmpfs -o nr_inodes={inodes} none {field.home}")
    said = small.launch("lantern==1.0", "wick")
    assert said.status in (5, 6), said.output + said.errors
    assert "No space left" in said.error["message"]
    assert "inodes" in said.error["details"]["hint"]
    assert "Traceback" not in said.errors
    check = small.run("doctor").check("free inodes")
    assert check["verdict"] == "failed" and "df -i" in check["hint"]


@pytest.mark.parametrize("kibibytes", [4, 32, 128, 256, 320, 400])
def test_a_file_system_that_is_full_is_named_with_the_file_whatever_is_written_last(
    field: Field, kibibytes: int
) -> None:
    small = field.under(f"mount -t tmpfs -o size={kibibytes}k none {field.home}")
    said = small.launch("lantern==1.0", "wick")
    assert said.status in (5, 6), said.output + said.errors
    assert "No space left" in said.error["message"]
    assert str(field.home) in said.error["message"]
    assert "gc" in said.error["details"]["hint"]
    assert "Traceback" not in said.errors


QUOTA = """
mkdir -p {folder}/whole
mount -o loop {image} {folder}/whole
if [ ! -d {folder}/whole/part ]; then
  btrfs subvolume create {folder}/whole/part >/dev/null
  btrfs quota enable {folder}/whole
  btrfs qgroup limit 6M {folder}/whole/part
fi
mount --bind {folder}/whole/part {home}
"""


def test_a_quota_is_named_though_the_file_system_has_space(field: Field) -> None:
    limited = mounted(field, formatted(field, "mkfs.btrfs", "-q"), QUOTA)
    check = limited.run("doctor").check("quota")
    assert check["verdict"] == "failed" and "a quota leaves about" in check["found"]
    said = limited.launch("heavy==1.0")
    assert said.status == 5, said.output
    assert "quota" in said.error["message"] and "quota" in said.error["details"]["hint"]


@pytest.mark.parametrize("program", ["mkfs.btrfs", "mkfs.xfs"])
def test_where_files_can_share_blocks_sizes_are_those_of_the_disk(
    field: Field, program: str
) -> None:
    image = formatted(field, program, "-q")
    disk = mounted(field, image)
    assert disk.launch("heavy==1.0").status == 0
    assert "shared by hard links" in disk.run("doctor").check("file system")["found"]
    # While uv's cache has the files, nothing but links goes; then all of them.
    for kept, least, most in ((True, 0, 1 << 20), (False, HEAVY_BYTES, HEAVY_BYTES + (1 << 20))):
        if not kept:
            assert disk.launch("heavy==1.0").status == 0
        before = used_bytes(disk if kept else disk.under(f"rm -r {field.store}/uv-cache"))
        [report] = disk.run("gc", "--max-bytes", "0").document["list"]
        assert least <= report["freed_bytes"] <= most
        assert abs(before - used_bytes(disk) - report["freed_bytes"]) < 1 << 20


def used_bytes(field: Field) -> int:
    """What of the file system of a home is in use."""
    counting = field.under(f"sync\ndf -B1 --output=used {field.home} | tail -n 1 >&2")
    return int(counting.run("--version").errors.split()[0])


EXFAT = "dev=$(losetup -f --show {image})\nmount.exfat-fuse $dev {home} >/dev/null 2>&1"


def test_a_file_system_without_links_and_case_is_refused_before_anything_is_fetched(
    field: Field, index: Index
) -> None:
    if shutil.which("mount.exfat-fuse") is None:
        pytest.skip("mounts exFAT with mount.exfat-fuse")
    image = formatted(field, "mkfs.exfat")
    script = f"{EXFAT}\nlosetup -d $dev"
    odd = mounted(field, image, script)
    index.clear()
    said = odd.launch("lantern==1.0")
    assert said.status == 6, said.output
    assert "symbolic links don't work" in said.error["message"]
    assert "XINFERENCE_HOME" in said.error["details"]["hint"]
    assert index.requests == []
    doctor = odd.run("doctor")
    assert doctor.check("home")["verdict"] == "failed"
    assert doctor.check("case")["verdict"] == "warning"
    assert "permissions are not kept" in doctor.check("file system")["found"]


# A server of files over SSH's protocol, which ends with the command that it is mounted for.
SSHFS = """
setpriv --pdeathsig KILL sshfs -f -o {options},ssh_command={program} \\
    server:{folder}/served {home} 2>{folder}/sshfs.log &
for _ in $(seq 200); do mountpoint -q {home} && break; sleep 0.05; done
mountpoint -q {home} || {{ cat {folder}/sshfs.log >&2; exit 1; }}
"""
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")


def over_sshfs(field: Field, options: str) -> Field:
    """The field with a home on another host, as good as; skips where that can't be mounted."""
    server = next(filter(os.path.exists, SFTP_SERVERS), None)
    if shutil.which("sshfs") is None or server is None:
        pytest.skip("mounts over SSH's protocol with sshfs and sftp-server")
    (field.folder / "served").mkdir()
    program = field.folder / "no-ssh"
    program.write_text(f"#!/bin/sh\nexec {server}\n")
    program.chmod(0o755)
    script = SSHFS.replace("{program}", str(program)).replace("{options}", options)
    return mounted(field, Path(), script)


def test_a_home_over_a_network_without_links_serves_and_its_open_files_are_deleted_later(
    field: Field,
) -> None:
    """Neither hard links nor a rename that replaces nothing: uv can't lock a cache there."""
    remote = over_sshfs(field, "disable_hardlink,no_contain_symlinks")
    for model in ("glow", "shine"):
        launched = remote.launch("lantern==1.0", model=model)
        assert launched.status == 0, launched.errors
    assert remote.run("verify", "--hashes").status == 0
    assert (Path(field.environ["HOME"]) / ".cache" / "uv").is_dir()
    doctor = remote.run("doctor")
    ways = doctor.check("file system")["found"]
    assert "files are copied" in ways and "stay until they are closed" in ways
    assert doctor.check("uv")["verdict"] == "ok"
    # Whoever ends a command has its files closed: a shell reads them while they are deleted.
    holding = remote.under(f"exec 7<$(ls {field.store}/envs/*/venv/pyvenv.cfg | head -n 1)")
    assert holding.run("remove", "glow").status == 0
    assert [each["model_name"] for each in remote.run("list").document["list"]] == ["shine"]
    assert remote.run("remove", "shine").status == 0
    assert remote.run("gc").status == 0
    assert remote.run("doctor").check("store")["verdict"] == "ok"
    served = field.folder / "served" / "virtualenv" / "store"
    assert [os.listdir(served / each) for each in ("envs", "trash", "staging")] == [[], [], []]


# As on mounts whose files are another user's, or where the server knows neither modes nor times.
REFUSING = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static int refuses(const char *what, int folder, const char *path) {
    const char *home = getenv("XINFERENCE_HOME"), *refused = getenv("REFUSED");
    char place[PATH_MAX] = "", link[64];
    if (!home || !refused || strcmp(what, refused)) return 0;
    if (path && path[0] == '/') strncpy(place, path, sizeof place - 1);
    else if (folder == AT_FDCWD) { if (!getcwd(place, sizeof place)) return 0; }
    else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        if (readlink(link, place, sizeof place - 1) < 0) return 0;
    }
    if (strncmp(place, home, strlen(home))) return 0;
    errno = EPERM;
    return 1;
}
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    return refuses("modes", folder, path) ? -1 : syscall(SYS_fchmodat, folder, path, mode);
}
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int fchmod(int file, mode_t mode) {
    return refuses("modes", file, 0) ? -1 : syscall(SYS_fchmod, file, mode);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    return refuses("times", folder, path) ? -1 : syscall(SYS_utimensat, folder, path, times, flags);
}
int futimens(int file, const struct timespec times[2]) {
    return refuses("times", file, 0) ? -1 : syscall(SYS_utimensat, file, 0, times, 0);
}
"""


def refusing(field: Field, what: str) -> Field:
    """The field with a home where the system refuses to set modes or times."""
    source, library = field.folder / "refusing.c", field.folder / "refusing.so"
    source.write_text(REFUSING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return field.having(LD_PRELOAD=str(library), REFUSED=what)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("view", ["links", "files"])
def test_where_no_times_can_be_set_environments_are_made_and_used(field: Field, view: str) -> None:
    closed = refusing(field, "times")
    for _ in range(2):
        said = closed.launch("lantern==1.0", "wick", more=("--view", view))
        assert said.status == 0, said.output
    verified = closed.run("verify", "--hashes")
    assert verified.status == 0, verified.output
    assert closed.run("gc").status == 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_where_no_modes_can_be_set_a_launch_is_refused_before_anything_is_fetched(
    field: Field, index: Index
) -> None:
    closed = refusing(field, "modes")
    index.clear()
    said = closed.launch("lantern==1.0")
    assert said.status == 6, said.output
    assert "modes can't be set: Operation not permitted" in said.error["message"]
    assert "modes" in said.error["details"]["hint"]
    assert index.requests == []
    home = closed.run("doctor").check("home")
    assert home["verdict"] == "failed" and "modes can't be set" in home["found"]


def test_a_cache_of_uv_that_can_not_be_locked_is_named(field: Field) -> None:
    remote = over_sshfs(field, "disable_hardlink,no_contain_symlinks")
    said = remote.having(UV_CACHE_DIR=str(field.home / "cache")).launch("lantern==1.0")
    assert said.status == 5, said.output
    assert "UV_CACHE_DIR" in said.error["details"]["hint"]


@pytest.mark.parametrize("how", ["sshfs", "nosymfollow"])
def test_where_no_link_may_lead_out_a_launch_is_refused_before_anything_is_fetched(
    field: Field, index: Index, how: str
) -> None:
    if how == "sshfs":
        closed = over_sshfs(field, "contain_symlinks")
    else:
        bind = "mount --bind {home} {home}\nmount -o remount,bind,nosymfollow {home}"
        closed = mounted(field, Path(), bind)
    index.clear()
    said = closed.launch("lantern==1.0")
    assert said.status == 6, said.output
    assert "symbolic links" in said.error["message"]
    assert index.requests == []
    assert closed.run("doctor").check("home")["verdict"] == "failed"


def test_a_file_system_that_is_mounted_otherwise_is_tried_again(field: Field) -> None:
    mount = f"mount --bind {field.home} {field.home}\n"
    assert field.under(mount).launch("lantern==1.0").status == 0
    kept = field.store / "file-system.json"
    before = kept.stat().st_mtime_ns
    assert field.under(mount).run("list").status == 0
    assert kept.stat().st_mtime_ns == before
    closed = field.under(f"{mount}mount -o remount,bind,noexec {field.home}")
    said = closed.launch("lantern==2.0", model="shine")
    assert said.status == 6 and "noexec" in said.error["message"]
    assert field.launch("lantern==2.0", model="shine").status == 0


def test_the_ways_of_the_home_s_file_system_are_reported(field: Field) -> None:
    scratch = field.folder / "scratch"
    overlay = (
        f"mkdir -p {scratch}\nmount -t tmpfs none {scratch}\nmkdir {scratch}/u {scratch}/w\n"
        f"mount -t overlay none -o lowerdir={field.home},upperdir={scratch}/u,workdir={scratch}/w"
        f" {field.home}"
    )
    found = field.under(overlay).run("doctor").check("file system")["found"]
    assert found.startswith("overlay") and "layers" in found
    assert os.listdir(field.home) == []
