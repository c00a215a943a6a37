from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from tests.fakes import TAGS, distribution, interpreter
from xinference_venv.planning.host import HostDistribution
from xinference_venv.planning.pylock import read_resolution
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG, stub_file_name, stub_wheel

TAG = TAGS[0]
MARKERS = interpreter().markers
TORCH = distribution(
    "my-torch",
    "2.8.0a0+34c6371d24.nv25.8",
    "numpy>=2",
    "sympy[extra]>=1.13 ; python_version >= '3.9'",
    "pytest<8 ; extra == 'test'",
    extras=("test", "opt-einsum"),
)


def files_of(of: HostDistribution, host_versions: dict[str, str] | None = None) -> dict[str, str]:
    content = stub_wheel(of, TAG, host_versions=host_versions or {}, markers=MARKERS)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def metadata_of(of: HostDistribution, host_versions: dict[str, str] | None = None) -> Metadata:
    files = files_of(of, host_versions)
    [text] = [files[name] for name in files if name.endswith(".dist-info/METADATA")]
    return Metadata.from_email(text)


def required(requirement: str, **host_versions: str) -> str:
    """What becomes of a requirement in the stub of a package that has it."""
    made = metadata_of(distribution("pkg", "1.0", requirement), host_versions)
    [found] = made.requires_dist or []
    return str(found)


def test_a_stub_says_what_the_host_says_of_a_distribution() -> None:
    made = metadata_of(TORCH)
    assert made.name == "my-torch"
    assert made.version == Version("2.8.0a0+34c6371d24.nv25.8")
    assert made.provides_extra == ["test", "opt-einsum"]
    assert made.requires_dist == [Requirement(each) for each in TORCH.requires]
    assert made.requires_python is None


def test_a_stub_is_a_wheel_without_code_whose_parts_agree() -> None:
    name, version, build, tags = parse_wheel_filename(stub_file_name(TORCH, TAG))
    assert (name, str(version)) == (TORCH.name, TORCH.version)
    assert (build, {str(tag) for tag in tags}) == ((int(STUB_BUILD_TAG), ""), {TAG})
    folder = "my_torch-2.8.0a0+34c6371d24.nv25.8.dist-info"
    files = files_of(TORCH)
    assert files.keys() == {f"{folder}/{part}" for part in ("METADATA", "WHEEL", "RECORD")}
    assert f"\nTag: {TAG}\n" in files[f"{folder}/WHEEL"]
    recorded = [row.partition(",")[0] for row in files[f"{folder}/RECORD"].splitlines()]
    assert sorted(recorded) == sorted(files)


def test_equal_distributions_have_equal_stubs() -> None:
    one, other = (
        stub_wheel(TORCH, TAG, host_versions={}, markers=dict(order))
        for order in (list(MARKERS.items()), list(MARKERS.items())[::-1])
    )
    assert one == other


@pytest.mark.parametrize("version", ["1.0", "2.8.0+cu128", "1!2.0.post1", "3.0rc1"])
def test_a_stub_in_a_lock_is_reported_as_inherited(version: str) -> None:
    of = distribution("my-pkg", version)
    stub = {"url": f"file:///stubs/{stub_file_name(of, TAG)}", "hashes": {"sha256": "0" * 64}}
    document = {
        "lock-version": "1.0",
        "created-by": "uv",
        "packages": [{"name": "my-pkg", "version": version, "archive": stub}],
    }
    found = read_resolution(document, stub_build_tag=STUB_BUILD_TAG, tags=TAGS, indexes=())
    assert (found.inherited, found.packages) == ({"my-pkg": version}, ())


@pytest.mark.parametrize(
    ("requirement", "kept"),
    [
        ("numpy<2", "numpy"),
        ("numpy[b,a]<2", "numpy[a,b]"),
        ("numpy<2 ; python_version >= '3.9'", 'numpy ; python_version >= "3.9"'),
        ("NumPy<2", "NumPy"),
        # A pre-release is not the release, nor later than it.
        ("torch==2.8.0", "torch"),
        ("torch>2.8", "torch"),
        ("jax>=0.4", "jax>=0.4"),
        ("numpy", "numpy"),
        ("numpy>=2", "numpy>=2"),
        # These do not apply on this host, or only to who asks for the extra.
        ("numpy<2 ; python_version < '3.9'", 'numpy<2; python_version < "3.9"'),
        ("numpy<2 ; extra == 'old'", 'numpy<2; extra == "old"'),
    ],
)
def test_what_the_host_itself_violates_is_relaxed_to_the_bare_name(
    requirement: str, kept: str
) -> None:
    found = required(requirement, numpy="2.1.0", torch="2.8.0a0+34c6371d24")
    assert Requirement(found) == Requirement(kept)


@pytest.mark.parametrize("version", ["2.8.0+cu128", "2.8.0"])
def test_a_local_build_meets_what_its_release_meets(version: str) -> None:
    assert required("torch==2.8.0", torch=version) == "torch==2.8.0"


def test_a_pre_release_of_the_host_meets_a_range_that_it_lies_in() -> None:
    assert required("torch>=2.7", torch="2.8.0a0+34c6371d24") == "torch>=2.7"


names = st.sampled_from(["numpy", "torch", "six"])
versions = st.sampled_from(["1.0", "2.0rc1", "2.0+local", "3.1.4"])
operators = st.sampled_from(["==", "!=", "<", ">=", "~="])
conditions = st.sampled_from(["", " ; python_version >= '3.9'", " ; python_version < '3'"])


def written(name: str, operator: str, version: str, condition: str) -> str:
    release = version.partition("+")[0]
    return f"{name}{operator}{release if '.' in release else '1.0'}{condition}"


@given(
    st.lists(st.builds(written, names, operators, versions, conditions), max_size=4),
    st.dictionaries(names, versions),
)
def test_no_stub_requires_what_the_host_does_not_meet(
    requires: list[str], host_versions: dict[str, str]
) -> None:
    made = metadata_of(distribution("pkg", "1.0", *requires), host_versions).requires_dist or []
    assert [each.name for each in made] == [Requirement(each).name for each in requires]
    for each in made:
        applies = each.marker is None or each.marker.evaluate(dict(MARKERS))
        if applies and each.name in host_versions:
            assert each.specifier.contains(host_versions[each.name], prereleases=True)
