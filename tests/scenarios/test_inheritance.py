"""Launches over hosts of all kinds: what is kept, what is replaced, what a process then sees."""

from __future__ import annotations

import importlib.machinery
import shutil
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.index import Index, dead_port
from tests.plain import plain
from tests.scenarios.hosts import Host, findable, lock_of, of_role, ran, visible
from tests.scenarios.steps import (
    asking,
    files_of,
    left_behind,
    says,
    uv_subcommands,
    version_of,
)
from tests.wheels import build_sdist, build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import ResolutionFailed, VerificationFailed
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import Role
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    return tmp_path / "wheels"


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path) -> Host:
    """A bare host. Named before `client` by whoever asks for both."""
    return Host.make(tmp_path / "host", environ)


# What is kept, replaced and hidden


async def test_what_a_new_version_breaks_is_hidden_and_not_repaired_unless_it_is_asked_for(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("numpy", "1.26")
    host.add("pandas", "2.1", "numpy<2")
    host.add("scipy", "1.11", "numpy<1.28")
    host.add("sklearn", "1.3", "scipy", "numpy")
    host.add("six", "1.16")
    build_wheel(wheels, "numpy", "2.1")
    build_wheel(wheels, "pandas", "2.3", requires=["numpy>=2"])
    bare = await client.prepare(asking(index, "numpy>=2"))

    lock = lock_of(layout, bare)
    assert of_role(lock, Role.INSTALLED) == {"numpy": "2.1"}
    assert of_role(lock, Role.SHADOWED) == {"numpy": "1.26"}
    assert of_role(lock, Role.HIDDEN) == {"pandas": "2.1", "scipy": "1.11", "sklearn": "1.3"}
    [why] = [each.why for each in lock.distributions if each.name == "sklearn"]
    assert "scipy" in why
    assert await visible(bare) == {"numpy": "2.1", "six": "1.16"}
    assert await findable(bare, "numpy", "pandas", "scipy", "sklearn", "six") == ["numpy", "six"]

    both = await client.prepare(asking(index, "numpy>=2", "pandas", model="tables"))
    assert await visible(both) == {"numpy": "2.1", "pandas": "2.3", "six": "1.16"}
    assert await says(both.python, version_of("pandas")) == "2.3"


@pytest.mark.parametrize("on_the_host", [True, False])
async def test_no_ancient_release_that_declares_nothing_serves_to_keep_the_hosts_versions(
    host: Host, client: Client, index: Index, wheels: Path, on_the_host: bool
) -> None:
    host.add("numpy", "1.26")
    host.add("scipy", "1.11", "numpy<1.28")
    host.add("joblib", "1.2")
    if on_the_host:
        host.add("sklearn", "1.3", "scipy", "numpy<2")
    build_wheel(wheels, "numpy", "2.1")
    build_wheel(wheels, "scipy", "1.17", requires=["numpy>=2"])
    build_wheel(wheels, "sklearn", "0.19")
    build_wheel(wheels, "sklearn", "1.9", requires=["scipy", "numpy", "joblib"])
    env = await client.prepare(asking(index, "numpy>=2", "sklearn"))

    expected = {"numpy": "2.1", "scipy": "1.17", "sklearn": "1.9", "joblib": "1.2"}
    assert await visible(env) == expected


async def test_nothing_is_asked_of_an_index_that_is_dead_while_the_host_has_all(
    host: Host, client: Client
) -> None:
    host.add("torch", "2.8.0a0+34c6371d24.nv25.8", "numpy")
    host.add("numpy", "1.26")
    block = {
        "packages": ["torch>=2.0", "numpy"],
        "index_url": f"http://127.0.0.1:{dead_port()}/simple/",
        "inherit_pip_config": False,
    }
    request = LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})
    env = await client.prepare(request)

    assert await says(env.python, version_of("torch")) == "2.8.0a0+34c6371d24.nv25.8"


async def test_the_index_of_a_torch_build_is_not_asked_for_while_torch_is_inherited(
    host: Host, client: Client, started: list[tuple[str, ...]]
) -> None:
    host.add("torch", "2.8.0+cpu")
    block = {"packages": ["torch"], "inherit_pip_config": False}
    request = LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})
    env = await client.prepare(request)

    assert await says(env.python, version_of("torch")) == "2.8.0+cpu"
    assert "pip compile" in uv_subcommands(started)
    assert [each for each in started if "--torch-backend" in each] == []


async def test_a_stub_has_no_influence_once_the_host_has_changed(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    """Resolved with the same cache of uv's throughout, by name and version always the same."""
    metadata = host.add("lantern", "1.0")
    build_wheel(wheels, "lantern", "1.0", requires=["wick"])
    build_wheel(wheels, "wick", "1.0")
    inherited = await client.prepare(asking(index, "lantern"))
    assert await visible(inherited) == {"lantern": "1.0"}

    shutil.rmtree(metadata)
    host.add("lantern", "1.0", "wick")
    other = await client.prepare(asking(index, "lantern"))
    assert of_role(lock_of(layout, other), Role.INSTALLED) == {"wick": "1.0"}
    for stub in layout.stubs.rglob("*.whl"):
        stub.unlink()
    real = await client.prepare(asking(index, "lantern", inherit="none"))
    assert of_role(lock_of(layout, real), Role.INSTALLED) == {"lantern": "1.0", "wick": "1.0"}
    assert await says(real.python, version_of("lantern")) == "1.0"
    assert "GET /files/lantern-1.0-py3-none-any.whl" in index.requests


async def test_a_host_with_odd_metadata_serves_with_what_is_sound_of_it(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("legacy", "0.1.43ubuntu1")
    host.add("without-version", "None")
    host.add("dashed", "1.0-1")
    host.add("candidate", "v1.0-RC1")
    host.add("local", "1.0+ABC-1")
    host.add("dated", "2020.01.02")
    host.add("direct", "1.0", "wick @ https://nowhere.invalid/wick-1.0-py3-none-any.whl")
    host.add("broken", "1.0", "not a requirement !", "Requires: nothing")
    old = host.site / "egg-1.0.egg-info"
    old.write_text("Metadata-Version: 1.2\nName: Egg\nVersion: 1.0\nRequires-Python: >=4\n")
    (host.site / "egg.py").write_text("")
    host.add("flame", "1.0")
    build_wheel(wheels, "wick", "1.0")
    build_wheel(wheels, "flame", "2.0")
    names = ["dashed", "candidate", "local", "dated", "direct", "broken", "egg"]
    # What the host has not, and what it has in another version, take the other passes.
    env = await client.prepare(asking(index, "candidate>=1.0rc1", *names, "wick", "flame>=2"))

    assert of_role(lock_of(layout, env), Role.INSTALLED) == {"flame": "2.0", "wick": "1.0"}
    assert of_role(lock_of(layout, env), Role.INHERITED) == {
        **dict.fromkeys(("direct", "broken", "egg"), "1.0"),
        "dashed": "1.0.post1",
        "candidate": "1.0rc1",
        "local": "1.0+abc.1",
        "dated": "2020.1.2",
    }
    assert await findable(env, "legacy", *names) == ["legacy", *names]


async def test_a_name_means_the_same_in_every_spelling(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("Ruamel.YAML", "0.18", "typing_Extensions>=4")
    host.add("typing-extensions", "4.12")
    build_wheel(wheels, "ruamel-yaml", "0.19")
    build_wheel(wheels, "lantern", "1.0", requires=["ruamel_yaml", "Typing.Extensions<5"])
    env = await client.prepare(asking(index, "lantern", "RUAMEL-Yaml>=0.18"))

    assert of_role(lock_of(layout, env), Role.INSTALLED) == {"lantern": "1.0"}
    assert of_role(lock_of(layout, env), Role.INHERITED).keys() == {
        "ruamel-yaml",
        "typing-extensions",
    }


async def test_what_is_configured_for_uv_on_the_machine_changes_nothing(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, layout: StorePaths
) -> None:
    Host.make(tmp_path / "host", environ)
    (tmp_path / "constraints.txt").write_text("lantern<2\n")
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lantern", version)
    configuration = (
        'exclude-newer = "2001-01-01T00:00:00Z"\nindex-url = "http://nowhere.invalid/"\n'
    )
    for place in (Path(environ["HOME"]), layout.root):
        place.mkdir(parents=True, exist_ok=True)
        (place / "uv.toml").write_text(configuration)
    constraints = str(tmp_path / "constraints.txt")
    environ |= {"UV_CONSTRAINT": constraints, "UV_EXCLUDE_NEWER": "2001-01-01"}
    async with local_client(environ) as client:
        env = await client.prepare(asking(index, "lantern"))
        assert await says(env.python, version_of("lantern")) == "2.0"


async def test_a_newer_release_is_not_given_up_for_an_older_one_that_has_a_wheel(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    build_wheel(wheels, "lantern", "0.3")
    build_sdist(wheels, "lantern", "2.0")
    env = await client.prepare(asking(index, "lantern"))

    assert of_role(lock_of(layout, env), Role.INSTALLED) == {"lantern": "2.0"}
    assert await says(env.python, version_of("lantern")) == "2.0"


# The modes, and what the layer shows


async def test_each_mode_shows_its_part_of_the_host(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("lantern", "1.0", "wick")
    host.add("wick", "1.0")
    host.add("aside", "1.0")
    (host.site / "stray.py").write_text("")
    for name in ("lantern", "wick"):
        build_wheel(wheels, name, "2.0", requires=["wick"] if name == "lantern" else [])
    inherited = {"lantern": "1.0", "wick": "1.0"}
    modules = ("lantern", "wick", "aside", "stray")
    for mode, seen, found in (
        ("host", {**inherited, "aside": "1.0"}, list(modules)),
        ("exact", inherited, ["lantern", "wick"]),
        ("none", {"lantern": "2.0", "wick": "2.0"}, ["lantern", "wick"]),
    ):
        env = await client.prepare(asking(index, "lantern", inherit=mode))
        assert (await visible(env), await findable(env, *modules)) == (seen, found), mode
        assert lock_of(layout, env).inherit == mode


async def test_the_mode_of_the_settings_counts_where_a_launch_names_none(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("lantern", "1.0")
    host.add("aside", "1.0")
    environ["XINFERENCE_VIRTUAL_ENV_INHERIT"] = "exact"
    async with local_client(environ) as client:
        assert await visible(await client.prepare(asking(index, "lantern"))) == {"lantern": "1.0"}
        both = await client.prepare(asking(index, "lantern", inherit="host"))
        assert await visible(both) == {"lantern": "1.0", "aside": "1.0"}


async def test_a_distribution_without_a_list_of_its_files_is_not_inherited_alone(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    (host.add("lantern", "1.0", "wick") / "RECORD").unlink()
    host.add("wick", "1.0")
    build_wheel(wheels, "lantern", "1.0", requires=["wick"])
    whole = await client.prepare(asking(index, "lantern"))
    assert of_role(lock_of(layout, whole), Role.INSTALLED) == {}
    assert await says(whole.python, version_of("lantern")) == "1.0"

    exact = await client.prepare(asking(index, "lantern", inherit="exact"))
    assert of_role(lock_of(layout, exact), Role.INSTALLED) == {"lantern": "1.0"}
    assert await visible(exact) == {"lantern": "1.0", "wick": "1.0"}


@pytest.mark.parametrize("mode", ["host", "exact"])
async def test_a_namespace_joins_what_the_environment_and_what_the_host_has_of_it(
    host: Host, client: Client, index: Index, wheels: Path, mode: str
) -> None:
    for part in ("one", "two", "three"):
        host.add(f"space-{part}", "1.0", files={f"space/{part}.py": "__version__ = '1.0'\n"})
    build_wheel(wheels, "space-two", "2.0", modules={"space/two.py": "__version__ = '2.0'\n"})
    request = asking(index, "space-one", "space-two>=2", inherit=mode)
    env = await client.prepare(request)

    assert await says(env.python, version_of("space.one")) == "1.0"
    assert await says(env.python, version_of("space.two")) == "2.0"
    assert await findable(env, "space.three") == (["space.three"] if mode == "host" else [])


async def test_console_scripts_of_the_host_run_in_the_environment(
    host: Host, client: Client, index: Index, wheels: Path
) -> None:
    source = "import sys\n\n\ndef main():\n    print(sys.prefix, *sys.argv[1:])\n    return 3\n"
    for name in ("lantern", "wick"):
        host.add(name, "1.0", files={f"{name}.py": source}, entry_points={name: f"{name}:main"})
    build_wheel(
        wheels,
        "wick",
        "2.0",
        modules={"wick.py": "def main():\n    print('of the environment')\n"},
        entry_points={"wick": "wick:main"},
    )
    env = await client.prepare(asking(index, "lantern", "wick>=2"))

    programs = Path(env.python).parent
    told = f"{programs.parent} a word\n"
    assert ran(programs / "lantern", "a word") == (3, told, "")
    assert ran(programs / "wick") == (0, "of the environment\n", "")


async def test_the_folders_that_a_host_adds_are_shown_to_any_depth(
    host: Host, client: Client, index: Index, wheels: Path, tmp_path: Path
) -> None:
    """A host that shows another one, which has a project installed in place."""
    parent, project = tmp_path / "parent", tmp_path / "project"
    for folder in (parent, project):
        folder.mkdir()
    (host.site / "parent.pth").write_text(f"import site; site.addsitedir({str(parent)!r})\n")
    (parent / "project.pth").write_text(f"{project}\n")
    host.add("lantern", "1.0", site=parent)
    host.add("wick", "1.0", site=project)
    host.add("torn", "1.0", "wick<2", site=parent)
    build_wheel(wheels, "wick", "2.0")
    env = await client.prepare(asking(index, "lantern", "wick"))
    assert await visible(env) == {"lantern": "1.0", "wick": "1.0", "torn": "1.0"}
    assert await findable(env, "lantern", "wick", "torn") == ["lantern", "wick", "torn"]

    newer = await client.prepare(asking(index, "lantern", "wick>=2"))
    assert await visible(newer) == {"lantern": "1.0", "wick": "2.0"}
    assert await says(newer.python, version_of("wick")) == "2.0"


async def test_an_environment_of_ours_can_be_a_host_itself(
    host: Host, environ: dict[str, str], index: Index, wheels: Path, tmp_path: Path
) -> None:
    host.add("wick", "1.0")
    host.add("torn", "1.0", "wick<2")
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "lantern", version)
        build_wheel(wheels, "wick", version)
    async with local_client(environ) as client:
        first = await client.prepare(asking(index, "lantern==1.0"))
    inner = {
        **environ,
        "XINFERENCE_HOME": str(tmp_path / "inner"),
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": first.python,
    }
    async with local_client(inner) as client:
        env = await client.prepare(asking(index, "lantern", "wick>=2"))
        assert await visible(env) == {"lantern": "1.0", "wick": "2.0"}
        assert await findable(env, "lantern", "wick", "torn") == ["lantern", "wick"]
        assert ran(env.python, "-c", "") == (0, "", "")


async def test_data_files_of_the_host_are_found_below_the_prefix(
    host: Host, client: Client, index: Index, wheels: Path
) -> None:
    metadata = host.add("lantern", "1.0")
    data = host.prefix / "share" / "lantern" / "colours.txt"
    data.parent.mkdir(parents=True)
    data.write_text("warm white")
    with (metadata / "RECORD").open("a") as record:
        record.write("../../../share/lantern/colours.txt,,\n")
    env = await client.prepare(asking(index, "lantern"))

    place = "importlib.import_module('pathlib').Path(sys.prefix, 'share/lantern/colours.txt')"
    read = f"{place}.read_text()"
    assert await says(env.python, read) == "warm white"


FINDER = """
import importlib.machinery, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "lantern":
            return importlib.machinery.PathFinder.find_spec(name, [{folder!r}])
sys.meta_path.insert(0, Finder)
"""


async def test_an_import_hook_of_the_host_that_would_win_is_refused_unless_it_is_hidden(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "lantern.py").write_text("__version__ = '1.0'\n")
    finder = FINDER.format(folder=str(project))
    files = {"_finder_of_lantern.py": finder, "lantern.pth": "import _finder_of_lantern\n"}
    host.add("lantern", "1.0", files=files)
    build_wheel(wheels, "lantern", "2.0")
    inherited = await client.prepare(asking(index, "lantern"))
    assert await says(inherited.python, version_of("lantern")) == "1.0"
    env = await client.prepare(asking(index, "lantern>=2"))
    assert await says(env.python, version_of("lantern")) == "2.0"
    plain(await client.supervisor.remove_virtual_env(Selection(model_name="glow"), force=True))
    for each in (inherited, env):
        await client.release(each)

    # One that belongs to no distribution can't be hidden with it.
    (host.site / "_anonymous.py").write_text(finder)
    (host.site / "anonymous.pth").write_text("import _anonymous\n")
    with pytest.raises(VerificationFailed, match=f"lantern would come from {project}"):
        await client.prepare(asking(index, "lantern>=2"))
    assert left_behind(layout) == []


# Compiled files, and files that two share


def add_compiled(host: Host, name: str, version: str, *requires: str) -> None:
    """Add a distribution with a real extension module."""
    extension = f"{name}/_compiled{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    metadata = host.add(
        name, version, *requires, files={f"{name}/__init__.py": f"__version__ = {version!r}\n"}
    )
    source = host.site / name / "_compiled.c"
    # Who was built with another module names it.
    names = "".join(
        f'const char with_{number}[] = "{each}";\n' for number, each in enumerate(requires)
    )
    source.write_text(f"int answer(void) {{ return 1; }}\n{names}")
    command = ["cc", "-shared", "-nostdlib", "-fPIC", "-o", str(host.site / extension), str(source)]
    subprocess.run(command, check=True)
    source.unlink()
    with (metadata / "RECORD").open("a") as record:
        record.write(f"{extension},,\n")


async def test_what_was_compiled_with_another_minor_version_is_not_mixed_with_the_new_one(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    add_compiled(host, "torch", "2.4.0")
    add_compiled(host, "torchvision", "0.19.0", "torch")
    for version in ("2.4.1", "2.5.0"):
        build_wheel(wheels, "torch", version)
    build_wheel(wheels, "torchvision", "0.19.0", requires=["torch"])
    patch = await client.prepare(asking(index, "torch==2.4.1"))
    assert await visible(patch) == {"torch": "2.4.1", "torchvision": "0.19.0"}

    minor = await client.prepare(asking(index, "torch==2.5.0"))
    assert await visible(minor) == {"torch": "2.5.0"}
    assert await findable(minor, "torchvision") == []

    both = await client.prepare(asking(index, "torch==2.5.0", "torchvision"))
    assert of_role(lock_of(layout, both), Role.INSTALLED) == {
        "torch": "2.5.0",
        "torchvision": "0.19.0",
    }


async def test_owners_of_one_regular_package_are_installed_together_or_not_at_all(
    host: Host, client: Client, index: Index, wheels: Path
) -> None:
    for name in ("blas", "dnn"):
        files = {"shared/__init__.py": "", f"shared/{name}.py": "__version__ = '1.0'\n"}
        host.add(f"shared-{name}", "1.0", files=files)
        for version in ("1.0", "2.0"):
            of_version = f"__version__ = {version!r}\n"
            modules = {"shared/__init__.py": "", f"shared/{name}.py": of_version}
            build_wheel(wheels, f"shared-{name}", version, modules=modules)
    alone = await client.prepare(asking(index, "shared-blas==2.0"))
    assert await visible(alone) == {"shared-blas": "2.0"}

    both = await client.prepare(asking(index, "shared-blas==2.0", "shared-dnn"))
    assert await says(both.python, version_of("shared.blas")) == "2.0"
    assert await says(both.python, version_of("shared.dnn")) in ("1.0", "2.0")


# What must be importable


async def test_what_must_be_importable_is_resolved_afresh_where_the_hosts_would_break(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("botocore", "1.29", "urllib3<1.27")
    host.add("urllib3", "1.26")
    for version, needs in (("1.29", "urllib3<1.27"), ("1.35", "urllib3<3")):
        build_wheel(wheels, "botocore", version, requires=[needs])
    build_wheel(wheels, "urllib3", "2.2")
    plain = await client.prepare(asking(index, "urllib3>=2"))
    assert await visible(plain) == {"urllib3": "2.2"}

    wanted = asking(index, "urllib3>=2", must_import=["BotoCore"])
    env = await client.prepare(wanted)
    assert await visible(env) == {"urllib3": "2.2", "botocore": "1.35"}
    [why] = [e.why for e in lock_of(layout, env).with_role(Role.INSTALLED) if e.name == "botocore"]
    assert why == "botocore must be importable"

    inherited = await client.prepare(asking(index, "urllib3", must_import=["botocore"]))
    assert of_role(lock_of(layout, inherited), Role.INHERITED) == {
        "botocore": "1.29",
        "urllib3": "1.26",
    }


async def test_what_the_cluster_must_import_counts_for_every_model(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("cluster", "1.0", "urllib3<2", "wick")
    host.add("agent", "1.0", "urllib3<2")
    host.add("urllib3", "1.26")
    host.add("wick", "1.0")
    build_wheel(wheels, "urllib3", "2.2")
    build_wheel(wheels, "agent", "2.0", requires=["urllib3"])
    environ["XINFERENCE_VIRTUAL_ENV_MUST_IMPORT"] = "agent"
    environ["XINFERENCE_VIRTUAL_ENV_MUST_IMPORT_ALONE"] = "cluster"
    async with local_client(environ) as client:
        env = await client.prepare(asking(index, "urllib3>=2"))
        expected = {"urllib3": "2.2", "agent": "2.0", "cluster": "1.0"}
        assert await visible(env) == {**expected, "wick": "1.0"}
        exact = await client.prepare(asking(index, "urllib3>=2", inherit="exact"))
        assert await visible(exact) == expected


async def test_what_has_no_solution_is_reported_with_all_that_takes_part_and_the_ways_out(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("inhouse", "1.0", "urllib3<2")
    host.add("urllib3", "1.26")
    build_wheel(wheels, "urllib3", "2.2")
    hints = []
    for request in (
        asking(index, "urllib3>=2", must_import=["inhouse"]),
        asking(index, "urllib3>=2", "inhouse"),
    ):
        with pytest.raises(ResolutionFailed) as caught:
            await client.prepare(request)
        words = " ".join(str(caught.value).split())
        assert "all versions of inhouse depend on urllib3<2" in words
        assert "you require urllib3>=2" in words
        hints.append(caught.value.hint)
    # What contradicts itself without the host as well has no way around the host.
    of_must_import, of_request = hints
    assert all(
        way in str(of_must_import) for way in ("other versions", "--inherit none", "must_import")
    )
    assert of_request == "ask for other versions"
    assert left_behind(layout) == []


async def test_what_is_compiled_and_no_index_has_is_named_when_it_can_not_be_kept(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    add_compiled(host, "torch", "2.4.0")
    add_compiled(host, "inhouse", "1.0", "torch")
    build_wheel(wheels, "torch", "2.5.0")
    with pytest.raises(ResolutionFailed) as caught:
        await client.prepare(asking(index, "torch==2.5.0", "inhouse", inherit="exact"))
    assert "the host's inhouse 1.0 can't be used" in str(caught.value)
    assert "compiled together with torch 2.4.0" in str(caught.value)
    assert "2.5.0" in str(caught.value)
    assert "--inherit none" in str(caught.value.hint)
    assert left_behind(layout) == []


# The import check


async def test_an_import_check_that_fails_shows_the_traceback_and_publishes_nothing(
    host: Host, client: Client, index: Index, wheels: Path, layout: StorePaths
) -> None:
    host.add("wick", "1.0", files={"wick.py": "def burn(): pass\n"})
    build_wheel(
        wheels, "lantern", "1.0", modules={"lantern.py": "from wick import glow\n", "fine.py": ""}
    )
    with pytest.raises(VerificationFailed) as caught:
        await client.prepare(asking(index, "lantern", import_check=["fine", "lantern"]))
    assert "cannot import name 'glow' from 'wick'" in str(caught.value)
    output = caught.value.details["output"]
    assert "Traceback" in output
    assert "lantern.py" in output
    assert "ask for other versions" in str(caught.value.hint)
    assert caught.value.phase == "verifying"
    assert left_behind(layout) == []
    assert await client.entries() == []

    env = await client.prepare(asking(index, "lantern", import_check=["fine", "wick"]))
    assert await findable(env, "lantern") == ["lantern"]


async def test_the_import_check_sees_what_a_model_process_will_see(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    Host.make(tmp_path / "host", environ)
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "only_here.py").write_text("")
    environ["PYTHONPATH"] = str(tmp_path / "stray")
    build_wheel(wheels, "lantern", "1.0")
    async with local_client(environ) as client:
        with pytest.raises(VerificationFailed, match="No module named 'only_here'") as caught:
            await client.prepare(asking(index, "lantern", import_check=["only_here"]))
        assert "check the name of the module" in str(caught.value.hint)


# By hand in the environment


@pytest.mark.parametrize("installer", ["uv", "pip"])
async def test_what_is_done_by_hand_in_an_environment_changes_no_file_of_the_host(
    host: Host,
    client: Client,
    index: Index,
    wheels: Path,
    environ: dict[str, str],
    installer: str,
) -> None:
    package = {"deep/__init__.py": "__version__ = '1.0'\n", "deep/er/part.py": ""}
    host.add("deep", "1.0", files=package)
    host.add("wick", "1.0")
    host.add("shade", "1.0", entry_points={"shade": "shade:main"})
    for name in ("deep", "wick", "shade", "lantern"):
        for version in ("1.0", "2.0"):
            modules = {f"{name}/__init__.py": f"__version__ = {version!r}\n"}
            build_wheel(wheels, name, version, modules=modules if name == "deep" else None)
    env = await client.prepare(asking(index, "lantern==1.0"))
    assert await says(env.python, version_of("deep")) == "1.0"
    before = files_of(host.prefix)

    if installer == "pip":
        command, yes = [env.python, "-m", "pip"], ["--yes"]
        assert ran(env.python, "-m", "ensurepip")[0] == 0
    else:
        command, yes = [find_uv_bin(), "pip"], []
    variables = {**environ, "PIP_INDEX_URL": index.url, "UV_DEFAULT_INDEX": index.url}
    variables["VIRTUAL_ENV"] = str(Path(env.python).parents[1])

    def by_hand(*arguments: str) -> None:
        subprocess.run([*command, *arguments], check=True, env=variables, capture_output=True)

    by_hand("install", "lantern==2.0")
    by_hand("install", "--upgrade", "deep", "wick")
    assert await says(env.python, version_of("deep")) == "2.0"
    by_hand("install", "deep==1.0", "shade==2.0")
    by_hand("uninstall", *yes, "deep", "wick", "shade", "lantern")

    assert files_of(host.prefix) == before
