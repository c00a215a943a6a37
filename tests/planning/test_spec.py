from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import (
    TAGS,
    catalog,
    distribution,
    host,
    interpreter,
    key,
    line,
    request,
    settings,
    spec,
)
from xinference_venv.errors import (
    InvalidRequirement,
    InvalidSource,
    UnknownModel,
)
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.planning.host import Accelerator
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.planning.requirements import Origin
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.spec import (
    EnvSpec,
    PlanningFacts,
    describe,
    plan_spec,
    wants_environment,
    wire_bounds,
)
from xinference_venv.settings import InheritMode, ViewKind
from xinference_venv.store.catalog import built_in_catalog

HOST = host(
    distribution("xoscar", "0.12.2"),
    distribution("numpy", "1.26.4"),
    distribution("torch", "2.8.0+cu128"),
)
VLLM = EngineEntry(
    name="vllm",
    packages=("vllm==0.10",),
    formats={"awq": ("autoawq",)},
    extra_index_urls=(
        "https://wheels.example/cu128/",
        "https://wheels.example/cu130",
        "https://wheels.example/custom/simple",
    ),
    index_strategy="unsafe-best-match",
)
CATALOG = catalog(
    {
        "a-model": ModelVirtualEnv(packages=("transformers==4.37.2", "#system_numpy#")),
        "empty": ModelVirtualEnv(),
        "for-vllm": ModelVirtualEnv(packages=("#vllm_dependencies# ; #engine# == 'vllm'",)),
        "for-cuda": ModelVirtualEnv(packages=("flash-attn ; cuda_version >= '12.6'",)),
        "own-index": ModelVirtualEnv(packages=("six",), index_url="https://mirror.example/simple"),
        "no-pip": ModelVirtualEnv(packages=("six",), inherit_pip_config=False),
        "own-xoscar": ModelVirtualEnv(packages=("xoscar==0.12.0",)),
    },
    VLLM,
)


def around(**changes: Any) -> PlanningFacts:
    made = PlanningFacts(
        catalog=CATALOG,
        host=HOST,
        interpreter=HOST.interpreter,
        pip=PipConfig(),
        settings=settings(),
    )
    return replace(made, **changes)


def plan(
    asked: LaunchRequest,
    surroundings: PlanningFacts | None = None,
    find_links: tuple[str, ...] = (),
) -> EnvSpec:
    planned = plan_spec(asked, surroundings or around(), find_links=find_links)
    assert planned is not None
    return planned


def asked_of_uv(planned: EnvSpec) -> list[str]:
    return [each.text for each in planned.requirements]


@pytest.mark.parametrize(
    ("launch", "setting", "wanted"),
    [
        (None, "", True),
        (None, "1", True),
        (None, "0", False),
        (True, "0", True),
        (False, "1", False),
    ],
)
def test_the_launchs_word_counts_and_without_one_the_settings(
    launch: bool | None, setting: str, wanted: bool
) -> None:
    here = settings(XINFERENCE_ENABLE_VIRTUAL_ENV=setting)
    assert wants_environment(request(enable_virtual_env=launch), here) is wanted


def test_a_request_becomes_lines_with_their_origins_over_the_host() -> None:
    planned = plan(request(virtual_env_packages=["tiktoken"]))
    assert [(each.text, each.origin) for each in planned.requirements] == [
        ("transformers==4.37.2", Origin.MODEL),
        ("numpy==1.26.4", Origin.MODEL),
        ("tiktoken", Origin.LAUNCH),
    ]
    assert planned.key == key("a-model", None, "3.11")
    assert planned.interpreter == HOST.interpreter
    assert planned.inherit is InheritMode.HOST
    assert planned.sees_host
    assert planned.skip_installed
    assert planned.allow_source_builds
    assert planned.warnings == ()


@pytest.mark.parametrize(
    "asked",
    [
        request("empty"),
        request("for-vllm"),
        request("for-vllm", model_engine="sglang", any_engine=True),
        request("for-cuda"),
        request("unknown", virtualenv={}),
    ],
)
def test_with_nothing_to_install_there_is_no_spec(asked: LaunchRequest) -> None:
    assert plan_spec(asked, around(), find_links=()) is None


def test_what_the_launch_adds_is_enough_for_a_spec() -> None:
    assert asked_of_uv(plan(request("empty", virtual_env_packages=["six"]))) == ["six"]


def test_a_model_without_a_block_must_be_known() -> None:
    with pytest.raises(UnknownModel, match="a-modell"):
        plan(request("a-modell", virtual_env_packages=["six"]))
    assert asked_of_uv(plan(request("a-modell", virtualenv={"packages": ["six"]}))) == ["six"]


def test_a_block_of_the_request_replaces_the_catalogues_even_if_it_is_empty() -> None:
    planned = plan(request("a-model", virtualenv={}, virtual_env_packages=["six"]))
    assert asked_of_uv(planned) == ["six"]


def test_bad_input_is_refused_where_it_stands() -> None:
    with pytest.raises(InvalidRequirement, match=r"launch packages\[0\]"):
        plan(request(virtual_env_packages=["not a requirement"]))
    with pytest.raises(InvalidSource):
        plan(request(virtualenv={"packages": ["six"], "index_url": "nowhere"}))


@pytest.mark.parametrize(
    ("asked", "version", "expected"),
    [
        (None, "3.11.7", "3.11"),
        ("3.11", "3.11.7", "3.11"),
        ("3.11.7", "3.11.7", "3.11.7"),
        ("3.12", "3.12.1", "3.12"),
    ],
)
def test_the_key_has_the_python_version_as_it_was_asked_for(
    asked: str | None, version: str, expected: str
) -> None:
    planned = plan(request(python_version=asked), around(interpreter=interpreter(version)))
    assert planned.key.python_version == expected


def test_another_minor_version_inherits_nothing_and_gets_the_hosts_xoscar() -> None:
    planned = plan(request(), around(interpreter=interpreter("3.12.1")))
    assert planned.inherit is InheritMode.NONE
    assert not planned.sees_host
    assert not planned.skip_installed
    assert planned.roots == ()
    needed = planned.requirements[-1]
    assert needed == line("xoscar==0.12.2", "xoscar", Origin.PROCESS)
    assert planned.warnings == (
        "Python 3.12 inherits nothing, since the host's is another version",
    )


def test_another_patch_release_inherits_as_usual() -> None:
    planned = plan(request(), around(interpreter=interpreter("3.11.9")))
    assert planned.inherit is InheritMode.HOST
    assert planned.roots == ("xoscar",)
    assert planned.warnings == ()


def test_a_launch_that_wants_to_stand_alone_is_not_warned_of_it() -> None:
    for surroundings in (around(), around(interpreter=interpreter("3.12.1"))):
        planned = plan(request(inherit="none"), surroundings)
        assert planned.inherit is InheritMode.NONE
        assert asked_of_uv(planned)[-1] == "xoscar==0.12.2"
        assert planned.warnings == ()


@pytest.mark.parametrize(
    ("launch", "setting", "mode"),
    [
        (None, "", InheritMode.HOST),
        (None, "exact", InheritMode.EXACT),
        ("host", "exact", InheritMode.HOST),
        ("none", "exact", InheritMode.NONE),
    ],
)
def test_the_launchs_inherit_mode_counts_and_without_one_the_settings(
    launch: str | None, setting: str, mode: InheritMode
) -> None:
    here = settings(XINFERENCE_VIRTUAL_ENV_INHERIT=setting)
    assert plan(request(inherit=launch), around(settings=here)).inherit is mode


def test_the_hosts_xoscar_is_a_root_where_the_host_serves() -> None:
    assert plan(request()).roots == ("xoscar",)
    here = settings(XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED="0")
    planned = plan(request(), around(settings=here))
    # It is shown all the same, and resolved only if it could not be.
    assert planned.roots == ("xoscar",)
    assert (planned.skip_installed, planned.sees_host) == (False, True)
    assert "xoscar==0.12.2" not in asked_of_uv(planned)


@pytest.mark.parametrize("version", ["3.11.7", "3.12.1"])
def test_a_request_that_names_xoscar_has_the_last_word(version: str) -> None:
    planned = plan(request("own-xoscar"), around(interpreter=interpreter(version)))
    assert asked_of_uv(planned) == ["xoscar==0.12.0"]
    assert planned.roots == ()


MUST_IMPORT = {
    "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT": "apex",
    "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT_ALONE": "the-app",
}


def test_what_must_be_importable_are_roots_whoever_says_so() -> None:
    asked = request(
        virtualenv={
            "packages": ["six"],
            "must_import": ["flash-attn", "apex"],
            "import_check": ["flash_attn", "torch"],
        },
        must_import=["six", "torchaudio"],
        import_check=["torchaudio", "torch"],
    )
    here = settings(**MUST_IMPORT)
    planned = plan(asked, around(settings=here))
    # What the request installs needs no copy of the host's.
    assert planned.roots == ("xoscar", "apex", "flash-attn", "torchaudio")
    assert planned.import_check == ("flash_attn", "torch", "torchaudio")
    assert planned.alone == ("the-app",)
    # Where the host is not seen, they are installed, xoscar alone in the host's version.
    other = plan(asked, around(settings=here, interpreter=interpreter("3.12.1")))
    assert asked_of_uv(other) == ["six", "xoscar==0.12.2", "apex", "flash-attn", "torchaudio"]
    assert {each.origin for each in other.requirements[1:]} == {Origin.PROCESS}
    assert (other.roots, other.alone) == ((), ())


def test_a_host_without_xoscar_asks_for_none() -> None:
    bare = host(distribution("numpy", "1.26.4"))
    assert plan(request(), around(host=bare)).roots == ()
    assert "xoscar" not in str(asked_of_uv(plan(request(inherit="none"), around(host=bare))))


def test_markers_see_the_interpreter_that_the_environment_is_for() -> None:
    packages = ["old ; python_version < '3.12'", "new ; python_version >= '3.12'"]
    asked = request(virtualenv={"packages": packages})
    assert asked_of_uv(plan(asked)) == ["old"]
    other = plan(asked, around(interpreter=interpreter("3.12.1")))
    assert asked_of_uv(other)[0] == "new"


CUDA_HOST = replace(HOST, accelerator=Accelerator(has_cuda=True, cuda_version="12.8"))


def test_markers_see_the_accelerator_and_what_the_operator_says_of_it() -> None:
    asked = request("for-cuda")
    assert asked_of_uv(plan(asked, around(host=CUDA_HOST))) == ["flash-attn"]
    said = settings(XINFERENCE_VIRTUAL_ENV_CUDA_VERSION="12.6")
    assert asked_of_uv(plan(asked, around(settings=said))) == ["flash-attn"]
    older = settings(XINFERENCE_VIRTUAL_ENV_CUDA_VERSION="12.4")
    surroundings = around(host=CUDA_HOST, settings=older)
    assert plan_spec(asked, surroundings, find_links=()) is None
    packages = ["cuda ; has_cuda", "npu ; has_npu", "arch ; cuda_arch == 'sm_90'"]
    said = settings(
        XINFERENCE_VIRTUAL_ENV_CUDA_VERSION="12.6",
        XINFERENCE_VIRTUAL_ENV_HAS_NPU="1",
        XINFERENCE_VIRTUAL_ENV_CUDA_ARCH="sm_90",
    )
    everything = plan(request(virtualenv={"packages": packages}), around(settings=said))
    assert asked_of_uv(everything) == ["cuda", "npu", "arch"]
    npu_host = replace(HOST, accelerator=Accelerator(has_npu=True))
    denied = settings(XINFERENCE_VIRTUAL_ENV_HAS_NPU="0")
    surroundings = around(host=npu_host, settings=denied)
    asked = request(virtualenv={"packages": packages})
    assert asked_of_uv(plan(asked, around(host=npu_host))) == ["npu"]
    assert plan_spec(asked, surroundings, find_links=()) is None


PLAIN_INDEX = "https://wheels.example/custom/simple"


@pytest.mark.parametrize(
    ("cuda_version", "urls"),
    [
        ("12.8", ("https://wheels.example/cu128/", PLAIN_INDEX)),
        ("12.8.1", ("https://wheels.example/cu128/", PLAIN_INDEX)),
        ("12.9", ("https://wheels.example/cu128/", PLAIN_INDEX)),
        ("13.0", ("https://wheels.example/cu130", PLAIN_INDEX)),
        ("13", ("https://wheels.example/cu130", PLAIN_INDEX)),
        ("12", (PLAIN_INDEX,)),
        ("13.2", ("https://wheels.example/cu130", PLAIN_INDEX)),
        ("12.4", (PLAIN_INDEX,)),
        (None, (PLAIN_INDEX,)),
    ],
)
def test_an_engines_index_of_cuda_builds_serves_hosts_of_that_version(
    cuda_version: str | None, urls: tuple[str, ...]
) -> None:
    accelerator = Accelerator(has_cuda=cuda_version is not None, cuda_version=cuda_version)
    surroundings = around(host=replace(HOST, accelerator=accelerator))
    planned = plan(request("for-vllm", model_engine="vLLM"), surroundings)
    assert asked_of_uv(planned) == ["vllm==0.10"]
    assert planned.sources.extra_index_urls == urls
    assert planned.sources.index_strategy == "unsafe-best-match"


def test_an_engine_that_adds_no_package_adds_no_index() -> None:
    planned = plan(request("a-model", model_engine="vllm"))
    assert planned.sources.extra_index_urls == ()
    assert planned.sources.index_strategy is None


CUDA_13 = replace(HOST, accelerator=Accelerator(has_cuda=True, cuda_version="13.0"))


def test_who_names_the_engine_itself_has_its_indexes() -> None:
    asked = request("for-vllm", model_engine="vllm", virtual_env_packages=["vllm==0.9"])
    replaced = plan(asked, around(host=CUDA_13))
    assert replaced.sources.extra_index_urls == ("https://wheels.example/cu130", PLAIN_INDEX)


def test_a_models_index_for_another_cuda_is_not_asked() -> None:
    block = {"packages": ["six"], "extra_index_url": [PLAIN_INDEX, "https://a.example/cu130"]}
    asked = request("unknown", virtualenv=block)
    assert plan(asked, around(host=CUDA_13)).sources.extra_index_urls == (
        PLAIN_INDEX,
        "https://a.example/cu130",
    )
    for accelerator in (Accelerator(), Accelerator(has_cuda=True, cuda_version="12.8")):
        surroundings = around(host=replace(HOST, accelerator=accelerator))
        assert plan(asked, surroundings).sources.extra_index_urls == (PLAIN_INDEX,)


def test_an_engine_of_which_the_model_says_nothing_has_its_own_packages() -> None:
    packages = ["#vllm_dependencies# ; #engine# == 'other'", "six ; #engine# == 'other'"]
    asked = request("unknown", model_engine="vllm", virtualenv={"packages": packages})
    assert asked_of_uv(plan(asked)) == ["vllm==0.10"]


LLAMA = "https://xorbitsai.github.io/xllamacpp/whl"


@pytest.mark.parametrize(
    ("cuda", "build"),
    [
        *((None, None), ("12.6", None), ("12.8", "cu128"), ("12.9", "cu128")),
        *(("13.0", "cu132"), ("13.2", "cu132"), ("14.1", "cu132")),
    ],
)
def test_llama_cpp_on_cuda_takes_the_builds_for_cuda_as_xinference_does(
    cuda: str | None, build: str | None
) -> None:
    accelerator = Accelerator(has_cuda=cuda is not None, cuda_version=cuda)
    surroundings = around(
        host=replace(host(distribution("xllamacpp", "0.3")), accelerator=accelerator),
        catalog=built_in_catalog(),
        # The public index has newer ones, for processors alone.
        pip=PipConfig(extra_index_url=("https://mirror.example/simple",)),
    )
    asked = request("unknown", model_engine="llama.cpp", virtualenv={})
    planned = plan(asked, surroundings)
    first = () if build is None else (f"{LLAMA}/{build}",)
    assert planned.sources.extra_index_urls == (*first, "https://mirror.example/simple")
    strategy = "unsafe-best-match" if build is None else "first-index"
    assert planned.sources.index_strategy == strategy
    assert planned.afresh == (() if build is None else ("xllamacpp",))

    offline = settings(XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL="1")
    private = plan(asked, replace(surroundings, settings=offline))
    assert private.sources.index_url == "https://mirror.example/simple"
    assert (private.sources.extra_index_urls, private.afresh) == ((), ())


def test_trt_llm_has_its_packages_whatever_else_the_model_asks_for() -> None:
    asked = request("unknown", model_engine="trt-llm", virtualenv={"packages": ["six"]})
    planned = plan(asked, around(host=CUDA_13, catalog=built_in_catalog()))
    assert {"six", "tensorrt-llm"} <= {each.name for each in planned.requirements}
    assert planned.sources.extra_index_urls == (
        "https://pypi.nvidia.com",
        "https://download.pytorch.org/whl/cu130",
    )
    with_placeholder = {"packages": ["six", "#trt_llm_dependencies#"]}
    once = plan(
        request("unknown", model_engine="trt-llm", virtualenv=with_placeholder),
        around(host=CUDA_13, catalog=built_in_catalog()),
    )
    assert sorted(asked_of_uv(once)) == sorted(asked_of_uv(planned))


def test_the_sources_are_the_models_then_pips_with_the_launchs_find_links_first() -> None:
    pip = PipConfig(index_url="https://pip.example/simple", find_links=("/pip/wheels",))
    planned = plan(request(), around(pip=pip), find_links=("/launch/wheels",))
    assert planned.sources == PackageSources(
        index_url="https://pip.example/simple", find_links=("/launch/wheels", "/pip/wheels")
    )
    own = plan(request("own-index"), around(pip=pip))
    assert own.sources.index_url == "https://mirror.example/simple"
    alone = plan(request("no-pip"), around(pip=pip))
    assert (alone.sources.index_url, alone.sources.find_links) == (None, ())


def test_offline_no_public_index_is_asked() -> None:
    offline = settings(XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL="1")
    assert plan(request(), around(settings=offline)).sources.no_index


@pytest.mark.parametrize(
    ("torch", "backend"),
    [
        ("2.8.0+cu128", "cu128"),
        ("2.8.0+cpu", "cpu"),
        ("2.8.0", None),
        ("2.8.0a0+34c6371d24.nv25.8", None),
        ("2.8.0+cuda", None),
        ("2.8.0+cu", None),
        ("2.8.0+cux12", None),
    ],
)
def test_the_torch_backend_follows_the_build_of_the_hosts_torch(
    torch: str, backend: str | None
) -> None:
    surroundings = around(host=host(distribution("torch", torch)))
    planned = plan(request(), surroundings)
    assert planned.sources.torch_backend == backend
    assert planned.sources_without_backend() == replace(planned.sources, torch_backend=None)


@pytest.mark.parametrize(
    ("accelerator", "variables", "backend", "assumed"),
    [
        (Accelerator(), {}, "cpu", True),
        (Accelerator(has_cuda=True), {}, None, False),
        (Accelerator(has_npu=True), {}, None, False),
        (Accelerator(), {"CUDA_VERSION": "12.8"}, None, False),
        (Accelerator(), {"TORCH_BACKEND": "cu128"}, "cu128", False),
        (Accelerator(), {"TORCH_BACKEND": "none"}, None, False),
    ],
)
def test_a_host_without_torch_and_accelerator_gets_its_builds_for_cpus(
    accelerator: Accelerator, variables: dict[str, str], backend: str | None, assumed: bool
) -> None:
    set_here = {f"XINFERENCE_VIRTUAL_ENV_{name}": value for name, value in variables.items()}
    facts = host(accelerator=accelerator)
    planned = plan(request(), around(host=facts, settings=settings(**set_here)))
    assert (planned.sources.torch_backend, planned.assumed_backend) == (backend, assumed)


@pytest.mark.parametrize(
    ("torch", "accelerator", "variables", "backend", "assumed"),
    [
        ("2.8.0+cpu", Accelerator(), {}, "cpu", True),
        ("2.8.0+cpu", Accelerator(), {"TORCH_BACKEND": "none"}, None, False),
        ("2.8.0+cpu", Accelerator(has_cuda=True), {}, None, False),
        # The driver runs what the host's torch was built for.
        ("2.8.0+cu128", Accelerator(has_cuda=True), {}, "cu128", False),
        ("2.8.0+cu128", Accelerator(has_cuda=True), {"TORCH_BACKEND": "cu126"}, "cu126", False),
        ("2.8.0+cu128", Accelerator(), {}, "cpu", True),
    ],
)
def test_a_torch_of_the_host_that_is_not_seen_binds_no_build(
    torch: str,
    accelerator: Accelerator,
    variables: dict[str, str],
    backend: str | None,
    assumed: bool,
) -> None:
    set_here = {f"XINFERENCE_VIRTUAL_ENV_{name}": value for name, value in variables.items()}
    facts = host(distribution("torch", torch), accelerator=accelerator)
    surroundings = around(host=facts, settings=settings(**set_here))
    planned = plan(request(inherit=InheritMode.NONE), surroundings)
    assert (planned.sources.torch_backend, planned.assumed_backend) == (backend, assumed)


@pytest.mark.parametrize(
    "pip",
    [
        PipConfig(index_url="https://pip.example/simple"),
        PipConfig(extra_index_url=("https://pip.example/simple",)),
        PipConfig(no_index=True),
    ],
)
def test_with_a_configured_index_there_is_no_torch_backend(pip: PipConfig) -> None:
    assert plan(request(), around()).sources.torch_backend == "cu128"
    assert plan(request(), around(pip=pip)).sources.torch_backend is None


def test_settings_decide_about_source_builds() -> None:
    forbidden = settings(XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES="0")
    assert not plan(request(), around(settings=forbidden)).allow_source_builds


def test_what_pip_and_uv_would_honour_and_a_launch_does_not_is_warned_of() -> None:
    pip = PipConfig(not_honoured=("no-deps",), variables_not_honoured=("UV_RESOLUTION",))
    assert plan(request(), around(pip=pip)).warnings == (
        "pip's setting no-deps is not honoured",
        "the variable UV_RESOLUTION is not honoured",
    )
    # Not where the model wants nothing of it.
    assert plan(request("no-pip"), around(pip=pip)).warnings == ()


def test_elsewhere_than_on_linux_there_is_one_build_of_torch_which_need_not_be_assumed() -> None:
    python = interpreter(markers={**HOST.interpreter.markers, "sys_platform": "darwin"})
    planned = plan(request(), around(host=host(), interpreter=python))
    assert (planned.sources.torch_backend, planned.assumed_backend) == (None, False)


def test_an_npu_that_the_operator_tells_of_is_an_accelerator() -> None:
    here = settings(XINFERENCE_VIRTUAL_ENV_HAS_NPU="1")
    planned = plan(request(), around(host=host(), settings=here))
    assert (planned.sources.torch_backend, planned.assumed_backend) == (None, False)


def test_of_several_indexes_of_one_family_the_one_for_the_latest_cuda_serves() -> None:
    urls = [f"https://{name}.example/cu{build}" for name in "ab" for build in (126, 124, 128)]
    block = {"packages": ["six"], "extra_index_url": [*urls, "https://c.example/cu118"]}
    asked = request("unknown", virtualenv=block)
    cuda = replace(HOST, accelerator=Accelerator(has_cuda=True, cuda_version="12.6"))
    assert plan(asked, around(host=cuda)).sources.extra_index_urls == (
        "https://a.example/cu126",
        "https://b.example/cu126",
    )


def test_a_cuda_of_which_only_the_major_version_is_known_runs_builds_for_its_first_one() -> None:
    urls = [f"https://{build}.example/{build}" for build in ("cu120", "cu121")]
    asked = request("unknown", virtualenv={"packages": ["six"], "extra_index_url": urls})
    cuda = replace(HOST, accelerator=Accelerator(has_cuda=True, cuda_version="12"))
    assert plan(asked, around(host=cuda)).sources.extra_index_urls == (urls[0],)


def test_a_pin_to_the_hosts_version_names_its_build_only_where_the_hosts_may_serve() -> None:
    asked = request(virtualenv={"packages": ["#system_torch#"]})
    apart = settings(XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED="0")
    assert asked_of_uv(plan(asked)) == ["torch==2.8.0+cu128"]
    assert asked_of_uv(plan(asked, around(public_pins=True))) == ["torch==2.8.0"]
    assert asked_of_uv(plan(asked, around(settings=apart))) == ["torch==2.8.0"]


def test_what_the_host_lacks_is_warned_of() -> None:
    planned = plan(request(virtualenv={"packages": ["#system_jax#"]}))
    assert asked_of_uv(planned) == ["jax"]
    assert ["jax" in warning for warning in planned.warnings] == [True]


SPEC = spec(line("numpy==1.26.4", "numpy"), line("pkg @ https://user:one@host.example/pkg.zip"))


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, key=key("another-model", None, "3.11.7")),
        replace(SPEC, warnings=("a warning",)),
        replace(SPEC, interpreter=interpreter(executable="/elsewhere/python", search_path=())),
        replace(
            SPEC,
            requirements=(
                line("numpy==1.26.4", "numpy", Origin.LAUNCH),
                line("pkg @ https://user:another@host.example/pkg.zip"),
            ),
        ),
    ],
)
def test_key_credentials_and_places_are_no_part_of_the_digest(other: EnvSpec) -> None:
    assert other.digest == SPEC.digest


def test_credentials_of_sources_are_no_part_of_the_digest() -> None:
    one, other = (
        replace(
            SPEC,
            sources=PackageSources(
                index_url=f"https://user:{password}@index.example/simple",
                extra_index_urls=(f"https://{password}@index.example/other",),
                find_links=(f"https://user:{password}@index.example/links",),
            ),
        )
        for password in ("one-password", "another-password")
    )
    assert one.digest == other.digest
    assert one.digest != SPEC.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, requirements=SPEC.requirements[:1]),
        replace(SPEC, requirements=(line("numpy==1.26.5", "numpy"), SPEC.requirements[1])),
        replace(SPEC, sources=PackageSources(index_url="https://mirror.example/simple")),
        replace(SPEC, sources=PackageSources(find_links=("/wheels",))),
        replace(SPEC, sources=PackageSources(no_index=True)),
        replace(SPEC, sources=PackageSources(torch_backend="cpu")),
        replace(SPEC, interpreter=interpreter("3.11.8")),
        replace(SPEC, interpreter=interpreter(tags=TAGS[1:])),
        replace(SPEC, inherit=InheritMode.EXACT),
        replace(SPEC, skip_installed=False),
        replace(SPEC, roots=()),
        replace(SPEC, allow_source_builds=False),
        replace(SPEC, alone=("the-app",)),
        replace(SPEC, import_check=("torch",)),
        replace(SPEC, prove_imports=False),
        replace(SPEC, afresh=("xllamacpp",)),
    ],
)
def test_what_means_another_environment_makes_another_digest(other: EnvSpec) -> None:
    assert other.digest != SPEC.digest


@pytest.mark.parametrize(
    ("variable", "no_proof", "proves"),
    [("1", False, True), ("1", True, False), ("0", False, False), ("0", True, False)],
)
def test_imports_are_proved_unless_the_launch_or_the_setting_says_no(
    variable: str, no_proof: bool, proves: bool
) -> None:
    block = {"packages": ["numpy"]}
    given = settings(XINFERENCE_VIRTUAL_ENV_PROOF=variable)
    planned = plan(request("mine", virtualenv=block, no_proof=no_proof), around(settings=given))
    assert planned.prove_imports is proves


def test_a_query_that_names_another_file_makes_another_digest() -> None:
    one = spec(line("pkg @ https://host.example/a.tar.gz?sha=1", "pkg"))
    other = spec(line("pkg @ https://host.example/a.tar.gz?sha=2", "pkg"))
    more = spec(line("pkg @ https://host.example/a.tar.gz?sha=2?x", "pkg"))
    another = spec(line("pkg @ https://host.example/a.tar.gz?sha=3?x", "pkg"))
    assert len({each.digest for each in (one, other, more, another)}) == 4


def test_a_digest_is_the_same_in_every_process_and_version() -> None:
    # Another one would resolve every launch anew.
    assert spec(line("numpy==1.26.4", "numpy")).digest == (
        "1f16f5e4a6def6c0f1e8469ed995ce598cf05ec88e945cfac1070bb2351f7646"
    )


def test_each_package_has_its_reason_and_no_credential_is_in_one() -> None:
    made = replace(
        SPEC, requirements=(SPEC.requirements[0], replace(SPEC.requirements[1], name="pkg"))
    )
    assert made.reasons() == {
        "xoscar": "xoscar must be importable",
        "numpy": "model: numpy==1.26.4",
        "pkg": "model: pkg @ https://****@host.example/pkg.zip",
    }


def test_a_dry_run_shows_the_spec_in_plain_values_without_credentials() -> None:
    made = replace(
        SPEC,
        sources=PackageSources(index_url="https://user:one@index.example/simple"),
        warnings=("w",),
    )
    shown: dict[str, Any] = describe(made).to_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert "user:one" not in json.dumps(shown)
    assert shown["key"] == key().to_dict()
    assert shown["requirements"][0] == {"requirement": "numpy==1.26.4", "origin": "model"}
    assert shown["skip_installed"] is True
    assert shown["sources"]["index_url"] == "https://****@index.example/simple"
    assert (shown["python"], shown["inherit"], shown["warnings"]) == ("3.11.7", "host", ["w"])


def test_bounds_of_operator_pip_model_and_launch_count_together_and_the_latest_override() -> None:
    here = around(
        settings=settings(
            XINFERENCE_VIRTUAL_ENV_CONSTRAINTS="a<1 twice<1",
            XINFERENCE_VIRTUAL_ENV_OVERRIDES="o==1 p==1",
            XINFERENCE_VIRTUAL_ENV_EXCLUDE="x",
            XINFERENCE_VIRTUAL_ENV_BUILD_CONSTRAINTS="w<1",
            XINFERENCE_VIRTUAL_ENV_MAX_AGE_GAP="7d",
        ),
        pip=PipConfig(constraints=("b<2",), overrides=("p==2", "q==2"), build_constraints=("x<2",)),
    )
    block = {
        "packages": ["six", "setuptools==60", "wheel", "cython @ https://h/cython-3.0.zip"],
        "constraints": ["c<3"],
        "overrides": ["q>=3", "Q<3.1", "r==3"],
        "exclude": ["y"],
        "build_constraints": ["y<3"],
    }
    planned = plan(
        request(
            virtualenv=block,
            constraints=["d<4", "twice<1"],
            overrides=["r==4"],
            exclude=["z"],
            build_constraints=["z<4"],
        ),
        here,
    )
    assert planned.constraints == ("a<1", "twice<1", "b<2", "c<3", "d<4")
    assert planned.overrides == ("o==1", "p==2", "q>=3", "Q<3.1", "r==4")
    assert planned.excludes == ("x", "y", "z")
    assert planned.build_constraints == ("w<1", "x<2", "y<3", "z<4", "setuptools==60")
    assert planned.max_age_gap == 7 * 24 * 3600
    # A model that inherits nothing of pip's configuration has none of its bounds.
    assert plan(request("no-pip"), here).constraints == ("a<1", "twice<1")


@pytest.mark.parametrize(
    ("launch", "model", "setting", "kind"),
    [
        (None, None, "", ViewKind.LINKS),
        (None, None, "files", ViewKind.FILES),
        (None, "links", "files", ViewKind.LINKS),
        ("files", "links", "", ViewKind.FILES),
        ("links", "files", "files", ViewKind.LINKS),
    ],
)
def test_the_launch_chooses_the_kind_of_view_before_the_model_and_the_operator(
    launch: str | None, model: str | None, setting: str, kind: ViewKind
) -> None:
    block = {"packages": ["six"], **({"view": model} if model else {})}
    asked = request(virtualenv=block, **({"view": launch} if launch else {}))
    here = around(settings=settings(XINFERENCE_VIRTUAL_ENV_VIEW=setting))
    assert plan(asked, here).view is kind


def test_a_format_adds_the_packages_that_the_engine_needs_for_it() -> None:
    planned = plan(request("for-vllm", model_engine="vLLM", model_format="awq"))
    assert asked_of_uv(planned)[:2] == ["autoawq", "vllm==0.10"]
    assert planned.key.model_engine == "vllm"


@pytest.mark.parametrize(
    ("xoscar", "cloudpickle", "bounds"),
    [
        ("0.12.2", "3.1.2", ["xoscar==0.12.*", "cloudpickle==3.*"]),
        ("1!2.3.4", "2", ["xoscar==1!2.3.*", "cloudpickle==2.*"]),
        ("2", None, ["xoscar==2.*"]),
        (None, "3.1.2", []),
    ],
)
def test_a_model_process_has_the_workers_first_parts_of_what_both_send_each_other_with(
    xoscar: str | None, cloudpickle: str | None, bounds: list[str]
) -> None:
    versions = {"xoscar": xoscar, "cloudpickle": cloudpickle, "torch": "2.9.0"}
    facts = host(*(distribution(name, version) for name, version in versions.items() if version))
    assert wire_bounds(facts) == bounds
