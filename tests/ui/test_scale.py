"""A large cluster on the page: 20,000 environments on 1,000 workers, from a simulated server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from benchmarks.page import SimulatedSupervisor, served
from tests.ui.browser import Browser

ENVIRONMENTS, WORKERS, JOBS = 20_000, 1_000, 3_000
# Elements for what is in sight, and a margin.
FEW_LINES = 120
# The status and size of each answer with environments, or jobs.
_ANSWERS = """
const [path = "virtualenvs"] = arguments;
return performance.getEntriesByType("resource")
  .filter((each) => each.name.endsWith(`/v1/${path}?changes=true`) && each.responseStatus)
  .map((each) => [each.responseStatus, each.transferSize]);
"""


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    with served(SimulatedSupervisor(ENVIRONMENTS, WORKERS, jobs=JOBS)) as url:
        yield url


@pytest.fixture
def page(driver: WebDriver, large: str) -> Iterator[Browser]:
    yield from _browser(driver, large)


@pytest.fixture
def idle(driver: WebDriver) -> Iterator[Browser]:
    """The page of a cluster in which nothing changes."""
    with served(SimulatedSupervisor(ENVIRONMENTS, WORKERS, changing=False)) as url:
        yield from _browser(driver, url)


def _browser(driver: WebDriver, url: str) -> Iterator[Browser]:
    browser = Browser(driver=driver, url=url)
    browser.forget()
    yield browser
    assert browser.complaints() == []


def _lines(page: Browser) -> int:
    return len(page.all("tbody tr:not(.spacer)"))


def test_environments_are_in_groups_of_a_model_that_open(page: Browser) -> None:
    page.open()
    page.shows("20,000 of 20,000 environments", ".total")
    page.wait(lambda: page.all("tbody .opener"))
    # All groups are counted, and those in sight are there.
    assert page.one("table").get_attribute("aria-rowcount") == "501"
    assert _lines(page) < FEW_LINES
    first = page.one("tbody tr")
    assert "40" in first.text
    assert "40 workers" in first.text
    page.all("tbody .opener")[0].click()
    page.wait(lambda: page.one("table").get_attribute("aria-rowcount") == "541")
    assert len(page.all("tbody tr.within")) >= 1
    assert page.all("tbody .opener")[0].get_attribute("aria-expanded") == "true"


def test_who_goes_back_finds_the_groups_open_and_the_rows_that_were_in_sight(
    page: Browser,
) -> None:
    def scrolled() -> float:
        pixels: float = page.script("return document.querySelector('.sheet').scrollTop")
        return pixels

    page.open()
    page.wait(lambda: page.all("tbody .opener"))
    page.all("tbody .opener")[1].click()
    page.wait(lambda: page.one("table").get_attribute("aria-rowcount") == "541")
    page.script("document.querySelector('.sheet').scrollTop = 2000")
    # The lines that come into sight are measured, and may be less high than was thought.
    page.wait(lambda: 1900 < scrolled() <= 2000)
    page.click("Workers", ".menu")
    page.wait(lambda: page.text("h1") == "Workers")
    page.driver.back()
    page.wait(lambda: page.one("table").get_attribute("aria-rowcount") == "541")
    page.wait(lambda: 1900 < scrolled() <= 2000)
    # Who chooses it from the menu begins at the top.
    page.click("Workers", ".menu")
    page.wait(lambda: page.text("h1") == "Workers")
    page.click("Environments", ".menu")
    page.wait(lambda: page.one("table").get_attribute("aria-rowcount") == "501")
    assert scrolled() == 0


def test_of_all_rows_those_in_sight_are_elements_and_the_headings_stay(page: Browser) -> None:
    page.open(group="0")
    page.wait(lambda: page.one("table").get_attribute("aria-rowcount") == "20001")
    assert _lines(page) < FEW_LINES
    page.script("document.querySelector('.sheet').scrollTop = 10000 * 39")
    page.wait(
        lambda: int(page.one("tbody tr[aria-rowindex]").get_attribute("aria-rowindex") or 0) > 9000
    )
    assert _lines(page) < FEW_LINES
    place = "return document.querySelector('th').getBoundingClientRect().top"
    sheet = "return document.querySelector('.sheet').getBoundingClientRect().top"
    assert page.script(place) == pytest.approx(page.script(sheet), abs=2)
    # No name is broken or cut.
    cut = (
        "return [...document.querySelectorAll('tbody td:first-child a')]"
        ".filter((each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth).length"
    )
    assert page.script(cut) == 0


def test_filters_find_one_of_many_and_stay_in_the_address(page: Browser) -> None:
    page.open(group="0")
    page.wait(lambda: page.all("tbody tr"))
    page.choose("#filter-engine", "vllm")
    page.shows("5,000 of 20,000 environments", ".total")
    page.choose("#filter-worker", "10.0.10.1:9796")
    page.shows("5 of 20,000 environments", ".total")
    page.type("#filter-text", "model-100-")
    page.shows("1 of 20,000 environments", ".total")
    page.driver.refresh()
    page.wait(lambda: page.one("#filter-text").get_property("value") == "model-100-")
    page.wait(lambda: {row[3] for row in page.rows()} == {"10.0.10.1:9796"})


def test_workers_have_totals_first_and_are_searched(page: Browser) -> None:
    page.open("workers")
    page.wait(lambda: page.text(".totals").startswith("alive\n1,000"))
    assert _lines(page) < FEW_LINES
    page.type("#filter-workers", "host-777")
    page.wait(lambda: [row[1] for row in page.rows()] == ["host-777"])


def test_of_many_workers_the_form_offers_those_that_are_searched(page: Browser) -> None:
    page.open("launch", model="any")
    page.one("input[value=named]").click()
    page.wait(lambda: page.all(".options label"))
    assert len(page.all(".options label")) < FEW_LINES
    page.type("#pick-worker", "host-777")
    page.wait(lambda: len(page.all(".options label")) == 1)
    page.all(".options input")[0].click()
    page.type("#pick-worker", "host-12")
    # What is chosen stays in sight.
    page.wait(lambda: "host-777" in page.text(".options") and "host-12" in page.text(".options"))
    page.shows("1 of 1,000 workers is chosen.")


def test_a_phone_shows_a_part_and_more_when_asked(page: Browser) -> None:
    page.screen(390, 844, mobile=True)
    page.open(group="0")
    page.wait(lambda: _lines(page) == 40)
    page.click("Show more: 19,960 are left")
    page.wait(lambda: _lines(page) == 80)


def test_of_a_list_that_changes_only_what_differs_is_sent(page: Browser) -> None:
    page.open(group="0", sort="state")
    page.shows("20,000 of 20,000 environments", ".total")
    first, again = page.wait(lambda: (found := page.script(_ANSWERS))[1:] and found)[:2]
    assert (first[0], again[0]) == (200, 200)
    assert again[1] < 10_000 < first[1]
    # What is other now is shown, and the rest stays.
    page.wait(lambda: page.rows()[0][4] == "broken")
    assert page.one("table").get_attribute("aria-rowcount") == "20001"


def test_of_thousands_of_jobs_only_those_that_changed_are_sent(page: Browser) -> None:
    page.open("jobs", sort="state")
    page.shows("3,000 of 3,000 launches", ".total")
    first, again = page.wait(lambda: (found := page.script(_ANSWERS, "jobs"))[1:] and found)[:2]
    assert (first[0], again[0]) == (200, 200)
    assert again[1] < 10_000 < first[1]
    page.wait(lambda: page.rows() and page.rows()[0][2] == "failed")
    assert page.one("table").get_attribute("aria-rowcount") == "3001"
    assert _lines(page) < FEW_LINES


def test_a_list_that_has_not_changed_is_not_sent_again(idle: Browser) -> None:
    idle.open()
    idle.shows("20,000 of 20,000 environments", ".total")
    first, again = idle.wait(lambda: (found := idle.script(_ANSWERS))[1:] and found)[:2]
    assert (first[0], again[0]) == (200, 304)
    assert again[1] < 1000 < first[1]
    # Nor are the workers, who have said nothing but that they are there.
    first, again = idle.wait(
        lambda: (found := idle.script(_ANSWERS, "workers"))[1:] and (found[0], found[-1])
    )
    assert again[1] < 1000 < first[1]
    # What is there stays, and what is chosen from it.
    idle.shows("20,000 of 20,000 environments", ".total")
    idle.choose("#filter-engine", "vllm")
    idle.shows("5,000 of 20,000 environments", ".total")
