from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import InvalidInput
from xinference_venv.settings import InheritMode, RelayMode, Settings, ViewKind


def settings(**environ: str) -> Settings:
    return Settings.from_environ(environ, home_directory="/home/someone")


DEFAULTS = Settings(
    home="/home/someone/.xinference",
    enable_virtual_env=True,
    skip_installed=True,
    offline_install=False,
    find_links_allowed_roots=(),
    allowed_hosts=(),
    uv_path=None,
    uv_cache_dir=None,
    uv_processes=5,
    build_timeout=3600,
    patience=120,
    inherit=InheritMode.HOST,
    view=ViewKind.LINKS,
    must_import=(),
    must_import_alone=(),
    max_bytes=None,
    max_unused=None,
    allow_source_builds=True,
    prove_imports=True,
    max_age_gap=180 * 86400.0,
    resolution_max_age=600.0,
    constraints=(),
    overrides=(),
    exclude=(),
    build_constraints=(),
    relay=RelayMode.AUTO,
    relay_max_bytes=10_000_000_000,
    python_downloads=False,
    spec_dir="/home/someone/.xinference/virtualenv/models",
    host_python=None,
    torch_backend=None,
    cuda_version=None,
    cuda_arch=None,
    has_npu=None,
)

VARIABLES = [
    ("XINFERENCE_ENABLE_VIRTUAL_ENV", "0", "enable_virtual_env", False),
    ("XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED", "off", "skip_installed", False),
    ("XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL", "1", "offline_install", True),
    (
        "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS",
        "/srv/a:/srv/b/, /srv/c,",
        "find_links_allowed_roots",
        ("/srv/a", "/srv/b", "/srv/c"),
    ),
    ("XOSCAR_UV_PATH", "/usr/bin/uv", "uv_path", "/usr/bin/uv"),
    ("UV_CACHE_DIR", "/var/cache/uv/", "uv_cache_dir", "/var/cache/uv"),
    ("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "64", "uv_processes", 64),
    ("XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT", " 60 ", "build_timeout", 60),
    ("XINFERENCE_VIRTUAL_ENV_INHERIT", "Exact", "inherit", InheritMode.EXACT),
    ("XINFERENCE_VIRTUAL_ENV_MAX_BYTES", "20GiB", "max_bytes", 20 * 2**30),
    ("XINFERENCE_VIRTUAL_ENV_MAX_UNUSED", "30d", "max_unused", 30 * 86_400.0),
    ("XINFERENCE_VIRTUAL_ENV_RELAY", "On", "relay", RelayMode.ON),
    ("XINFERENCE_VIRTUAL_ENV_RELAY_MAX_BYTES", "2GB", "relay_max_bytes", 2_000_000_000),
    ("XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES", "no", "allow_source_builds", False),
    ("XINFERENCE_VIRTUAL_ENV_PROOF", "0", "prove_imports", False),
    ("XINFERENCE_VIRTUAL_ENV_MAX_AGE_GAP", "30d", "max_age_gap", 30 * 86400.0),
    ("XINFERENCE_VIRTUAL_ENV_MAX_AGE_GAP", "0s", "max_age_gap", 0.0),
    ("XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE", "120s", "resolution_max_age", 120.0),
    (
        "XINFERENCE_VIRTUAL_ENV_CONSTRAINTS",
        "numpy<3 b>=1,<2",
        "constraints",
        ("numpy<3", "b<2,>=1"),
    ),
    ("XINFERENCE_VIRTUAL_ENV_OVERRIDES", "numpy<3", "overrides", ("numpy<3",)),
    ("XINFERENCE_VIRTUAL_ENV_EXCLUDE", "Triton, b", "exclude", ("triton", "b")),
    (
        "XINFERENCE_VIRTUAL_ENV_BUILD_CONSTRAINTS",
        "setuptools<81",
        "build_constraints",
        ("setuptools<81",),
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT",
        "Xinference, my.pkg",
        "must_import",
        ("xinference", "my-pkg"),
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT_ALONE",
        "xinference",
        "must_import_alone",
        ("xinference",),
    ),
    ("XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS", "Yes", "python_downloads", True),
    ("XINFERENCE_VIRTUAL_ENV_SPEC_DIR", "/etc/models", "spec_dir", "/etc/models"),
    ("XINFERENCE_VIRTUAL_ENV_HOST_PYTHON", "/usr/bin/python3", "host_python", "/usr/bin/python3"),
    ("XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND", "cu128", "torch_backend", "cu128"),
    ("XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND", "none", "torch_backend", "none"),
    ("XINFERENCE_VIRTUAL_ENV_CUDA_VERSION", "12.8", "cuda_version", "12.8"),
    ("XINFERENCE_VIRTUAL_ENV_CUDA_ARCH", "sm_90a", "cuda_arch", "sm_90a"),
    ("XINFERENCE_VIRTUAL_ENV_HAS_NPU", "false", "has_npu", False),
]


def test_without_variables_the_defaults_count() -> None:
    assert settings() == DEFAULTS
    assert DEFAULTS.virtualenv_dir == "/home/someone/.xinference/virtualenv"


@pytest.mark.parametrize(("variable", "value", "name", "expected"), VARIABLES)
def test_a_variable_sets_its_setting_and_no_other(
    variable: str, value: str, name: str, expected: object
) -> None:
    found = settings(**{variable: value})
    assert getattr(found, name) == expected
    differing = {
        each for each in Settings.__slots__ if getattr(found, each) != getattr(DEFAULTS, each)
    }
    assert differing == {name}


@pytest.mark.parametrize("variable", [each[0] for each in VARIABLES])
def test_an_empty_variable_counts_as_not_set(variable: str) -> None:
    assert settings(**{variable: " "}) == DEFAULTS


def test_the_store_and_the_models_specs_lie_in_the_home() -> None:
    found = settings(XINFERENCE_HOME="/data/")
    assert (found.home, found.virtualenv_dir) == ("/data", "/data/virtualenv")
    assert found.spec_dir == "/data/virtualenv/models"
    assert settings(XINFERENCE_HOME="/").virtualenv_dir == "/virtualenv"


@pytest.mark.parametrize(
    ("variable", "value", "shown", "allowed"),
    [
        ("XINFERENCE_HOME", "data", "'data'", "absolute paths"),
        ("XINFERENCE_HOME", "~/data", "'~/data'", "absolute paths"),
        ("XINFERENCE_HOME", "/a\nb", r"'/a\nb'", "absolute paths"),
        (
            "XINFERENCE_ENABLE_VIRTUAL_ENV",
            "maybe",
            "'maybe'",
            "1, 0, true, false, yes, no, on and off",
        ),
        (
            "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS",
            "/a:b",
            "'b'",
            "absolute paths",
        ),
        ("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "0", "'0'", "whole numbers from 1 to 64"),
        ("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "65", "'65'", "whole numbers from 1 to 64"),
        ("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "²", "'²'", "whole numbers from 1 to 64"),
        ("XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT", "1.5", "'1.5'", "whole numbers from 1 to 604800"),
        (
            "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT",
            "9" * 5000,
            "'9999",
            "whole numbers from 1 to 604800",
        ),
        ("XINFERENCE_VIRTUAL_ENV_MAX_BYTES", "-1", "'-1'", "sizes like 500GB or 20GiB"),
        ("XINFERENCE_VIRTUAL_ENV_MAX_UNUSED", "30", "'30'", "durations like 30d or 12h"),
        ("XINFERENCE_VIRTUAL_ENV_INHERIT", "all", "'all'", "host, exact, none"),
        ("XINFERENCE_VIRTUAL_ENV_CUDA_VERSION", "12", "'12'", "a version like 12.8"),
        ("XINFERENCE_VIRTUAL_ENV_CUDA_ARCH", "9.0", "'9.0'", "an architecture like sm_90"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(
    variable: str, value: str, shown: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings(**{variable: value})
    assert caught.value.message.startswith(f"Invalid value {shown}")
    assert caught.value.message.endswith(variable)
    assert caught.value.hint == f"Allowed: {allowed}."
    assert len(caught.value.message) < 400


def test_a_credential_in_a_bad_value_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        settings(UV_CACHE_DIR="https://user:hunter22@host/")
    assert "hunter22" not in caught.value.message


@given(
    word=st.sampled_from(["1", "true", "yes", "on", "0", "false", "no", "off"]),
    upper=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_boolean_words_compare_without_case(word: str, upper: list[bool]) -> None:
    mixed = "".join(c.upper() if up else c for c, up in zip(word, upper, strict=False))
    assert settings(XINFERENCE_VIRTUAL_ENV_HAS_NPU=mixed).has_npu is (
        word in ("1", "true", "yes", "on")
    )
