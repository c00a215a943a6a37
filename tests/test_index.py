from __future__ import annotations

import hashlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import urljoin, urlsplit

import pytest

from tests.index import Index, black_hole, dead_port, uv_pip
from tests.wheels import build_sdist, build_wheel


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    build_wheel(folder, "alpha", "1.0", requires=["beta"])
    build_wheel(folder, "beta", "2.0+cpu", requires_python=">=3.8")
    return folder


@pytest.fixture
def index(files: Path) -> Iterator[Index]:
    with Index(files) as index:
        yield index


def _open(index: Index, path: str) -> HTTPResponse:
    answer: HTTPResponse = urllib.request.urlopen(urljoin(index.url, path), timeout=10)
    return answer


def _get(index: Index, path: str) -> bytes:
    with _open(index, path) as answer:
        return answer.read()


def _status(index: Index, path: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _get(index, path)
    caught.value.close()
    return caught.value.code


def _install(index_url: str, tmp_path: Path) -> CompletedProcess[str]:
    return uv_pip(
        *("install", "alpha", "--default-index", index_url, "--target", tmp_path / "site"),
        cache=tmp_path / "cache",
    )


ALPHA = "/files/alpha-1.0-py3-none-any.whl"


def test_a_page_links_files_with_their_hashes(index: Index, files: Path) -> None:
    page = _get(index, "/simple/beta/").decode()
    digest = hashlib.sha256((files / "beta-2.0+cpu-py3-none-any.whl").read_bytes()).hexdigest()
    assert f'href="/files/beta-2.0%2Bcpu-py3-none-any.whl#sha256={digest}"' in page
    assert 'data-requires-python="&gt;=3.8"' in page
    metadata = _get(index, "/files/beta-2.0%2Bcpu-py3-none-any.whl.metadata")
    assert f'data-dist-info-metadata="sha256={hashlib.sha256(metadata).hexdigest()}"' in page


def test_a_file_that_is_added_later_is_served(index: Index, files: Path) -> None:
    assert _status(index, "/simple/gamma-delta/") == 404
    build_sdist(files, "gamma-delta", "3.0")
    assert "gamma_delta-3.0.tar.gz" in _get(index, "/simple/gamma-delta/").decode()
    assert "/simple/gamma-delta/" in _get(index, "/simple/").decode()


def test_a_hash_stays_that_of_the_first_sight(index: Index, files: Path) -> None:
    before = _get(index, "/simple/alpha/")
    (files / "alpha-1.0-py3-none-any.whl").write_bytes(b"other")
    assert _get(index, "/simple/alpha/") == before


def test_requests_are_recorded_and_forgotten(index: Index) -> None:
    _get(index, "/simple/alpha/")
    assert index.requests == ["GET /simple/alpha/"]
    index.clear()
    assert index.requests == []


def test_waiting_for_a_request_that_never_comes_ends(index: Index) -> None:
    with pytest.raises(TimeoutError, match="no request for /files"):
        index.wait_for_request("/files/*", timeout=0.01)


def test_the_fault_set_last_acts_until_it_is_healed(index: Index) -> None:
    index.fail("/simple/*")
    index.fail("/simple/alpha/", status=429)
    assert _status(index, "/simple/alpha/") == 429
    assert _status(index, "/simple/beta/") == 500
    index.heal()
    assert _get(index, "/simple/alpha/")


def test_a_cut_answer_announces_the_full_length(index: Index, files: Path) -> None:
    size = (files / "alpha-1.0-py3-none-any.whl").stat().st_size
    index.cut("/files/*", after_bytes=10)
    with pytest.raises(IncompleteRead) as caught:
        _get(index, ALPHA)
    assert len(caught.value.partial) == 10
    assert caught.value.expected == size - 10


def test_a_slow_answer_sends_half_and_then_the_rest(index: Index, files: Path) -> None:
    event = threading.Event()
    index.slow(ALPHA, event)
    content = (files / "alpha-1.0-py3-none-any.whl").read_bytes()
    with _open(index, ALPHA) as answer:
        half = answer.read(len(content) // 2)
        event.set()
        assert half + answer.read() == content


def test_a_head_is_answered_as_a_get_without_content(index: Index, files: Path) -> None:
    request = urllib.request.Request(urljoin(index.url, ALPHA), method="HEAD")
    with urllib.request.urlopen(request, timeout=10) as answer:
        size = (files / "alpha-1.0-py3-none-any.whl").stat().st_size
        assert int(answer.headers["Content-Length"]) == size
        assert answer.read() == b""
    assert index.requests == [f"HEAD {ALPHA}"]


def test_a_redirect_leads_to_another_path_until_it_is_healed(index: Index) -> None:
    index.redirect("/simple/alpha/", "/simple/beta/")
    assert b"beta-2.0" in _get(index, "/simple/alpha/")
    assert index.requests == ["GET /simple/alpha/", "GET /simple/beta/"]
    index.heal()
    assert b"alpha-1.0" in _get(index, "/simple/alpha/")


def test_another_content_is_served_in_the_place_of_a_file(index: Index) -> None:
    index.replace("/files/*", b"<html>Log in</html>")
    with _open(index, ALPHA) as answer:
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.read() == b"<html>Log in</html>"


def test_leaving_ends_what_hangs_and_closes_what_is_kept_alive(files: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with Index(files) as index:
            idle = socket.create_connection(("127.0.0.1", urlsplit(index.url).port or 0))
            index.hang("/simple/*")
            hanging = pool.submit(_get, index, "/simple/alpha/")
            index.wait_for_request("/simple/alpha/")
        with idle:
            assert idle.recv(1) == b""
        assert isinstance(hanging.exception(), OSError)


@pytest.mark.uv
def test_uv_installs_and_reads_metadata_apart_from_the_wheels(index: Index, tmp_path: Path) -> None:
    ended = _install(index.url, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "site" / "beta.py").is_file()
    assert sorted(index.requests) == [
        f"GET {ALPHA}",
        f"GET {ALPHA}.metadata",
        "GET /files/beta-2.0+cpu-py3-none-any.whl",
        "GET /files/beta-2.0+cpu-py3-none-any.whl.metadata",
        "GET /simple/alpha/",
        "GET /simple/beta/",
    ]


@pytest.mark.uv
def test_uv_needs_the_credentials_that_are_required(index: Index, tmp_path: Path) -> None:
    url = index.require_auth("ann", "p@ss/word")
    refused = _install(index.url, tmp_path)
    assert refused.returncode != 0
    assert set(index.requests) == {"GET /simple/alpha/"}
    accepted = _install(url, tmp_path)
    assert accepted.returncode == 0, accepted.stderr
    assert f"GET {ALPHA} authorized" in index.requests


@pytest.mark.uv
def test_uv_fails_on_an_error_status(index: Index, tmp_path: Path) -> None:
    index.fail(ALPHA, status=503)
    ended = _install(index.url, tmp_path)
    assert ended.returncode != 0
    assert "503" in ended.stderr


@pytest.mark.uv
def test_uv_fails_on_a_cut_wheel_and_heals(index: Index, tmp_path: Path) -> None:
    index.cut(ALPHA, after_bytes=100)
    assert _install(index.url, tmp_path).returncode != 0
    index.heal()
    assert _install(index.url, tmp_path).returncode == 0


@pytest.mark.uv
def test_uv_waits_for_a_hanging_index_until_it_is_released(index: Index, tmp_path: Path) -> None:
    index.hang(ALPHA)
    with ThreadPoolExecutor() as pool:
        install = pool.submit(_install, index.url, tmp_path)
        index.wait_for_request(ALPHA)
        assert not install.done()
        index.release()
        assert install.result().returncode == 0


@pytest.mark.uv
def test_uv_fails_at_once_on_a_dead_port(tmp_path: Path) -> None:
    ended = _install(f"http://127.0.0.1:{dead_port()}/simple/", tmp_path)
    assert ended.returncode != 0
    assert "Connection refused" in ended.stderr


def test_a_black_hole_never_answers_a_connect() -> None:
    with black_hole() as port, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.3)
