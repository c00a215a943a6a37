"""Environments that are baked into a container's image, and used over its layers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.field import Field, open_field

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]

DAY = 86_400.0

# A layer keeps times of whole seconds and no inode; what is above it is the container's own.
CONTAINER = """
scratch={folder}/scratch
mkdir -p $scratch
mountpoint -q $scratch || mount -t tmpfs none $scratch
for part in home python; do
  mkdir $scratch/$part-upper $scratch/$part-work
  mount -t overlay none \\
    -o lowerdir={folder}/layer/$part,upperdir=$scratch/$part-upper,workdir=$scratch/$part-work \\
    {folder}/$part
done
"""


@pytest.fixture
def field(index: Index, uv_cache: Path) -> Iterator[Field]:
    with open_field(index, uv_cache) as opened:
        yield opened


def as_image(field: Field, *, dated: float | None) -> Field:
    """The field in a container of an image with its home and interpreter, all dated alike."""
    folder = field.folder
    copying = "mkdir layer; tar --format=gnu -cf - home python | tar -C layer -xf -"
    subprocess.run(["bash", "-c", copying], check=True, cwd=folder)
    if dated is not None:
        for place, folders, files in os.walk(folder / "layer"):
            for name in (*folders, *files):
                os.utime(Path(place, name), (dated, dated), follow_symlinks=False)
    return field.under(CONTAINER.format(folder=folder))


def collected(field: Field, *words: str) -> dict[str, Any]:
    said = field.run("gc", *words)
    assert said.status == 0, said.errors
    [report] = said.document["list"]
    return dict(report)


@pytest.mark.parametrize("dated", ["1980", "long ago", "future"])
def test_an_image_that_is_older_than_the_limit_is_not_collected_when_it_starts(
    field: Field, index: Index, dated: str
) -> None:
    assert field.launch("lantern==1.0").status == 0
    now = time.time()
    when = {"1980": 315_532_800.0, "long ago": now - 400 * DAY, "future": now + 400 * DAY}[dated]
    container = as_image(field, dated=when)
    index.clear()
    report = collected(container, "--older-than", "30d", "--max-bytes", "1GB")
    assert (report["evict"], report["unneeded"]) == ([], [])
    assert [each["state"] for each in container.run("list").document["list"]] == ["ready"]
    launched = container.launch("lantern==1.0")
    assert (launched.status, launched.document["uv_calls"]) == (0, 0)
    assert index.requests == []


def test_environments_of_an_image_are_changed_repaired_and_removed(field: Field) -> None:
    assert field.launch("lantern==1.0").status == 0
    assert field.launch("lantern==2.0", model="shine").status == 0
    container = as_image(field, dated=None)
    program = f"{field.python} -m xinference_venv"
    steps = (
        f"{program} verify --hashes --json >/dev/null",
        f"rm {field.home}/virtualenv/store/packages/wick-*/site/wick.py",
        f"{program} verify --hashes --repair --json >/dev/null",
        f"{program} launch shine --spec {field.folder}/shine.json --refresh --json >/dev/null",
        f"{program} remove glow --json >/dev/null",
        f"{program} gc --max-bytes 0 --json >/dev/null",
        f"{program} launch glow --spec {field.folder}/glow.json --json >/dev/null",
    )
    listed = container.under("\n".join(steps)).run("list")
    assert listed.status == 0, listed.errors
    states = {each["model_name"]: each["state"] for each in listed.document["list"]}
    assert states == {"glow": "ready"}
    assert listed.document["skipped"] == []
    doctor = container.run("doctor")
    assert [doctor.check(name)["verdict"] for name in ("store", "environments")] == ["ok", "ok"]
