"""What is relayed, in which order workers are asked, and what a worker fetches for others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import lock
from xinference_venv.errors import InvalidRecord, InvalidSource
from xinference_venv.planning.index_answers import IndexAnswer, IndexFailure
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.relay import (
    Neighbour,
    RelayPolicy,
    WheelFile,
    gives_files,
    in_order,
    origin_of,
    relayed_by_choice,
    wheels_of,
    with_files,
)
from xinference_venv.settings import RelayMode

HASH = 64 * "a"
URL = "https://files.example/lamp-1.0-py3-none-any.whl"
WHEEL: dict[str, Any] = {
    "name": "lamp-1.0-py3-none-any.whl",
    "url": URL,
    "size": 7,
    "hashes": {"sha256": HASH},
}
LAMP: dict[str, Any] = {"name": "lamp", "version": "1.0", "wheels": [WHEEL]}


def wheel(url: str = URL) -> WheelFile:
    return WheelFile(file_name="lamp-1.0-py3-none-any.whl", url=url, sha256=HASH)


def test_the_wheels_of_a_lock_are_those_on_web_servers_with_a_sha256() -> None:
    archive = {**WHEEL, "url": "https://files.example/wick-1.0-py3-none-any.whl"}
    del archive["name"]
    sdist = {"url": "https://files.example/oil-1.0.tar.gz", "hashes": {"sha256": HASH}}
    found = wheels_of(
        lock(
            {**LAMP, "index": "https://index.example/simple"},
            {"name": "wick", "version": "1.0", "archive": archive},
            {"name": "oil", "version": "1.0", "sdist": {"name": "oil-1.0.tar.gz", **sdist}},
            {"name": "md5", "version": "1.0", "wheels": [{**WHEEL, "hashes": {"md5": "x"}}]},
            {"name": "local", "version": "1.0", "wheels": [{**WHEEL, "path": "/w/l.whl"}]},
            {"name": "file", "version": "1.0", "wheels": [{**WHEEL, "url": "file:///w/l.whl"}]},
        )
    )
    assert found == {
        "lamp": WheelFile(
            file_name="lamp-1.0-py3-none-any.whl",
            url="https://files.example/lamp-1.0-py3-none-any.whl",
            sha256=HASH,
            size=7,
        ),
        "wick": WheelFile(
            file_name="wick-1.0-py3-none-any.whl", url=archive["url"], sha256=HASH, size=7
        ),
    }


def test_what_came_as_a_file_is_installed_from_there_with_its_hash() -> None:
    made = lock({**LAMP, "index": "https://index.example/simple"}, {**LAMP, "name": "other"})
    placed, other = with_files(made, {"lamp": "/w/lamp.whl"}).packages
    assert placed == {
        **LAMP,
        "wheels": [
            {"name": WHEEL["name"], "size": 7, "hashes": {"sha256": HASH}, "path": "/w/lamp.whl"}
        ],
    }
    assert other == {**LAMP, "name": "other"}


def test_a_wheel_that_was_asked_for_by_its_url_is_installed_from_its_file_too() -> None:
    archive = {"url": URL, "size": 7, "hashes": {"sha256": HASH}}
    made = lock({"name": "lamp", "version": "1.0", "archive": archive})
    [placed] = with_files(made, {"lamp": "/w/lamp.whl"}).packages
    assert placed == {
        "name": "lamp",
        "version": "1.0",
        "archive": {"size": 7, "hashes": {"sha256": HASH}, "path": "/w/lamp.whl"},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"file_name": "lamp.tar.gz"},
        {"file_name": "lamp-1.0-py3-none-any/.whl"},
        {"file_name": "lamp-1.0-py3-none-any\n.whl"},
        {"file_name": "../lamp-1.0-py3-none-any.whl"},
        {"sha256": "../../etc/passwd"},
        {"sha256": "A" * 64},
        {"url": "file:///etc/passwd"},
        {"url": "ftp://files.example/lamp-1.0-py3-none-any.whl"},
        {"url": "https://me:secret@files.example/lamp-1.0-py3-none-any.whl"},
        {"url": "https://[files.example/"},
    ],
)
def test_what_names_no_wheel_by_its_hash_is_refused(changes: dict[str, str]) -> None:
    data = {**wheel().to_dict(), **changes}
    with pytest.raises(InvalidRecord, match="wheel of a lock: it has no ") as caught:
        WheelFile.from_dict(data)
    assert "secret" not in caught.value.message


def test_which_wheels_are_asked_for_is_the_operator_s_choice() -> None:
    near, far = wheel(), wheel("https://far.example:8443/lamp-1.0-py3-none-any.whl")
    wheels = {"near": near, "far": far}
    unreachable = ["https://far.example:8443"]
    assert relayed_by_choice(RelayMode.OFF, wheels, unreachable) == {}
    assert relayed_by_choice(RelayMode.ON, wheels, []) == wheels
    assert relayed_by_choice(RelayMode.AUTO, wheels, unreachable) == {"far": far}
    assert relayed_by_choice(RelayMode.AUTO, wheels, []) == {}


@pytest.mark.parametrize(
    ("answer", "gives"),
    [
        (IndexAnswer(status=200), True),
        (IndexAnswer(), True),
        (IndexAnswer(status=404), True),
        (IndexAnswer(status=405), True),
        (IndexAnswer(status=501), True),
        (IndexAnswer(status=499), True),
        (IndexAnswer(status=401), False),
        (IndexAnswer(status=402), False),
        (IndexAnswer(status=403), False),
        (IndexAnswer(status=451), False),
        (IndexAnswer(status=500), False),
        (IndexAnswer(status=502), False),
        (IndexAnswer(status=407), False),
        (IndexAnswer(status=429), False),
        (IndexAnswer(status=503), False),
        (IndexAnswer(status=200, login=True), False),
        *((IndexAnswer(failure=each), False) for each in IndexFailure),
    ],
)
def test_who_gives_files_is_seen_by_the_answer(answer: IndexAnswer, gives: bool) -> None:
    assert gives_files(answer) is gives


neighbours = st.lists(
    st.builds(Neighbour, address=st.text(min_size=1), incarnation=st.just("x")),
    unique_by=lambda each: each.address,
)


@given(neighbours, st.randoms())
def test_all_who_ask_for_a_wheel_ask_in_the_same_order(some: list[Neighbour], random: Any) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert in_order(HASH, some) == in_order(HASH, shuffled)
    # Who leaves changes nothing for the others.
    if some:
        gone = some[0]
        assert in_order(HASH, some[1:]) == [e for e in in_order(HASH, some) if e is not gone]


def test_workers_share_the_wheels() -> None:
    workers = [Neighbour(address=f"10.0.0.{each}:1", incarnation="x") for each in range(4)]
    first = [in_order(f"{each:064x}", workers)[0].address for each in range(400)]
    assert all(first.count(each.address) > 50 for each in workers)


def test_an_origin_is_scheme_host_and_port() -> None:
    assert origin_of("https://Files.Example/x.whl") == "https://files.example:443"
    assert origin_of("http://me:secret@h:8080/x.whl") == "http://h:8080"
    assert origin_of("http://h/x.whl") == "http://h:80"
    assert origin_of("https:///x.whl") == ""
    assert wheel("https://h/x.whl").origin == "https://h:443"
    assert origin_of("file:///x.whl") == origin_of("/x.whl") == origin_of("http://h:x/") == ""


PIP = PipConfig(
    index_url="https://me:secret@index.example:8443/simple",
    extra_index_url=("https://extra.example/simple",),
    find_links=("/srv", "https://links.example/"),
)


@pytest.mark.parametrize(
    ("url", "allowed", "offline", "fits"),
    [
        ("https://files.pythonhosted.org/x.whl", (), False, True),
        ("https://files.pythonhosted.org/x.whl", (), True, False),
        ("https://files.pythonhosted.org/x.whl", ("index.example",), False, False),
        ("https://index.example:8443/x.whl", (), False, True),
        ("https://index.example:8443/x.whl", (), True, True),
        ("https://extra.example/x.whl", (), False, True),
        ("https://links.example/x.whl", (), False, True),
        # Another port of the same host is another server.
        ("https://index.example/x.whl", (), False, False),
        ("http://169.254.169.254/x.whl", (), False, False),
        ("http://127.0.0.1:6379/x.whl", (), False, False),
        ("https://files.example/x.whl", ("files.example",), False, True),
    ],
)
def test_a_worker_fetches_only_from_where_its_operator_allows(
    url: str, allowed: tuple[str, ...], offline: bool, fits: bool
) -> None:
    policy = RelayPolicy.of(allowed, PIP, offline=offline)
    if fits:
        policy.check(wheel(url))
    else:
        with pytest.raises(InvalidSource, match="relays nothing"):
            policy.check(wheel(url))


def test_offline_a_worker_fetches_from_no_public_host_even_if_pip_names_it() -> None:
    pip = PipConfig(index_url="https://pypi.org/simple")
    url = "https://pypi.org/x.whl"
    RelayPolicy.of((), pip, offline=False).check(wheel(url))
    for allowed in ((), ("pypi.org",)):
        with pytest.raises(InvalidSource):
            RelayPolicy.of(allowed, pip, offline=True).check(wheel(url))


def test_a_refusal_names_the_url_without_credentials_shortened_and_what_is_relayed() -> None:
    url = f"https://me:secret@h.example/{'x' * 300}"
    with pytest.raises(InvalidSource) as caught:
        RelayPolicy.of((), PIP, offline=False).check(wheel(url))
    shown = f"https://****@h.example/{'x' * 300}"[:200]
    assert caught.value.message.startswith(f"'{shown}' is on a host")
    assert "XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS" in (caught.value.hint or "")
