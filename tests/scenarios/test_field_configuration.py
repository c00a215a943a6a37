"""Whatever makes `pip install` work here makes a launch work: pip's configuration, key by key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.field import Field, open_field
from tests.tls import signed_by_an_authority
from tests.wheels import build_wheel

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]


@pytest.fixture
def field(index: Index, uv_cache: Path) -> Iterator[Field]:
    with open_field(index, uv_cache) as opened:
        yield opened


def configured(field: Field, text: str) -> Field:
    """The field with a pip.conf of its own, and models that inherit it."""
    path = field.folder / "pip.conf"
    path.write_text(f"[global]\nindex-url = {field.environ['TEST_INDEX']}\n{text}")
    return field.having(PIP_CONFIG_FILE=str(path))


def launch(field: Field, *packages: str) -> dict[str, str | None]:
    """Launch a model that inherits pip's configuration; version by name of what is installed."""
    spec = field.folder / "inheriting.json"
    names = ", ".join(f'"{each}"' for each in packages)
    spec.write_text(f'{{"model_name": "glow", "virtualenv": {{"packages": [{names}]}}}}')
    said = field.run("launch", "glow", "--spec", str(spec))
    assert said.status == 0, said.output + said.errors
    listed = field.run("packages", "glow").document["list"][0]["packages"]
    return {each["name"]: each["version"] for each in listed if each["role"] == "installed"}


def test_a_constraint_of_pip_holds(field: Field) -> None:
    constraints = field.folder / "constraints.txt"
    constraints.write_text("# of the company\nlantern<2  # not yet\n")
    assert launch(configured(field, f"constraint = {constraints}\n"), "lantern")["lantern"] == "1.0"


def test_pre_of_pip_holds(field: Field, wheels: Path) -> None:
    build_wheel(wheels, "lantern", "3.0rc1", requires=["wick"])
    assert launch(configured(field, "pre = true\n"), "lantern")["lantern"] == "3.0rc1"


def test_a_folder_of_wheels_is_named_by_its_url_and_looked_into_again(
    field: Field, tmp_path: Path
) -> None:
    # pip takes a blank for the end of a place, so a path with one is given as a URL.
    folder = tmp_path / "wheels of ours"
    folder.mkdir()
    build_wheel(folder, "lamp", "1.0")
    field = configured(field, f"find-links = {folder.as_uri()}\n")
    field = field.having(XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE="1h")
    assert launch(field, "lamp")["lamp"] == "1.0"
    bundle = tmp_path / "glow.bundle"
    exported = field.run("export", "glow", str(bundle))
    assert exported.status == 0, exported.errors
    build_wheel(folder, "lamp", "2.0")
    assert field.run("remove", "glow").status == 0
    assert launch(field, "lamp")["lamp"] == "2.0"


def test_what_can_not_be_honoured_is_a_warning_of_the_answer(field: Field) -> None:
    spec = field.folder / "inheriting.json"
    spec.write_text('{"model_name": "glow", "virtualenv": {"packages": ["lantern"]}}')
    said = configured(field, "require-hashes = true\n").run(
        "launch", "glow", "--spec", str(spec), "--dry-run"
    )
    assert "require-hashes" in said.output


@pytest.mark.parametrize("way", ["cert", "system"])
def test_a_certificate_that_pip_s_configuration_or_the_system_knows_is_accepted(
    field: Field, index: Index, tmp_path: Path, way: str
) -> None:
    context, authority = signed_by_an_authority(tmp_path)
    index.serve_tls(context)
    certificate = field.folder / "ca.pem"
    certificate.write_bytes(authority.read_bytes())
    field = field.having(TEST_INDEX=index.url.replace("http:", "https:"))
    if way == "cert":
        field = configured(field, f"cert = {certificate}\n")
    else:
        place = "/etc/ssl/certs/ca-certificates.crt"
        if not os.path.isfile(place):
            pytest.skip("this system has no store of certificates")
        field = configured(field, "").under(f"mount --bind {certificate} {place}")
    assert launch(field, "lantern==1.0")["lantern"] == "1.0"


def test_a_home_on_noexec_is_refused_before_anything_is_built(field: Field, index: Index) -> None:
    field.home.mkdir()
    closed = field.under(f"mount -t tmpfs -o noexec none {field.home}")
    index.clear()
    said = closed.launch("lantern==1.0")
    assert said.status == 6
    assert "noexec" in said.error["message"] and "XINFERENCE_HOME" in said.error["details"]["hint"]
    assert index.requests == []
    assert closed.run("doctor").check("home")["verdict"] == "failed"


OVERLAY = """
mkdir -p {scratch}
mount -t tmpfs none {scratch}
mkdir {scratch}/upper {scratch}/work
mount -t overlay none -o lowerdir={home},upperdir={scratch}/upper,workdir={scratch}/work {home}
"""


def test_environments_baked_into_an_image_are_listed_relaunched_and_removed(field: Field) -> None:
    assert field.launch("lantern==1.0").status == 0
    assert field.launch("lantern==2.0", model="shine").status == 0
    program = f"{field.python} -m xinference_venv"
    spec = field.folder / "glow.json"
    steps = (
        f"{program} launch glow --spec {spec} --json >/dev/null",
        f"{program} remove glow --json >/dev/null",
        f"{program} launch glow --spec {spec} --json >/dev/null",
        f"{program} remove shine --json >/dev/null",
        f"{program} gc --json >/dev/null",
    )
    script = OVERLAY.format(home=field.home, scratch=field.folder / "scratch")
    baked = field.under(script + "\n".join(steps))
    listed = baked.run("list")
    assert listed.status == 0, listed.errors
    assert [each["model_name"] for each in listed.document["list"]] == ["glow"]
    assert listed.document["list"][0]["state"] == "ready"
    assert listed.document["skipped"] == []


def test_a_closed_terminal_ends_a_build_like_sigterm(field: Field, index: Index) -> None:
    index.hang("/simple/lantern/")
    spec = field.folder / "glow.json"
    spec.write_text(
        '{"model_name": "glow", "virtualenv": {"packages": ["lantern"], "index_url": "'
        f'{index.url}", "inherit_pip_config": false}}}}'.replace("}}}}", "}}")
    )
    words = [str(field.python), "-m", "xinference_venv", "launch", "glow", "--spec", str(spec)]
    process = subprocess.Popen(words, env=dict(field.environ), stderr=subprocess.PIPE)
    index.wait_for_request("/simple/lantern/", timeout=60)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert b"SIGHUP" in errors
    assert list((field.store / "staging").iterdir()) == []
    index.release()


def test_closed_standard_streams_are_no_reason_to_fail(field: Field) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&-"):
        done = subprocess.run(
            ["bash", "-c", f"{field.python} -m xinference_venv list {closed}"],
            env=dict(field.environ),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (closed, done.stderr)


def test_where_the_locale_can_not_name_a_folder_the_folder_and_the_locale_are_named(
    field: Field,
) -> None:
    spec = field.folder / "glow.json"
    block = {"packages": ["lantern"], "find_links": [str(field.folder / "räder")]}
    spec.write_text(json.dumps({"model_name": "glow", "virtualenv": block}))
    other = field.having(
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS=str(field.folder),
    )
    said = other.run("launch", "glow", "--spec", str(spec))
    assert said.status == 2
    assert r"r\xe4der' can't be the name of a file here" in said.error["message"]
    assert "LC_ALL=C.UTF-8" in said.error["details"]["hint"]
    assert "Traceback" not in said.errors


def test_a_sitecustomize_that_prints_at_the_start_and_the_end_disturbs_nothing(
    field: Field,
) -> None:
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = field.python.parents[1] / "lib" / minor / "site-packages"
    code = "import atexit; print('hello'); atexit.register(print, 'good bye')"
    (site / "chatty.pth").write_text(f"{code}\n")
    assert field.launch("lantern==1.0").status == 0
