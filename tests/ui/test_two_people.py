"""Two people, or two tabs: what one does while the other looks or decides, here through the API."""

from __future__ import annotations

import signal

import pytest

from tests.daemons import eventually
from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, hold, killed_worker

pytestmark = pytest.mark.uv

_NEWER = """
const real = window.fetch;
window.fetch = async (...asked) => {
  const answer = await real(...asked);
  const headers = new Headers(answer.headers);
  headers.set("X-Virtualenv-Release", "99.1");
  const body = answer.status === 304 ? null : answer.body;
  return new Response(body, { status: answer.status, headers });
};
"""


def _launch(running: Cluster, *models: str) -> None:
    for model in models:
        running.launch(model, "lantern==1.0", workers=[running.workers[0].address])


def _remove(running: Cluster, model: str) -> None:
    answer = running.ask.delete("/v1/virtualenvs", params={"model_name": model, "force": True})
    assert answer.status_code == 200, answer.text


def _choose(page: Browser, *models: str) -> None:
    page.open()
    page.wait(lambda: set(models) <= set(_models(page)))
    for model in models:
        box = f"tbody input.pick[aria-label^='Choose {model} ']"
        page.script("document.querySelector(arguments[0]).click()", box)
    page.shows(f"{len(models)} chosen", ".chosen")


def _models(page: Browser) -> list[str]:
    return [row[0] for row in page.rows()]


def test_what_another_removed_after_the_plan_is_shown_as_gone(
    page: Browser, running: Cluster
) -> None:
    _launch(running, "ash", "birch")
    _choose(page, "ash")
    page.click("Remove", ".chosen")
    page.shows("Would be removed", "dialog")
    _remove(running, "ash")
    page.click("Remove", "dialog")
    page.shows("It is not there any more", "dialog")
    page.shows("To have it again, launch the model.", "dialog")
    assert not page.all("dialog .notice.bad")
    page.click("Done", "dialog")
    page.wait(lambda: _models(page) == ["birch"])


def test_of_several_what_is_gone_is_named_and_the_rest_goes(
    page: Browser, running: Cluster
) -> None:
    _launch(running, "ash", "birch", "cedar")
    _choose(page, "ash", "birch", "cedar")
    _remove(running, "ash")
    page.click("Remove", ".chosen")
    page.shows("1 of 3 is not there any more", "dialog")
    page.shows("Would be removed", "dialog")
    _remove(running, "birch")
    page.click("Remove", "dialog")
    page.shows("1 of 2 is not there any more", "dialog")
    page.shows("1 environment is gone", "dialog")
    assert running.environments("cedar") == []
    page.click("Done", "dialog")
    page.wait(lambda: not {"ash", "birch", "cedar"} & set(_models(page)))


def test_what_another_uses_by_now_is_refused_with_its_user(page: Browser, running: Cluster) -> None:
    _launch(running, "taken")
    _choose(page, "taken")
    page.click("Remove", ".chosen")
    page.shows("Would be removed", "dialog")
    hold(running, "taken", running.workers[0].address)
    page.click("Remove", "dialog")
    page.shows("It is in use", "dialog")
    page.button("Show what force would do", "dialog")
    page.click("Done", "dialog")
    _remove(running, "taken")


def test_what_is_gone_is_neither_whole_nor_made_ahead(page: Browser, running: Cluster) -> None:
    _launch(running, "elm")
    _choose(page, "elm")
    page.click("Verify", ".chosen")
    page.button("Verify", "dialog .dialog-foot")
    _remove(running, "elm")
    page.click("Verify", "dialog .dialog-foot")
    page.shows("It is not there any more", "dialog")
    assert "All is whole." not in page.text("dialog")
    page.click("Close", "dialog .dialog-foot")
    page.wait(lambda: "elm" not in _models(page))
    _launch(running, "elm")
    _choose(page, "elm")
    page.click("Make ahead", ".chosen")
    _remove(running, "elm")
    page.click("Show what would be done", "dialog")
    page.shows("It is not there any more", "dialog")


def test_the_page_of_an_environment_follows_what_becomes_of_it(
    page: Browser, running: Cluster
) -> None:
    _launch(running, "fir")
    [entry] = running.environments("fir")
    page.open(
        "environment", model="fir", python=entry["python_version"], worker=entry["worker_address"]
    )
    page.wait(lambda: "lantern" in page.text(".part"))
    _remove(running, "fir")
    page.shows("This environment is not there any more")
    assert not page.all(".part td")
    page.button("Launch fir")
    _launch(running, "fir")
    page.wait(lambda: "lantern" in page.text(".part"))
    assert page.text(".about .badge") == "ready"


def test_a_launch_that_ended_meanwhile_is_not_called_cancelled(
    page: Browser, running: Cluster
) -> None:
    running.index.hang("/simple/lantern/")
    body = {"model_name": "quick", "virtualenv": {"packages": ["lantern==2.0"]}}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    page.open("jobs", text="quick")
    page.click("Cancel the launch", "tbody")
    page.button("Cancel it", "dialog")
    running.index.release()
    eventually(lambda: running.ask.get(f"/v1/jobs/{job}").json()["phase"] == "ready")
    page.click("Cancel it", "dialog")
    page.shows("It was ready before it could be cancelled.", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: page.rows()[0][2] == "ready")


def test_a_worker_that_another_took_out_has_left_for_both(page: Browser, running: Cluster) -> None:
    victim = killed_worker(page, running)
    page.click(f"Forget: {victim}")
    page.button("Forget", "dialog")
    assert running.ask.delete(f"/v1/workers/{victim}").status_code == 200
    page.click("Forget", "dialog")
    page.shows(f"{victim} is not in the cluster any more", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: victim not in page.text("tbody"))


def test_a_lease_that_another_released_is_gone_whichever_other_worker_is_killed(
    page: Browser, running: Cluster
) -> None:
    victim = running.add_worker("127.0.0.6")
    running.workers.remove(victim)
    hold(running, "kept")
    page.open("leases")
    page.wait(lambda: "kept" in _models(page))
    page.click(str(page.one("tbody button[aria-label*='of kept']").get_attribute("aria-label")))
    page.click("Show what force would do", "dialog")
    [lease] = [
        each["lease_id"]
        for each in running.ask.get("/v1/leases").json()["list"]
        if each["model_name"] == "kept"
    ]
    running.ask.delete(f"/v1/leases/{lease}", params={"force": True})
    victim.end(signal.SIGKILL)
    page.click("Release by force", "dialog")
    page.shows("it was released meanwhile", "dialog")
    assert not page.all("dialog .notice.bad")
    page.click("Done", "dialog")
    page.wait(lambda: "kept" not in _models(page))
    eventually(lambda: running.ask.delete(f"/v1/workers/{victim.address}").status_code == 200)


def test_what_is_gone_is_named_in_chinese(page: Browser, running: Cluster) -> None:
    # Of packages of its own: what others of them hold is refused.
    running.launch("larch", "lantern==2.0", workers=[running.workers[0].address])
    page.open()
    page.choose("#language", "zh")
    page.wait(lambda: page.text("h1") == "环境")
    page.wait(lambda: "larch" in _models(page))
    page.click(str(page.one("tbody .danger[aria-label*='larch']").get_attribute("aria-label")))
    page.wait(lambda: "将被删除" in page.text("dialog"))
    _remove(running, "larch")
    page.click("删除", "dialog .dialog-foot")
    page.shows("它已不存在", "dialog")


def test_a_server_of_another_release_asks_for_the_page_to_be_loaded_again(page: Browser) -> None:
    page.open()
    page.wait(lambda: page.all("thead"))
    page.script(_NEWER)
    page.shows("The server is of release 99.1 now", "#release")
    page.click("Load the page again", "#release")
    page.wait(lambda: page.all("#release") and not page.text("#release"))
