"""What the answers of indexes mean, and which places are asked."""

from __future__ import annotations

import pytest

from xinference_venv.diagnosis.checks import Verdict
from xinference_venv.diagnosis.index_checks import index_check
from xinference_venv.planning.index_answers import (
    IndexAnswer,
    IndexFailure,
    Place,
    places_of,
)
from xinference_venv.planning.sources import PYPI, PackageSources

SECRET = "opensesame"
PLAIN = Place(what="index", url="https://mirror.example/simple/")
KEYED = Place(what="index", url=f"https://me:{SECRET}@mirror.example/simple/")


def urls(sources: PackageSources) -> list[str]:
    return [each.url for each in places_of(sources)]


def test_where_nothing_is_configured_pypi_is_asked() -> None:
    assert urls(PackageSources()) == [f"{PYPI}/"]
    assert urls(PackageSources(no_index=True)) == []


def test_all_places_are_asked_in_uvs_order() -> None:
    sources = PackageSources(
        index_url="https://main.example/simple",
        extra_index_urls=("https://extra.example/simple",),
        find_links=("/srv/wheels", "https://links.example/"),
    )
    assert urls(sources) == [
        "https://extra.example/simple",
        "https://main.example/simple",
        "file:///srv/wheels",
        "https://links.example/",
    ]
    assert [each.what for each in places_of(sources)] == ["index"] * 2 + ["find-links"] * 2


@pytest.mark.parametrize("trusted", ["mirror.example", "mirror.example:8443"])
def test_a_trusted_host_is_one_with_or_without_its_port(trusted: str) -> None:
    sources = PackageSources(
        index_url="https://me:key@mirror.example:8443/simple",
        extra_index_urls=("https://other.example/simple",),
        trusted_hosts=(trusted,),
    )
    assert [each.trusted for each in places_of(sources)] == [False, True]


def test_credentials_are_in_no_form_that_people_see() -> None:
    checks = [index_check(KEYED, IndexAnswer(status=status)) for status in (200, 401, 500)]
    checks += [index_check(KEYED, IndexAnswer(failure=each)) for each in IndexFailure]
    assert all(SECRET not in str(each.to_dict()) for each in checks)
    assert SECRET not in repr(KEYED)


@pytest.mark.parametrize(
    ("place", "status", "verdict"),
    [
        (PLAIN, 200, Verdict.OK),
        (PLAIN, 304, Verdict.OK),
        (PLAIN, 405, Verdict.OK),
        (PLAIN, 404, Verdict.WARNING),
        (PLAIN, 401, Verdict.WARNING),
        (KEYED, 401, Verdict.FAILED),
        (KEYED, 403, Verdict.FAILED),
        (PLAIN, 407, Verdict.FAILED),
        (PLAIN, 429, Verdict.FAILED),
        (PLAIN, 503, Verdict.FAILED),
        (PLAIN, None, Verdict.OK),
    ],
)
def test_a_status_means_what_a_launch_would_make_of_it(
    place: Place, status: int | None, verdict: Verdict
) -> None:
    check = index_check(place, IndexAnswer(status=status))
    assert check.verdict is verdict
    assert (check.hint is None) is (verdict is Verdict.OK)


@pytest.mark.parametrize("silence", IndexFailure)
def test_each_way_of_not_answering_is_distinguished_and_says_what_to_do(
    silence: IndexFailure,
) -> None:
    check = index_check(PLAIN, IndexAnswer(failure=silence, words="as the system says"))
    assert check.verdict is Verdict.FAILED
    assert silence.value in check.found and "as the system says" in check.found
    assert check.hint


def test_a_page_that_asks_for_a_login_is_no_index() -> None:
    check = index_check(PLAIN, IndexAnswer(status=200, login=True))
    assert check.verdict is Verdict.FAILED and "login" in check.found and check.hint
