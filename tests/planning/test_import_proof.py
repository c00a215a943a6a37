from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests import fakes
from xinference_venv.planning.host import HostDistribution
from xinference_venv.planning.import_proof import (
    ImportProof,
    explain_failure,
    find_cut_off,
    find_library_faults,
    find_mixtures,
    find_proofs,
    inherited_compiled,
    libraries_elsewhere,
    library_stem,
)
from xinference_venv.planning.lock import Role
from xinference_venv.planning.package import EntryKind, PackageKey, PackageRecord, TopLevelName

NUMPY = fakes.distribution("numpy", "1.26", compiled=True, entries=("numpy", "numpy.libs"))
TORCH = fakes.distribution("torch", "2.8", compiled=True, entries=("torch", "torchgen"))
SIX = fakes.distribution("six", "1.0", entries=("six.py",))
HOST = fakes.host(NUMPY, TORCH, SIX)


def package(name: str, *requires: str, modules: str = "", **changes: object) -> PackageRecord:
    given = {
        "key": PackageKey(name=name, version="1.0", digest=fakes.SHA256),
        "metadata": f"{name}-1.0.dist-info",
        "top_level": tuple(
            TopLevelName(name=each, kind=EntryKind.PACKAGE) for each in (modules or name).split()
        ),
        "requires": requires,
        "files": 1,
        "size_bytes": 1,
        "record_sha256": fakes.SHA256,
        "compiled": True,
        **changes,
    }
    return PackageRecord(**given)  # type: ignore[arg-type]


def proofs_of(*packages: PackageRecord, inherited: str = "numpy torch six") -> list[ImportProof]:
    lock = fakes.lock(
        distributions=tuple(fakes.locked(name, Role.INHERITED) for name in inherited.split())
    )
    return list(find_proofs(packages, lock, HOST))


def test_what_is_compiled_and_requires_something_compiled_of_the_host_is_imported() -> None:
    [proof] = proofs_of(
        package("scipy", "numpy", "six"),
        package("pure", "numpy", compiled=False),
        package("alone", "six"),
    )
    assert proof.package.name == "scipy"
    assert proof.modules == ("scipy",)
    assert proof.against == (NUMPY,)


def test_what_the_environment_does_not_inherit_is_nothing_to_prove() -> None:
    assert proofs_of(package("scipy", "numpy"), inherited="torch six") == []


def test_modules_are_those_that_are_public_and_no_tests_or_namespaces() -> None:
    modules = (
        TopLevelName(name="lamp", kind=EntryKind.PACKAGE),
        TopLevelName(name="lamp.libs", kind=EntryKind.NAMESPACE),
        TopLevelName(name="google", kind=EntryKind.NAMESPACE),
        TopLevelName(name="_lamp.abi3.so", kind=EntryKind.EXTENSION),
        TopLevelName(name="bulb.py", kind=EntryKind.MODULE),
        TopLevelName(name="tests", kind=EntryKind.PACKAGE),
    )
    [proof] = proofs_of(package("lamp", "numpy", top_level=modules))
    assert proof.modules == ("lamp", "bulb")
    [private] = proofs_of(package("lamp", "numpy", top_level=modules[3:4]))
    assert private.modules == ("_lamp",)


def test_a_pair_is_of_the_package_the_hosts_installation_and_the_interpreter() -> None:
    [both] = proofs_of(package("scipy", "numpy", "torch"))
    [one] = proofs_of(package("scipy", "numpy"))
    assert set(one.pairs("3.11")) < set(both.pairs("3.11"))
    again = fakes.distribution("numpy", "1.26", compiled=True, entries=NUMPY.entries, inode=7)
    other = ImportProof(package=one.package, modules=one.modules, against=(again,))
    assert set(other.pairs("3.11")).isdisjoint(one.pairs("3.11"))
    assert set(one.pairs("3.12")).isdisjoint(one.pairs("3.11"))


def test_what_has_libraries_of_the_host_loaded_is_imported_whatever_it_declares() -> None:
    lamp = package("lamp", linked_libraries=("libc10.so", "libc10_cuda.so", "libown.so"))
    bulb = package("bulb", libraries=("libown.so",))
    lock = fakes.lock(distributions=(fakes.locked("numpy", Role.INHERITED),))
    providers = {"libc10.so": TORCH}
    [proof] = find_proofs([lamp, bulb], lock, HOST, providers=providers)
    assert (proof.package.name, proof.against, proof.missing) == (
        "lamp",
        (TORCH,),
        ("libc10_cuda.so",),
    )
    failure = explain_failure(proof, "OSError: can't load libx.so", of_system=False)
    # Another torch can't be installed: nothing that is asked for needs one.
    assert failure.release == ()
    assert failure.reason == "OSError: can't load libx.so (no package has libc10_cuda.so)"


def test_about_a_library_those_give_way_whose_libraries_are_loaded() -> None:
    lamp = package("lamp", "numpy", "torch", linked_libraries=("libc10.so",))
    lock = fakes.lock(
        distributions=tuple(fakes.locked(name, Role.INHERITED) for name in ("numpy", "torch"))
    )
    [proof] = find_proofs([lamp], lock, HOST, providers={"libc10.so": TORCH})
    failure = explain_failure(proof, "numpy\nImportError: undefined symbol: x", of_system=False)
    assert failure.release == ("torch",)


def test_what_failed_before_is_imported_even_alone() -> None:
    lock = fakes.lock()
    assert find_proofs([package("lamp")], lock, HOST) == ()
    [proof] = find_proofs([package("lamp")], lock, HOST, failed=["lamp"])
    assert proof.pairs("3.11") == ()
    failure = explain_failure(proof, "ImportError: no", of_system=False)
    assert str(failure) == "lamp 1.0 does not work: ImportError: no"
    assert failure.release == ()


@pytest.mark.parametrize(
    ("output", "of_system", "release"),
    [
        ('File "/x/numpy/core.py"\nImportError: no multiarray', False, ["numpy"]),
        ("ImportError: undefined symbol: _ZN5torchgen3", False, ["numpy", "torch"]),
        ("RuntimeError: module compiled against ABI version 1", False, ["numpy", "torch"]),
        ("ModuleNotFoundError: No module named 'numpy.exceptions'", False, ["numpy"]),
        ("numpy\nModuleNotFoundError: No module named 'absent'", False, []),
        ("numpy\nImportError: libGL.so.1: cannot open shared object file", True, []),
        ("", False, ["numpy", "torch"]),
    ],
)
def test_of_a_failure_those_give_way_that_the_traceback_names_or_all_that_may_be_why(
    output: str, of_system: bool, release: list[str]
) -> None:
    [proof] = proofs_of(package("scipy", "numpy", "torch"))
    failure = explain_failure(proof, output, of_system=of_system)
    assert list(failure.release) == release
    # All of it is for the log; the reason is its last line.
    assert failure.output == output
    if output:
        assert failure.reason == output.splitlines()[-1]
    words = str(failure)
    assert words.startswith("scipy 1.0 does not work next to the host's numpy 1.26, torch")
    assert words.endswith(f": {failure.reason}")


def faults(
    needed: str, there: str, *, installed: str = "", others: tuple[str, ...] = ()
) -> list[str]:
    lamp = package("lamp", needed_libraries=tuple(needed.split()))
    bulb = package("bulb", libraries=tuple(installed.split()))
    libraries = {TORCH: tuple(there.split()), NUMPY: others}
    found = find_library_faults(libraries_elsewhere([lamp, bulb]), libraries)
    return [f"{each.reason}: {','.join(each.release)}" for each in found]


def test_a_library_that_the_host_has_in_another_version_is_a_fault() -> None:
    wrong = ["it needs libcudart.so.12, there is libcudart.so.13: torch"]
    assert faults("libcudart.so.12", "libcudart.so.13 libc10.so") == wrong


@pytest.mark.parametrize(
    ("needed", "there", "installed"),
    [
        ("libcudart.so.13", "libcudart.so.13", ""),
        ("libcudart.so.12", "libcudart.so.12 libcudart.so.13", ""),
        ("libcudart.so.12", "libcudart.so.13", "libcudart.so.12"),
        ("libcuda.so.1", "libcudart.so.13", ""),
        ("libtorch.so", "libc10.so", ""),
        ("", "libcudart.so.13", ""),
    ],
)
def test_a_library_that_is_there_or_that_nothing_has_in_any_version_is_none(
    needed: str, there: str, installed: str
) -> None:
    assert faults(needed, there, installed=installed) == []


def test_a_library_without_fault_does_not_hide_the_fault_of_the_next() -> None:
    assert faults("libaaa.so.1 libcudart.so.12 libzzz.so.1", "libcudart.so.13") == [
        "it needs libcudart.so.12, there is libcudart.so.13: torch"
    ]


def test_a_fault_names_the_package_and_the_hosts_distributions_that_have_another_version() -> None:
    lamp = package("lamp", needed_libraries=("libcudart.so.12",))
    found = {TORCH: ("libcudart.so.13",), NUMPY: ("libopenblas.so.0",)}
    [fault] = find_library_faults(libraries_elsewhere([lamp]), found)
    assert (fault.package, fault.against) == (lamp.key, (TORCH,))
    # Nothing was run that could have said anything.
    assert fault.output == ""


def test_every_package_that_needs_a_library_of_another_version_has_a_fault() -> None:
    needing = [package(name, needed_libraries=("libcudart.so.12",)) for name in ("lamp", "bulb")]
    found = {TORCH: ("libcudart.so.13", "libcudart.so.11")}
    reasons = find_library_faults(libraries_elsewhere(needing), found)
    assert [each.package.name for each in reasons] == ["lamp", "bulb"]
    assert {each.reason for each in reasons} == {
        "it needs libcudart.so.12, there is libcudart.so.11, libcudart.so.13"
    }


@pytest.mark.parametrize(
    ("library", "stem"),
    [
        ("libcudart.so.12", "libcudart.so"),
        ("libcudart.so.12.4.1", "libcudart.so"),
        ("libtorch.so", "libtorch.so"),
        ("lamp.cpython-311-x86_64-linux-gnu.so", "lamp.cpython-311-x86_64-linux-gnu.so"),
        ("lib.so.12.abi", "lib.so.12.abi"),
    ],
)
def test_the_stem_of_a_library_is_its_name_up_to_the_version(library: str, stem: str) -> None:
    assert library_stem(library) == stem


def named(module: str, *of_host: HostDistribution) -> list[str]:
    """What gives way where an import says that this module is missing."""
    lock = fakes.lock(
        distributions=tuple(fakes.locked(each.name, Role.INHERITED) for each in of_host)
    )
    lamp = package("lamp", *(each.name for each in of_host))
    [proof] = find_proofs([lamp], lock, fakes.host(*of_host))
    output = f"ModuleNotFoundError: No module named '{module}'"
    return list(explain_failure(proof, output, of_system=False).release)


def test_a_distribution_is_known_by_the_modules_that_it_has_not_by_its_own_name() -> None:
    opencv = fakes.distribution(
        "opencv-python",
        compiled=True,
        entries=("cv2", "cv2.libs", "opencv_python.egg-info"),
        metadata="opencv_python.egg-info",
    )
    assert named("cv2", opencv) == ["opencv-python"]
    assert named("opencv_python", opencv) == []


def test_a_module_that_is_one_file_is_known_without_its_ending() -> None:
    bulb = fakes.distribution("py-bulb", compiled=True, entries=("bulb.cpython-311-x86.so",))
    assert named("bulb", bulb) == ["py-bulb"]


def test_the_compiled_distributions_that_a_lock_inherits_are_those_of_the_host() -> None:
    lock = fakes.lock(
        distributions=(
            fakes.locked("numpy", Role.INHERITED),
            fakes.locked("six", Role.INHERITED),
            fakes.locked("torch", Role.HIDDEN),
            fakes.locked("absent", Role.INHERITED),
        )
    )
    assert inherited_compiled(lock, HOST) == (NUMPY,)


def test_a_distribution_without_a_list_of_files_is_known_by_its_name_as_a_module() -> None:
    assert named("flash_attn", fakes.distribution("flash-attn", compiled=True)) == ["flash-attn"]


def _mixed(
    ours: Mapping[str, str], theirs: Mapping[str, str], name: str = "old", *requires: str
) -> list[tuple[str, ...]]:
    host = fakes.distribution("bindings", "13.5")
    return [
        each.release for each in find_mixtures({package(name, *requires): ours}, {host: theirs})
    ]


def test_a_distribution_of_which_a_package_has_some_libraries_in_another_build_is_a_mixture() -> (
    None
):
    theirs = {"cuda/driver.so": "13", "cuda/nvvm.so": "13", "bindings.libs/libz.so": "1"}
    assert _mixed({"cuda/driver.so": "12"}, theirs) == [("bindings",)]
    # All of it below one name, the same contents, other names.
    assert _mixed({"cuda/driver.so": "12", "cuda/nvvm.so": "12"}, theirs) == []
    assert _mixed({"cuda/driver.so": "13"}, theirs) == []
    assert _mixed({"cuda/other.so": "12"}, theirs) == []
    assert _mixed({"cuda/driver.so": "12"}, {**theirs, "cuda/driver.so": ""}) == []
    # Where an installer would put the distribution first, the package's files are seen anyway.
    assert _mixed({"cuda/driver.so": "12"}, theirs, "a-later-one") == []
    assert _mixed({"cuda/driver.so": "12"}, theirs, "old", "bindings") == []


def test_a_subpackage_in_a_regular_package_of_an_installed_one_is_cut_off() -> None:
    pathfinder = fakes.distribution("pathfinder", "1.9")

    def cut(ours: set[str], theirs: set[str]) -> list[str]:
        return [str(each) for each in find_cut_off({package("old"): ours}, {pathfinder: theirs})]

    [why] = cut({"cuda"}, {"cuda/pathfinder", "cuda/pathfinder/_inner"})
    assert (
        why == "old 1.0 does not work next to the host's pathfinder 1.9: it hides cuda/pathfinder"
    )
    # A namespace, another build of the same, names of their own.
    assert cut({"cuda/bindings"}, {"cuda/pathfinder"}) == []
    assert cut({"cuda", "cuda/pathfinder"}, {"cuda/pathfinder"}) == []
    assert cut({"cuda"}, {"other", "other/cuda"}) == []
