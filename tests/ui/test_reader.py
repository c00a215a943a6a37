"""What a screen reader gets, as Chromium's accessibility tree has it: names, headings, news."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, hold

pytestmark = pytest.mark.uv

VIEWS = (
    *("environments", "models", "launch", "jobs", "disk", "history", "workers", "leases"),
    *("doctor", "compare"),
)
# What can be neither used nor found again without a name.
_NAMED = frozenset(
    {
        *("button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "spinbutton"),
        *("dialog", "table", "columnheader", "progressbar", "image", "navigation", "search"),
    }
)
# What is in a live region changed although nothing is new.
_WATCH = """
window.news = [];
for (const each of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
  new MutationObserver(() => news.push(each.textContent))
    .observe(each, { subtree: true, childList: true, characterData: true });
performance.clearResourceTimings();
"""
_LOOKS = """
return performance.getEntriesByType("resource")
  .filter((each) => each.name.includes("/v1/workers") && each.responseStatus).length;
"""


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    running.launch("ash", "lantern==1.0", workers=[running.workers[0].address])
    running.launch("birch", "lantern==2.0", everywhere=True)
    hold(running, "held", running.workers[1].address)


def _tree(page: Browser) -> list[dict[str, Any]]:
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [each for each in nodes if not each["ignored"]]


def _found(tree: list[dict[str, Any]], role: str) -> list[str]:
    return [
        str(each.get("name", {}).get("value", "")) for each in tree if each["role"]["value"] == role
    ]


def _unnamed(tree: list[dict[str, Any]]) -> list[str]:
    return [
        each["role"]["value"]
        for each in tree
        if each["role"]["value"] in _NAMED
        and not str(each.get("name", {}).get("value", "")).strip()
    ]


def _settled(page: Browser, view: str) -> None:
    page.open(view)
    page.wait(lambda: not page.all(".view .busy:not(:empty)"))
    page.wait(lambda: page.all(".view table, .view form, .view .card, .view .chart"))
    # What it knows of the models and the workers is news as well, once.
    page.wait(lambda: view != "launch" or page.all("#models option"))
    page.wait(lambda: page.script(_LOOKS) >= 2)


@pytest.mark.parametrize("view", VIEWS)
def test_what_can_be_used_has_a_name(page: Browser, view: str) -> None:
    _settled(page, view)
    tree = _tree(page)
    assert _unnamed(tree) == []
    # There is something to be judged.
    assert "Keyboard shortcuts" in _found(tree, "button")
    assert len(_found(tree, "heading")) >= 1


@pytest.mark.parametrize("view", [each for each in VIEWS if each not in ("disk", "history")])
def test_nothing_is_announced_while_nothing_is_new(page: Browser, view: str) -> None:
    _settled(page, view)
    page.script(_WATCH)
    page.wait(lambda: page.script(_LOOKS) >= 3)
    assert page.script("return news") == []


def test_what_a_plan_and_a_change_come_to_is_heard_in_their_dialog(
    page: Browser, running: Cluster
) -> None:
    page.open()
    page.wait(lambda: "held" in [row[0] for row in page.rows()])
    [name] = [
        str(each.get_attribute("aria-label"))
        for each in page.all("tbody .danger[aria-label*='held']")
    ]
    page.click(name)
    page.hears("Nothing is removed: it is in use")
    tree = _tree(page)
    assert _unnamed(tree) == []
    assert any(each.startswith("Remove held") for each in _found(tree, "dialog"))
    # A screen reader has the place where it is announced, and nothing of what is behind.
    [status] = [each for each in tree if each["role"]["value"] == "status"]
    inside = {each["nodeId"]: each for each in tree}
    texts = [str(inside[child]["name"]["value"]) for child in status["childIds"] if child in inside]
    assert "Nothing is removed: it is in use" in " ".join(texts)
    assert "main" not in [each["role"]["value"] for each in tree]
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.focused.accessible_name == name)
    [other] = page.all("tbody .danger[aria-label*='ash']")
    other.click()
    page.shows("Would be removed", "dialog")
    page.click("Remove", "dialog .dialog-foot")
    page.hears("1 environment is gone")
    page.click("Done", "dialog")
    # What opened it is gone.
    page.wait(lambda: page.focused.tag_name == "h1")


@pytest.mark.parametrize(
    ("view", "opener", "heading"),
    [
        ("environments", "Keyboard shortcuts", "Keyboard shortcuts"),
        ("environments", "Token", "Enter a token"),
        ("disk", "Collect garbage", "Collect garbage"),
    ],
)
def test_the_focus_goes_into_a_dialog_and_back(
    page: Browser, view: str, opener: str, heading: str
) -> None:
    _settled(page, view)
    page.click(opener)
    page.wait(lambda: page.text("dialog h2") == heading)
    page.wait(lambda: page.script("return document.activeElement.closest('dialog') !== null"))
    assert _unnamed(_tree(page)) == []
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.focused.accessible_name == opener)
