from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker, UndefinedComparison

from xinference_venv.errors import InvalidRequirement
from xinference_venv.planning.markers import MAX_DEPTH, MarkerFacts, engines_in, evaluate

ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.7",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "6.1.0-generic",
    "platform_system": "Linux",
    "platform_version": "#1 SMP",
    "python_full_version": "3.11.7",
    "python_version": "3.11",
    "sys_platform": "linux",
}
CUDA = MarkerFacts(
    environment=ENVIRONMENT, engine="vLLM", has_cuda=True, cuda_version="12.8", cuda_arch="sm_90"
)
NOTHING = MarkerFacts(environment=ENVIRONMENT)


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ('#engine# == "vllm"', True),
        ('#model_engine# == "VLLM"', True),
        ("engine != 'vllm'", False),
        ("'Vllm' == model_engine", True),
        ('#engine# in "sglang vLLM"', True),
        ('#engine# not in "sglang mlx"', True),
        ('"LLM" in #engine#', True),
        ("has_cuda", True),
        ("not has_cuda", False),
        ("has_cuda == True", True),
        ('has_cuda == "true"', True),
        ("False != has_cuda", True),
        ("has_npu", False),
        ("has_npu == False", True),
        ('cuda_version == "12.8.0"', True),
        ('cuda_version != "12.8.0"', False),
        ('cuda_version < "13.0"', True),
        ('cuda_version > "9.2"', True),
        ('cuda_version ~= "12.4"', True),
        ('cuda_version == "12.*"', True),
        ('cuda_version === "12.8"', True),
        ('"12.9" <= cuda_version', False),
        ('"11" <= cuda_version < "13.0"', True),
        ('"11" <= cuda_version < "12.0"', False),
        ('cuda_version in "12.6 12.8"', True),
        ('cuda_arch >= "sm_80"', True),
        ('cuda_arch < "sm_100"', True),
        ('"sm_100" > cuda_arch', True),
        ('cuda_arch == "sm_90"', True),
        ('cuda_arch in "sm_90 sm_100"', True),
        ('has_npu or has_cuda and cuda_version >= "12"', True),
        ('(has_npu or has_cuda) and cuda_version >= "13"', False),
        ("not (has_npu or not has_cuda)", True),
        ('not cuda_version == "11.8"', True),
        ('"3.9" <= python_version < "3.12" and os.name == "posix"', True),
        ('#engine#=="vllm"and(has_cuda)', True),
        ('engine == "v\tllm"', False),
        ("platform_version != '#1 \"SMP\"'", True),
    ],
)
def test_markers_mean_what_their_grammar_says(marker: str, expected: bool) -> None:
    assert evaluate(marker, CUDA) is expected


@pytest.mark.parametrize("variable", ["#engine#", "cuda_version", "cuda_arch"])
def test_an_unknown_fact_equals_nothing_and_has_no_order(variable: str) -> None:
    literal = '"sm_80"' if variable == "cuda_arch" else '"12.8"'
    assert not evaluate(f"{variable} == {literal}", NOTHING)
    assert evaluate(f"{variable} != {literal}", NOTHING)
    assert not evaluate(f"{variable} in {literal}", NOTHING)
    assert evaluate(f"{variable} not in {literal}", NOTHING)
    if variable != "#engine#":
        for sign in ("<", "<=", ">", ">="):
            assert not evaluate(f"{variable} {sign} {literal}", NOTHING)
            assert not evaluate(f"{literal} {sign} {variable}", NOTHING)


def test_a_fact_in_another_form_equals_nothing_and_has_no_order() -> None:
    strange = replace(CUDA, cuda_version="rocm", cuda_arch="gfx90a")
    for comparison in ('cuda_version {} "12.8"', 'cuda_arch {} "sm_80"'):
        assert not evaluate(comparison.format("=="), strange)
        assert not evaluate(comparison.format(">="), strange)
        assert evaluate(comparison.format("!="), strange)


def test_a_version_of_cuda_before_its_release_has_its_place_among_the_others() -> None:
    early = replace(CUDA, cuda_version="13.0rc1")
    assert evaluate('"12.8" < cuda_version < "13.1"', early)
    assert not evaluate('cuda_version != "13.0rc1"', early)


def test_a_marker_is_of_the_interpreter_that_the_requirements_are_for() -> None:
    other = MarkerFacts(environment={**ENVIRONMENT, "sys_platform": "plan9"})
    assert evaluate('sys_platform == "plan9"', other)


def test_the_environment_of_the_running_interpreter_does_not_fill_gaps() -> None:
    assert not evaluate('os_name == "posix"', MarkerFacts(environment={}))


@pytest.mark.parametrize(
    ("marker", "place", "allowed"),
    [
        ("", "character 1", "#engine#"),
        ('extra == "x"', "character 1", "python_version"),
        ('has_cuda and extra == "x"', "character 14", "python_version"),
        ("cuda_version", "character 13", "not in"),
        ('"12" == "12"', "character 1", "a variable with a text"),
        ("python_version == os_name", "character 1", "a variable with a text"),
        ('engine < "vllm"', "character 1", "==, !=, in, not in"),
        ("engine == True", "character 1", "a text in quotes"),
        ('has_cuda > "true"', "character 1", "==, !="),
        ('has_cuda == "yes"', "character 1", "True or False"),
        ('cuda_version < "new"', "character 1", "PEP 440"),
        ('cuda_version ~= "12"', "character 1", "PEP 440"),
        ('"12.4" ~= cuda_version', "character 1", "cuda_version ~="),
        ('"12.4" === cuda_version', "character 1", "cuda_version ==="),
        ('cuda_arch > "80"', "character 1", "sm_80"),
        ('os_name ~= "posix"', "character 1", "PEP 440"),
        ('has_cuda or os_name ~= "posix"', "character 13", "PEP 440"),
        ('not os_name ~= "posix"', "character 5", "PEP 440"),
        ("has_cuda and", "character 13", "has_npu"),
        ("has_cuda has_npu", "character 10", "'and', 'or'"),
        ("(has_cuda", "character 10", "closing parenthesis"),
        ("has_cuda)", "character 9", "the end"),
        ("has_cuda &  has_npu", "character 10", "names, operators"),
        ('engine == "vllm', "character 11", "quotes"),
        ('engine == "a\\"b"', "character 11", "without backslash"),
        ('engine == "a\nb"', "character 11", "visible text"),
        ("__import__('os')", "character 1", "python_version"),
    ],
)
def test_a_broken_marker_is_named_with_the_place_and_what_is_allowed(
    marker: str, place: str, allowed: str
) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        evaluate(marker, CUDA)
    assert ascii(marker) in caught.value.message
    assert place in caught.value.message
    assert allowed in (caught.value.hint or "")


def test_a_marker_is_as_long_and_as_deep_as_allowed_and_no_more() -> None:
    assert evaluate("(" * MAX_DEPTH + "has_cuda" + ")" * MAX_DEPTH, CUDA)
    for hostile in ("(" * 1000, "not " * 500, "(" * (MAX_DEPTH + 1) + "has_cuda"):
        with pytest.raises(InvalidRequirement, match="too deeply"):
            evaluate(hostile, CUDA)
    with pytest.raises(InvalidRequirement) as caught:
        evaluate("not " * (MAX_DEPTH + 1), CUDA)
    assert "'not not" in caught.value.message
    assert f"at most {MAX_DEPTH} levels" in (caught.value.hint or "")


def test_siblings_do_not_count_as_depth_and_what_follows_them_does() -> None:
    siblings = "(has_cuda) and " * 100
    assert evaluate(siblings + "(" * MAX_DEPTH + "has_cuda" + ")" * MAX_DEPTH, CUDA)
    with pytest.raises(InvalidRequirement, match="too deeply"):
        evaluate(siblings + "(" * (MAX_DEPTH + 1) + "has_cuda", CUDA)


@pytest.mark.parametrize(
    ("marker", "wrong"),
    [
        ("has_cuda has_npu", ": has_npu is not expected"),
        ("has_cuda and", ": it ends too early"),
        ("has_cuda &  has_npu", ": '&' is not expected"),
        ("engine == sys_platform", ": engine and sys_platform can't be compared"),
        ('engine ~= "vllm"', ": engine knows no ~="),
        ('cuda_version >= "new"', ': cuda_version can\'t be compared with "new"'),
        ('sys_platform ~= "linux"', ': sys_platform ~= "linux" has no meaning'),
    ],
)
def test_what_is_wrong_with_a_marker_is_named(marker: str, wrong: str) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        evaluate(marker, CUDA)
    assert caught.value.message.endswith(wrong)


def test_of_a_long_marker_two_hundred_characters_are_shown() -> None:
    for length, whole in ((198, True), (199, False)):
        marker = f"has_cuda{'&':>{length - len('has_cuda')}}"
        with pytest.raises(InvalidRequirement) as caught:
            evaluate(marker, CUDA)
        assert (repr(marker) in caught.value.message) is whole


def test_credentials_in_a_marker_are_not_shown() -> None:
    with pytest.raises(InvalidRequirement) as caught:
        evaluate('engine < "https://me:hunter22@host/"', CUDA)
    assert "hunter22" not in str(caught.value.to_dict())


literals = st.one_of(
    st.sampled_from(
        [*ENVIRONMENT.values(), "3.9", "3.11.*", "3.12", "3.8 3.11", "", "it's", "win"]
    ),
    st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\"'\\")),
)


@st.composite
def standard_comparisons(draw: st.DrawFn) -> str:
    text = draw(literals)
    literal = f'"{text}"' if draw(st.booleans()) or "'" in text else f"'{text}'"
    operands = [draw(st.sampled_from([*ENVIRONMENT, "os.name", "python_implementation"])), literal]
    if draw(st.booleans()):
        operands.reverse()
    signs = ["==", "!=", "<", "<=", ">", ">=", "~=", "===", "in", "not in"]
    return f" {draw(st.sampled_from(signs))} ".join(operands)


def nested(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.builds(
        lambda words, sign: f" {sign} ".join(words),
        st.lists(parts, min_size=1, max_size=3),
        st.sampled_from(["and", "or"]),
    )
    return joined | joined.map("({})".format)


standard_markers = st.recursive(standard_comparisons(), nested, max_leaves=6)
comparisons = st.one_of(
    standard_comparisons(),
    st.sampled_from(
        [
            "has_cuda",
            "has_npu == False",
            "engine == 'vllm'",
            '#engine# != "MLX"',
            'cuda_version < "13.0"',
            "'11' <= cuda_version < '12.8'",
            'cuda_arch >= "sm_80"',
        ]
    ),
)
markers = st.recursive(comparisons, nested, max_leaves=6)
facts = st.builds(
    MarkerFacts,
    environment=st.just(ENVIRONMENT),
    engine=st.sampled_from([None, "vllm", "MLX"]),
    has_cuda=st.booleans(),
    cuda_version=st.sampled_from([None, "11.8", "12.8", "13.0"]),
    cuda_arch=st.sampled_from([None, "sm_75", "sm_120"]),
    has_npu=st.booleans(),
)


def answer(marker: str, given_facts: MarkerFacts) -> bool | None:
    try:
        return evaluate(marker, given_facts)
    except InvalidRequirement:
        return None


@given(standard_markers)
def test_a_marker_of_pep_508_is_what_packaging_says_it_is(marker: str) -> None:
    try:
        expected = Marker(marker).evaluate(dict(ENVIRONMENT))
    except UndefinedComparison:
        expected = None
    assert answer(marker, NOTHING) is expected


@given(st.text() | st.text("()'\"=<>!~ #_.andortiengcuh0189"), facts)
def test_any_text_evaluates_or_is_refused(marker: str, given_facts: MarkerFacts) -> None:
    assert answer(marker, given_facts) in (True, False, None)


@given(markers, markers, facts)
def test_de_morgan_holds(left: str, right: str, given_facts: MarkerFacts) -> None:
    assert answer(f"not (({left}) and ({right}))", given_facts) is answer(
        f"not ({left}) or not ({right})", given_facts
    )
    assert answer(f"not (({left}) or ({right}))", given_facts) is answer(
        f"not ({left}) and not ({right})", given_facts
    )


@given(markers, facts)
def test_whether_a_marker_is_wrong_does_not_depend_on_the_facts_of_the_launch(
    marker: str, given_facts: MarkerFacts
) -> None:
    assert (answer(marker, given_facts) is None) is (answer(marker, CUDA) is None)


@pytest.mark.parametrize(
    ("marker", "names"),
    [
        ('#engine# == "vllm"', ("vllm",)),
        ('"vLLM" != model_engine', ("vLLM",)),
        ('#engine# in "sglang, vllm;mlx|acme  own"', ("sglang", "vllm", "mlx", "acme", "own")),
        ('not (engine == "a" or has_cuda) and engine not in "b"', ("a", "b")),
        ('sys_platform == "linux" and cuda_arch >= "sm_80"', ()),
        ('engine == ""', ()),
    ],
)
def test_the_engines_in_a_marker_are_the_names_that_it_compares_the_engine_with(
    marker: str, names: tuple[str, ...]
) -> None:
    assert engines_in(marker) == names


def test_of_a_marker_that_is_wrong_no_engines_are_known() -> None:
    with pytest.raises(InvalidRequirement, match="Invalid marker"):
        engines_in('engine == "vllm" and')
