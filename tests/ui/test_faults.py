"""A worker that is killed: the page says so, in the middle of a launch and while somebody looks."""

from __future__ import annotations

import signal

import pytest

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster

pytestmark = pytest.mark.uv


def test_a_worker_killed_in_the_middle_of_a_launch_is_named(
    page: Browser, running: Cluster
) -> None:
    running.index.hang("/simple/lantern/")
    page.open("launch", model="cut")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern==1.0")
    page.one("input[value=everywhere]").click()
    page.one("#launch-start").click()
    page.wait(lambda: "resolving" in page.text(".view > .toolbar .badge"))
    victim = running.workers.pop()
    victim.end(signal.SIGKILL)
    page.shows("A worker did not answer")
    page.shows(victim.address, ".notice.bad")
    page.wait(lambda: page.text(".view > .toolbar .badge") == "failed")
    running.index.release()
    running.add_worker("127.0.0.4")


def test_a_worker_killed_while_someone_looks_is_named_and_the_others_stay(
    page: Browser, running: Cluster
) -> None:
    running.launch("glow", "lantern==1.0", workers=[each.address for each in running.workers])
    page.open()
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow", "glow"])
    victim = running.workers.pop()
    victim.end(signal.SIGKILL)
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow"])
    page.shows(victim.address, ".notice.warn")
    page.shows("did not answer: what", ".notice.warn")
    page.shows("start it again on its host", ".notice.warn")
    # It may be asked for still, so that nobody takes its environments for gone.
    assert page.all(f"#filter-worker option[value='{victim.address}']")
    page.click(f"Remove: glow · Python {page.rows()[0][2]}, {running.workers[0].address}")
    page.shows("Would be removed", "dialog")
    page.click("Close", "dialog")
    page.open("disk")
    page.wait(lambda: len(page.all(".card")) == 1)
    page.shows(victim.address, ".notice.warn")
    # Who is not examined is not called well.
    page.open("doctor")
    page.wait(lambda: len(page.all(".card")) == 2)
    assert "Everything is well." not in page.text()
    page.open("workers")
    page.wait(lambda: victim.address in page.text("tbody"))
    page.wait(lambda: any(row[0] == victim.address and row[2] != "alive" for row in page.rows()))


def test_a_server_that_ends_is_reported_until_it_is_back(page: Browser, running: Cluster) -> None:
    page.open()
    page.wait(lambda: page.rows())
    port = running.web.address.rpartition(":")[2]
    running.web.end()
    page.shows("The server does not answer.", "#connection")
    options = ("--port", port, "--supervisor", running.supervisor.address)
    running.web = running.running.start("web", *options).ready()
    page.wait(lambda: not page.text("#connection"))


def test_workers_that_are_gone_for_long_are_named_where_they_are_missing(page: Browser) -> None:
    page.open()
    page.wait(lambda: page.all("h1"))
    told = """
      const done = arguments[arguments.length - 1];
      import(new URL("ui/notices.js", document.baseURI)).then(({ partialNotice }) => {
        const gone = [{ worker_address: "10.0.0.7:9796" }, { worker_address: "10.0.0.8:9796" }];
        const shown = partialNotice({ list: [], unreachable: [], complete: true, gone });
        document.querySelector("#view").replaceChildren(...shown);
        done(document.querySelector("#view").innerText);
      });
    """
    text = page.driver.execute_async_script(told)
    assert "2 workers are gone: what they have is missing here" in text
    assert "10.0.0.7:9796 and 10.0.0.8:9796" in text
    assert page.all("#view a[href='#/workers']")


@pytest.mark.parametrize(
    "view",
    ["environments", "environment", "models", "launch", "jobs", "job", "history", "compare"],
)
def test_while_answers_are_slow_each_view_says_that_it_reads(page: Browser, view: str) -> None:
    page.open("workers")
    page.wait(lambda: len(page.rows()) >= 1)
    page.driver.execute_cdp_cmd("Network.enable", {})
    slow = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1, "latency": 4000}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        page.script("location.hash = `#/${arguments[0]}?model=slow&id=1&part=packages`", view)
        page.wait(lambda: page.text("h1") != "Workers")
        page.wait(lambda: "Reading" in page.text())
        # A choice that is read says so as well.
        assert [
            each.text for each in page.all("select[id^=compare]") if not each.text.strip()
        ] == []
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "latency": 0})


def test_how_many_workers_are_alive_is_not_known_while_nothing_answers(page: Browser) -> None:
    page.open()
    page.wait(lambda: "workers alive" in page.text(".pulse"))
    page.driver.execute_cdp_cmd("Network.enable", {})
    lost = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", lost)
    try:
        page.shows("The server does not answer.", "#connection")
        page.wait(
            lambda: page.script(
                "return performance.getEntriesByType('resource')"
                ".some((each) => each.name.includes('/v1/workers') && !each.responseStatus)"
            )
        )
        # None of them is known to be alive, or gone.
        page.wait(lambda: page.text(".pulse") == "workers: not known now")
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**lost, "offline": False})


def test_a_supervisor_that_does_not_answer_is_not_taken_for_a_worker(
    page: Browser, running: Cluster
) -> None:
    page.open("leases")
    page.wait(lambda: page.all(".sheet .empty a"))
    port = running.supervisor.address.rpartition(":")[2]
    running.supervisor.end(signal.SIGKILL)
    page.shows("The supervisor did not answer", ".notice.bad")
    page.shows("its workers join it by themselves", ".notice.bad")
    assert "A worker did not answer" not in page.text()
    page.wait(lambda: page.text(".pulse") == "workers: not known now")
    # Nobody knows whether they are alive: neither who looks then, nor who comes to look.
    page.click("Workers", "#menu")
    page.wait(lambda: {row[2] for row in page.rows()} == {"unknown"})
    assert {row[5] for row in page.rows()} == {"–"}
    assert page.text(".totals").startswith("alive\n–")
    assert not page.all("tbody [aria-label^='Forget']")
    running.supervisor = running.running.supervisor(int(port))
    page.wait(lambda: page.text(".pulse").endswith("alive"))
    page.wait(lambda: not page.all(".notice.bad"))
    page.wait(lambda: {row[2] for row in page.rows()} == {"alive"})
