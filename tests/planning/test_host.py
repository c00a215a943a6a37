from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import TAGS, check_record, distribution, host, interpreter, through_json
from xinference_venv.planning.host import (
    Accelerator,
    HostDistribution,
    HostFacts,
    Interpreter,
    is_of_extra,
)

texts = st.text(max_size=4)
tuples = st.lists(texts, max_size=3).map(tuple)
interpreters = st.builds(
    Interpreter,
    executable=texts,
    base_executable=texts,
    version=texts,
    markers=st.dictionaries(texts, texts, max_size=3),
    tags=tuples,
    search_path=tuples,
)
distributions = st.builds(
    HostDistribution,
    name=texts,
    version=texts,
    requires=tuples,
    extras=tuples,
    location=texts,
    metadata=texts,
    direct_url=st.none() | texts,
    recorded=st.booleans(),
    entries=tuples,
    data_files=tuples,
    scripts=tuples,
    compiled=st.booleans(),
    bound_to=tuples,
    shares=tuples,
)
accelerators = st.builds(Accelerator)
hosts = st.builds(
    HostFacts,
    interpreter=interpreters,
    distributions=st.lists(distributions, max_size=4).map(tuple),
    accelerator=accelerators,
    skipped=tuples,
)

TORCH = distribution(
    "torch",
    "2.8.0+cu128",
    "numpy",
    "sympy>=1.13 ; extra == 'sym'",
    direct_url="https://files.example/torch.whl",
    entries=("torch", "torch-2.8.0+cu128.dist-info"),
    data_files=("share/torch.txt",),
    scripts=("torchrun = torch.run:main",),
    compiled=True,
    bound_to=("nvidia-cublas",),
    shares=("functorch",),
)
NUMPY = distribution("numpy", "1.26.4")
CUDA = Accelerator(has_cuda=True, cuda_version="12.8", cuda_arch="sm_90", has_npu=True)


@given(interpreters | distributions | accelerators | hosts)
def test_facts_come_back_from_json(
    facts: Interpreter | HostDistribution | Accelerator | HostFacts,
) -> None:
    assert type(facts).from_dict(through_json(facts.to_dict())) == facts


def test_the_records_of_a_host_are_read_whole_or_refused() -> None:
    check_record(interpreter())
    check_record(
        TORCH,
        may_be_absent=(
            *("requires", "extras", "direct_url", "recorded", "entries", "data_files"),
            *("programs", "scripts", "compiled", "bound_to", "built_with"),
            *("numpy_range", "shares", "inode"),
        ),
    )
    check_record(CUDA, may_be_absent=("has_cuda", "cuda_version", "cuda_arch", "has_npu"))
    check_record(host(TORCH, NUMPY, skipped=("old: no version",)), may_be_absent=("skipped",))


@given(hosts, st.randoms(use_true_random=False))
def test_a_digest_is_the_same_in_whatever_order_the_facts_were_found(
    facts: HostFacts, random: Any
) -> None:
    found = list(facts.distributions)
    random.shuffle(found)
    markers = list(facts.interpreter.markers.items())
    random.shuffle(markers)
    other = host(
        *found,
        interpreter=Interpreter.from_dict(
            {**facts.interpreter.to_dict(), "markers": dict(markers)}
        ),
        accelerator=facts.accelerator,
    )
    assert other.digest == facts.digest


@pytest.mark.parametrize(
    "other",
    [
        host(TORCH),
        host(TORCH, NUMPY, distribution("six")),
        host(TORCH, distribution("numpy", "1.26.3")),
        host(TORCH, distribution("numpy", "1.26.4", "six")),
        host(TORCH, distribution("numpy", "1.26.4", extras=("dev",))),
        host(TORCH, distribution("numpy2", "1.26.4")),
        host(TORCH, distribution("numpy", "1.26.4", compiled=True)),
        host(TORCH, distribution("numpy", "1.26.4", bound_to=("torch",))),
        host(TORCH, distribution("numpy", "1.26.4", shares=("torch",))),
        host(TORCH, NUMPY, accelerator=CUDA),
        host(TORCH, NUMPY, interpreter=interpreter("3.11.8")),
        host(TORCH, NUMPY, interpreter=interpreter(tags=TAGS[1:])),
        host(TORCH, NUMPY, interpreter=interpreter(markers={"sys_platform": "darwin"})),
    ],
)
def test_a_host_that_resolves_otherwise_has_another_digest(other: HostFacts) -> None:
    assert other.digest != host(TORCH, NUMPY).digest
    assert other.fingerprint != host(TORCH, NUMPY).fingerprint


MOVED = [
    host(TORCH, distribution("numpy", "1.26.4", location="/home/someone/.local/lib")),
    host(TORCH, distribution("numpy", "1.26.4", metadata="numpy-1.26.4.egg-info")),
    host(TORCH, NUMPY, interpreter=interpreter(search_path=("/elsewhere",))),
]


@pytest.mark.parametrize("other", MOVED)
def test_places_count_for_the_fingerprint_and_not_for_the_digest(other: HostFacts) -> None:
    assert other.digest == host(TORCH, NUMPY).digest
    assert other.fingerprint != host(TORCH, NUMPY).fingerprint


def test_two_distributions_that_change_places_change_the_fingerprint() -> None:
    here, there = {"location": "/here"}, {"location": "/there"}
    one = host(distribution("a", metadata="m", **here), distribution("b", metadata="m", **there))
    other = host(distribution("b", metadata="m", **here), distribution("a", metadata="m", **there))
    assert one.digest == other.digest
    assert one.fingerprint != other.fingerprint


def test_what_was_skipped_and_where_the_interpreter_lies_change_nothing() -> None:
    facts = host(NUMPY)
    other = host(
        NUMPY,
        skipped=("old: no version",),
        interpreter=interpreter(executable="/other/python", base_executable="/other/base"),
    )
    assert (other.digest, other.fingerprint) == (facts.digest, facts.fingerprint)


def test_distributions_are_found_by_name_with_their_exact_versions() -> None:
    facts = host(TORCH, NUMPY)
    assert facts.by_name == {"torch": TORCH, "numpy": NUMPY}
    assert facts.versions == {"torch": "2.8.0+cu128", "numpy": "1.26.4"}


def needed_by(name: str, facts: HostFacts) -> list[str]:
    return [need.name for need in facts.needs[name]]


def test_an_extra_that_is_asked_for_brings_its_own_requirements_and_no_others() -> None:
    facts = host(
        distribution("app", "1.0", "web[fast]", "absent[more]", "core"),
        distribution("web", "1.0", "core", "wheel ; extra == 'fast'", "lint ; extra == 'dev'"),
        distribution("core"),
    )
    assert needed_by("app", facts) == ["web", "absent", "core", "wheel"]
    assert needed_by("web", facts) == ["core"]


def test_extras_that_ask_for_each_other_are_followed_once() -> None:
    facts = host(
        distribution("app", "1.0", "left[all]"),
        distribution("left", "1.0", "right[all] ; extra == 'all'"),
        distribution("right", "1.0", "left[all] ; extra == 'all'", "core ; extra == 'all'"),
    )
    assert needed_by("app", facts) == ["left", "right", "left", "core"]


def test_the_closure_of_a_distribution_is_all_that_it_requires_as_far_as_it_is_here() -> None:
    facts = host(
        distribution("app", "1.0", "web", "absent", "tool"),
        distribution("web", "1.0", "core"),
        distribution("tool", "1.0", "bit"),
        distribution("bit"),
        distribution("core", "1.0", "app"),
        distribution("other", "1.0", "core"),
    )
    assert facts.closure("app") == {"app", "web", "core", "tool", "bit"}
    assert facts.closure("absent") == set()


@pytest.mark.parametrize("changes", [{"built_with": ("numpy",)}, {"numpy_range": ">=1.25,<2"}])
def test_what_a_distribution_was_built_for_counts_for_the_digest(changes: dict[str, Any]) -> None:
    one, other = host(distribution("scipy")), host(distribution("scipy", **changes))
    assert one.digest != other.digest
    assert one.fingerprint != other.fingerprint


def test_a_version_that_is_not_known_meets_only_what_asks_for_none() -> None:
    facts = host(distribution("app", "1.0", "torch>=2.7", "numpy"))
    assert [need.allows(None) for need in facts.needs["app"]] == [False, True]


def test_a_pre_release_that_is_installed_meets_what_its_number_meets() -> None:
    facts = host(distribution("app", "1.0", "torch>=2.7"))
    [need] = facts.needs["app"]
    assert need.allows("2.8.0a0+34c6371d24.nv25.8")
    assert not need.allows("2.7.0a0")


@pytest.mark.parametrize(
    ("version", "minor"), [("3.11.7", "3.11"), ("3.9.0", "3.9"), ("3.14.0rc1", "3.14")]
)
def test_the_minor_version_has_two_parts(version: str, minor: str) -> None:
    assert interpreter(version).minor_version == minor


def test_the_best_tag_is_the_first_that_is_not_plain_linux() -> None:
    plain = ("cp311-cp311-linux_x86_64", "cp311-abi3-manylinux_2_17_x86_64", "py3-none-any")
    assert interpreter(tags=plain).best_tag == "cp311-abi3-manylinux_2_17_x86_64"
    assert interpreter(tags=plain[:1]).best_tag == "cp311-cp311-linux_x86_64"
    assert interpreter(tags=("cp311-cp311-macosx_14_0_arm64",)).best_tag.endswith(
        "macosx_14_0_arm64"
    )


def test_a_free_threaded_build_is_recognized_by_its_abi() -> None:
    assert interpreter(tags=("cp314-cp314t-manylinux_2_28_x86_64", *TAGS)).is_free_threaded
    assert not interpreter().is_free_threaded


def test_what_an_extra_alone_needs_is_no_need_and_what_else_needs_it_is() -> None:
    of_extra = 'a; extra == "x"', 'b; python_version >= "3" and extra == "x"'
    others = 'c; extra == "x" or python_version >= "3"', 'd; extra == ""', 'e; extra != "x"'
    facts = host(distribution("app", "1.0", *of_extra, *others))
    assert [need.name for need in facts.needs["app"]] == ["c", "d", "e"]
    facts = host(distribution("app", "1.0", *of_extra), distribution("top", "1.0", "app[x]"))
    assert [need.name for need in facts.needs["top"]] == ["app", "a", "b"]


@pytest.mark.parametrize(
    ("requirement", "is_one"),
    [
        ('six ; extra == "dev"', True),
        ('six>=1 ; python_version < "4" and extra == "dev"', True),
        ('six ; python_version < "4" or extra == "dev"', False),
        ("six", False),
        ('six ; python_version < "4"', False),
    ],
)
def test_a_requirement_of_an_extra_alone_is_known_at_a_glance(
    requirement: str, is_one: bool
) -> None:
    assert is_of_extra(requirement) is is_one
