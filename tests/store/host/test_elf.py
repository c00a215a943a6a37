"""Which distributions are bound to which, over real shared objects that the compiler makes here."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import interpreter
from tests.wheels import fake_distribution
from xinference_venv.store.host.elf import (
    Dynamic,
    Linkage,
    bound_distributions,
    is_of_the_system,
    linkage_of,
    read_dynamic,
    system_folders,
)
from xinference_venv.store.host.scan import scan_distributions


def compile_object(path: Path, *needed: Path, run_path: str = "", flags: Sequence[str] = ()) -> str:
    """A shared object that needs others, by their file names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("int answer(void) { return 1; }\n")
    command = ["cc", "-shared", "-nostdlib", "-fPIC", "-o", str(path), str(source)]
    command += ["-Wl,--no-as-needed", f"-Wl,-soname,{path.name}", *flags]
    command += [f"-Wl,-rpath,{run_path}"] if run_path else []
    for each in needed:
        command += [f"-L{each.parent}", f"-l:{each.name}"]
    subprocess.run(command, check=True)
    source.unlink()
    return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "python3.11" / "site-packages"


@pytest.fixture
def library(site: Path) -> Path:
    """The library that `libpkg` ships in a folder of its own."""
    return Path(compile_object(site / "libpkg" / "lib" / "libpkg.so.1"))


def bound(objects: Mapping[str, Sequence[Path | str]]) -> dict[str, tuple[str, ...]]:
    """Those that are bound to another one."""
    found = bound_distributions({name: list(map(str, paths)) for name, paths in objects.items()})
    assert set(found) == set(objects)
    return {name: others for name, others in found.items() if others}


@pytest.mark.parametrize(
    "run_path",
    [
        "$ORIGIN/../libpkg/lib",
        "${ORIGIN}/../libpkg/lib",
        "/nowhere:$ORIGIN/../libpkg/lib/",
        "{site}/libpkg/lib",
    ],
)
@pytest.mark.parametrize("kind", ["--enable-new-dtags", "--disable-new-dtags"])
def test_an_object_is_bound_to_the_owner_of_what_its_run_path_leads_to(
    site: Path, library: Path, run_path: str, kind: str
) -> None:
    path = site / "extension" / "_c.so"
    run_path = run_path.replace("{site}", str(site))
    compile_object(path, library, run_path=run_path, flags=[f"-Wl,{kind}"])
    # The run path decides, however many others have a file of that name.
    other = compile_object(site / "other" / library.name)
    assert bound({"extension": [path], "libpkg": [library], "other": [other]}) == {
        "extension": ("libpkg",)
    }


def test_a_library_without_a_run_path_is_the_one_that_a_single_distribution_has(
    site: Path, library: Path
) -> None:
    path = site / "extension" / "_c.so"
    compile_object(path, library)
    assert bound({"extension": [path], "libpkg": [library]}) == {"extension": ("libpkg",)}
    other = compile_object(site / "other" / library.name)
    assert bound({"extension": [path], "libpkg": [library], "other": [other]}) == {}


def test_a_run_path_of_the_machine_it_was_built_on_leads_nowhere(site: Path, library: Path) -> None:
    path = site / "extension" / "_c.so"
    compile_object(path, library, run_path="/build/env/lib")
    assert bound({"extension": [path], "libpkg": [library]}) == {"extension": ("libpkg",)}


@pytest.mark.parametrize("run_path", ["", "$ORIGIN"])
def test_a_library_of_its_own_binds_to_no_other(site: Path, library: Path, run_path: str) -> None:
    own = compile_object(site / "extension" / library.name)
    path = compile_object(site / "extension" / "_c.so", Path(own), run_path=run_path)
    assert bound({"extension": [own, path], "libpkg": [library]}) == {}


def test_a_library_that_no_distribution_owns_binds_to_none(
    site: Path, tmp_path: Path, library: Path
) -> None:
    outside = Path(compile_object(tmp_path / "opt" / library.name))
    path = compile_object(site / "extension" / "_c.so", outside, run_path=str(outside.parent))
    assert bound({"extension": [path], "libpkg": [library]}) == {}


def test_a_copy_of_a_library_of_the_system_binds_no_one_to_its_owner(site: Path) -> None:
    copy = Path(compile_object(site / "toolchain" / "libstdc++.so.6"))
    path = compile_object(site / "extension" / "_c.so", copy)
    assert bound({"extension": [path], "toolchain": [copy]}) == {}
    path = compile_object(site / "extension" / "_d.so", copy, run_path="$ORIGIN/../toolchain")
    assert bound({"extension": [path], "toolchain": [copy]}) == {"extension": ("toolchain",)}


def test_a_library_is_found_through_a_link(site: Path, library: Path) -> None:
    (site / "alias").symlink_to(library.parent)
    path = compile_object(site / "extension" / "_c.so", library, run_path="$ORIGIN/../alias")
    assert bound({"extension": [path], "libpkg": [library]}) == {"extension": ("libpkg",)}


def test_a_scan_tells_what_is_bound(site: Path, library: Path) -> None:
    extension = site / "my_extension" / "_c.so"
    compile_object(extension, library, run_path="$ORIGIN/../libpkg/lib")
    outside = Path(compile_object(site.parents[1] / "libdata.so.2"))
    reader = Path(compile_object(site / "_reader.so", outside, run_path="$ORIGIN/../.."))
    for name, paths in {
        "My_Extension": (extension, library.with_name("gone.so")),
        "Lib.Pkg": (library,),
        "data": (outside,),
        "reader": (reader,),
        "pure": (),
    }.items():
        place = fake_distribution(site, name, "1.0")
        prefix = site.parents[2]
        lines = [f"{Path('../../..', path.relative_to(prefix))},,\n" for path in paths]
        (place / "RECORD").write_text("".join([*lines, "METADATA,,\n"]))
    found, skipped = scan_distributions(interpreter(search_path=(str(site),)))
    assert skipped == ()
    assert {each.name: (each.compiled, each.bound_to) for each in found} == {
        "my-extension": (True, ("lib-pkg",)),
        "lib-pkg": (True, ()),
        "data": (True, ()),
        "reader": (True, ("data",)),
        "pure": (False, ()),
    }


# The files


def test_what_a_file_asks_for_is_read_in_its_order(site: Path, library: Path) -> None:
    path = site / "extension" / "_c.so"
    other = Path(compile_object(site / "other" / "libother.so"))
    run_path = "/one:$ORIGIN:relative:$LIB/x::${ORIGIN}/../two"
    compile_object(path, other, library, run_path=run_path)
    folder = path.parent
    assert read_dynamic(str(path)) == Dynamic(
        needed=("libother.so", "libpkg.so.1"),
        run_path=("/one", str(folder), f"{folder}/../two"),
        name="_c.so",
    )


def test_a_file_that_changed_is_read_again(site: Path, library: Path) -> None:
    path = site / "extension" / "_c.so"
    compile_object(path)
    assert read_dynamic(str(path)) == Dynamic(needed=(), run_path=(), name="_c.so")
    compile_object(path, library)
    changed = Dynamic(needed=("libpkg.so.1",), run_path=(), name="_c.so")
    assert read_dynamic(str(path)) == changed


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"\x7fELF\x02\x01\x01" + b"\xff" * 200,
        b"GROUP ( libpkg.so.1 )\n",
        b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01",
        b"MZ\x90\x00",
    ],
    ids=["empty", "magic alone", "damaged", "linker script", "Mach-O", "PE"],
)
def test_what_is_no_sound_elf_file_binds_nothing(site: Path, library: Path, content: bytes) -> None:
    path = site / "_c.so"
    path.write_bytes(content)
    assert read_dynamic(str(path)) is None
    assert bound({"extension": [path], "libpkg": [library]}) == {}


def test_what_is_no_file_binds_nothing(site: Path) -> None:
    site.mkdir(parents=True)
    assert read_dynamic(str(site)) is None
    assert read_dynamic(str(site / "gone.so")) is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    library = Path(compile_object(folder / "libpkg.so"))
    path = compile_object(folder / "_c.so", library, run_path="$ORIGIN")
    return Path(path).read_bytes()


@given(damage=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_skipped(
    sound: bytes, tmp_path: Path, damage: st.DataObject
) -> None:
    content = bytearray(sound)
    # Headers and tables are small beside the alignment between them.
    for place in damage.draw(st.lists(st.integers(0, 700) | st.integers(0, len(content) - 1))):
        content[place] = damage.draw(st.sampled_from([0, 1, 127, 128, 255]))
    # A name of its own: an answer is kept for a name, and examples follow within one tick.
    path = tmp_path / f"{uuid.uuid4().hex}.so"
    path.write_bytes(content[: damage.draw(st.integers(0, len(content)) | st.just(len(content)))])
    read_dynamic(str(path))


def test_what_extension_modules_need_by_their_own_libraries_too_and_no_plug_in_does(
    site: Path, library: Path
) -> None:
    folder = site / "lamp"
    plug_in = Path(compile_object(folder / "libother.so.9"))
    inner = Path(compile_object(folder / "libinner.so.3", library))
    paths = [
        str(inner),
        compile_object(folder / "_c.so", inner),
        compile_object(folder / "libs.cpython-311-x86_64-linux-gnu.so", library),
        compile_object(folder / "libplugin.so", plug_in),
        str(site / "gone.so"),
    ]
    assert linkage_of(paths) == Linkage(
        provided=("libinner.so.3", "libplugin.so"),
        needed=("libpkg.so.1",),
        linked=("libother.so.9", "libpkg.so.1"),
    )
    assert linkage_of([]) == Linkage(provided=(), needed=(), linked=())


def test_libraries_of_every_system_are_needed_of_no_one(site: Path) -> None:
    zlib = Path(compile_object(site / "libz.so.1"))
    assert linkage_of([compile_object(site / "_c.so", zlib)]).needed == ()
    assert is_of_the_system("libz.so.1")
    assert not is_of_the_system("libpkg.so.1")


def test_the_systems_folders_are_those_that_variables_name_and_the_usual_ones() -> None:
    folders = system_folders({"LD_LIBRARY_PATH": "/one::relative", "CUDA_HOME": "/cuda"})
    assert folders[:3] == ("/one", "/cuda/lib64", "/usr/local/cuda/lib64")
    assert "/usr/lib" in folders
    assert "relative" not in folders
