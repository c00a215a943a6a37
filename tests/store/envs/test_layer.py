"""The layer of links, with real imports through it in real environments."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import fakes
from tests.store.conftest import make_venv
from tests.wheels import fake_distribution
from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.layer import PTH_NAME, make_layer, show_layer
from xinference_venv.store.host.scan import scan_distributions
from xinference_venv.store.packages.record_file import recorded_files
from xinference_venv.store.paths import LAYER_NAME

pytestmark = pytest.mark.uv

LOOK = """
import importlib, importlib.metadata, importlib.util, json, sys
modules, distributions = json.loads(sys.argv[1])
found = {}
for name in modules:
    try:
        found[name] = getattr(importlib.import_module(name), "SAYS", None)
    except ModuleNotFoundError:
        found[name] = "absent"
        assert importlib.util.find_spec(name.partition(".")[0]) is None or "." in name
versions = {}
for name in distributions:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        versions[name] = None
listed = sorted(each.metadata["Name"] for each in importlib.metadata.distributions())
print(json.dumps({"modules": found, "versions": versions, "listed": listed, "path": sys.path}))
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """Site directories of a host, and environments over it."""

    folder: Path

    def site(self, name: str = "site") -> Path:
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def environment(
        self, *hidden: str, sites: Sequence[str] = ("site",), name: str = "env"
    ) -> Environment:
        """An environment that shows these sites without the hidden distributions."""
        search_path = [str(self.site(each)) for each in sites]
        found, _ = scan_distributions(fakes.interpreter(search_path=tuple(search_path)))
        env = self.folder / name
        own = make_venv(env)
        assert {each.name for each in found} >= set(hidden)
        facts = fakes.host(*found, interpreter=fakes.interpreter(search_path=tuple(search_path)))
        shown = set(facts.by_name) - set(hidden)
        make_layer(Disk(), env, facts, shown, unowned=True)
        show_layer(Disk(), own, search_path)
        return Environment(path=env, own=own)


@dataclass(frozen=True, kw_only=True)
class Environment:
    path: Path
    own: Path

    def look(self, *modules: str, distributions: Sequence[str] = ()) -> Any:
        """What its interpreter imports and finds, without bytecode being written."""
        asked = json.dumps([modules, list(distributions)])
        done = subprocess.run(
            [self.path / "bin" / "python", "-IBc", LOOK, asked],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout.splitlines()[-1])

    def says(self, *modules: str) -> list[object]:
        found = self.look(*modules)["modules"]
        return [found[module] for module in modules]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(folder=tmp_path / "host")


def say(words: str) -> str:
    return f"SAYS = {words!r}\n"


def test_what_is_not_hidden_is_imported_through_the_layer(host: Host) -> None:
    fake_distribution(
        host.site(),
        "lib",
        "1.0",
        files={"lib/__init__.py": say("host"), "lib/deep/inner.py": say("deep"), "one.py": ""},
    )
    found = host.environment().look("lib", "lib.deep.inner", "one", distributions=["lib"])
    assert found["modules"] == {"lib": "host", "lib.deep.inner": "deep", "one": None}
    assert found["versions"] == {"lib": "1.0"}


def test_a_hidden_distribution_is_neither_importable_nor_listed(host: Host) -> None:
    site = host.site()
    fake_distribution(
        site,
        "hidden",
        "1.0",
        files={"hidden/__init__.py": "", "hidden/sub/inner.py": "", "hidden_module.py": ""},
    )
    fake_distribution(site, "shown", "1.0", files={"shown.py": say("host")})
    env = host.environment("hidden")
    found = env.look(
        "hidden", "hidden_module", "hidden.sub", "shown", distributions=["hidden", "shown"]
    )
    assert found["modules"] == {
        "hidden": "absent",
        "hidden_module": "absent",
        "hidden.sub": "absent",
        "shown": "host",
    }
    assert found["versions"] == {"hidden": None, "shown": "1.0"}
    assert found["listed"] == ["shown"]


def test_bytecode_that_no_record_names_does_not_bring_a_hidden_package_back(host: Host) -> None:
    site = host.site()
    fake_distribution(
        site, "hidden", "1.0", files={"hidden/__init__.py": "", "hidden/sub/inner.py": ""}
    )
    for folder in ("hidden/__pycache__", "hidden/sub/__pycache__", "__pycache__"):
        (site / folder).mkdir()
        (site / folder / "inner.cpython-38.pyc").write_bytes(b"")
    env = host.environment("hidden")
    assert env.says("hidden", "hidden.sub") == ["absent", "absent"]
    assert not (env.path / LAYER_NAME / "0" / "__pycache__").exists()


def test_a_namespace_is_shared_by_hidden_and_visible_distributions(host: Host) -> None:
    site = host.site()
    for name in ("one", "two", "three"):
        fake_distribution(
            site, f"ns-{name}", "1.0", files={f"ns/common/{name}/__init__.py": say(name)}
        )
    env = host.environment("ns-two")
    names = ["ns.common.one", "ns.common.two", "ns.common.three"]
    assert env.says(*names) == ["one", "absent", "three"]
    # The environment's own part joins them.
    fake_distribution(env.own, "ns-two", "2.0", files={"ns/common/two/__init__.py": say("own")})
    assert env.says(*names) == ["one", "own", "three"]


def test_what_is_shared_at_several_depths_is_shown_at_each(host: Host) -> None:
    site = host.site()
    for name in ("hidden", "shown"):
        files = {f"{folder}{name}.py": say(name) for folder in ("", "ns/", "ns/sub/", "ns/sub/x/")}
        fake_distribution(site, name, "1.0", files=files)
    env = host.environment("hidden")
    for package in ("", "ns.", "ns.sub.", "ns.sub.x."):
        assert env.says(f"{package}hidden", f"{package}shown") == ["absent", "shown"]


def test_the_environments_own_packages_come_first(host: Host) -> None:
    fake_distribution(host.site(), "lib", "1.0", files={"lib.py": say("host")})
    env = host.environment()
    fake_distribution(env.own, "lib", "2.0", files={"lib.py": say("own")})
    (env.own / "zebra.pth").write_text(str(host.site("added")))
    (host.site("added") / "lib.py").write_text(say("added"))
    (host.site("added") / "other.py").write_text(say("added"))
    found = env.look("lib", "other", distributions=["lib"])
    assert found["modules"] == {"lib": "own", "other": "added"}
    assert found["versions"] == {"lib": "2.0"}
    layer = str(env.path / LAYER_NAME / "0")
    assert found["path"][-1] == layer
    assert max(each.name for each in env.own.glob("*.pth")) == PTH_NAME


def test_the_folders_of_the_host_keep_their_order(host: Host) -> None:
    for place in ("first", "second"):
        fake_distribution(host.site(place), place, "1.0", files={"lib.py": say(place)})
    assert host.environment(sites=["first", "second"]).says("lib") == ["first"]
    assert host.environment(sites=["second", "first"], name="other").says("lib") == ["second"]


def test_a_copy_that_the_host_itself_covers_stays_hidden(host: Host) -> None:
    """A user's or a distribution's older copy, further back on the search path."""
    fake_distribution(
        host.site("local"), "My.Lib", "2.0", files={"lib/__init__.py": "", "a.py": ""}
    )
    fake_distribution(host.site("system"), "my-lib", "1.0", files={"lib/__init__.py": ""})
    fake_distribution(host.site("system"), "other", "1.0", files={"other.py": say("host")})
    env = host.environment("my-lib", sites=["local", "system"])
    found = env.look("lib", "a", "other", distributions=["my-lib"])
    assert found["modules"] == {"lib": "absent", "a": "absent", "other": "host"}
    assert found["listed"] == ["other"]


def test_a_file_that_only_adds_folders_is_not_followed_again(host: Host) -> None:
    """What it adds stands in the search path itself, and has a folder in the layer of its own."""
    site, project = host.site(), host.site("project")
    (site / "editable.pth").write_text(f"# a comment\n{project}\n")
    fake_distribution(project, "hidden", "1.0", files={"hidden.py": ""})
    (project / "shown.py").write_text(say("project"))
    env = host.environment("hidden", sites=["site", "project"])
    assert env.says("hidden", "shown") == ["absent", "project"]
    assert str(project) not in env.look()["path"]


def test_a_file_that_runs_code_runs_as_one_of_the_environments_own_unless_it_is_hidden(
    host: Host,
) -> None:
    def distribute(site: Path, name: str) -> None:
        code = f"import sys; sys.{name} = getattr(sys, '{name}', 0) + 1\n"
        fake_distribution(site, name, "1.0", files={f"{name}.pth": code})

    for name in ("shown", "hidden"):
        distribute(host.site(), name)
    env = host.environment("hidden")
    distribute(env.own, "own")
    # CPython runs the files of every virtual environment twice.
    script = "import sys; print(sys.shown - sys.own, getattr(sys, 'hidden', 0))"
    done = subprocess.run(
        [env.path / "bin" / "python", "-Ic", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 0\n"


def egg(site: Path, name: str, files: dict[str, str], modules: Sequence[str]) -> Path:
    """A distribution as old installers left it, in a folder."""
    for path in modules:
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_text(say(name))
    metadata = site / f"{name}-1.0-py3.11.egg-info"
    metadata.mkdir()
    files = {"PKG-INFO": f"Metadata-Version: 1.2\nName: {name}\nVersion: 1.0\n", **files}
    for path, content in files.items():
        (metadata / path).write_text(content)
    return metadata


def test_old_kinds_of_distributions_are_hidden_by_what_they_list(host: Host) -> None:
    site = host.site()
    egg(
        site,
        "listed",
        {"installed-files.txt": "../listed_a/__init__.py\n../listed_b.py\nPKG-INFO\n"},
        ["listed_a/__init__.py", "listed_b.py"],
    )
    egg(
        site,
        "topped",
        {"top_level.txt": "topped_a\ntopped_b\n"},
        ["topped_a/__init__.py", "topped_b.py"],
    )
    egg(site, "bare-name", {}, ["bare_name/__init__.py"])
    single = "Metadata-Version: 1.2\nName: single\nVersion: 1.0\n"
    (site / "single-1.0.egg-info").write_text(single)
    (site / "single.py").write_text("")
    (site / "shown.py").write_text(say("shown"))
    env = host.environment("listed", "topped", "bare-name", "single")
    modules = ["listed_a", "listed_b", "topped_a", "topped_b", "bare_name", "single"]
    found = env.look(*modules, "shown")
    assert found["modules"] == {**dict.fromkeys(modules, "absent"), "shown": "shown"}
    assert found["listed"] == []


@pytest.mark.parametrize("record", [b"", b"\n\n", None])
def test_a_distribution_that_has_lost_its_list_is_hidden_by_its_names(
    host: Host, record: bytes | None
) -> None:
    metadata = fake_distribution(host.site(), "lib", "1.0", files={"lib/__init__.py": ""})
    (metadata / "RECORD").unlink()
    if record is not None:
        (metadata / "RECORD").write_bytes(record)
    assert host.environment("lib").says("lib") == ["absent"]


def test_a_list_that_leads_outside_hides_nothing_there(host: Host) -> None:
    site = host.site("site")
    metadata = fake_distribution(site, "lib", "1.0", files={"lib.py": ""})
    (host.site() / "other.py").write_text(say("host"))
    with (metadata / "RECORD").open("ab") as file:
        file.write(b"../../bin/lib,,\n/etc/passwd,,\n../site/../other.py,,\n\xff\xfe.py,,\n..,,\n")
    [found] = scan_distributions(fakes.interpreter(search_path=(str(site),)))[0]
    inside = recorded_files(str(site), found)
    assert "lib.py" in inside
    assert [each for each in inside if each.startswith(("..", "/"))] == []
    assert host.environment("lib").says("lib", "other") == ["absent", "host"]


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


def test_making_and_deleting_a_layer_changes_no_file_of_the_host(host: Host) -> None:
    site = host.site()
    for name in ("lib", "hidden"):
        fake_distribution(site, name, "1.0", files={f"{name}/__init__.py": "", "ns/a.py": ""})
    before = snapshot(site)
    env = host.environment("hidden")
    assert env.says("lib") == [None]
    Disk().discard(env.path, host.folder / "trash")
    assert not env.path.exists()
    assert snapshot(site) == before


def test_a_layer_is_made_of_few_links(host: Host) -> None:
    site = host.site()
    files = {f"big/part{number}/module.py": "" for number in range(50)}
    fake_distribution(site, "big", "1.0", files=files)
    fake_distribution(site, "hidden", "1.0", files={"big/part7/other.py": "", "hidden.py": ""})
    env = host.environment("hidden")
    layer = env.path / LAYER_NAME / "0"
    assert (layer / "big" / "part8").is_symlink()
    assert not (layer / "big" / "part7").is_symlink()
    assert [each.name for each in (layer / "big" / "part7").iterdir()] == ["module.py"]
    links = [path for path in layer.rglob("*") if path.is_symlink()]
    assert len(links) == 51  # the parts, the module of one of them, and big's metadata


def test_where_nothing_is_hidden_a_folder_of_the_host_is_one_link(host: Host) -> None:
    for place in ("one", "two"):
        fake_distribution(host.site(place), place, "1.0", files={f"{place}.py": say(place)})
        (host.site(place) / f"by_hand_{place}.py").write_text(say("by hand"))
    code = "import sys; sys.seen = getattr(sys, 'seen', 0) + 1\n"
    (host.site("one") / "code.pth").write_text(code)
    env = host.environment(sites=["one", "two"])
    layer = env.path / LAYER_NAME
    assert [os.readlink(layer / name) for name in ("0", "1")] == [
        str(host.site(place)) for place in ("one", "two")
    ]
    found = env.look("one", "by_hand_one", "two")
    assert found["modules"] == {"one": "one", "by_hand_one": "by hand", "two": "two"}
    assert found["listed"] == ["one", "two"]
    assert found["path"][-2:] == [str(layer / "0"), str(layer / "1")]
    hides = host.environment("two", sites=["one", "two"], name="hides")
    assert (hides.path / LAYER_NAME / "0").is_symlink()
    assert hides.says("one", "two", "by_hand_two") == ["one", "absent", "by hand"]


def test_a_folder_that_vanished_is_an_error_with_its_name(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(StoreError, match=gone):
        facts = fakes.host(interpreter=fakes.interpreter(search_path=(gone,)))
        make_layer(Disk(), tmp_path / "env", facts, (), unowned=True)


def test_a_link_in_the_host_that_leads_nowhere_harms_nothing(host: Host) -> None:
    fake_distribution(host.site(), "lib", "1.0", files={"lib.py": say("host")})
    os.symlink("/nowhere", host.site() / "broken")
    os.symlink("/nowhere", host.site() / "broken.py")
    assert host.environment().says("lib") == ["host"]
