from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv._util.names import check_python_version
from xinference_venv.errors import (
    InvalidInput,
    InvalidModelSpec,
    InvalidName,
    InvalidPythonVersion,
)
from xinference_venv.planning.request import (
    LaunchRequest,
    ModelVirtualEnv,
    check_engine_name,
    check_format_name,
    check_model_name,
    check_model_size,
    check_model_uid,
    check_modules,
    check_quantization,
)
from xinference_venv.settings import InheritMode, ViewKind


@pytest.mark.parametrize(
    "name",
    [
        "qwen2.5-omni",
        "GOT-OCR2_0",
        "...",
        ".hidden",
        "a" * 255,
        "通义千问",
        "v1:0",
        "名" * 85,
        "~",
        "-x",
    ],
)
def test_a_name_that_xinference_allows_is_returned_as_it_is(name: str) -> None:
    assert check_model_name(name) == name
    assert check_format_name(name) == name
    assert check_model_uid(name) == name


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("", "it is empty"),
        (".", "relative"),
        ("..", "relative"),
        ("../../etc", "it contains '/'"),
        ("/absolute", "it contains '/'"),
        ("back\\slash", "it contains '\\\\'"),
        *((f"a{character}b", f"it contains '{character}'") for character in "+/?%#&= "),
        ("tab\t", r"it contains '\t'"),
        ("line\n", r"it contains '\n'"),
        ("null\0", r"it contains '\x00'"),
        ("rtl\u202egnp", r"it contains '\u202e'"),
        ("zero\u200bwidth", r"it contains '\u200b'"),
        ("wide\u3000space", r"it contains '\u3000'"),
        ("paragraph\u2029", r"it contains '\u2029'"),
        ("surrogate\udc80", r"it contains '\udc80'"),
        ("a" * 256, "256 bytes, more than 255"),
        ("名" * 86, "258 bytes"),
        (None, "not a string"),
        (7, "not a string"),
        (["x"], "not a string"),
    ],
)
def test_a_name_that_is_not_allowed_is_named_with_what_is_wrong(name: object, wrong: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_model_name(name)
    assert caught.value.message.startswith("Invalid model name ")
    assert wrong in caught.value.message
    assert len(caught.value.message) < 200
    assert "+ / ? % # & = \\" in str(caught.value.hint)
    with pytest.raises(InvalidName):
        check_engine_name(name)


def test_the_error_of_a_name_shows_no_credentials() -> None:
    with pytest.raises(InvalidName) as caught:
        check_model_uid("https://user:hunter22@host/")
    assert "model uid" in caught.value.message
    assert "hunter22" not in caught.value.message


@given(name=st.text(max_size=300))
def test_an_accepted_name_is_one_step_of_a_path_and_prints_on_one_line(name: str) -> None:
    try:
        check_model_name(name)
    except InvalidName as error:
        assert error.hint
    else:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert not any(character.isspace() for character in name)
        assert 1 <= len(name.encode()) <= 255


def test_engine_names_compare_without_case() -> None:
    assert check_engine_name("vLLM") == check_engine_name("VLLM") == "vllm"


def test_an_engine_name_is_bounded_after_it_was_put_into_lower_case() -> None:
    with pytest.raises(InvalidName):
        check_engine_name("İ" * 127)


@pytest.mark.parametrize("version", ["3.9", "3.11", "3.12.0", "3.13.12"])
def test_a_python_version_has_two_or_three_numbers(version: str) -> None:
    assert check_python_version(version) == version


@pytest.mark.parametrize(
    "version",
    [
        "",
        "3",
        "2.7",
        "4.0",
        "3.11.",
        "3.011",
        "3.1.2.3",
        "3.11rc1",
        "3.1111",
        "3.11\n",
        "3.١",
        "../3.11",
        3.11,
        None,
        ["3.11"],
    ],
)
def test_any_other_python_version_is_refused(version: object) -> None:
    with pytest.raises(InvalidPythonVersion) as caught:
        check_python_version(version)
    assert "3.11" in str(caught.value.hint)


def test_a_virtualenv_block_reads_strings_where_xinference_allows_them_for_lists() -> None:
    block = ModelVirtualEnv.from_dict(
        {
            "packages": ["transformers", "#system_numpy#"],
            "extra_index_url": "https://one/simple",
            "find_links": ["/srv/wheels"],
            "trusted_host": "one",
            "index_url": None,
            "no_build_isolation": None,
            "future": 1,
        }
    )
    assert block == ModelVirtualEnv(
        packages=("transformers", "#system_numpy#"),
        inherit_pip_config=True,
        extra_index_url=("https://one/simple",),
        find_links=("/srv/wheels",),
        trusted_host=("one",),
        no_build_isolation=False,
    )


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("packages", "numpy", "virtualenv.packages is of type str"),
        ("packages", {"numpy": 1}, "virtualenv.packages is of type dict"),
        ("packages", ["numpy", 1], "virtualenv.packages[1] is of type int"),
        ("packages", ["x"] * 1001, "virtualenv.packages has 1001 items"),
        ("packages", ["x" * 4097], "virtualenv.packages[0] has 4097 characters"),
        ("index_url", ["https://one"], "virtualenv.index_url is of type list"),
        ("extra_index_url", 1, "virtualenv.extra_index_url is of type int"),
        ("find_links", [None], "virtualenv.find_links[0] is of type NoneType"),
        ("trusted_host", True, "virtualenv.trusted_host is of type bool"),
        ("index_strategy", 1, "virtualenv.index_strategy is of type int"),
        ("inherit_pip_config", "yes", "virtualenv.inherit_pip_config is of type str"),
        ("no_build_isolation", 1, "virtualenv.no_build_isolation is of type int"),
    ],
)
def test_a_wrong_value_in_a_virtualenv_block_is_named(key: str, value: object, wrong: str) -> None:
    with pytest.raises(InvalidModelSpec) as caught:
        ModelVirtualEnv.from_dict({key: value})
    assert caught.value.message.startswith(wrong)
    assert str(caught.value.hint).startswith("Allowed ")


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("virtual_env_packages", ["x"] * 1001, "virtual_env_packages has 1001 items"),
        ("virtual_env_packages", ["x", "x" * 4097], "virtual_env_packages[1] has 4097 characters"),
        (
            "virtualenv",
            {"index_url": "x" * 4097},
            "virtualenv.index_url has 4097 characters",
        ),
    ],
)
def test_what_is_too_large_is_named_with_its_place(key: str, value: object, wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        LaunchRequest.from_dict({"model_name": "m", key: value})
    assert caught.value.message == wrong
    assert caught.value.hint


def test_lists_and_texts_may_be_as_large_as_is_allowed() -> None:
    packages = ["x" * 4096] * 1000
    request = LaunchRequest.from_dict({"model_name": "m", "virtual_env_packages": packages})
    assert request.virtual_env_packages == tuple(packages)


@pytest.mark.parametrize("read", [ModelVirtualEnv.from_dict, LaunchRequest.from_dict])
def test_what_must_be_importable_is_read_in_its_normal_form_each_name_once(
    read: Callable[[dict[str, Any]], ModelVirtualEnv | LaunchRequest],
) -> None:
    made = read(
        {
            "model_name": "m",
            "must_import": ["Flash_Attn", "flash-attn", "apex"],
            "import_check": ["torch.nn", "apex", "torch.nn"],
        }
    )
    assert made.must_import == ("flash-attn", "apex")
    assert made.import_check == ("torch.nn", "apex")


@pytest.mark.parametrize("name", ["", "a-b", "a..b", ".a", "os; x", "a b"])
def test_what_no_module_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="Invalid module name") as caught:
        LaunchRequest.from_dict({"model_name": "m", "import_check": ["torch", name]})
    assert caught.value.hint


def test_a_virtualenv_block_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidModelSpec, match="virtualenv is of type list"):
        LaunchRequest.from_dict({"model_name": "m", "virtualenv": []})


WORDS = st.text(max_size=20)
WORD_LISTS = st.lists(WORDS, max_size=3).map(tuple)
NAMES = st.text("abcXYZ019._-", min_size=3, max_size=10)
BLOCKS = st.builds(
    ModelVirtualEnv,
    packages=WORD_LISTS,
    inherit_pip_config=st.booleans(),
    index_url=st.none() | WORDS,
    extra_index_url=WORD_LISTS,
    find_links=WORD_LISTS,
    trusted_host=WORD_LISTS,
    index_strategy=st.none() | WORDS,
    no_build_isolation=st.booleans(),
)
REQUESTS = st.builds(
    LaunchRequest,
    model_name=NAMES,
    model_engine=st.none() | NAMES.map(str.lower),
    model_format=st.none() | NAMES,
    python_version=st.sampled_from([None, "3.11", "3.12.4"]),
    model_uid=st.none() | NAMES,
    virtualenv=st.none() | BLOCKS,
    enable_virtual_env=st.sampled_from([None, True, False]),
    virtual_env_packages=WORD_LISTS,
    virtual_env_find_links=WORD_LISTS,
    inherit=st.sampled_from([None, *InheritMode]),
    refresh=st.booleans(),
)


@given(request=REQUESTS)
def test_a_request_survives_the_way_through_json(request: LaunchRequest) -> None:
    wire = json.loads(json.dumps(request.to_dict()))
    assert LaunchRequest.from_dict({**wire, "future": [1]}) == request


def test_a_request_needs_nothing_but_a_model_name() -> None:
    assert LaunchRequest.from_dict({"model_name": "m"}) == LaunchRequest(model_name="m")


def test_names_and_versions_of_a_request_are_checked_and_put_into_their_normal_form() -> None:
    request = LaunchRequest.from_dict(
        {"model_name": "m", "model_engine": "vLLM", "inherit": "exact", "python_version": "3.12"}
    )
    assert request.model_engine == "vllm"
    assert request.inherit is InheritMode.EXACT


@pytest.mark.parametrize(
    ("key", "value", "error", "wrong"),
    [
        ("model_name", None, InvalidName, "model name"),
        ("model_name", "..", InvalidName, "model name '..'"),
        ("model_engine", "", InvalidName, "engine name ''"),
        ("model_format", "a/b", InvalidName, "format name 'a/b'"),
        ("model_uid", "a b", InvalidName, "model uid 'a b'"),
        ("python_version", 3.11, InvalidPythonVersion, "Python version 3.11"),
        ("virtualenv", {"packages": 1}, InvalidModelSpec, "virtualenv.packages is of type int"),
        ("enable_virtual_env", "yes", InvalidInput, "enable_virtual_env is of type str"),
        ("virtual_env_packages", "numpy", InvalidInput, "virtual_env_packages is of type str"),
        (
            "virtual_env_find_links",
            [1],
            InvalidInput,
            r"virtual_env_find_links\[0\] is of type int",
        ),
        ("inherit", "all", InvalidInput, "inherit mode 'all'"),
        ("inherit", ["host"], InvalidInput, "inherit mode of type list"),
        ("refresh", 1, InvalidInput, "refresh is of type int"),
        ("version", 2, InvalidInput, "version 2"),
    ],
)
def test_a_wrong_value_in_a_request_is_named(
    key: str, value: object, error: type[InvalidInput], wrong: str
) -> None:
    with pytest.raises(error, match=wrong) as caught:
        LaunchRequest.from_dict({"model_name": "m", key: value})
    assert caught.value.hint


def test_a_request_of_another_version_is_answered_with_the_version_that_is_read() -> None:
    with pytest.raises(InvalidInput) as caught:
        LaunchRequest.from_dict({"model_name": "m", "version": 2})
    assert caught.value.hint == "This version of xinference_venv reads version 1."


@pytest.mark.parametrize("data", [None, [], "m", 1])
def test_a_request_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(InvalidInput, match="The launch request is of type"):
        LaunchRequest.from_dict(data)


def test_the_representation_of_a_request_shows_no_credentials() -> None:
    url = "https://user:hunter22@host/simple"
    data: dict[str, Any] = {
        "model_name": "m",
        "virtual_env_packages": [f"name @ {url}"],
        "virtualenv": {
            "packages": [f"name @ {url}"],
            "index_url": url,
            "extra_index_url": url,
            "find_links": url,
        },
    }
    request = LaunchRequest.from_dict(data)
    assert "hunter22" not in repr(request)
    assert request.virtualenv is not None
    assert request.virtualenv.to_dict()["index_url"] == url


# What is kept of a request


PLAIN = {
    "model_name": "a-model",
    "model_engine": "vllm",
    "virtualenv": {
        "packages": ["torch>=2", "lantern @ https://files.example/lantern-1.0.tar.gz#sha256=0"],
        "index_url": "https://index.example/simple",
        "extra_index_url": ["http://other.example:8080/simple"],
        "find_links": ["/srv/wheels", "file:///srv/wheels"],
        "trusted_host": ["other.example:8080"],
    },
    "virtual_env_packages": ["numpy==1.26 ; python_version < '3.13'"],
    "virtual_env_find_links": ["/srv/more"],
}
SECRETS = ("https://me:hunter22@index.example/", "https://hunter22@index.example/")


def without_restriction(request: LaunchRequest) -> dict[str, object]:
    """The values of a request as releases wrote them that did not restrict any."""
    return {key: value for key, value in request.to_dict().items() if key != "restricted"}


def test_a_request_without_credentials_is_kept_as_it_was_given() -> None:
    request = LaunchRequest.from_dict(PLAIN)
    kept = request.to_keep()
    assert kept == without_restriction(request)
    assert LaunchRequest.from_dict(json.loads(json.dumps(kept))) == request


def test_what_is_of_one_launch_alone_is_not_kept() -> None:
    request = LaunchRequest.from_dict({**PLAIN, "model_uid": "a-model-0", "refresh": True})
    assert request.to_keep() == without_restriction(LaunchRequest.from_dict(PLAIN))


def test_that_a_request_is_restricted_is_kept() -> None:
    kept = LaunchRequest.from_dict({**PLAIN, "restricted": True}).to_keep()
    assert kept is not None and kept["restricted"] is True


@pytest.mark.parametrize("url", [*SECRETS, "https://index.example/?token=hunter22"])
@pytest.mark.parametrize(
    "planted",
    [
        lambda url: {"virtualenv": {"packages": ["torch", f"lantern @ git+{url}lantern.git"]}},
        lambda url: {"virtualenv": {"packages": [f"{url}lantern-1.0-py3-none-any.whl"]}},
        lambda url: {"virtualenv": {"index_url": url}},
        lambda url: {"virtualenv": {"extra_index_url": ["https://plain.example/", url]}},
        lambda url: {"virtualenv": {"find_links": ["/srv/wheels", url]}},
        lambda url: {"virtualenv": {"trusted_host": [url]}},
        lambda url: {"virtualenv": {"index_strategy": url}},
        lambda url: {"virtual_env_packages": [f"lantern[a] @ {url} ; python_version > '3'"]},
        lambda url: {"virtual_env_find_links": [url]},
    ],
)
def test_a_request_with_a_credential_in_any_field_is_not_kept(
    url: str, planted: Callable[[str], dict[str, Any]]
) -> None:
    request = LaunchRequest.from_dict({"model_name": "a-model", **planted(url)})
    assert "hunter22" in json.dumps(request.to_dict())
    assert request.to_keep() is None


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (7, "7"),
        (7.0, "7"),
        (1.8, "1.8"),
        ("0_5", "0.5"),
        ("7.0", "7"),
        ("0.6", "0.6"),
        ("8x7", "8x7"),
    ],
)
def test_the_size_of_a_model_is_one_text_however_it_is_written(written: object, size: str) -> None:
    assert check_model_size(written) == size


@pytest.mark.parametrize(
    ("check", "what"),
    [
        (check_model_size, "model size"),
        (check_quantization, "quantization"),
        (check_engine_name, "engine name"),
    ],
)
def test_what_is_no_name_is_refused_as_what_it_was_to_be(
    check: Callable[[object], str], what: str
) -> None:
    for value, shown in (("a/b", "'a/b'"), (True, "True"), ("a" * 256, "'aaaa")):
        with pytest.raises(InvalidName) as caught:
            check(value)
        assert caught.value.message.startswith(f"Invalid {what} {shown}")


def test_an_engine_name_that_is_too_long_in_lower_case_is_refused_as_one() -> None:
    with pytest.raises(InvalidName, match="Invalid engine name"):
        check_engine_name("\u0130" * 127)


def test_a_quantization_is_returned_as_it_is() -> None:
    assert check_quantization("Int4") == "Int4"


def test_what_is_no_module_is_named() -> None:
    with pytest.raises(InvalidName, match=r"Invalid module name 'torch\.2'"):
        check_modules(["torch.nn", "torch.2"])


def test_a_kind_of_view_is_one_of_those_there_are() -> None:
    assert LaunchRequest.from_dict({"model_name": "m", "view": "files"}).view is ViewKind.FILES
    with pytest.raises(InvalidInput, match="Invalid kind of view 'folders'") as caught:
        LaunchRequest.from_dict({"model_name": "m", "view": "folders"})
    assert "links, files" in (caught.value.hint or "")


def test_a_request_is_shown_without_its_uid_and_not_at_all_with_a_credential() -> None:
    request = LaunchRequest.from_dict({"model_name": "m", "model_uid": "m-0", "refresh": True})
    assert request.to_show() == LaunchRequest.from_dict({"model_name": "m", "refresh": True})
    secret = {"model_name": "m", "virtual_env_packages": ["x @ https://me:hunter22@h/x-1.zip"]}
    assert LaunchRequest.from_dict(secret).to_show() is None


def test_find_links_are_one_text_or_several() -> None:
    with pytest.raises(InvalidModelSpec) as caught:
        ModelVirtualEnv.from_dict({"find_links": 7})
    assert caught.value.hint == "Allowed is a string or a list of strings."
