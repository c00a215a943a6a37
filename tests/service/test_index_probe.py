"""What places of packages answer, or why there is no answer, over real sockets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.index import Index, black_hole, dead_port
from tests.tls import HOURS, self_signed, serving, signed_by_an_authority
from xinference_venv.planning.index_answers import IndexAnswer, IndexFailure, Place
from xinference_venv.service.index_probe import answers_of

SECRET = "opensesame"


async def answer_of(
    url: str, *, trusted: bool = False, deadline: float = 30.0, **variables: str
) -> IndexAnswer:
    places = [Place(what="index", url=url, trusted=trusted)]
    [answer] = await answers_of(places, variables, deadline)
    return answer


async def test_an_index_that_works_answers_with_its_status_and_the_time(index: Index) -> None:
    answer = await answer_of(index.url)
    assert (answer.status, answer.failure) == (200, None)
    assert answer.ahead is not None and abs(answer.ahead) < 30
    assert index.requests == ["GET /simple/"]


async def test_a_clock_that_differs_is_measured() -> None:
    with serving() as port:
        answer = await answer_of(f"http://127.0.0.1:{port}/simple/")
    assert answer.ahead is not None and abs(answer.ahead - HOURS) < 30


async def test_an_error_is_an_answer(index: Index) -> None:
    index.fail("/simple/", 503)
    assert (await answer_of(index.url)).status == 503


async def test_credentials_are_sent_to_their_own_host_alone(index: Index, tmp_path: Path) -> None:
    url = index.require_auth("me", f"{SECRET}/@")
    assert (await answer_of(index.url)).status == 401
    assert (await answer_of(url)).status == 200
    assert index.requests[-1] == "GET /simple/ authorized"
    with Index(tmp_path / "wheels") as other:
        index.redirect("/simple/", other.url)
        assert (await answer_of(url)).status == 200
        [request] = other.requests
    assert not request.endswith("authorized")


async def test_who_does_not_listen_refuses_the_connection() -> None:
    answer = await answer_of(f"http://me:{SECRET}@127.0.0.1:{dead_port()}/simple/")
    assert answer.failure is IndexFailure.CONNECTION
    assert SECRET not in answer.words


async def test_who_swallows_packets_is_given_up_at_the_deadline() -> None:
    with black_hole() as port:
        answer = await answer_of(f"http://127.0.0.1:{port}/simple/", deadline=0.5)
    assert answer.failure is IndexFailure.TIMEOUT


async def test_who_takes_a_request_and_says_nothing_is_given_up_too(index: Index) -> None:
    index.hang("/simple/")
    assert (await answer_of(index.url, deadline=0.5)).failure is IndexFailure.TIMEOUT


async def test_a_name_that_no_one_knows_is_distinguished_from_a_dead_port() -> None:
    answer = await answer_of("http://nowhere.invalid/simple/")
    assert answer.failure is IndexFailure.NAME


async def test_who_speaks_no_tls_is_reported(index: Index) -> None:
    answer = await answer_of(index.url.replace("http:", "https:"))
    assert answer.failure is IndexFailure.TLS


async def test_a_certificate_that_no_one_signed_is_refused_unless_its_host_is_trusted(
    tmp_path: Path,
) -> None:
    with serving(self_signed(tmp_path)) as port:
        url = f"https://127.0.0.1:{port}/simple/"
        refused = await answer_of(url)
        trusted = await answer_of(url, trusted=True)
    assert (refused.failure, trusted.status) == (IndexFailure.TLS, 200)
    assert "self-signed" in refused.words.replace("self signed", "self-signed")


async def test_a_folder_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    there = await answer_of((tmp_path / "with space").as_uri())
    assert (there.status, there.failure) == (None, None)
    assert (await answer_of((tmp_path / "absent").as_uri())).failure is IndexFailure.ABSENT


async def test_all_are_asked_at_once_and_answered_in_order(index: Index) -> None:
    index.hang("/simple/")
    places = [Place(what="index", url=url) for url in (index.url, f"{index.url}absent/")]
    slow, fast = await answers_of(places, {}, 1.0)
    assert (slow.failure, fast.status) == (IndexFailure.TIMEOUT, 404)


async def test_a_page_that_asks_for_a_login_is_no_page_of_an_index(index: Index) -> None:
    assert not (await answer_of(index.url)).login
    index.replace("/simple/", b'<html><form method="post"><input type=password></form></html>')
    answer = await answer_of(index.url)
    assert (answer.status, answer.login) == (200, True)


@pytest.mark.parametrize("variable", ["NETRC", "SSL_CERT_FILE", "SSL_CLIENT_CERT"])
async def test_a_pipe_that_no_one_writes_into_is_not_waited_for(
    index: Index, tmp_path: Path, variable: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = [Place(what="index", url=index.url)]
    [answer] = await answers_of(places, {variable: str(tmp_path / "pipe")}, 30.0)
    if variable == "NETRC":
        assert answer.status == 200
    else:
        assert (answer.failure, "regular file" in answer.words) == (IndexFailure.TLS, True)


@pytest.mark.parametrize("named", ["HOME", "NETRC"])
async def test_the_user_s_netrc_is_asked_as_uv_does(
    index: Index, tmp_path: Path, named: str
) -> None:
    index.require_auth("ada", SECRET)
    file = tmp_path / ".netrc"
    file.write_text(f"machine 127.0.0.1 login ada password {SECRET}\n")
    variables = {named: str(tmp_path if named == "HOME" else file)}
    place = Place(what="index", url=index.url)
    assert [each.status for each in await answers_of([place], variables)] == [200]
    file.write_text("machine is damaged")
    assert [each.status for each in await answers_of([place], variables)] == [401]


async def test_the_authority_and_the_proxy_of_the_configuration_count(
    index: Index, tmp_path: Path
) -> None:
    assert (await answer_of("http://index.invalid/simple/", HTTP_PROXY=index.url)).status == 404
    nobody = f"http://127.0.0.1:{dead_port()}"
    failing = await answer_of(index.url, HTTP_PROXY=nobody)
    assert failing.failure is IndexFailure.CONNECTION
    assert (await answer_of(index.url, HTTP_PROXY=nobody, NO_PROXY="127.0.0.1")).status == 200
    context, authority = signed_by_an_authority(tmp_path)
    index.serve_tls(context)
    url = index.url.replace("http:", "https:")
    assert (await answer_of(url)).failure is IndexFailure.TLS
    assert (await answer_of(url, SSL_CERT_FILE=str(authority))).status == 200
    absent = await answer_of(url, SSL_CERT_FILE=str(tmp_path / "absent"))
    assert absent.failure is IndexFailure.TLS
