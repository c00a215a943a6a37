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
    # It may be asked for still, so that nobody takes its environments for gone.
    assert page.all(f"#filter-worker option[value='{victim.address}']")
    page.click(f"Remove: glow · Python {page.rows()[0][2]}, {running.workers[0].address}")
    page.shows("Would be removed", "dialog")
    page.click("Close", "dialog")
    page.open("disk")
    page.wait(lambda: len(page.all(".card")) == 1)
    page.shows(victim.address, ".notice.warn")
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
