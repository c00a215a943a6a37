from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv.errors import InvalidRequirement
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.planning.markers import MarkerFacts
from xinference_venv.planning.requirements import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    Origin,
    RequirementLine,
    Requirements,
    engines_named,
    merge_lines,
    plan_requirements,
    read_line,
)

WHEEL = "https://example.org/en_core_web_sm-3.8.0-py3-none-any.whl"
ENGINES = {
    "vllm": EngineEntry(
        name="vllm", packages=("vllm>=0.11.2", "kernel ; has_cuda", "#system_torch#")
    ),
    "transformers": EngineEntry(
        name="transformers",
        packages=("transformers>=4.53.3", "accelerate"),
        formats={"gptq": ("gptqmodel", "datasets>=3.4.0")},
    ),
    "llama.cpp": EngineEntry(name="llama.cpp", packages=("xllamacpp>=0.2.6",)),
}
HOST = {"numpy": "1.26.4", "torch": "2.8.0a0+34c6371d24.nv25.8", "huggingface-hub": "0.33.2"}


def plan(
    *model: str,
    launch: Sequence[str] = (),
    engine: str | None = None,
    model_format: str | None = None,
    host: Mapping[str, str] = HOST,
    engines: Mapping[str, EngineEntry] = ENGINES,
    public_pins: bool = False,
    folders: bool = False,
) -> Requirements:
    return plan_requirements(
        engine=engine,
        model_format=model_format,
        model_packages=model,
        launch_packages=launch,
        catalog_engines=engines,
        facts=MarkerFacts(environment={"sys_platform": "linux", "python_version": "3.11"}),
        host_versions=host,
        public_pins=public_pins,
        folders=folders,
    )


def texts(planned: Requirements) -> list[str]:
    return [line.text for line in planned.lines]


@pytest.mark.parametrize(
    ("written", "text", "name"),
    [
        ("numpy", "numpy", "numpy"),
        (" Misaki[zh,en] >=0.7.15 ", "Misaki[en,zh]>=0.7.15", "misaki"),
        ("omegaconf~=2.3.0", "omegaconf~=2.3.0", "omegaconf"),
        ("foo (>=1)", "foo>=1", "foo"),
        ("wetext ; sys_platform == 'linux'", "wetext", "wetext"),
        ("wetext;sys_platform=='linux'", "wetext", "wetext"),
        (f"en_core_web_sm@{WHEEL}", f"en_core_web_sm @ {WHEEL}", "en-core-web-sm"),
        (f"{WHEEL} ; sys_platform == 'linux'", WHEEL, "en-core-web-sm"),
        (f"{WHEEL}\t;sys_platform == 'linux'", WHEEL, "en-core-web-sm"),
        ("https://h/k-1.0%2Bcu130.tar.gz", "https://h/k-1.0%2Bcu130.tar.gz", "k"),
        ("https://h/main.zip", "https://h/main.zip", None),
        ("file:///srv/foo-1.0.tar.gz", "file:///srv/foo-1.0.tar.gz", "foo"),
        ("file://localhost/srv/foo-1.0.zip", "file://localhost/srv/foo-1.0.zip", "foo"),
        ("x" * MAX_LINE_LENGTH, "x" * MAX_LINE_LENGTH, "x" * MAX_LINE_LENGTH),
        ("git+https://h/diffusers@2da7040", "git+https://h/diffusers@2da7040", None),
        ("git+ssh://git@h/x#egg=Foo_Bar[z]", "git+ssh://git@h/x#egg=Foo_Bar[z]", "foo-bar"),
        ("x @ git+https://h/x@v1", "x @ git+https://h/x@v1", "x"),
        ("hg+https://h/x", "hg+https://h/x", None),
        ("my-dependencies==1", "my-dependencies==1", "my-dependencies"),
    ],
)
def test_a_line_becomes_what_uv_reads_and_tells_its_name(
    written: str, text: str, name: str | None
) -> None:
    assert plan(written).lines == (
        RequirementLine(text=text, name=name, origin=Origin.MODEL, written=written),
    )


@pytest.mark.parametrize(
    ("written", "name", "shown"),
    [
        (" Foo[a]>=1 ;has_cuda", "foo", "Foo[a]>=1 ; has_cuda"),
        ("foo;python_version<'4'", "foo", "foo ; python_version<'4'"),
        ("#system_Tor_ch#", "tor-ch", "#system_Tor_ch#"),
        ("#system_torch# ; #engine# == 'vllm'", "torch", "#system_torch# ; #engine# == 'vllm'"),
        ("#unknown_dependencies#", None, "#unknown_dependencies#"),
        ("https://h/main.zip", None, "https://h/main.zip"),
        ("x @ https://u:hunter22@h/x-1.zip", "x", "x @ https://****@h/x-1.zip"),
    ],
)
def test_a_line_is_read_for_its_author_without_host_catalogue_and_credentials(
    written: str, name: str | None, shown: str
) -> None:
    assert read_line(written) == (name, shown)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("foo==", "it is not PEP 508: "),
        ("foo ; nonsense", "Invalid marker"),
        ("#sytem_numpy#", "unknown placeholder"),
    ],
)
def test_a_line_that_is_wrong_is_named_to_its_author(written: str, wrong: str) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        read_line(written)
    assert caught.value.message.startswith(f"Invalid requirement {written!r}: {wrong}")
    assert caught.value.hint


def test_a_system_pin_is_known_by_what_was_written() -> None:
    planned = plan(" #System_numpy#", f"torch=={HOST['torch']}")
    assert [each.is_system_pin for each in planned.lines] == [True, False]


def test_a_line_whose_marker_does_not_hold_vanishes_and_replaces_nothing() -> None:
    planned = plan("numpy==1.26", launch=["numpy==2.0 ; sys_platform == 'win32'"])
    assert texts(planned) == ["numpy==1.26"]


def test_markers_see_the_launched_engine() -> None:
    line = 'mlx-whisper ; #engine# == "MLX"'
    assert texts(plan(line, engine="mlx")) == ["mlx-whisper"]
    assert "mlx-whisper" not in texts(plan(line, engine="vllm"))
    assert texts(plan(line)) == []


def test_a_system_placeholder_pins_exactly_what_the_host_has() -> None:
    planned = plan("#system_torch#", "#system_Huggingface_Hub# ; sys_platform == 'linux'")
    assert texts(planned) == ["torch==2.8.0a0+34c6371d24.nv25.8", "huggingface-hub==0.33.2"]
    assert planned.warnings == ()
    assert texts(plan("#system_torch# ; sys_platform == 'win32'")) == []


def test_where_an_index_may_lack_the_hosts_build_its_pin_leaves_the_local_part_out() -> None:
    planned = plan("#system_torch#", "#system_numpy#", public_pins=True)
    assert texts(planned) == ["torch==2.8.0a0", "numpy==1.26.4"]


@pytest.mark.parametrize("host", [{}, {"numpy": "1.0ubuntu?"}])
def test_what_the_host_can_not_pin_is_left_open_with_a_warning(host: Mapping[str, str]) -> None:
    planned = plan("#system_numpy#", "#system_numpy#", host=host)
    assert texts(planned) == ["numpy"]
    (warning,) = planned.warnings
    assert "#system_numpy#" in warning


def test_no_warning_is_given_for_a_placeholder_that_was_replaced() -> None:
    assert plan("#system_numpy#", launch=["numpy<2"], host={}).warnings == ()


@pytest.mark.parametrize(
    "placeholder",
    [
        "#llama_cpp_dependencies#",
        "llama_cpp_dependencies",
        "#Llama.CPP_dependencies#",
        "LLAMA-CPP-DEPENDENCIES",
        "llama.cpp__dependencies",
        "llama_cpp_dependencies ; sys_platform == 'linux'",
    ],
)
def test_an_engine_placeholder_is_the_engines_set_if_that_engine_is_launched(
    placeholder: str,
) -> None:
    planned = plan(placeholder, engine="llama.cpp")
    assert texts(planned) == ["xllamacpp>=0.2.6"]
    assert planned.lines[0].origin is Origin.ENGINE
    assert texts(plan(placeholder, "numpy", engine="vllm")) == ["numpy"]
    assert texts(plan(placeholder, "numpy")) == ["numpy"]


def test_the_lines_of_an_engine_have_markers_and_placeholders_of_their_own() -> None:
    planned = plan("#vllm_dependencies#", engine="vLLM")
    assert texts(planned) == ["vllm>=0.11.2", f"torch=={HOST['torch']}"]


def test_the_marker_of_a_placeholder_counts_for_all_that_it_stands_for() -> None:
    assert texts(plan("numpy", "#vllm_dependencies# ; has_npu", engine="vllm")) == ["numpy"]


def test_a_model_without_packages_gets_the_set_of_its_engine() -> None:
    assert texts(plan(engine="Transformers")) == ["transformers>=4.53.3", "accelerate"]
    assert texts(plan("numpy", engine="Transformers")) == ["numpy"]
    assert texts(plan(engine="flag")) == []
    assert texts(plan()) == []


def test_the_packages_of_a_format_are_added_to_whatever_the_model_has() -> None:
    planned = plan("numpy", engine="transformers", model_format="GPTQ")
    assert texts(planned) == ["gptqmodel", "datasets>=3.4.0", "numpy"]
    assert {line.name: line.origin for line in planned.lines}["datasets"] is Origin.ENGINE
    assert texts(plan("numpy", engine="vllm", model_format="gptq")) == ["numpy"]
    assert texts(plan("numpy", engine="transformers", model_format="ggufv2")) == ["numpy"]


def test_a_launch_package_replaces_the_models_of_the_same_name() -> None:
    planned = plan("misaki[en,zh]>=0.7", "misaki<1", "numpy", launch=["Misaki[en]==0.8"])
    assert texts(planned) == ["numpy", "Misaki[en]==0.8"]
    assert planned.lines[1].origin is Origin.LAUNCH


def test_a_model_package_replaces_the_engines_of_the_same_name() -> None:
    planned = plan("#transformers_dependencies#", "transformers==4.51.3", engine="transformers")
    assert texts(planned) == ["accelerate", "transformers==4.51.3"]


def test_a_direct_url_counts_as_the_name_that_it_tells() -> None:
    assert texts(plan(WHEEL, launch=["en.core-web_sm==3.7"])) == ["en.core-web_sm==3.7"]
    assert texts(plan("en_core_web_sm", launch=[WHEEL])) == [WHEEL]


def test_the_origin_that_counts_most_counts_wherever_it_stands() -> None:
    launch, model = plan("a==1", launch=["b==1"]).lines[1], plan("b==2").lines[0]
    for order in ((launch, model), (model, launch)):
        assert merge_lines(order) == (launch,)


def test_lines_of_one_name_and_origin_hold_together() -> None:
    assert texts(plan("numpy>=1.20", "numpy<2", "numpy<2")) == ["numpy>=1.20", "numpy<2"]


def test_a_url_without_a_name_is_kept_once_with_the_origin_that_counts_most() -> None:
    url = "git+https://h/diffusers"
    planned = plan(url, "numpy", launch=[url])
    assert texts(planned) == ["numpy", url]
    assert planned.lines[1].origin is Origin.LAUNCH


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("; has_cuda", "empty"),
        ("numpy\nscipy", "control character"),
        ("numpy\x00", "control character"),
        ("num\u2028py", "control character"),
        ("-e .", "option"),
        ("--index-url=https://h", "option"),
        (".", "local path"),
        ("./numpy", "local path"),
        ("../numpy", "local path"),
        ("~numpy", "local path"),
        ("packages/numpy", "local path"),
        ("C:\\numpy", "local path"),
        ("/srv/numpy-1.0-py3-none-any.whl", "local path"),
        ("numpy-1.0-py3-none-any.whl", "local path"),
        ("numpy-1.0.tar.gz[x]", "local path"),
        ("requirements.txt", "local path"),
        ("file:numpy-1.0.tar.gz", "not absolute"),
        ("numpy @ file://srv/numpy-1.0.tar.gz", "not absolute"),
        ("git+file://numpy", "not absolute"),
        ("file:///srv/numpy", "no archive"),
        ("numpy @ ./numpy", "no scheme"),
        ("ftp://h/numpy-1.0.tar.gz", "scheme ftp"),
        ("numpy @ ssh://h/numpy", "scheme ssh"),
        ("https:///numpy.whl", "no host"),
        ("https://[::1/numpy.whl", "broken"),
        ("https://h/${HOME}/numpy.whl", "contains '{'"),
        ("https://h/a b.whl", "contains ' '"),
        ('https://h/a.whl;sys_platform=="linux"', "contains"),
        ("https://h/a.whl;sys_platform=='linux'", "contains"),
        ("numpy==", "PEP 508"),
        ("numpy scipy", "PEP 508"),
        ("numpy # the array library", "PEP 508"),
        ("numpy>=1.0.*", "PEP 508"),
        ("numpy ;", "Invalid marker"),
        ("numpy ; extra == 'x'", "Invalid marker"),
        ("numpy ; has_cuda ; has_npu", "Invalid marker"),
        ("broken== ; has_npu", "PEP 508"),
        ("#sytem_numpy#", "unknown placeholder"),
        ("#system_numpy", "unknown placeholder"),
        ("#system_#", "unknown placeholder"),
        ("#flag_dependencies#", "no engine flag"),
        ("flag-dependencies", "no engine flag"),
        ("x" * (MAX_LINE_LENGTH + 1), "characters"),
    ],
)
@pytest.mark.parametrize("origin", ["model", "launch"])
def test_what_is_not_allowed_is_named_with_its_place_and_a_way_out(
    written: str, wrong: str, origin: str
) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        plan("numpy", written) if origin == "model" else plan(launch=["numpy", written])
    assert wrong in caught.value.message
    assert f"{origin} packages[1]" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("written", "wrong", "allowed"),
    [
        ("x" * (MAX_LINE_LENGTH + 1), f"it has {MAX_LINE_LENGTH + 1} characters", MAX_LINE_LENGTH),
        ("ftp://h/numpy-1.0.tar.gz", "scheme ftp", "bzr+http, bzr+https"),
        ("file:///srv/numpy", "no archive", ".whl"),
    ],
)
def test_a_line_out_of_bounds_is_answered_with_the_bound(
    written: str, wrong: str, allowed: object
) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        plan(written)
    assert wrong in caught.value.message
    assert str(allowed) in (caught.value.hint or "")


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequirement) as caught:
        plan("#flag_dependencies#")
    assert "llama.cpp, transformers, vllm" in (caught.value.hint or "")


def test_an_unknown_engine_behind_a_marker_that_does_not_hold_does_no_harm() -> None:
    assert texts(plan("six", '#flag_dependencies# ; #engine# == "flag"', engine="vllm")) == ["six"]


def test_too_many_lines_are_refused() -> None:
    assert texts(plan(launch=["numpy"] * MAX_LINES)) == ["numpy"]
    with pytest.raises(InvalidRequirement, match=f"{MAX_LINES + 1} launch packages") as caught:
        plan(launch=["numpy"] * (MAX_LINES + 1))
    assert str(MAX_LINES) in (caught.value.hint or "")


def test_the_packages_of_an_engine_can_not_be_those_of_another() -> None:
    engines = {**ENGINES, "nested": EngineEntry(name="nested", packages=("#vllm_dependencies#",))}
    with pytest.raises(
        InvalidRequirement, match=r"engine packages\[0\]: the packages of an engine"
    ):
        plan(engine="nested", engines=engines)


def test_what_is_not_pep_508_is_named_with_the_reason_and_not_repeated() -> None:
    with pytest.raises(InvalidRequirement) as caught:
        plan("numpy scipy")
    assert caught.value.message.startswith("Invalid requirement 'numpy scipy' in model packages[0]")
    assert "Expected" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_line_is_shown_up_to_two_hundred_characters_and_not_at_all_when_too_long() -> None:
    lengths = {198: True, 199: False, MAX_LINE_LENGTH: False}
    for length, whole in lengths.items():
        written = f"#{'x' * (length - 1)}"
        with pytest.raises(InvalidRequirement) as caught:
            plan(written)
        assert (repr(written) in caught.value.message) is whole
        assert "'#xxxx" in caught.value.message
    with pytest.raises(InvalidRequirement) as caught:
        plan("x" * (MAX_LINE_LENGTH + 1))
    assert caught.value.message.startswith("Invalid requirement '...' in model packages[0]: ")


@pytest.mark.parametrize(
    "written",
    [
        "ftp://me:hunter22@h/x.whl",
        "https://me:hunter22@h/x y.whl",
        "https://me:hun/ter22@h/x y.whl",
        "https://me:hun ter22@h/x.whl",
        "https:me:hunter22@h/x.whl",
        "x @ https://me:hun ter22@h/x.whl",
        "x @ https://hunter22@h/x y",
        "x @ me:hunter22@h",
        "https://h/x.whl?signature=hunter22 ; nonsense",
        "https://h/x y.whl?sig=hun ter22",
        "--index-url https://me:hunter22@h/",
        "x" * MAX_LINE_LENGTH + " @ https://me:hunter22@h/",
        "https://me:hunter22@h/\n",
    ],
)
def test_no_credential_is_shown_in_an_error(written: str) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        plan(written)
    assert "ter22" not in str(caught.value.to_dict())


def test_credentials_reach_uv_but_no_repr() -> None:
    (line,) = plan("https://me:hunter22@h/x-1.0.tar.gz").lines
    assert "hunter22" in line.text
    assert "hunter22" not in repr(line)


def test_a_line_survives_the_way_through_json_and_ignores_unknown_keys() -> None:
    for line in plan(WHEEL, "git+https://h/x").lines:
        assert RequirementLine.from_dict({**line.to_dict(), "new": 1}) == line


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?", fullmatch=True)
written_lines = st.one_of(
    st.text(),
    st.text("ab1=<>!~;@#[](){}:/.\\ -_'$%?&*+,"),
    st.builds("{}{}{}".format, names, st.sampled_from(["", "==", "[a]>=1", " @ ", "@"]), st.text()),
    st.builds("{}{}".format, st.sampled_from(["https://h/", "git+https://", "file:"]), st.text()),
    st.builds("#{}{}#".format, st.sampled_from(["system_", ""]), names),
)


@given(written_lines)
def test_any_text_gives_lines_that_can_be_parsed_or_is_refused(written: str) -> None:
    try:
        planned = plan(written)
    except InvalidRequirement as error:
        assert error.hint
        return
    for line in planned.lines:
        if line.text.startswith(("http", "git+", "file:")):
            assert not any(each.isspace() for each in line.text)
        else:
            parsed = Requirement(line.text)
            assert parsed.marker is None
            assert canonicalize_name(parsed.name) == line.name
            assert plan(line.text).lines[0].text == line.text


lines = st.builds(
    RequirementLine,
    text=st.sampled_from(["a==1", "a>1", "b", "c"]),
    name=st.none(),
    origin=st.sampled_from(Origin),
    written=st.just(""),
).map(
    lambda line: RequirementLine(
        text=line.text,
        name=None if line.text == "c" else line.text[0],
        origin=line.origin,
        written=line.written,
    )
)


@given(st.lists(lines))
def test_merging_is_idempotent_and_loses_no_name(given_lines: list[RequirementLine]) -> None:
    merged = merge_lines(given_lines)
    assert merge_lines(merged) == merged
    assert {line.name for line in merged} == {line.name for line in given_lines}
    assert len({line.text for line in merged}) == len(merged)


# Few letters, so that no name ends like an archive.
@given(st.from_regex(r"[A-Ca-c0-9]([A-Ca-c0-9._-]{0,6}[A-Ca-c0-9])?", fullmatch=True), st.data())
def test_replacing_ignores_spelling(name: str, data: st.DataObject) -> None:
    other = "".join(
        data.draw(st.sampled_from("-_."))
        if each in "-_."
        else data.draw(st.sampled_from([each.lower(), each.upper()]))
        for each in name
    )
    planned = plan(f"{name}==1", launch=[f"{other}==2"])
    assert texts(planned) == [f"{other}==2"]


def test_a_folder_of_sources_may_be_named_where_that_is_allowed() -> None:
    lines = [
        *("numpy[x] @ file:///srv/a%20folder ; sys_platform == 'linux'", "file:///srv/other"),
        *("lamp @ file:///srv/lamp-1.0.tar.gz", "https://h/lamp", "torch"),
        "oil @ git+file:///srv/oil",
    ]
    planned = plan(*lines, folders=True).lines
    assert [each.folder for each in planned] == ["/srv/a folder", "/srv/other", *[None] * 4]
    assert [each.text for each in planned][:2] == ["numpy[x] @ file:///srv/a%20folder", lines[1]]
    with pytest.raises(InvalidRequirement, match="not absolute"):
        plan("numpy @ file://srv/numpy", folders=True)


@pytest.mark.parametrize("origin", Origin)
def test_the_reason_of_a_line_is_who_asked_for_it(origin: Origin) -> None:
    assert origin.reason("six>=1.0") == f"{origin}: six>=1.0"


def test_lines_name_engines_in_markers_first_then_in_placeholders_each_once() -> None:
    lines = [
        "#vllm_dependencies#",
        'lamp ; #engine# in "mlx, sglang"',
        '#llama_cpp_dependencies# ; engine == "llama.cpp"',
        'bulb ; engine == "mlx"',
        "six>=1.0 ; has_cuda",
        "#system_numpy#",
    ]
    assert engines_named(lines) == ("mlx", "sglang", "llama.cpp", "vllm", "llama_cpp")


def test_a_line_that_is_wrong_names_no_engine_and_does_not_hide_those_of_the_next() -> None:
    lines = ['a ; engine == "wrong" and', "-r file", 'b ; engine == "vllm"']
    assert engines_named(lines) == ("vllm",)
