"""The manager as Xinference's worker calls it, with the real uv and a local index."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from xoscar.virtualenv.core import VirtualEnvManager

from tests.index import Index
from tests.scenarios.hosts import another_python
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from tests.xinference.conftest import Place
from xinference_venv.client import Client
from xinference_venv.store.atomic import Disk
from xinference_venv.uv.subprocess import ProcessRunner
from xinference_venv.xinference import swap
from xinference_venv.xinference.carry_over import SETUP_MARK

pytestmark = pytest.mark.uv


@contextmanager
def running_in(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A process that waits in the environment, and runs each line that it is given."""
    code = "import sys\nprint('there', flush=True)\nfor line in sys.stdin: exec(line)"
    python = str(place.manager.get_python_path())
    with subprocess.Popen(
        [python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process


def test_uvs_own_files_count_as_they_do_with_uv(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        f'[tool.uv]\nconstraint-dependencies = ["lantern<2"]\nindex-url = "{place.index.url}"\n'
    )
    more = tmp_path / "conf" / "uv" / "wheels"
    more.mkdir(parents=True)
    build_wheel(more, "matches", "1.0")
    (more.parent / "uv.toml").write_text('find-links = ["wheels"]\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    monkeypatch.chdir(project)
    place.launch("lantern", "matches", index_url=None)
    assert place.visible().items() >= {"lantern": "1.0", "matches": "1.0"}.items()
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    with pytest.raises(RuntimeError, match="matches"):
        place.beside("3.11.8").launch("matches")
    monkeypatch.delenv("UV_NO_CONFIG")
    (more.parent / "uv.toml").write_text("find-links = [")
    with pytest.raises(ValueError, match=r"uv\.toml is no TOML"):
        place.beside("3.11.9").launch("matches")


def configure(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Write a ``uv.toml`` of a user who has a cache of his own."""
    file = tmp_path / "conf" / "uv" / "uv.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "own-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def test_pages_of_an_index_are_asked_again_unless_a_file_says_how_long_they_hold(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = f'[[index]]\nurl = "{place.index.url}"\ndefault = true\n'
    configure(place, tmp_path, monkeypatch, entry)
    place.launch("lantern", index_url=None)
    place.index.clear()
    place.beside("3.11.8").launch("lantern", index_url=None)
    assert "GET /simple/lantern/" in place.index.requests
    control = 'cache-control = { api = "max-age=600", files = "max-age=600" }\n'
    configure(place, tmp_path, monkeypatch, entry + control)
    place.beside("3.11.9").launch("lantern", index_url=None)
    place.index.clear()
    place.beside("3.11.10").launch("lantern", index_url=None)
    assert place.index.requests == []


def test_an_index_that_is_a_list_of_files_counts_before_the_later_ones(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So uv has it, where find-links would add to what the others have."""
    (tmp_path / "conf" / "uv" / "wheels").mkdir(parents=True)
    build_wheel(tmp_path / "conf" / "uv" / "wheels", "lantern", "0.5")
    flat = '[[index]]\nurl = "wheels"\nformat = "flat"\n'
    entry = f'[[index]]\nname = "corp"\nurl = "{place.index.url}"\n'
    configure(place, tmp_path, monkeypatch, flat + entry)
    # The name of an index in the file.
    monkeypatch.setenv("UV_DEFAULT_INDEX", "corp")
    place.launch("lantern", "oil", index_url=None)
    assert place.visible().items() >= {"lantern": "0.5", "oil": "1.0"}.items()
    assert not [each for each in place.index.requests if "lantern" in each]
    with Index(tmp_path / "conf" / "uv" / "wheels") as page:
        flat = f'[[index]]\nurl = "{page.url}lantern/"\nformat = "flat"\n'
        configure(place, tmp_path, monkeypatch, flat + entry)
        place.beside("3.11.8").launch("lantern", "oil", index_url=None)
        assert {each for each in page.requests if "/simple/" in each} == {"GET /simple/lantern/"}
    assert place.beside("3.11.8").visible()["lantern"] == "0.5"


def test_a_launch_inherits_what_fits_and_installs_the_rest(place: Place) -> None:
    manager = place.launch("lantern<2", "oil")
    assert isinstance(manager, VirtualEnvManager)
    assert manager.exists_env()
    assert place.visible().items() >= {"lantern": "1.0", "oil": "1.0", "wick": "1.0"}.items()
    assert not list(Path(manager.get_lib_path()).glob("wick*"))


def test_what_an_operator_says_to_uv_counts_where_the_call_names_no_index(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", place.index.url)
    (tmp_path / "constraints.txt").write_text(
        "--no-binary oil\nlantern<2 \\\n    --hash=sha256:0a \\\n    --hash=sha256:0b  # older\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_CONSTRAINT", "constraints.txt")
    place.launch("lantern", index_url=None)
    assert place.visible()["lantern"] == "1.0"
    assert place.index.requests
    # For uv the index of a call is an option of its command line.
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    place.install(place.manager, "oil")
    assert place.visible()["oil"] == "1.0"


def test_the_hosts_packages_that_a_launch_breaks_are_hidden_despite_the_workers_pth(
    place: Place,
) -> None:
    place.launch("lantern==2.0")
    visible = place.visible()
    assert visible["wick"] == "2.0"
    assert "stand" not in visible
    place.write_pth(place.manager)
    assert "stand" not in place.visible()
    added_whole = Path(place.manager.get_lib_path(), "mine.pth")
    added_whole.write_text(f"{place.host.site}\n")
    assert "stand" not in place.visible()


def test_a_relaunch_starts_no_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.launch("lantern<2", 'oil ; #engine# == "vllm"')

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was to be started")

    monkeypatch.setattr(ProcessRunner, "run", refuse)
    place.launch("lantern<2", 'oil ; #engine# == "vllm"')


def test_what_someone_took_out_is_installed_again(place: Place) -> None:
    manager = place.launch("oil")
    lib = Path(manager.get_lib_path())
    (lib / "oil.py").unlink()
    for file in (lib / "oil-1.0.dist-info").iterdir():
        file.unlink()
    (lib / "oil-1.0.dist-info").rmdir()
    place.install(manager, "oil")
    assert place.visible()["oil"] == "1.0"


def test_a_second_install_keeps_what_is_there_and_what_its_users_added(place: Place) -> None:
    manager = place.launch("lantern<2")
    lib = Path(manager.get_lib_path())
    (lib / "theirs.pth").write_text("# theirs\n")
    (lib / "patched").mkdir()
    (lib / "patched" / "__init__.py").write_text("")
    (manager.env_path / SETUP_MARK).write_text("{}")
    place.install(manager, "oil", skip_installed=False)
    assert place.visible().items() >= {"lantern": "1.0", "oil": "1.0"}.items()
    assert (lib / "theirs.pth").read_text() == "# theirs\n"
    assert (lib / "patched" / "__init__.py").exists()
    assert (lib / "_xinference_parent.pth").exists()
    # So that Xinference sees that its own steps have to be done again.
    assert not (manager.env_path / SETUP_MARK).exists()


def test_a_later_call_wins_over_what_an_earlier_one_asked_for(place: Place) -> None:
    manager = place.launch("lantern<2")
    place.install(manager, "lantern>=2")
    assert place.visible()["lantern"] == "2.0"
    place.install(manager, "lantern<2")
    assert place.visible()["lantern"] == "1.0"


def test_a_call_that_contradicts_an_earlier_one_fails_and_changes_nothing(place: Place) -> None:
    build_wheel(place.wheels, "wind", "1.0", requires=["wick<2"])
    manager = place.launch("lantern==2.0")
    with pytest.raises(RuntimeError, match="lantern"):
        place.install(manager, "wind")
    assert place.visible()["lantern"] == "2.0"


def test_what_a_caller_uninstalled_is_not_brought_back_by_another_call(place: Place) -> None:
    build_wheel(place.wheels, "lamp", "1.0", requires=["shade"])
    build_wheel(place.wheels, "shade", "1.0")
    manager = place.launch("lamp")
    uninstall = [manager._get_uv_path(), "pip", "uninstall", "-p", str(manager.get_python_path())]
    subprocess.run([*uninstall, "shade"], check=True, capture_output=True)
    place.install(manager, "oil")
    assert "shade" not in place.visible()
    assert "lamp" in place.visible()


def test_what_a_caller_uninstalled_brings_the_hosts_copy_to_light_again(place: Place) -> None:
    manager = place.launch("wick==2.0", "oil")
    assert place.visible()["wick"] == "2.0"
    uninstall = [manager._get_uv_path(), "pip", "uninstall", "-p", str(manager.get_python_path())]
    subprocess.run([*uninstall, "wick"], check=True, capture_output=True)
    assert place.visible().items() >= {"wick": "1.0", "oil": "1.0"}.items()
    assert place.says("import wick; print(wick.__version__)") == "1.0"
    place.install(manager, "lantern<2")
    assert place.visible().items() >= {"wick": "1.0", "lantern": "1.0", "stand": "1.0"}.items()


def test_what_would_be_of_two_builds_is_installed_afresh(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    new = {f"cuda/bindings/{name}.so": b"13" for name in ("driver", "nvvm")}
    bindings = build_wheel(place.wheels, "cuda-bindings", "13.5", modules={}, data=new)
    zipfile.ZipFile(bindings).extractall(place.host.site)
    old = {"cuda/bindings/driver.so": b"12"}
    build_wheel(place.wheels, "cuda-python", "12.6", modules={}, data=old)
    manager = place.launch("cuda-python", "cuda-bindings")
    seen = {path: Path(str(manager.get_lib_path()), path).read_bytes() for path in new}
    assert seen == new
    assert "the host's cuda-bindings is not used: cuda-python 12.6 does not work" in caplog.text
    place.launch("cuda-python", "cuda-bindings")
    place.install(manager, "oil")
    assert place.visible().items() >= {"cuda-bindings": "13.5", "oil": "1.0"}.items()


@pytest.mark.parametrize(
    "source", ["", "__path__ = __import__('pkgutil').extend_path(__path__, 'cuda')"]
)
def test_what_a_package_would_hide_of_the_host_is_installed_afresh(
    place: Place, source: str
) -> None:
    finder = build_wheel(
        place.wheels, "cuda-pathfinder", "1.9", modules={"cuda/pathfinder/__init__.py": ""}
    )
    zipfile.ZipFile(finder).extractall(place.host.site)
    build_wheel(place.wheels, "cuda-python", "12.6", modules={"cuda/__init__.py": source})
    manager = place.launch("cuda-python", "cuda-pathfinder")
    place.says("import cuda.pathfinder")
    own = Path(str(manager.get_lib_path()), "cuda", "pathfinder")
    assert own.exists() is (not source)


def test_what_a_package_would_hide_and_no_index_has_is_used_all_the_same(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"acme/tools/__init__.py": "", "acme_tools.py": ""}
    place.host.add("acme-tools", "1.0", files=files)
    build_wheel(place.wheels, "acme", "1.0", modules={"acme/__init__.py": ""})
    place.launch("acme", "acme-tools")
    place.says("import acme, acme_tools")
    assert "it hides acme/tools" in caplog.text
    assert "it is used all the same: nothing else has a solution" in caplog.text


def test_without_skip_installed_nothing_of_the_host_serves(place: Place) -> None:
    manager = place.launch("lantern<2", skip_installed=False)
    assert list(Path(manager.get_lib_path()).glob("wick-*"))


def test_a_pin_to_a_build_of_the_hosts_takes_the_version_where_nothing_of_the_host_serves(
    place: Place,
) -> None:
    place.host.add("glass", "1.0+cpu")
    for version in ("1.0", "2.0"):
        build_wheel(place.wheels, "glass", version)
    manager = place.launch("#system_glass#", "lantern", skip_installed=False)
    found = Path(manager.get_lib_path()).glob("glass-*")
    assert [each.name for each in found] == ["glass-1.0.dist-info"]


def test_the_host_serves_although_a_url_in_the_list_turns_skipping_off(place: Place) -> None:
    place.host.add("glass", "1.0+cpu")
    direct = f"oil @ {place.index.url.replace('/simple/', '/files/')}oil-1.0-py3-none-any.whl"
    manager = place.launch(direct, "#system_glass#", "lantern<2", skip_installed=False)
    names = {each.name for each in Path(manager.get_lib_path()).glob("*.dist-info")}
    assert names == {"oil-1.0.dist-info", "lantern-1.0.dist-info"}
    assert place.visible().items() >= {"glass": "1.0+cpu", "wick": "1.0"}.items()


def test_a_pin_to_the_hosts_version_gives_way_where_it_has_no_solution(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.launch("#system_wick#", "lantern==2.0")
    assert place.visible()["wick"] == "2.0"
    assert (
        "#system_wick#: the host's wick 1.0 gives way to 2.0, since lantern requires wick>=2"
        in caplog.text
    )


@pytest.mark.parametrize("skip_installed", [True, False])
def test_a_pin_gives_way_where_nothing_of_the_host_serves_or_the_host_lacks_another(
    place: Place, caplog: pytest.LogCaptureFixture, skip_installed: bool
) -> None:
    build_wheel(place.wheels, "tray", "1.0", requires=["oil>=1", "wick>=2"])
    packages = ("#system_wick#", "#system_oil#", "tray")
    place.launch(*packages, skip_installed=skip_installed)
    assert place.visible().items() >= {"oil": "1.0", "tray": "1.0", "wick": "2.0"}.items()
    assert "the host's wick 1.0 gives way to 2.0, since tray requires wick>=2" in caplog.text


def test_packages_are_read_for_the_host_and_the_engine(place: Place) -> None:
    place.host.add("stand", "1.0+cpu")
    lines = ["#system_wick#", 'oil ; #engine# == "vllm"', 'no ; #engine# == "sglang"', "#system_x#"]
    lines.append("#system_stand#")
    processed = place.manager.process_packages(lines, engine="vllm", model_engine="vllm")
    assert processed == ["wick==1.0", "oil", "x", "stand==1.0"]


@pytest.mark.parametrize("engine", ["vllm", "trt-llm", "none-of-ours"])
def test_an_engine_adds_nothing_to_what_xinference_has_listed(place: Place, engine: str) -> None:
    assert place.manager.process_packages([], engine=engine) == []
    assert place.manager.process_packages(["oil"], engine=engine) == ["oil"]


def test_cancelling_ends_uv_and_makes_the_blocked_call_raise(place: Place) -> None:
    manager = place.launch("oil")
    place.index.hang("/simple/lantern/")
    with ThreadPoolExecutor() as threads:
        installing = threads.submit(place.install, manager, "lantern")
        place.index.wait_for_request("/simple/lantern/")
        manager.cancel_install()
        with pytest.raises(RuntimeError, match="was cancelled"):
            installing.result(timeout=30)
    place.index.heal()
    assert "lantern" not in place.visible()
    place.install(manager, "lantern<2")
    assert place.visible()["lantern"] == "1.0"


def test_a_kill_in_the_middle_leaves_what_was_there_and_the_next_call_works(place: Place) -> None:
    place.launch("lantern<2")
    before = place.visible()
    place.index.hang("/files/oil-*.whl")
    code = (
        "from xinference_venv.xinference import InPlaceEnvManager; import pathlib, sys;"
        "manager = InPlaceEnvManager(pathlib.Path(sys.argv[1]));"
        "manager.install_packages(['oil'], index_url=sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(place.path), place.index.url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        place.index.wait_for_request("/files/oil-*.whl")
        process.send_signal(signal.SIGKILL)
    assert place.visible() == before
    place.index.heal()
    place.install(place.manager, "oil")
    assert place.visible() == {**before, "oil": "1.0"}
    assert not list(place.path.parents[3].joinpath("store", "staging").iterdir())


def test_the_next_call_mends_what_a_crash_left_of_one_in_use_wherever_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(disk: Disk, new: Path, at: Path, **_: bool) -> None:
        swap.put_in_place(disk, new, at, in_use=True, same_lock=False)

    def cut(add: Callable[[os.DirEntry[str], str], None]) -> Callable[..., None]:
        def step(entry: os.DirEntry[str], target: str) -> None:
            left.pop() if left else fail(entry, target)
            add(entry, target)

        return step

    def fail(entry: os.DirEntry[str], target: str) -> None:
        unfinished = Path(f"{target}{swap.UNFINISHED}")
        unfinished.mkdir() if entry.is_dir(follow_symlinks=False) else unfinished.touch()
        raise OSError("the power failed")

    monkeypatch.setattr("xinference_venv.xinference.rebuild.put_in_place", grow)
    for steps in range(100):
        one = place.beside(f"crashed-after-{steps}")
        one.launch("lantern<2")
        before = one.visible()
        left = [None] * steps
        with monkeypatch.context() as patched:
            patched.setattr(swap, "_put_directory", cut(swap._put_directory))
            patched.setattr(swap, "_replace", cut(swap._replace))
            try:
                one.install(one.manager, "oil")
            except RuntimeError as error:
                assert "the power failed" in str(error)
            else:
                break
        one.install(one.manager, "oil")
        assert one.visible() == {**before, "oil": "1.0"}
        assert one.says("import oil; print(oil.__file__ is not None)") == "True"
    assert steps > 3


@pytest.mark.parametrize("steps", [0, 1])
def test_what_a_failure_or_a_crash_leaves_of_an_exchange_in_steps_is_mended_by_the_next_launch(
    place: Place, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Where directories can't be exchanged at once there is none after the first step."""
    place.launch("lantern<2")
    before = place.visible()
    left = [None] * steps
    move = Disk._rename_or_copy

    def step(disk: Disk, source: Path, target: Path) -> None:
        if place.path in (source, target):
            if not left:
                raise OSError("the power failed")
            left.pop()
        move(disk, source, target)

    with monkeypatch.context() as patched:
        patched.setattr("xinference_venv.store.atomic.exchange_by_system", lambda *_: False)
        patched.setattr(Disk, "_rename_or_copy", step)
        with pytest.raises(RuntimeError, match="the power failed"):
            place.install(place.manager, "oil")
    # With one step what was there could not be brought back: as after a crash.
    assert place.path.exists() is (steps != 1)
    place.launch("lantern<2", "oil")
    assert place.visible() == {**before, "oil": "1.0"}


def test_cancelling_without_an_install_does_nothing(place: Place) -> None:
    place.manager.cancel_install()


def test_credentials_show_neither_in_errors_nor_in_logs_nor_on_the_disk(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = place.index.require_auth("someone", "tops3cret")
    manager = place.launch("lantern<2", index_url=url)
    with pytest.raises(RuntimeError) as caught:
        place.install(manager, "nothing-of-this-name", index_url=url)
    direct = f"{url.replace('/simple/', '/files/')}oil-1.0-py3-none-any.whl"
    place.install(manager, f"oil @ {direct}", index_url=url)
    assert place.visible()["oil"] == "1.0"
    place.install(manager, "wick", index_url=url)
    assert "nothing-of-this-name" in str(caught.value)
    assert "tops3cret" not in str(caught.value)
    assert "tops3cret" not in caplog.text
    for file in manager.env_path.glob("*"):
        assert not file.is_file() or b"tops3cret" not in file.read_bytes()


def test_bad_input_is_a_value_error_that_names_the_line(place: Place) -> None:
    manager = place.launch("oil")
    with pytest.raises(ValueError, match="not==valid!!"):
        place.install(manager, "not==valid!!")
    with pytest.raises(ValueError, match=r"packages\[0\] is of type NoneType"):
        place.manager.install_packages([None])  # type: ignore[list-item]


def test_what_pips_configuration_has_several_of_counts_each(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "my wheels"
    folder.mkdir()
    build_wheel(folder, "shade", "1.0")
    place.launch(
        *("oil", "shade"),
        extra_index_url=f"{place.index.url} {place.index.url}/",
        find_links=f"\n{folder}\n{tmp_path}",
        trusted_host="one.example\ntwo.example",
    )
    assert place.visible().items() >= {"oil": "1.0", "shade": "1.0"}.items()


def test_empty_options_count_for_nothing(place: Place) -> None:
    empty = {"extra_index_url": "", "find_links": "", "trusted_host": [], "index_strategy": ""}
    place.launch("oil", **empty)
    assert place.visible()["oil"] == "1.0"


def test_two_managers_of_one_place_take_turns(place: Place) -> None:
    place.launch("oil")
    with ThreadPoolExecutor() as threads:
        lantern = threads.submit(place.install, place.manager, "lantern<2")
        wick = threads.submit(place.install, place.manager, "wick==1.0", skip_installed=False)
        lantern.result(timeout=60)
        wick.result(timeout=60)
    assert place.visible().items() >= {"lantern": "1.0", "wick": "1.0", "oil": "1.0"}.items()


def test_what_runs_in_an_environment_loses_nothing(place: Place) -> None:
    manager = place.launch("lantern<2")
    with running_in(place) as process:
        with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
            place.install(manager, "lantern==2.0")
        with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
            manager.remove_env()
        place.install(manager, "oil")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(
            "import lantern, oil; print(lantern.__version__, oil.__version__, flush=True)\n"
        )
        process.stdin.flush()
        assert process.stdout.readline() == "1.0 1.0\n"
        process.stdin.close()
    place.install(manager, "lantern==2.0")
    assert place.visible()["lantern"] == "2.0"


def test_an_environment_that_is_there_is_left_cleared_or_refused(place: Place) -> None:
    manager = place.launch("oil")
    manager.create_env()
    assert "oil" in place.visible()
    with pytest.raises(FileExistsError, match="already exists"):
        manager.create_env(exists="error")
    with pytest.raises(ValueError, match="Invalid exists option"):
        manager.create_env(exists="perhaps")
    manager.create_env(exists="clear")
    assert "oil" not in place.visible()


def test_a_removed_environment_is_gone_and_can_be_removed_again(place: Place) -> None:
    manager = place.launch("oil")
    manager.remove_env()
    assert not manager.env_path.exists()
    assert manager.get_python_path() is None
    manager.remove_env()


def test_what_is_no_environment_is_not_deleted(place: Place) -> None:
    place.path.mkdir(parents=True)
    (place.path / "letters").write_text("dear")
    with pytest.raises(RuntimeError, match="not a virtual environment"):
        place.manager.remove_env()
    assert (place.path / "letters").exists()


def test_an_install_needs_an_environment(place: Place) -> None:
    with pytest.raises(RuntimeError, match="there is no environment"):
        place.install(place.manager, "oil")


def test_a_place_inside_the_store_is_refused(place: Place) -> None:
    store = place.path.parents[3] / "store" / "envs" / "x"
    with pytest.raises(RuntimeError, match="never change"):
        replace(place, path=store).manager.create_env()


def test_an_environment_of_xoscar_is_taken_over_with_what_it_has(place: Place) -> None:
    uv = place.manager._get_uv_path()
    # As xoscar does, but of this Python: uv's choice may be another one of the machine.
    venv = [uv, "venv", str(place.path), "--system-site-packages", "-q", "-p", sys.executable]
    subprocess.run(venv, check=True)
    install = [uv, "pip", "install", "-q", "-p", str(place.path), "-i", place.index.url]
    subprocess.run([*install, "lantern<2", "wick<2"], check=True)
    place.launch("oil")
    visible = place.visible()
    assert (
        visible.items() >= {"lantern": "1.0", "wick": "1.0", "oil": "1.0", "stand": "1.0"}.items()
    )


def test_unknown_keywords_are_ignored_and_the_log_says_so(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.launch("oil", mode="remote", log=True)
    assert "mode" in caplog.text
    assert place.visible()["oil"] == "1.0"


async def test_another_python_inherits_nothing(place: Place, client: Client) -> None:
    wanted = await another_python(client, place.index)
    prepared = await client.prepare(asking(place.index, "oil", python_version=wanted))
    python = Path(os.path.realpath(f"{prepared.real_path}/bin/python"))  # noqa: ASYNC240
    # On a thread that runs a loop: a manager blocks it, and works.
    manager = place.manager
    manager.create_env(python_path=python)
    place.write_pth(manager)
    place.install(manager, "oil")
    assert f"python{wanted}" in manager.get_lib_path()
    assert "stand" not in place.visible()
    assert place.visible()["oil"] == "1.0"


def test_files_that_xinference_writes_in_place_are_no_links_of_uvs_cache(place: Place) -> None:
    build_wheel(place.wheels, "vllm", "1.0", modules={"vllm/__init__.py": "x = 1\n"})
    manager = place.launch("vllm")
    file = Path(manager.get_lib_path(), "vllm", "__init__.py")
    assert file.stat().st_nlink == 1
    file.write_text("x = 2\n")
    other = place.beside("3.11.8")
    other.launch("vllm")
    assert other.says("import vllm; print(vllm.x)") == "1"
    place.install(manager, "oil")
    assert place.says("import vllm; print(vllm.x)") == "2"


def test_the_launch_sequence_runs_in_several_threads_at_once(place: Place) -> None:
    places = [place.beside(f"3.11.{patch}") for patch in range(3)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda each: each.launch("lantern<2", "oil"), places))
    assert all(each.visible()["lantern"] == "1.0" for each in places)


@pytest.fixture
def answers_serve_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a few minutes ago serve, as users have it and most tests have not."""
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE", "600s")


@pytest.mark.usefixtures("answers_serve_again")
def test_an_equal_request_asks_the_index_once_and_starts_no_resolution(place: Place) -> None:
    place.launch("lantern==2.0", "oil")
    place.index.clear()
    other = place.beside("3.11.8")
    other.launch("lantern==2.0", "oil")
    assert other.visible().items() >= {"lantern": "2.0", "wick": "2.0", "oil": "1.0"}.items()
    assert place.index.requests == []


@pytest.mark.usefixtures("answers_serve_again")
def test_what_was_found_a_while_ago_and_is_gone_is_looked_for_again(place: Place) -> None:
    place.launch("oil")
    for wheel in place.wheels.glob("oil-*"):
        wheel.unlink()
    build_wheel(place.wheels, "oil", "1.1")
    for each in Path(os.environ["XINFERENCE_HOME"]).glob("virtualenv/store/packages/oil-*"):
        shutil.rmtree(each)
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    other = place.beside("3.11.8")
    other.launch("oil")
    assert other.visible()["oil"] == "1.1"


@pytest.mark.usefixtures("answers_serve_again")
@pytest.mark.parametrize("skip_installed", [True, False])
def test_xinference_learns_what_an_install_will_add_and_the_install_asks_no_more(
    place: Place, skip_installed: bool
) -> None:
    manager = place.launch()
    packages = ["lantern<2", 'oil ; #engine# == "vllm"']
    # As `resolve_dependency_install_plan` of Xinference 4.1 calls them.
    processed = manager.process_packages(packages, engine="vllm", model_engine="vllm")
    names = ("extra_index_url", "index_strategy", "find_links", "trusted_host")
    sources = {**dict.fromkeys(names), "index_url": place.index.url}
    if skip_installed:
        found = manager._filter_packages_not_installed(processed, **sources)
        assert found == ["lantern==1.0", "oil==1.0"]
    else:
        found = manager._resolve_install_plan(processed, {}, **sources)
        assert found == ["lantern==1.0", "oil==1.0", "wick==2.0"]
    assert "oil" not in place.visible()
    place.index.clear()
    place.install(manager, *packages, skip_installed=skip_installed)
    assert not [each for each in place.index.requests if "/simple/" in each]
    assert place.visible().items() >= {"lantern": "1.0", "oil": "1.0"}.items()
