"""The command line knows the environments of the drop-in as what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.wheels import build_wheel
from tests.xinference.conftest import Place
from tests.xinference.test_host_change import replace_on_host
from tests.xinference.test_use import model_process
from xinference_venv.store.gc import find_unneeded
from xinference_venv.store.in_place import read_in_place
from xinference_venv.store.relayed_wheels import RelayedWheels
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv


def run(*words: str) -> tuple[int, Any]:
    """Exit status and JSON answer of a command of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "xinference_venv", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_a_listing_shows_one_with_its_packages_its_size_and_who_uses_it(place: Place) -> None:
    place.launch("lantern<2", "oil")
    with model_process(place) as process:
        [entry] = run("list")[1]["list"]
        code, refused = run("remove", "a model")
        assert code != 0
        assert str(process.pid) in refused["error"]["message"]
    assert (entry["model_name"], entry["model_engine"]) == ("a model", "vllm")
    assert (entry["state"], entry["layout"], entry["installed"]) == ("in-place", "v4", 2)
    assert entry["inherited"] >= 1
    assert entry["size_bytes"] > 100
    assert entry["last_used"] > 0
    [user] = entry["users"]
    assert (user["pid"], user["seen_in"]) == (process.pid, ["lock of the environment"])
    assert run("remove", "a model")[0] == 0
    assert not place.path.exists()


def test_its_packages_are_named_with_what_brought_them(place: Place) -> None:
    place.launch("lantern<2")
    place.install(place.manager, "oil")
    site = Path(place.manager.get_lib_path())
    build_wheel(place.wheels, "wind", "1.0")
    uv = place.manager._get_uv_path()
    install = [uv, "pip", "install", "-q", "-p", str(place.path), "-i", place.index.url]
    subprocess.run([*install, "wind", "oil"], check=True)
    assert (site / "wind.py").exists()
    [answer] = run("packages", "a model")[1]["list"]
    found = {each["name"]: (each["version"], each["role"]) for each in answer["packages"]}
    assert found["lantern"] == ("1.0", "installed")
    assert found["wick"] == ("1.0", "inherited")
    assert found["wind"] == ("1.0", "installed")
    [answer] = run("explain", "a model")[1]["list"]
    why = {each["name"]: each["why"] for each in answer["packages"]}
    assert "lantern<2" in why["lantern"]
    assert why["wind"] == "it was installed by hand"


def test_what_replaces_a_package_of_the_host_keeps_its_reason_when_others_are_added(
    place: Place,
) -> None:
    build_wheel(place.wheels, "wick", "0.9")
    place.launch("wick==0.9")
    place.install(place.manager, "oil")
    [answer] = run("explain", "a model")[1]["list"]
    whys = {each["role"]: each["why"] for each in answer["packages"] if each["name"] == "wick"}
    assert "wick==0.9" in whys["installed"]
    assert "wick==0.9" not in whys["shadowed"]


def test_two_of_them_are_compared(place: Place) -> None:
    other = place.beside("3.11.8")
    place.launch("lantern<2")
    other.launch("lantern==2.0")
    versions = [each.path.name for each in (place, other)]
    code, answer = run("diff", *(f"a model/vllm/{version}" for version in versions))
    assert code == 0
    changed = {each["name"]: (each["a"], each["b"]) for each in answer["changes"]}
    assert [each["version"] for each in changed["lantern"]] == ["1.0", "2.0"]


def test_one_that_lacks_files_is_not_whole(place: Place) -> None:
    place.launch("lantern<2")
    [checked] = run("verify")[1]["list"]
    assert checked["faults"] == []
    module = Path(place.manager.get_lib_path(), "lantern.py")
    with module.open("a") as file:
        file.write("# a hot fix\n")
    [checked] = run("verify")[1]["list"]
    assert checked["faults"] == []
    module.unlink()
    [checked] = run("verify")[1]["list"]
    assert checked["faults"] == ["lantern lacks lantern.py"]


def test_a_listing_says_what_the_host_has_otherwise_since(place: Place) -> None:
    place.launch("lantern<2")
    replace_on_host(place, "wick", "1.5")
    [entry] = run("list")[1]["list"]
    assert entry["changed_on_host"] == ["wick"]
    place.launch("lantern<2")
    [entry] = run("list")[1]["list"]
    assert entry["changed_on_host"] == []


def test_a_collection_of_garbage_counts_it_as_what_it_is_and_leaves_it(place: Place) -> None:
    place.launch("oil")
    code, answer = run("gc", "--older-than", "0s")
    assert code == 0
    [report] = answer["list"]
    assert report["in_place"]["count"] == 1
    assert report["in_place"]["size_bytes"] > 100
    assert report["unmanaged"] == {"count": 0, "size_bytes": 0}
    assert place.visible()["oil"] == "1.0"


def test_the_state_of_the_host_that_it_was_made_over_is_kept(place: Place) -> None:
    place.launch("oil")
    store = Store.open(Path(os.environ["XINFERENCE_HOME"], "virtualenv"))
    record = read_in_place(store.disk, place.path)
    assert record is not None
    replace_on_host(place, "wick", "1.5")
    place.beside("other").launch("oil")
    relayed = RelayedWheels(layout=store.layout, disk=store.disk, max_bytes=0)
    in_ten_days = time.time() + 10 * 86_400
    unneeded = find_unneeded(store, in_ten_days, relayed, lambda: False)
    assert record.host_fingerprint not in {each.path.stem for each in unneeded}


def test_a_command_runs_in_one_and_uses_it(place: Place) -> None:
    place.launch("lantern<2")
    words = [sys.executable, "-m", "xinference_venv", "exec", "a model", "--"]
    source = (
        "import os, sys, lantern; print(os.environ['VIRTUAL_ENV'], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [*words, "python", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(place.path)
        [entry] = run("list")[1]["list"]
        assert [each["pid"] for each in entry["users"]] == [process.pid]
        code, refused = run("remove", "a model")
        assert code != 0
        assert refused["error"]["details"]["hint"] == "unload the models that run in it first"
        process.communicate()


def test_it_has_no_lock_and_the_refusal_says_why(place: Place) -> None:
    place.launch("lantern<2")
    words = [sys.executable, "-m", "xinference_venv", "lock", "a model"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "an environment of Xinference, which the drop-in changes in its place" in ran.stderr
    assert "xinference-venv packages a model" in ran.stderr


def test_an_exact_version_is_explained_as_it_was_asked_for(place: Place) -> None:
    place.launch("lantern==1.0")
    [answer] = run("explain", "a model")[1]["list"]
    [lantern] = [each for each in answer["packages"] if each["name"] == "lantern"]
    assert lantern["why_version"] == "the newest that fits, since the request requires lantern==1.0"


def test_the_doctor_counts_them_and_names_what_is_wrong_with_them(place: Place) -> None:
    place.launch("lantern<2")

    def found() -> str:
        [diagnosis] = run("doctor")[1]["list"]
        checks = {each["name"]: each["found"] for each in diagnosis["checks"]}
        return str(checks["environments"])

    assert found() == "1 environment, none found broken"
    (place.path / "bin" / "python").unlink()
    assert "a model (Python 3.11.7, engine vllm): its interpreter is gone" in found()
