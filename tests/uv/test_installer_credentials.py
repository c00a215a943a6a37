"""Credentials at an install: each goes back to the place it was given for, and to no other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SHA256, lock, wheel_package
from xinference_venv.planning.pylock import strip_credentials
from xinference_venv.uv.installer import with_credentials

HASHES = {"sha256": SHA256}


def archive(url: str) -> dict[str, Any]:
    document = lock({"name": "pkg", "archive": {"url": url, "hashes": HASHES}}).pylock()
    return dict(document)


def vcs(url: str) -> dict[str, Any]:
    commit = {"type": "git", "url": url, "commit-id": "0123"}
    return dict(lock({"name": "pkg", "vcs": commit}).pylock())


@pytest.mark.parametrize(
    ("locked", "asked", "fetched"),
    [
        # A direct URL gets its own login and query back,
        (
            "https://host.example/pkg.zip",
            "https://user:pw@host.example/pkg.zip?sig=abc",
            "https://user:pw@host.example/pkg.zip?sig=abc",
        ),
        # though a lock names it without its fragment and with the host in lower case.
        (
            "https://host.example/pkg.zip",
            "https://Host.Example/pkg.zip?sig=abc#sha256=0123",
            "https://host.example/pkg.zip?sig=abc",
        ),
        # A file of an index gets the login of the index.
        (
            "https://host.example/files/pkg.zip",
            "https://user:p%40ss@host.example/simple",
            "https://user:p%40ss@host.example/files/pkg.zip",
        ),
        (
            "https://host.example:8443/pkg.zip",
            "https://user:pw@host.example:8443/simple",
            "https://user:pw@host.example:8443/pkg.zip",
        ),
    ],
)
def test_a_url_gets_the_credentials_that_it_was_asked_for_with(
    locked: str, asked: str, fetched: str
) -> None:
    assert with_credentials(archive(locked), [asked]) == archive(fetched)


@pytest.mark.parametrize(
    ("locked", "asked", "fetched"),
    [
        (
            "https://git.example/repo.git",
            "git+https://token@git.example/repo.git@v1#subdirectory=a",
            "https://git.example/repo.git",
        ),
        (
            "ssh://git.example/repo.git",
            "git+ssh://git@git.example/repo.git@main",
            "ssh://git@git.example/repo.git",
        ),
    ],
)
def test_a_repository_gets_the_user_of_ssh_back_and_no_login_of_https_which_git_reads_itself(
    locked: str, asked: str, fetched: str
) -> None:
    assert with_credentials(vcs(locked), [asked]) == vcs(fetched)


@pytest.mark.parametrize(
    "url",
    [
        "https://another.example/pkg.zip",
        "http://host.example/pkg.zip",
        "https://host.example:8443/pkg.zip",
        "https://host.example.evil.example/pkg.zip",
        "file:///wheels/pkg.zip",
    ],
)
def test_no_other_host_port_or_scheme_hears_of_a_login(url: str) -> None:
    asked = ["https://user:pw@host.example/simple", "https://host.example/other.zip?sig=abc"]
    assert with_credentials(archive(url), asked) == archive(url)


def test_of_two_logins_for_a_host_the_first_serves_what_is_not_asked_for_by_itself() -> None:
    asked = [
        "https://one:pw@host.example/pkg.zip?sig=abc",
        "https://two:pw@host.example/simple",
    ]
    found = with_credentials(archive("https://host.example/other.zip"), asked)
    assert found == archive("https://one:pw@host.example/other.zip")


def test_only_the_places_of_files_change() -> None:
    document = lock(wheel_package("numpy"), wheel_package("six")).pylock()
    before = copy.deepcopy(document)
    found = with_credentials(document, ["https://user:pw@files.example/simple"])
    assert document == before
    assert [package["index"] for package in found["packages"]] == [
        "https://files.example/simple"
    ] * 2
    for package in found["packages"]:
        [wheel] = package["wheels"]
        assert wheel["url"].startswith("https://user:pw@files.example/")
    assert stripped(found) == document


def stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: strip_credentials(each) if key == "url" else stripped(each)
            for key, each in value.items()
        }
    return [stripped(each) for each in value] if isinstance(value, list) else value


hosts = st.sampled_from(["a.example", "b.example:8443"])
paths = st.sampled_from(["/simple", "/pkg-1.0.zip", "/pkg-2.0.zip"])
logins = st.sampled_from(["", "user:pw@", "token@", "u:p%40ss@"])
queries = st.sampled_from(["", "?sig=abc", "?sig=abc&expires=1"])
asked_urls = st.builds("https://{}{}{}{}".format, logins, hosts, paths, queries)


@given(
    st.lists(st.builds("https://{}{}".format, hosts, paths), max_size=4),
    st.lists(asked_urls, max_size=4),
)
def test_credentials_come_only_from_what_was_asked_and_strip_off_again(
    locked: list[str], asked: list[str]
) -> None:
    tables = [
        {"name": f"p{n}", "archive": {"url": u, "hashes": HASHES}} for n, u in enumerate(locked)
    ]
    document = lock(*tables).pylock()
    found = with_credentials(document, asked)
    assert stripped(found) == document
    assert with_credentials(document, []) == document
    for package in found["packages"]:
        url = package["archive"]["url"]
        if strip_credentials(url) in map(strip_credentials, asked):
            assert url in asked
