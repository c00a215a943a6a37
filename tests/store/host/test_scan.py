"""Host distributions as hosts really have them, and what is noticed when they change."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from packaging.requirements import InvalidRequirement, Requirement

from tests.fakes import host, interpreter
from tests.wheels import fake_distribution
from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.store.host.scan import renew_all, scan_distributions, stamp_all


def scan(
    *sites: Path, prefix: str = "/srv/host"
) -> tuple[dict[str, HostDistribution], tuple[str, ...]]:
    found, skipped = scan_distributions(
        interpreter(executable=f"{prefix}/bin/python", search_path=tuple(map(str, sites)))
    )
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}, skipped


def metadata(site: Path, folder: str, content: bytes, file: str = "METADATA") -> Path:
    (site / folder).mkdir(parents=True)
    (site / folder / file).write_bytes(content)
    return site / folder


# What is there


def test_a_distribution_is_read_in_normal_form(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "My.Lib_x", "v1.0-RC1", requires=["Numpy (>=1.20)", "six"])
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found == {
        "my-lib-x": HostDistribution(
            name="my-lib-x",
            version="1.0rc1",
            requires=("Numpy>=1.20", "six"),
            location=str(tmp_path),
            metadata="my_lib_x-v1.0-RC1.dist-info",
            entries=("my_lib_x-v1.0-RC1.dist-info",),
        )
    }


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("1.0-1", "1.0.post1"),
        ("1.0+ABC-1", "1.0+abc.1"),
        ("2020.01.02", "2020.1.2"),
        ("2.8.0a0+34c6371d24.nv25.8", "2.8.0a0+34c6371d24.nv25.8"),
        ("1!2.0", "1!2.0"),
    ],
)
def test_odd_versions_get_their_normal_form(tmp_path: Path, written: str, normal: str) -> None:
    fake_distribution(tmp_path, "lib", written)
    assert scan(tmp_path)[0]["lib"].version == normal


def test_eggs_are_read_as_folders_and_as_files(tmp_path: Path) -> None:
    content = b"Metadata-Version: 1.2\nName: in-folder\nVersion: 1.0\n"
    folder = metadata(tmp_path, "in_folder-1.0-py3.11.egg-info", content, "PKG-INFO")
    (folder / "requires.txt").write_text("six>=1\n\n[extra]\nnumpy\n\n[:sys_platform == 'x']\na\n")
    file = tmp_path / "in_file-2.0.egg-info"
    file.write_text("Metadata-Version: 1.1\nName: in_file\nVersion: 2.0\n")
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found["in-folder"].requires == (
        "six>=1",
        'numpy; extra == "extra"',
        'a; sys_platform == "x"',
    )
    assert found["in-file"].version == "2.0"
    assert found["in-file"].metadata == "in_file-2.0.egg-info"


def test_the_first_of_a_name_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fake_distribution(first, "lib", "1.0")
    fake_distribution(second, "Lib", "2.0")
    fake_distribution(second, "other", "1.0")
    assert {name: each.version for name, each in scan(first, second)[0].items()} == {
        "lib": "1.0",
        "other": "1.0",
    }
    assert scan(second, first)[0]["lib"].version == "2.0"


def test_a_url_requirement_becomes_a_name(tmp_path: Path) -> None:
    fake_distribution(
        tmp_path,
        "lib",
        "1.0",
        requires=[
            "direct @ https://user:secret@example.com/direct-1.0.tar.gz",
            'marked[extra] @ git+https://example.com/x.git@main ; python_version > "3"',
        ],
    )
    found, skipped = scan(tmp_path)
    assert skipped == ()
    assert found["lib"].requires == ("direct", 'marked[extra]; python_version > "3"')


def test_a_requirement_that_is_none_is_left_out_with_the_reason(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "lib", "1.0", requires=["six", "numpy >= old", "../path", ""])
    found, skipped = scan(tmp_path)
    assert found["lib"].requires[0] == "six"
    assert not any("numpy" in each or "path" in each for each in found["lib"].requires)
    assert any(str(tmp_path) in each and "'numpy >= old'" in each for each in skipped)


@pytest.mark.parametrize(
    "marker",
    [
        *("python_version ~= '3'", "sys_platform ~= 'linux'", "python_version === '3.11'"),
        *("'cpu' in extras", "os_name == 'posix' and 'cpu' in dependency_groups"),
    ],
)
def test_a_marker_that_can_not_be_evaluated_is_left_out_with_its_requirement(
    tmp_path: Path, marker: str
) -> None:
    kept = ["six~=1.16; python_version ~= '3.8'", "pin===1.0; extra == 'Dev_Tools'"]
    fake_distribution(tmp_path, "lib", "1.0", requires=[f"odd; {marker}", *kept])
    found, skipped = scan(tmp_path)
    assert [each.partition(";")[0] for each in found["lib"].requires] == ["six~=1.16", "pin===1.0"]
    assert [f"'odd; {marker}" in each.replace('"', "'") for each in skipped] == [True]
    facts = host(*found.values())
    assert facts.needs["lib"][0].name == "six"


def test_requirements_of_extras_are_written_as_all_others(tmp_path: Path) -> None:
    """Most are not parsed, which takes long."""
    texts = [
        'pytest ; extra == "tests"',
        "pytest>=7.0;extra=='all-tests'",
        "My.Lib_x==1.0 ; extra == 'a'",
        "six<2,>=1.10 ; extra == 'a'",
        "six (>=1.10) ; extra == 'a'",
        "six>=1.10.* ; extra == 'a'",
        "six~=1 ; extra == 'a'",
        "six ; extra == 'Dev_Tools'",
        "six ; extra == 'a\"",
        "six- ; extra == 'a'",
        "six[socks] ; extra == 'a'",
        "six ; python_version < '3.9' and extra == 'a'",
        "six @ https://example.com/six.whl ; extra == 'a'",
    ]
    fake_distribution(tmp_path, "lib", "1.0", requires=texts)
    found, skipped = scan(tmp_path)
    written = []
    for text in texts:
        with suppress(InvalidRequirement):
            requirement = Requirement(text)
            requirement.url = None
            written.append(str(requirement))
    assert found["lib"].requires == tuple(written)
    assert len(skipped) == len(texts) - len(written) == 4


@pytest.mark.parametrize("version", ["0.1.43ubuntu1", "None", "", "1.0 beta", "1.0.*"])
def test_a_legacy_version_is_skipped_with_the_reason(tmp_path: Path, version: str) -> None:
    fake_distribution(tmp_path, "good", "1.0")
    content = f"Metadata-Version: 2.1\nName: lib\nVersion: {version}\n".encode()
    place = metadata(tmp_path, "lib-x.dist-info", content)
    found, skipped = scan(tmp_path)
    assert list(found) == ["good"]
    assert skipped == (f"{place}: no valid name and version",)


@pytest.mark.parametrize("name", ["", " ", "-", "a b", "../../etc/passwd", "a/b", "é", "a\tb"])
def test_a_name_that_is_none_is_skipped_with_the_reason(tmp_path: Path, name: str) -> None:
    content = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    place = metadata(tmp_path, "lib-1.0.dist-info", content)
    found, skipped = scan(tmp_path)
    assert found == {}
    assert skipped == (f"{place}: no valid name and version",)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"Name: lib\n", b"Version: 1.0\n", b"\n\nName: x\nVersion: 1\n"]
)
def test_broken_metadata_is_skipped_with_the_reason(tmp_path: Path, content: bytes) -> None:
    fake_distribution(tmp_path, "good", "1.0")
    place = metadata(tmp_path, "lib-1.0.dist-info", content)
    found, skipped = scan(tmp_path)
    assert list(found) == ["good"]
    assert skipped == (f"{place}: no valid name and version",)


def test_metadata_that_is_no_text_is_skipped_with_the_reason(tmp_path: Path) -> None:
    place = metadata(tmp_path, "lib-1.0.dist-info", b"Name: lib\nVersion: 1.0\n\ncaf\xe9")
    found, [skipped] = scan(tmp_path)
    assert found == {}
    assert skipped.startswith(f"{place}: 'utf-8' codec can't decode")


def test_metadata_folders_that_are_empty_or_links_to_nowhere_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty-1.0.dist-info").mkdir()
    (tmp_path / "gone-1.0.dist-info").symlink_to("/nowhere")
    (tmp_path / "~ib-1.0.dist-info").mkdir()  # what pip leaves of an uninstall that failed
    found, skipped = scan(tmp_path)
    assert found == {}
    assert len(skipped) == 3


def test_places_that_are_gone_have_no_distributions(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert scan(tmp_path / "gone", tmp_path / "file") == ({}, ())


def test_a_second_copy_next_to_the_first_is_skipped_with_the_reason(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "lib", "1.0")
    second = fake_distribution(tmp_path, "lib", "2.0")
    found, skipped = scan(tmp_path, tmp_path)
    assert found["lib"].version == "1.0"
    assert skipped == (f"{second}: lib-1.0.dist-info is there too",)


def test_an_egg_on_the_search_path_is_read(tmp_path: Path) -> None:
    egg = tmp_path / "lib-1.0-py3.11.egg"
    metadata(egg, "EGG-INFO", b"Name: lib\nVersion: 1.0\n", "PKG-INFO")
    (egg / "lib.py").write_text("")
    assert scan(tmp_path, egg)[0]["lib"].entries == ("EGG-INFO", "lib.py")


def test_a_project_that_is_linked_for_development_comes_from_its_folder(tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    site.mkdir()
    (site / "easy-install.pth").write_text(f"{project}\n")
    (site / "lib.egg-link").write_text(f"{project}\n.")
    metadata(project, "lib.egg-info", b"Name: lib\nVersion: 1.0\n", "PKG-INFO")
    (project / "lib.egg-info" / "top_level.txt").write_text("lib\n")
    (project / "lib").mkdir()
    found, skipped = scan(site, project)
    assert skipped == ()
    assert found["lib"].direct_url == project.as_uri()
    assert not found["lib"].recorded
    assert found["lib"].entries == ("lib", "lib.egg-info")
    found, [reason] = scan(site)
    assert found == {}
    assert reason == f"{site / 'lib.egg-link'}: {project} is not on the search path"


def test_a_nested_environment_is_read_in_the_order_of_its_interpreter(tmp_path: Path) -> None:
    sites = {}
    for name in ("outer", "inner"):
        venv.create(tmp_path / name, symlinks=True)
        [sites[name]] = (tmp_path / name).glob("lib/python3*/site-packages")
    fake_distribution(sites["outer"], "lib", "1.0")
    fake_distribution(sites["outer"], "only-outer", "1.0")
    fake_distribution(sites["inner"], "lib", "2.0")
    project = tmp_path / "project"
    fake_distribution(project, "editable", "1.0")
    (sites["outer"] / "editable.pth").write_text(f"{project}\n")
    (sites["inner"] / "outer.pth").write_text(
        f"import site; site.addsitedir({str(sites['outer'])!r})"
    )
    python = tmp_path / "inner" / "bin" / "python"
    command = [str(python), "-I", "-c", "import sys; print(*sys.path, sep='\\n')"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    search_path = [Path(each) for each in said.splitlines() if each.startswith(str(tmp_path))]
    found, skipped = scan(*search_path, prefix=str(tmp_path / "inner"))
    assert skipped == ()
    assert {name: (each.version, each.location) for name, each in found.items()} == {
        "lib": ("2.0", str(sites["inner"])),
        "only-outer": ("1.0", str(sites["outer"])),
        "editable": ("1.0", str(project)),
    }


# Where it came from


@pytest.mark.parametrize(
    ("written", "url"),
    [
        (
            {"url": "https://user:secret@example.com/lib.tar.gz?sig=secret", "archive_info": {}},
            "https://example.com/lib.tar.gz",
        ),
        (
            {"url": "file:///home/someone/lib", "dir_info": {"editable": True}},
            "file:///home/someone/lib",
        ),
        (
            {
                "url": "https://user:secret@example.com/lib.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"},
            },
            "git+https://example.com/lib.git@abc",
        ),
    ],
)
def test_a_direct_url_is_reported_without_credentials(
    tmp_path: Path, written: dict[str, object], url: str
) -> None:
    place = fake_distribution(tmp_path, "lib", "1.0")
    (place / "direct_url.json").write_text(json.dumps(written))
    found, skipped = scan(tmp_path)
    assert (found["lib"].direct_url, skipped) == (url, ())


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"url": 3}', '{"url": "http://[", "archive_info": {}}'),
        *('{"url": "https://a", "vcs_info": 3}', '{"url": "https://a", "vcs_info": {}}'),
    ],
)
def test_a_damaged_direct_url_is_skipped_with_the_reason(tmp_path: Path, text: str) -> None:
    place = fake_distribution(tmp_path, "lib", "1.0")
    (place / "direct_url.json").write_text(text)
    found, skipped = scan(tmp_path)
    assert found["lib"].direct_url is None
    assert skipped == (f"{place}: direct_url.json is not valid",)


# Its scripts


def test_scripts_are_those_that_a_file_can_be_made_of(tmp_path: Path) -> None:
    place = fake_distribution(tmp_path, "lib", "1.0")
    (place / "entry_points.txt").write_text(
        "# comment\n[console_scripts]\nlib=lib.cli : main\nlib-all = lib:Cli.run [extra]\n"
        "; comment\n../evil = lib:main\n.. = lib:main\nno-attribute = lib\nno-target\n"
        "injected = lib:main();x\nlib = other:main\n\n"
        "[other]\nplugin = lib:main\n[gui_scripts]\nlib.window = lib.gui:show\n"
    )
    found, skipped = scan(tmp_path)
    assert found["lib"].scripts == (
        "lib = lib.cli:main",
        "lib-all = lib:Cli.run",
        "lib.window = lib.gui:show",
    )
    assert len(skipped) == 5
    assert f"{place}: script '../evil = lib:main' is not valid" in skipped


@pytest.mark.parametrize("name", ["entry_points.txt", "direct_url.json"])
def test_a_file_that_is_no_text_is_skipped_alone(tmp_path: Path, name: str) -> None:
    place = fake_distribution(tmp_path, "lib", "1.0")
    (place / name).write_bytes(b"[console_scripts]\n\xff = a:b\n")
    found, [skipped] = scan(tmp_path)
    assert (found["lib"].scripts, found["lib"].direct_url) == ((), None)
    assert skipped.startswith(f"{place}: {name}: 'utf-8' codec can't decode")


# Its files


def record(place: Path, *paths: str) -> None:
    (place / "RECORD").write_text("".join(f"{path},,\n" for path in paths))


def test_entries_are_the_names_in_the_location_that_a_record_has_files_under(
    tmp_path: Path,
) -> None:
    place = fake_distribution(tmp_path, "lib", "1.0")
    record(
        place,
        *("lib/__init__.py", "lib/deep/x.py", "single.py", "__pycache__/single.cpython-311.pyc"),
        *("lib.pth", "./dotted.py", "lib//slashes.py", f"{tmp_path}/absolute.py"),
        *(
            "../outside.py",
            "../../../bin/lib",
            "/etc/lib.conf",
            "..",
            ".",
            "lib-1.0.dist-info/RECORD",
        ),
    )
    assert scan(tmp_path)[0]["lib"].recorded
    assert scan(tmp_path)[0]["lib"].entries == (
        *("absolute.py", "dotted.py", "lib", "lib-1.0.dist-info", "lib.pth", "single.py"),
    )


def test_an_older_list_of_files_is_relative_to_its_folder(tmp_path: Path) -> None:
    place = metadata(tmp_path, "lib-1.0.egg-info", b"Name: lib\nVersion: 1.0\n", "PKG-INFO")
    (place / "installed-files.txt").write_text("../lib/__init__.py\n../other.py\nPKG-INFO\n")
    found = scan(tmp_path)[0]["lib"]
    assert found.recorded
    assert found.entries == ("lib", "lib-1.0.egg-info", "other.py")


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"x" * 200_000 + b",,\n"])
def test_without_a_list_the_import_names_tell(tmp_path: Path, content: bytes | None) -> None:
    place = fake_distribution(tmp_path, "my-lib", "1.0", files={"my_lib/__init__.py": ""})
    for name in ("my_lib_more.py", "my_lib.py", "one.cpython-311-x86_64-linux-gnu.so", "two.txt"):
        (tmp_path / name).write_text("")
    (place / "RECORD").unlink()
    if content is not None:
        (place / "RECORD").write_bytes(content)
    found = scan(tmp_path)[0]["my-lib"]
    assert not found.recorded
    assert found.entries == ("my_lib", "my_lib-1.0.dist-info", "my_lib.py")
    (place / "top_level.txt").write_text("one\ntwo\n")
    found = scan(tmp_path)[0]["my-lib"]
    assert found.entries == ("my_lib-1.0.dist-info", "one.cpython-311-x86_64-linux-gnu.so")


def test_data_files_are_relative_to_the_prefix_without_scripts(tmp_path: Path) -> None:
    host = tmp_path / "host"
    site = host / "lib" / "python3.11" / "site-packages"
    other = host / "lib64" / "python3.11" / "site-packages"
    place = fake_distribution(site, "lib", "1.0")
    kernel = "share/jupyter/kernels/x.json"
    record(
        place,
        *("lib.py", f"../../../{kernel}", f"{host}/etc/lib.conf", "../../../bin/lib"),
        *("../../../Scripts/lib.exe", "/etc/lib.conf", "../../../../elsewhere"),
        "../../../lib64/python3.11/site-packages/lib/x.py",
    )
    assert scan(site, other, prefix=str(host))[0]["lib"].data_files == (kernel, "etc/lib.conf")
    assert scan(site, other, prefix="/srv/other")[0]["lib"].data_files == ()
    record(place, *(f"../../../share/{number}" for number in range(2000)))
    assert len(scan(site, prefix=str(host))[0]["lib"].data_files) == 1000


@pytest.mark.parametrize(
    ("path", "compiled"),
    [
        ("lib/_c.cpython-311-x86_64-linux-gnu.so", True),
        ("lib.libs/libz-1234.so.1.2", True),
        ("lib/_c.pyd", True),
        ("lib/.dylibs/libz.1.dylib", True),
        ("../../../lib/libmkl_rt.so.2", True),
        ("lib/words.so.txt", False),
        ("lib/also.py", False),
    ],
)
def test_compiled_is_what_has_recorded_shared_objects(
    tmp_path: Path, path: str, compiled: bool
) -> None:
    record(fake_distribution(tmp_path, "lib", "1.0"), path)
    assert scan(tmp_path)[0]["lib"].compiled is compiled


def test_compiled_is_seen_without_a_list_of_files(tmp_path: Path) -> None:
    own = fake_distribution(tmp_path, "own", "1.0", files={"own/deep/_c.so": ""})
    shared = fake_distribution(tmp_path, "shared", "1.0", files={"other/__init__.py": ""})
    fake_distribution(tmp_path, "other", "1.0", files={"other/_c.so": ""})
    (own / "RECORD").unlink()
    (shared / "RECORD").unlink()
    (shared / "top_level.txt").write_text("other\n")
    found, _ = scan(tmp_path)
    assert {name: each.compiled for name, each in found.items()} == {
        "own": True,
        "shared": False,
        "other": True,
    }


def test_distributions_that_own_one_package_file_share_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for name in ("nvidia-cublas", "nvidia-cudnn"):
        fake_distribution(first, name, "1.0", files={"nvidia/__init__.py": "", f"{name}.py": ""})
    fake_distribution(first, "namespace", "1.0", files={"nvidia/namespace/__init__.py": ""})
    fake_distribution(second, "elsewhere", "1.0", files={"nvidia/__init__.py": ""})
    assert {name: each.shares for name, each in scan(first, second)[0].items()} == {
        "nvidia-cublas": ("nvidia-cudnn",),
        "nvidia-cudnn": ("nvidia-cublas",),
        "namespace": (),
        "elsewhere": (),
    }


# What changed


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = tmp_path / "host" / "lib" / "python3.11" / "site-packages"
    fake_distribution(place, "lib", "1.0", requires=["six"], files={"lib.py": ""})
    egg = b"Name: egg\nVersion: 1.0\n"
    metadata(place, "egg-1.0.egg-info", egg, "PKG-INFO")
    (place / "egg-1.0.egg-info" / "requires.txt").write_text("six\n")
    (place / "single-1.0.egg-info").write_bytes(egg.replace(b"egg", b"single"))
    (place / "paths.pth").write_text(f"{tmp_path / 'not-yet'}\n")
    (place / "linked.egg-link").write_text("/one\n")
    standard_library = place.parent
    (standard_library / "sitecustomize.py").write_text("one")
    python = tmp_path / "host" / "bin" / "python"
    python.parent.mkdir()
    python.write_text("one")
    (tmp_path / "host" / "pyvenv.cfg").write_text("one")
    return place


def interpreter_over(site: Path) -> Interpreter:
    python = str(site.parents[2] / "bin" / "python")
    return interpreter(executable=python, base_executable=python, search_path=(str(site),))


def edit(path: str) -> Callable[[Path], None]:
    """Exchange a byte in place; size and times of the file stay as they were."""

    def change(site: Path) -> None:
        before = (site / path).stat()
        content = (site / path).read_bytes()
        with (site / path).open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        os.utime(site / path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def replaced(path: str) -> Callable[[Path], None]:
    """Another file of the same size and times in its place, as image layers have them."""

    def change(site: Path) -> None:
        before = (site / path).stat()
        beside = site.parent / "beside"
        beside.write_bytes((site / path).read_bytes())
        os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
        beside.replace(site / path)

    return change


def append(path: str) -> Callable[[Path], None]:
    def change(site: Path) -> None:
        with (site / path).open("a") as file:
            file.write("/two\n")

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "METADATA replaced, its times kept": replaced("lib-1.0.dist-info/METADATA"),
    "METADATA edited in place": edit("lib-1.0.dist-info/METADATA"),
    "PKG-INFO edited in place": edit("egg-1.0.egg-info/PKG-INFO"),
    "requires.txt edited in place": edit("egg-1.0.egg-info/requires.txt"),
    "a single egg file edited in place": edit("single-1.0.egg-info"),
    ".pth appended to": append("paths.pth"),
    ".pth edited in place": edit("paths.pth"),
    "a path that a .pth names came": lambda site: (site / "../../../../not-yet").mkdir(),
    ".egg-link edited in place": edit("linked.egg-link"),
    "sitecustomize of the standard library edited in place": edit("../sitecustomize.py"),
    ".pth added": lambda site: (site / "more.pth").write_text(""),
    ".pth removed": lambda site: (site / "paths.pth").unlink(),
    "distribution added": lambda site: fake_distribution(site, "new", "1.0"),
    "distribution removed": lambda site: (site / "lib-1.0.dist-info").rename(site.parent / "x"),
    "distribution upgraded": lambda site: (site / "lib-1.0.dist-info").rename(
        site / "lib-2.0.dist-info"
    ),
    "sitecustomize added": lambda site: (site / "sitecustomize.py").write_text(""),
    "usercustomize added": lambda site: (site / "usercustomize.py").write_text(""),
    "interpreter replaced in place": edit("../../../bin/python"),
    "interpreter removed": lambda site: (site / "../../../bin/python").unlink(),
    "pyvenv.cfg edited in place": edit("../../../pyvenv.cfg"),
    "the site removed": lambda site: site.rename(site.parent / "moved"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_host_is_noticed(site: Path, change: str) -> None:
    stamps = stamp_all(interpreter_over(site))
    assert renew_all(stamps) == stamps
    CHANGES[change](site)
    assert renew_all(stamps) is None
    assert renew_all(stamp_all(interpreter_over(site))) is not None


def test_what_decides_nothing_may_change(site: Path) -> None:
    stamps = stamp_all(interpreter_over(site))
    # As uv does with its cache for each environment that somebody makes.
    os.link(site / "lib-1.0.dist-info" / "METADATA", site.parent / "elsewhere")
    (site / "paths.pth").chmod(0o640)
    (site / "lib.py").write_text("changed = True\n")
    (site / "lib-1.0.dist-info" / "REQUESTED").write_text("")
    # The next one to ask reads no content again.
    assert renew_all(stamps) == stamp_all(interpreter_over(site)) != stamps


def test_a_file_that_comes_or_goes_is_noticed_if_it_was_asked_for(
    site: Path, tmp_path: Path
) -> None:
    device = tmp_path / "device"
    stamps = stamp_all(interpreter_over(site), [str(device)])
    assert renew_all(stamps) == stamps
    device.write_text("")
    assert renew_all(stamps) is None


def test_no_stamps_mean_no_change() -> None:
    assert renew_all({}) == {}


@pytest.mark.parametrize("file", ["METADATA", "RECORD", "top_level.txt", "entry_points.txt"])
def test_a_pipe_in_the_place_of_a_file_holds_up_nothing(tmp_path: Path, file: str) -> None:
    fake_distribution(tmp_path, "good", "1.0")
    folder = metadata(
        tmp_path, "odd-1.0.dist-info", b"Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n"
    )
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    os.mkfifo(tmp_path / "odd.pth")
    found, _ = scan(tmp_path)
    assert "good" in found
