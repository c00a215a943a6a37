"""A launch on fifty workers, of which three fail alike: from a simulated supervisor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from benchmarks.page import served
from tests.rest.fakes import FakeSupervisor, event
from tests.ui.browser import Browser

WORKERS = [f"10.0.0.{number}:9796" for number in range(1, 51)]
FAILED = WORKERS[10:13]


def _failure(worker: str) -> dict[str, object]:
    message = f"the worker at {worker} can't be reached: Connection refused"
    return {"code": "worker_unavailable", "message": message, "details": {}}


def _report(*_: object) -> dict[str, object]:
    replicas = [
        {
            "worker_address": worker,
            "incarnation": "first",
            "phase": "failed" if worker in FAILED else "cancelled",
            "result": None,
            "error": _failure(worker) if worker in FAILED else None,
        }
        for worker in WORKERS
    ]
    events = [
        {**event(number, "resolving"), "worker_address": worker}
        for number, worker in enumerate(WORKERS, 1)
    ]
    return {
        "job_id": "many",
        "phase": "failed",
        "events": events,
        "result": None,
        "error": _failure(FAILED[0]),
        "workers": replicas,
    }


@pytest.fixture
def page(driver: WebDriver) -> Iterator[Browser]:
    with served(FakeSupervisor(wait=_report())) as url:
        browser = Browser(driver=driver, url=url)
        browser.forget()
        yield browser
        assert browser.complaints() == []


def test_an_error_that_several_workers_have_is_shown_once_with_their_names(page: Browser) -> None:
    page.open("job", id="many", model="wide")
    page.shows("A worker did not answer", ".notice.bad")
    assert len(page.all(".notice.bad")) == 1
    page.shows("On 3 workers: 10.0.0.11:9796, 10.0.0.12:9796, and 10.0.0.13:9796", ".notice.bad")
    # The workers that failed come first of many.
    names = [each.accessible_name for each in page.all(".cards > .card")]
    assert names[:3] == FAILED
    assert len(names) == len(WORKERS)
