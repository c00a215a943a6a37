from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.uv.environment import scrubbed_environment, version_manager_directories

AMBIENT = {
    "HOME": "/home/someone",
    "PATH": "/usr/bin:/home/someone/.pyenv/shims:/bin",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/ssl/certs.pem",
    "CC": "gcc",
    "UV_HTTP_TIMEOUT": "60",
    "UV_INDEX": "https://elsewhere.example/simple",
    "UV_CACHE_DIR": "/elsewhere",
    "UV_CONSTRAINT": "/constraints.txt",
    "UV_EXCLUDE_NEWER": "2020-01-01",
    "PIP_INDEX_URL": "https://elsewhere.example/simple",
    "PYTHONPATH": "/elsewhere",
    "PYTHONHOME": "/elsewhere",
    "CONDA_PREFIX": "/conda",
    "VIRTUAL_ENV": "/elsewhere",
    "XOSCAR_AUTH_KEY": "a key",
}


def test_what_changes_a_resolution_is_dropped_and_what_reaches_the_network_stays() -> None:
    kept = scrubbed_environment(AMBIENT, cache_dir="/cache", python_directories=["/pyenv/3.12/bin"])
    assert kept == {
        "HOME": "/home/someone",
        "PATH": "/usr/bin:/bin:/pyenv/3.12/bin",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/etc/ssl/certs.pem",
        "CC": "gcc",
        "UV_HTTP_TIMEOUT": "60",
        "UV_CACHE_DIR": "/cache",
        "NO_COLOR": "1",
    }


def test_without_a_cache_uv_has_its_own() -> None:
    assert "UV_CACHE_DIR" not in scrubbed_environment(AMBIENT, cache_dir=None)


@pytest.mark.parametrize("path", [None, "", ":", "/usr/bin::", ":/usr/bin"])
def test_the_working_directory_is_never_on_the_search_path(path: str | None) -> None:
    environ = {} if path is None else {"PATH": path}
    kept = scrubbed_environment(environ, cache_dir=None, python_directories=["/pyenv/bin"])
    assert "" not in kept["PATH"].split(":")


@given(
    st.dictionaries(
        st.sampled_from(["UV_", "PIP_", "PYTHON", "CONDA_", "OTHER_"]).flatmap(
            lambda prefix: st.from_regex("[A-Z]{1,6}", fullmatch=True).map(lambda s: prefix + s)
        ),
        st.text(max_size=3),
    )
)
def test_no_variable_of_an_installer_is_passed_on(environ: dict[str, str]) -> None:
    kept = scrubbed_environment(environ, cache_dir=None)
    assert kept.keys() - {"PATH", "NO_COLOR"} == {name for name in environ if "OTHER_" in name}


def test_the_interpreters_of_pyenv_are_found_and_those_too_old_for_uv_are_not(
    tmp_path: Path,
) -> None:
    versions = tmp_path / ".pyenv" / "versions"
    for version in ("2.7.18", "3.6.15", "3.7.16", "3.8.18", "3.12.1", "3.13-dev", "pypy3.10-7.3"):
        (versions / version / "bin").mkdir(parents=True)
    (versions / "3.11.0").mkdir()  # an installation that failed
    expected = [str(versions / each / "bin") for each in ("3.13-dev", "3.12.1", "3.8.18")]
    assert version_manager_directories({}, str(tmp_path)) == expected
    assert version_manager_directories({"PYENV_ROOT": ""}, str(tmp_path)) == expected
    root = {"PYENV_ROOT": str(tmp_path / ".pyenv")}
    assert version_manager_directories(root, "/nowhere") == expected
    assert version_manager_directories({}, "/nowhere") == []
