"""What tables, times and pictures of the page say: nothing is cut, hidden, or other than it is."""

from __future__ import annotations

import re

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, hold

pytestmark = pytest.mark.uv

LONG = "a-model-with-a-rather-long-name-that-somebody-chose-72b-instruct-2507"
# What of a selector's matches is not in sight within the box of another's.
_OUT_OF_SIGHT = """
const box = document.querySelector(arguments[1]).getBoundingClientRect();
return [...document.querySelectorAll(arguments[0])].filter((each) => {
  const { left, right } = each.getBoundingClientRect();
  return left < box.left - 1 || right > box.right + 1;
}).map((each) => each.textContent);
"""
# The names that reach into the next column.
_OVERLAPPING = """
return [...document.querySelectorAll("tbody tr")].filter((row) => {
  const name = row.cells[0].querySelector("a, .name").getBoundingClientRect();
  return name.right > row.cells[1].getBoundingClientRect().left + 1;
}).map((row) => row.cells[0].textContent);
"""
_CHART = """
const done = arguments[arguments.length - 1];
import(new URL("ui/charts.js", document.baseURI)).then(({ chart }) => {
  const [values, thousand] = arguments;
  const steps = values.map((value, place) => ({ at: place * 300, value }));
  const series = [{ kind: "own", label: "it", value: (each) => each.value }];
  const format = (value) => String(value);
  const drawn = chart({ title: "It", steps, seconds: 300, series, format, thousand });
  document.querySelector("#view").replaceChildren(drawn);
  const most = drawn.querySelector(".plot > .number").textContent;
  done([most, [...drawn.querySelectorAll(".ticks span")].map((each) => each.style.left)]);
});
"""


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    running.launch("qwen3", "lantern==1.0", everywhere=True, model_engine="vllm")
    running.launch(LONG, "lantern==2.0", model_engine="sentence_transformers")


@pytest.mark.parametrize("group", ["0", "1"])
def test_a_long_name_hides_no_column_and_reaches_into_none(page: Browser, group: str) -> None:
    page.screen(1280, 800)
    page.open(group=group)
    page.wait(lambda: len(page.rows()) >= 2)
    assert page.script(_OUT_OF_SIGHT, "tbody .badge", ".sheet") == []
    assert page.script(_OUT_OF_SIGHT, "tbody td.number", ".sheet") == []
    # Nor does what can be done with a row lie upon its last column, which has an age.
    page.script(
        "for (const each of document.querySelectorAll('td time')) each.innerText = '59 min. ago'"
    )
    assert page.script(_OUT_OF_SIGHT, "tbody td, th", ".sheet") == []
    assert page.script(_OVERLAPPING) == []
    page.open("jobs")
    page.wait(lambda: len(page.rows()) >= 2)
    assert page.script(_OUT_OF_SIGHT, "tbody td.number", ".sheet") == []
    assert page.script(_OVERLAPPING) == []


@pytest.mark.parametrize("width", [1024, 1280])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_small_screen_cuts_no_column_of_what_is_used_or_failed(
    page: Browser, running: Cluster, width: int, language: str
) -> None:
    hold(running, "held", running.workers[0].address)
    body = {"model_name": "held", "virtualenv": {"packages": ["lantern==9.9"]}}
    running.ask.post("/v1/virtualenvs", json=body)
    page.screen(width, 800)
    page.open()
    page.choose("#language", language)
    for view in ("environments", "jobs", "workers"):
        page.open(view, text="" if view == "workers" else "held")
        page.wait(lambda: page.all("tbody .badge"))
        page.script(
            "for (const each of document.querySelectorAll('td time'))"
            " each.innerText = arguments[0]",
            {"en": "59 min. ago", "zh": "59分钟前"}[language],
        )
        assert page.script(_OUT_OF_SIGHT, "tbody td, th", ".sheet") == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_computer_whose_clock_is_off_shows_the_same_times(
    page: Browser, running: Cluster, hours: int
) -> None:
    running.launch("timed", "lantern==1.0")
    running.index.hang("/simple/wick/")
    body = {"model_name": "hangs", "virtualenv": {"packages": ["wick"]}}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    off = f"const real = Date.now.bind(Date); Date.now = () => real() + {hours * 3_600_000};"
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": off})
    try:
        page.open("jobs", text="timed")
        page.wait(lambda: re.fullmatch(r"just now|\d+ sec. ago", page.rows()[0][6]))
        page.open("job", id=job, model="hangs")
        page.wait(lambda: 0 < float(page.text(".steps .now .number").removesuffix(" s")) < 60)
        page.wait(lambda: 0 < float(page.text(".toolbar .took").removesuffix(" s")) < 60)
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
        running.ask.delete(f"/v1/jobs/{job}")
        running.index.release()


@pytest.mark.parametrize(
    ("view", "search", "text"),
    [
        ("jobs", "#filter-jobs", "qwen3"),
        ("workers", "#filter-workers", "127.0.0.2"),
        ("models", "#filter-catalogue", "got-ocr"),
    ],
)
def test_what_is_searched_stays_in_the_address_and_is_there_when_one_comes_back(
    page: Browser, view: str, search: str, text: str
) -> None:
    page.open(view)
    page.wait(lambda: len(page.rows()) >= 2)
    page.type(search, text)
    page.wait(lambda: all(text in " ".join(row).lower() for row in page.rows()))
    found = page.rows()
    page.click("Disk", "#menu")
    page.wait(lambda: page.text("h1") == "Disk")
    page.driver.back()
    page.wait(lambda: page.all(search) and page.one(search).get_property("value") == text)
    page.wait(lambda: len(page.rows()) == len(found))
    # Emptied again the address has nothing of it.
    page.one(search).send_keys(Keys.BACKSPACE * len(text))
    page.wait(lambda: page.driver.current_url.endswith(f"#/{view}"))


def test_what_runs_takes_longer_and_what_is_cancelled_has_a_badge_of_its_size(
    page: Browser, running: Cluster
) -> None:
    running.index.hang("/simple/wick/")
    body = {"model_name": "hangs", "virtualenv": {"packages": ["wick"]}}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    page.open("jobs", text="hangs")

    def seconds() -> float:
        return float(page.rows()[0][7].removesuffix(" s"))

    # Nothing is heard of it meanwhile.
    page.wait(lambda: "resolving" in page.rows()[0][2] and seconds() > 3)
    page.open("job", id=job, model="hangs")
    page.wait(lambda: float(page.text(".steps .now .number").removesuffix(" s")) > 3)
    running.ask.delete(f"/v1/jobs/{job}")
    running.index.release()
    page.open("jobs", text="hangs")
    page.wait(lambda: page.rows()[0][2] == "cancelled")
    width = "return document.querySelector('tbody .badge').getBoundingClientRect().width"
    narrow = page.script(width)
    page.script("document.querySelector('tbody .badge').parentElement.style.width = '400px'")
    assert page.script(width) == narrow


def test_a_card_has_no_line_for_what_its_row_does_not_have(page: Browser, running: Cluster) -> None:
    running.launch("ahead", "lantern==1.0", background=True)
    page.screen(390, 844, mobile=True)
    page.open("jobs", text="ahead")
    page.wait(lambda: page.rows())
    titles = page.script(
        "return [...document.querySelectorAll('tbody td')]"
        ".filter((each) => each.checkVisibility()).map((each) => each.dataset.title)"
    )
    assert "State" in titles
    # It is ready: there is nothing to say, and nothing to be done.
    assert {"Message", "Actions"} & set(titles) == set()
    left = "return document.querySelector(arguments[0]).getBoundingClientRect().left"
    assert page.script(left, "td .hint") == page.script(left, "td .badge")


def test_a_long_word_of_an_error_stays_on_the_phone(page: Browser, running: Cluster) -> None:
    name = "x" * 90
    body = {"model_name": "wide", "virtualenv": {"packages": [name]}}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    page.screen(390, 844, mobile=True)
    page.open("job", id=job, model="wide")
    page.shows(name, ".notice.bad")
    assert page.script(_OUT_OF_SIGHT, ".notice p", ".notice") == []


def test_why_a_dry_run_failed_is_in_sight(page: Browser) -> None:
    page.screen(1280, 600)
    page.open("launch", model="none")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern==9\n")
    page.wait(lambda: page.all(".chips li"))
    page.one("#launch-plan").click()
    page.shows("The requirements could not be resolved", ".notice.bad")
    top = "return document.querySelector('.notice.bad').getBoundingClientRect().top"
    page.wait(lambda: page.script(top) < 600)


def test_a_collection_that_finds_nothing_offers_no_deletion(page: Browser) -> None:
    page.open("disk")
    page.wait(lambda: len(page.all(".cards .card")) == 2)
    page.click("Collect garbage")
    page.click("Show what would go", "dialog")
    page.shows("There is nothing to delete.", "dialog")
    assert [each.text for each in page.all("dialog footer button, dialog .dialog-foot button")] == [
        "Change",
        "Close",
    ]


def test_a_table_that_is_read_offers_no_more(page: Browser) -> None:
    page.open("compare")
    hidden = """
      const done = arguments[arguments.length - 1];
      import(new URL("ui/table.js", document.baseURI)).then(({ table }) => {
        const { element } = table({ columns: [], sort: "", keyOf: String, empty: String });
        done([...element.querySelectorAll(":scope > button")].map((each) => each.hidden));
      });
    """
    assert page.driver.execute_async_script(hidden) == [True]


@pytest.mark.parametrize(
    ("values", "thousand", "most", "ticks"),
    [
        ([26], 1000, "30", ["0%", "100%"]),
        ([26, 51], 1000, "60", ["0%", "50%", "100%"]),
        ([78 * 2**30], 1024, str(80 * 2**30), ["0%", "100%"]),
        ([900 * 2**20], 1024, str(1000 * 2**20), ["0%", "100%"]),
        ([1] * 8, 1000, "1", ["0%", "25%", "50%", "75%", "100%"]),
    ],
)
def test_a_picture_ends_at_a_round_number_and_its_times_are_those_of_steps(
    page: Browser, values: list[int], thousand: int, most: str, ticks: list[str]
) -> None:
    page.open("history")
    drawn = page.driver.execute_async_script(_CHART, values, thousand)
    assert drawn == [most, ticks]


def test_times_types_and_origins_are_chinese_on_the_chinese_page(page: Browser) -> None:
    page.open()
    page.choose("#language", "zh")
    page.open("jobs", text="qwen3")
    page.wait(lambda: page.rows()[0][7].endswith(" 秒"))
    page.open("models", text="GOT-OCR2_0")
    page.wait(lambda: {"图像模型", "内置"} <= set(page.rows()[0]))
    page.open("doctor")
    page.wait(lambda: len(page.all(".card")) == 3)
    page.script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.shows("2 台主机与监管节点")


def test_who_needs_no_token_is_not_asked_for_one(page: Browser) -> None:
    page.open()
    page.wait(lambda: page.rows())
    page.click("Token")
    page.shows("This server answers without a token.", "dialog")
