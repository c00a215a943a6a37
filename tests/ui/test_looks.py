"""How the page looks and reads: languages, themes, narrow screens, names of controls, contrast."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster

pytestmark = pytest.mark.uv

VIEWS = (
    "environments",
    "models",
    "launch",
    "jobs",
    "disk",
    "history",
    "workers",
    "leases",
    "doctor",
    "compare",
)
# What axe-core's rules of level A check that is cheap to check: names, ids, one heading, landmarks.
_AUDIT = """
const found = [];
const CONTROLS = "button, a, input, select, progress, svg[role=img], dialog";
const named = (each) =>
  each.getAttribute("aria-label") || each.title || each.textContent.trim() ||
  [...(each.labels ?? [])].some((label) => label.textContent.trim()) ||
  document.getElementById(each.getAttribute("aria-labelledby") ?? "");
for (const each of document.querySelectorAll(CONTROLS))
  if (!named(each)) found.push(`no name: ${each.outerHTML.slice(0, 120)}`);
for (const each of document.querySelectorAll("[aria-describedby], label[for]"))
  for (const id of (each.getAttribute("aria-describedby") ?? each.htmlFor).split(" "))
    if (!document.getElementById(id)) found.push(`no such id: ${id}`);
const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
found.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => `twice: ${id}`));
if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
for (const name of ["header", "nav", "main"])
  if (!document.querySelector(name)) found.push(`no ${name}`);
for (const each of document.querySelectorAll("pre[aria-label]:not([role])"))
  found.push(`a name that has no role: ${each.outerHTML.slice(0, 120)}`);
for (const each of document.querySelectorAll("pre, .events, .sheet.tall"))
  if (each.scrollHeight > each.clientHeight + 1 && each.tabIndex < 0 && !each.querySelector("a"))
    found.push(`no key scrolls: ${each.outerHTML.slice(0, 120)}`);
const headings = [...document.querySelectorAll("h1, h2, h3, h4")];
const levels = headings.map((each) => Number(each.localName[1]));
if (levels.some((each, place) => each > (levels[place - 1] ?? 0) + 1))
  found.push(`levels: ${levels}`);
for (const each of document.querySelectorAll("th"))
  if (each.scope !== "col") found.push("a heading of no column");
if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the screen");
return found;
"""
# The contrast of text that can be seen against what it stands on (WCAG 2.2, 1.4.3).
_CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
  .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
  .reduce((sum, each, position) => sum + each * [0.2126, 0.7152, 0.0722][position], 0);
const ground = (each) => {
  for (; each; each = each.parentElement) {
    const color = rgba(getComputedStyle(each).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const found = [];
for (const each of document.querySelectorAll("body *")) {
  const text = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const seen = each.checkVisibility({ visibilityProperty: true });
  if (!text || !seen || each.closest(":disabled, .unseen, option, noscript, svg")) continue;
  const [one, other] = [light(rgba(getComputedStyle(each).color)), light(ground(each))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${each.outerHTML.slice(0, 80)}`);
}
return found;
"""


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    running.launch("qwen3", "lantern==1.0", "tomli-w==0.1", everywhere=True, model_engine="vllm")
    running.launch("bge-m3", "lantern==2.0", everywhere=True)
    running.launch("bge-large", "lantern==2.0")


def _settled(page: Browser, view: str, **values: str) -> None:
    page.open(view, **values)
    waits: dict[str, Any] = {
        "launch": lambda: page.all("#models option"),
        "disk": lambda: len(page.all(".cards .card")) == 2,
        "history": lambda: page.all(".chart"),
        "leases": lambda: page.all(".sheet .empty a"),
        "doctor": lambda: len(page.all(".card")) == 3,
    }
    page.wait(waits.get(view, page.rows))


@pytest.mark.parametrize("view", VIEWS)
def test_every_control_has_a_name_and_every_text_a_contrast(page: Browser, view: str) -> None:
    _settled(page, view)
    for theme in ("light", "dark"):
        page.choose("#theme", theme)
        assert page.script(_AUDIT) == []
        assert page.script(_CONTRAST) == []


def test_dialogs_have_names_and_give_the_focus_back(page: Browser) -> None:
    _settled(page, "environments")
    [first, *_] = page.all("tbody button.danger")
    name = first.accessible_name
    first.click()
    page.shows("Would be removed", "dialog")
    assert page.one("dialog").accessible_name.startswith("Remove ")
    # At each height that a line of text may give it.
    over = """
      const dialog = document.querySelector("dialog");
      const path = dialog.querySelector("code");
      return [16, 16.25, 16.5, 16.75].filter((pixels) => {
        path.style.lineHeight = `${pixels}px`;
        return dialog.scrollHeight > dialog.clientHeight;
      });
    """
    assert page.script(over) == []
    assert page.script(_AUDIT) == []
    page.keys("\ue00c")
    page.wait(lambda: page.focused.accessible_name == name)


def test_the_whole_page_speaks_chinese_and_keeps_to_it(page: Browser) -> None:
    _settled(page, "environments")
    page.choose("#language", "zh")
    page.wait(lambda: page.text("h1") == "环境")
    assert page.script("return document.documentElement.lang") == "zh-Hans"
    page.wait(lambda: page.text(".pulse") == "2 个工作节点中 2 个存活")
    page.driver.refresh()
    page.wait(lambda: page.text("h1") == "环境")
    for view in VIEWS:
        _settled(page, view)
        # A key that has no text is shown as it is.
        assert page.script("return document.body.innerText.match(/\\b[a-z]+\\.[a-z_]+\\b/g)") in (
            None,
            ["qwen3.html"],
        )


def test_a_browser_that_prefers_chinese_gets_it(page: Browser) -> None:
    page.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "zh-CN"})
    override = {"userAgent": "test", "acceptLanguage": "zh-CN,zh"}
    page.driver.execute_cdp_cmd("Emulation.setUserAgentOverride", override)
    page.open()
    try:
        page.wait(lambda: page.text("h1") == "环境")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {})
        override = {"userAgent": "", "acceptLanguage": "en-US"}
        page.driver.execute_cdp_cmd("Emulation.setUserAgentOverride", override)


@pytest.mark.parametrize("prefers", ["light", "dark"])
def test_the_theme_is_that_of_the_system_until_one_is_chosen(page: Browser, prefers: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": prefers}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open()
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(17, 20, 26)", "rgb(245, 246, 248)"
    assert page.script(ground) == (dark if prefers == "dark" else light)
    page.choose("#theme", "dark")
    page.driver.refresh()
    page.wait(lambda: page.script(ground) == dark)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_all_without_scrolling_sideways(page: Browser, view: str) -> None:
    page.screen(390, 844, mobile=True)
    _settled(page, view)
    assert page.script(_AUDIT) == []


@pytest.mark.parametrize("view", ["environments", "models", "jobs", "workers"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_small_phone_has_the_first_row_on_its_first_screen(
    page: Browser, view: str, language: str
) -> None:
    page.screen(375, 667, mobile=True)
    page.open()
    page.choose("#language", language)
    _settled(page, view)
    bottom = "return document.querySelector('tbody td').getBoundingClientRect().bottom"
    assert page.script(bottom) < 600


def test_filters_of_a_phone_are_behind_a_button_that_counts_those_in_use(page: Browser) -> None:
    page.screen(375, 667, mobile=True)
    page.open(engine="vllm")
    page.wait(lambda: {row[0] for row in page.rows()} == {"qwen3"})
    assert not page.one("#filter-engine").is_displayed()
    unfold = page.button("Filters: 1 in use")
    assert unfold.get_attribute("aria-expanded") == "false"
    filters = page.one(f"#{unfold.get_attribute('aria-controls')}")
    page.tab_to(".unfold").send_keys(Keys.ENTER)
    page.wait(filters.is_displayed)
    assert unfold.get_attribute("aria-expanded") == "true"
    page.choose("#filter-engine", "")
    page.type("#filter-text", "127.0.0.2")
    page.button("Filters: 1 in use")
    page.type("#filter-model", "bge")
    page.button("Filters: 2 in use")
    assert page.script(_AUDIT) == []
    page.button("Filters: 2 in use").click()
    page.wait(lambda: not filters.is_displayed())
    # Who searches by the shortcut finds the field.
    page.keys("/")
    page.wait(lambda: page.focused == page.one("#filter-model"))


def test_a_phone_gives_the_empty_state_the_whole_width(page: Browser) -> None:
    page.screen(390, 844, mobile=True)
    _settled(page, "leases")
    display = "return getComputedStyle(document.querySelector('td.empty')).display"
    assert page.script(display) == "block"


def test_fields_of_the_launch_form_stay_in_their_columns_whatever_the_font(page: Browser) -> None:
    _settled(page, "launch")
    page.script("document.body.style.fontFamily = 'DejaVu Serif'")
    page.script("for (const each of document.querySelectorAll('input')) each.size = 60")
    wide = """
      return [...document.querySelectorAll(".field > input, .field > select")]
        .filter((each) => each.getBoundingClientRect().right
          > each.parentElement.getBoundingClientRect().right + 1)
        .map((each) => each.id);
    """
    assert page.script(wide) == []


def test_what_one_environment_and_one_launch_show_is_reached_by_keys(
    page: Browser, running: Cluster
) -> None:
    [entry, *_] = running.environments("qwen3")
    named = {"model": "qwen3", "engine": "vllm", "python": entry["python_version"]}
    for part, shown in (("packages", "tbody tr"), ("tree", ".tree"), ("logs", ".part pre")):
        page.open("environment", **named, worker=entry["worker_address"], part=part)
        page.one(f".part {shown}" if part != "logs" else shown)
        assert page.script(_AUDIT) == []
    [job, *_] = [
        each["job_id"]
        for each in running.ask.get("/v1/jobs").json()["list"]
        if each["model_name"] == "qwen3"
    ]
    page.screen(390, 844, mobile=True)
    page.open("job", id=job, model="qwen3")
    page.one(".facts")
    page.script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.wait(lambda: page.text(".log pre"))
    assert page.script(_AUDIT) == []
