"""Empty, broken and other languages' states, shortcuts and pictures: each with a next step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from tests.daemons import eventually
from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, cluster

pytestmark = pytest.mark.uv


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, module_environ: dict[str, str]
) -> Iterator[Cluster]:
    """A supervisor without any worker."""
    with cluster(Path(tmp_path_factory.mktemp("alone")), module_environ, hosts=()) as running:
        yield running


@pytest.mark.parametrize(
    "view", ["environments", "models", "launch", "jobs", "disk", "workers", "leases", "doctor"]
)
def test_without_a_worker_each_view_says_how_to_start_one(
    driver: WebDriver, alone: Cluster, view: str
) -> None:
    page = Browser(driver=driver, url=alone.url)
    page.forget()
    page.open(view)
    page.shows("No worker has registered yet.")
    page.shows("xinference-venv worker --supervisor")
    page.complaints()


def test_a_search_that_finds_nothing_can_be_cleared(page: Browser, running: Cluster) -> None:
    running.launch("glow", "lantern==1.0")
    page.open(text="no such thing")
    page.shows("Nothing matches.")
    page.click("Clear the search")
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow"])
    page.open("workers", text="nowhere")
    page.shows("Nothing matches.")
    page.click("Clear the search")
    page.wait(lambda: len(page.rows()) == 2)


def test_shortcuts_lead_to_views_and_are_listed(page: Browser) -> None:
    page.open()
    page.wait(lambda: page.all("tbody tr"))
    page.keys("?")
    page.shows("Keyboard shortcuts", "dialog")
    page.shows("Search in this view", "dialog")
    page.keys(Keys.ESCAPE)
    page.wait(lambda: not page.all("dialog"))
    page.keys("g", "w")
    page.wait(lambda: page.text("h1") == "Workers")
    page.keys("/")
    page.wait(lambda: page.focused == page.one("#filter-workers"))
    # In a field a letter is a letter.
    page.keys("g", "j")
    assert page.text("h1") == "Workers"
    assert page.one("#filter-workers").get_property("value") == "gj"
    page.click("Keyboard shortcuts")
    page.shows("Launch a model", "dialog")


def test_errors_and_progress_are_in_the_language_of_the_page(
    page: Browser, running: Cluster
) -> None:
    body = {"model_name": "impossible", "virtualenv": {"packages": ["lantern==9"]}}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    eventually(lambda: running.ask.get(f"/v1/jobs/{job}").json()["phase"] == "failed")
    page.open()
    page.choose("#language", "zh")
    page.open("jobs", text="impossible")
    # What uv says stays as it is.
    page.wait(lambda: "无法解析依赖要求" in page.rows()[0][5])
    page.open("job", id=job, model="impossible")
    page.shows("无法解析依赖要求", ".notice.bad")
    page.shows("请检查名称和版本", ".notice.bad")
    # What uv says stays as it is, and is marked as English.
    assert page.one(".notice.bad .words span").get_attribute("lang") == "en"
    assert "--inherit" not in page.text(".notice.bad")


def test_what_the_server_says_is_chinese_with_what_it_speaks_of(
    page: Browser, running: Cluster
) -> None:
    job = running.launch("fine", "lantern==1.0")
    page.open()
    page.choose("#language", "zh")
    # An error of a request, with the values of this one.
    page.open("launch", model="fine")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern @ nowhere")
    page.wait(
        lambda: "无效的依赖要求 'lantern @ nowhere'：其 URL 没有协议。允许" in page.text("form")
    )
    page.type("#launch-packages", "lantern==1.0")
    page.type("#launch-python", "3.77")
    page.one("#launch-start").click()
    page.shows("此主机没有 Python 3.77；已找到：", ".notice.bad")
    page.shows("请选择其中之一、安装它，或设置", ".notice.bad")
    page.open("job", id=job, model="fine")
    page.wait(lambda: page.all("details.log summary"))
    page.script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.shows("fine 在排队", ".events")
    # The doctor, whose findings and hints are many.
    page.open("doctor")
    page.wait(lambda: len(page.all(".card")) >= 3)
    page.script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.shows("只有此用户可以写入")
    page.shows("主机的软件包")
    sentences = page.script(
        "return [...document.querySelectorAll('.card dd, .card .notice p')].map((e) => e.innerText)"
    )
    # What is left are names, versions, paths and commands.
    english = re.compile("[a-z]{2,} [a-z]{2,} [a-z]{2,}")
    assert [each for each in sentences if english.search(each)] == []


def test_the_history_draws_disk_launches_and_phases(page: Browser, running: Cluster) -> None:
    running.launch("drawn", "lantern==2.0")
    page.open("history")
    page.wait(lambda: len(page.all(".chart svg")) == 3)

    def pictures() -> list[str]:
        return [str(each.get_attribute("aria-label")) for each in page.all(".chart svg")]

    # Who has asked the workers a moment ago does not ask them again for the first look.
    page.wait(lambda: "iB" in pictures()[0])
    page.wait(lambda: "ready" in pictures()[1])
    page.wait(lambda: "resolving" in pictures()[2])
    page.all(".chart summary")[1].click()
    page.wait(lambda: page.rows(".chart:nth-child(2) tbody"))
    assert sum(int(row[1]) for row in page.rows(".chart:nth-child(2) tbody")) >= 1
