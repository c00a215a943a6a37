"""Which places are asked whether they are there, and which answers ask for a login."""

from __future__ import annotations

import pytest

from xinference_venv.planning.index_answers import Place, is_login_page, is_trusted, places_of
from xinference_venv.planning.sources import PackageSources


def urls(**sources: object) -> list[tuple[str, str]]:
    places = places_of(PackageSources(**sources))  # type: ignore[arg-type]
    return [(each.what, each.url) for each in places]


def test_without_any_source_of_its_own_pypi_is_asked() -> None:
    assert urls() == [("index", "https://pypi.org/simple/")]


def test_places_are_asked_in_the_order_in_which_uv_asks_them() -> None:
    assert urls(
        index_url="https://main/simple",
        extra_index_urls=("https://one/simple", "https://two/simple"),
        find_links=("https://links/", "/srv/wheels"),
    ) == [
        ("index", "https://one/simple"),
        ("index", "https://two/simple"),
        ("index", "https://main/simple"),
        ("find-links", "https://links/"),
        ("find-links", "file:///srv/wheels"),
    ]


def test_of_a_folder_whose_name_means_something_in_a_url_the_whole_is_looked_at() -> None:
    assert urls(no_index=True, find_links=("/srv/wheels#1 100%",)) == [
        ("find-links", "file:///srv/wheels%231%20100%25")
    ]


def test_without_an_index_only_the_other_places_are_asked() -> None:
    assert urls(no_index=True, index_url="https://main/simple", find_links=("/srv/wheels",)) == [
        ("find-links", "file:///srv/wheels")
    ]


def test_an_index_that_is_a_folder_is_asked_as_a_file() -> None:
    assert urls(index_url="/srv/simple") == [("index", "file:///srv/simple")]


def test_the_certificate_of_a_trusted_host_is_not_verified_anywhere_on_it() -> None:
    places = places_of(
        PackageSources(
            index_url="https://a.example/simple",
            find_links=("https://b.example/",),
            trusted_hosts=("b.example",),
        )
    )
    assert [each.trusted for each in places] == [False, True]


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://a.example/simple", True),
        ("https://a.example:8443/simple", True),
        ("https://user:pw@a.example/simple", True),
        ("https://b.example:8443/simple", True),
        ("https://user:pw@b.example:8443/simple", True),
        ("https://b.example/simple", False),
        ("https://c.a.example/simple", False),
    ],
)
def test_a_host_is_trusted_at_any_port_unless_one_is_named(url: str, trusted: bool) -> None:
    assert is_trusted(url, ["a.example", "b.example:8443"]) is trusted


def test_a_place_is_shown_without_its_credentials_and_compared_by_its_host() -> None:
    place = Place(what="index", url="https://user:hunter22@a.example:8443/simple")
    assert place.shown == "https://****@a.example:8443/simple"
    assert place.host == "a.example"
    assert "hunter22" not in repr(place)
    assert Place(what="find-links", url="file:///srv").host == ""


@pytest.mark.parametrize("url", ["https://a.example/simple", "https://a.example/simple/"])
def test_the_page_of_a_project_is_a_folder_of_the_index(url: str) -> None:
    page = Place(what="index", url=url, trusted=True).of_project("lamp")
    assert page == Place(what="index", url="https://a.example/simple/lamp/", trusted=True)


@pytest.mark.parametrize(
    "body",
    [
        '<FORM action="/login">',
        "<input type=password>",
        "<input type = 'password'>",
        '<meta http-equiv="refresh" content="0; url=/login">',
    ],
)
def test_a_page_with_a_form_a_password_or_a_way_elsewhere_asks_for_a_login(body: str) -> None:
    assert is_login_page("text/html; charset=utf-8", f"<html>{body}</html>")
    assert is_login_page("text/html", body)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", '<a href="lamp-1.0.tar.gz">lamp-1.0.tar.gz</a>'),
        ("text/html", "<title>formats</title> type of password: none"),
        ("application/vnd.pypi.simple.v1+json", '{"name": "<form>"}'),
        ("text/plain", "<form>"),
    ],
)
def test_a_page_of_an_index_and_what_is_no_page_ask_for_none(media_type: str, body: str) -> None:
    assert not is_login_page(media_type, body)
