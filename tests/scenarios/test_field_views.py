"""Views of every kind over file systems that can't all: packages that share a namespace, and of
which the host's and the installed one look for files in the prefix and of each other.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.field import STRANGER, Field, open_field
from tests.scenarios.test_field_file_systems import formatted, mounted, over_sshfs
from tests.scenarios.test_field_images import as_image
from tests.wheels import build_wheel, fake_distribution

pytestmark = [pytest.mark.uv, pytest.mark.condition]

LOOKS = """
import os
here = os.path.realpath(os.path.dirname(__file__))
found = [
    os.path.isfile(os.path.join(here, '../../../../share/deck/chart.txt')),
    os.path.isfile(os.path.join(here, '..', 'deck', 'log.txt')),
]
"""
PROBE = """
import os, crew, keel, space.crew, space.deck, space.keel
walked = [name for _, _, names in os.walk(os.path.dirname(crew.__file__)) for name in names]
print(crew.found + keel.found + ["large.txt" in walked])
"""
# More than is copied where there are no hard links.
LARGE = "z" * (17 << 20)


@pytest.fixture
def field(index: Index, uv_cache: Path, wheels: Path) -> Iterator[Field]:
    deck = {"deck/__init__.py": "", "deck/log.txt": "log", "space/deck.py": ""}
    chart = {"deck-1.0.data/data/share/deck/chart.txt": b"chart"}
    build_wheel(wheels, "deck", "1.0", modules=deck, data=chart)
    crew = {"crew/__init__.py": LOOKS, "crew/large.txt": LARGE, "space/crew.py": ""}
    build_wheel(wheels, "crew", "1.0", modules=crew, requires=["deck"])
    with open_field(index, uv_cache) as opened:
        [site] = opened.folder.glob("python/lib/python3.*/site-packages")
        keel = {"keel/__init__.py": LOOKS, "space/keel.py": ""}
        fake_distribution(site, "keel", "1.0", requires=["deck"], files=keel)
        opened.home.mkdir()
        # uv's cache lies in the home then.
        yield opened.having(UV_CACHE_DIR=None)


def serves(field: Field) -> None:
    """Both kinds of environments are made, find everything and are whole."""
    for view in ("links", "files"):
        said = field.launch("crew", "keel", model=view, more=["--view", view])
        assert said.status == 0, said.output
        python = f"{field.home}/virtualenv/v3/{view}/*/bin/python"
        done = subprocess.run(
            field.command("bash", "-c", f"{python} -c '{PROBE}'"),
            env=dict(field.environ), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == f"{[True] * 5}\n", done.stderr
    verified = field.run("verify", "--hashes")
    assert verified.status == 0, verified.output
    assert field.run("doctor").check("environments")["verdict"] == "ok"


@pytest.mark.parametrize("program", ["mkfs.btrfs", "mkfs.xfs", "mkfs.ext4"])
def test_a_view_over_a_file_system_of_its_own_finds_everything(field: Field, program: str) -> None:
    """ext4 with uv's cache on another device."""
    disk = mounted(field, formatted(field, program, "-q"))
    elsewhere = str(field.folder / "cache")
    serves(disk.having(UV_CACHE_DIR=elsewhere) if program == "mkfs.ext4" else disk)


# Gives a file as many names as its file system lets it have.
FILLS = """
import errno, os, sys
os.mkdir(sys.argv[1])
for number, path in enumerate(sys.argv[2:]):
    folder = f"{sys.argv[1]}/{number}"
    os.mkdir(folder)
    try:
        for name in range(1 << 17):
            os.link(path, f"{folder}/{name}")
    except OSError as error:
        assert error.errno == errno.EMLINK, error
    assert os.stat(path).st_nlink == 65000
"""


def test_a_view_of_files_that_can_not_have_more_names_finds_everything(field: Field) -> None:
    disk = mounted(field, formatted(field, "mkfs.ext4", "-q"))
    assert disk.launch("crew", model="first", more=["--inherit", "exact"]).status == 0
    packages = f"{disk.home}/virtualenv/store/packages"
    names = "/crew-*/site/{crew/__init__.py,crew/large.txt,space/crew.py}", "/deck-*/data/share/*/*"
    files = " ".join(packages + each for each in names)
    fills = f"{disk.python} -c '{FILLS}' {disk.home}/names {files}"
    done = subprocess.run(
        disk.command("bash", "-c", fills),
        env=dict(disk.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    serves(disk)


def test_a_view_over_a_file_system_without_hard_links_finds_everything(field: Field) -> None:
    serves(over_sshfs(field, "disable_hardlink,no_contain_symlinks"))


def test_a_view_over_packages_of_an_image_finds_everything(field: Field) -> None:
    # The image's joined tree has nothing of the host, so another one is made above the layer.
    assert field.launch("crew", model="first", more=["--inherit", "exact"]).status == 0
    container = as_image(field, dated=None)
    launches = "\n".join(
        f"sed s/first/{view}/ {field.folder}/first.json > {field.folder}/{view}.json; "
        f"{field.python} -m xinference_venv launch {view} --view {view}"
        f" --spec {field.folder}/{view}.json --json >/dev/null"
        for view in ("links", "files")
    )
    python = f"{field.home}/virtualenv/v3/$view/*/bin/python"
    probed = f"for view in links files; do {python} -c '{PROBE}' >&2; done"
    said = container.under(f"{launches}\n{probed}").run("verify", "--hashes")
    assert said.status == 0, said.output
    assert said.errors.splitlines()[-2:] == [str([True] * 5)] * 2


# What packages consist of stays root's, so that nobody else may make hard links to it.
GIVE_AWAY = """
find {folder}/user {home} \\( -path '*/archive-v0/*' -o -path '*/packages/*/*' -o \\
    -path '*/joined/*/*' -o -path '*/envs/*/*' \\) -type f -prune -o -exec chown {uid} {{}} +
"""


def test_a_view_over_packages_of_another_user_is_made_of_copies(field: Field) -> None:
    with open("/proc/sys/fs/protected_hardlinks") as setting:
        if setting.read().strip() != "1":
            pytest.skip("here everyone may make hard links to everything")
    assert field.launch("crew", model="first", more=["--inherit", "exact"]).status == 0
    script = GIVE_AWAY.format(folder=field.folder, home=field.home, uid=STRANGER)
    subprocess.run(["bash", "-c", script], check=True)
    before = {path: path.stat() for path in field.store.glob("packages/*/site/*/*.py")}
    assert {each.st_uid for each in before.values()} == {0}
    serves(field.as_user(STRANGER))
    assert {path: path.stat().st_nlink for path in before} == {
        path: each.st_nlink for path, each in before.items()
    }
