"""The table of environments and what can be done from it, over a real cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, hold

pytestmark = pytest.mark.uv

MODEL, ENGINE, PYTHON, WORKER, STATE, SIZE, SHARED, USERS, USED = range(9)

# Two words of English after each other are of a sentence; names and versions stand alone.
_ENGLISH = """
const seen = document.querySelector("main").innerText;
const words = "the|it|is|that|which|has|have|be|must|since|of|by|for";
return seen.match(new RegExp(`\\\\b[A-Za-z]{2,}[ ,]+(${words})\\\\b.*`, "g")) ?? [];
"""


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    """Two models that share environments on both workers, and one with others on one of them."""
    packages = ("lantern==1.0", "tomli-w==0.1")
    running.launch("glow", *packages, everywhere=True, model_engine="vllm")
    running.launch("glow-large", *packages, everywhere=True)
    running.launch("shine", "lantern==2.0", workers=[running.workers[0].address])


def _listed(page: Browser, *models: str) -> None:
    page.wait(lambda: [row[MODEL] for row in page.rows()] == list(models))


def test_every_environment_of_the_cluster_is_in_the_table(page: Browser, running: Cluster) -> None:
    page.open()
    _listed(page, "glow", "glow", "glow-large", "glow-large", "shine")
    row = page.rows()[0]
    assert row[ENGINE] == "vllm"
    assert row[PYTHON].startswith("3.")
    assert row[WORKER] == running.workers[0].address
    assert row[STATE] == "ready"
    assert row[SIZE].endswith("KiB")
    assert row[SHARED].startswith("glow-large")
    assert row[USERS] == "–"
    page.shows("2 of 2 workers alive", ".pulse")


def test_filters_by_model_and_worker_stay_in_the_address(page: Browser, running: Cluster) -> None:
    first, second = (each.address for each in running.workers)
    page.open()
    page.type("#filter-model", "GLOW-")
    _listed(page, "glow-large", "glow-large")
    page.choose("#filter-worker", second)
    page.wait(lambda: [row[WORKER] for row in page.rows()] == [second])
    page.driver.refresh()
    page.wait(lambda: [row[WORKER] for row in page.rows()] == [second])
    _listed(page, "glow-large")
    page.open("environments", worker=first)
    _listed(page, "glow", "glow-large", "shine")


@pytest.mark.parametrize(
    ("column", "heading"), [(MODEL, "Model"), (ENGINE, "Engine"), (WORKER, "Worker")]
)
def test_a_click_on_a_heading_sorts_and_another_turns_it_round(
    page: Browser, column: int, heading: str
) -> None:
    page.open(sort="-size")
    page.wait(lambda: len(page.rows()) == 5)
    directions = []
    for _ in range(2):
        page.click(heading, "thead")
        shown = [row[column].replace("–", "") for row in page.rows()]
        [sorted_by] = page.all("th[aria-sort]")
        direction = sorted_by.get_attribute("aria-sort")
        assert shown == sorted(shown, reverse=direction == "descending")
        directions.append(direction)
    assert directions == ["ascending", "descending"]


def test_every_column_can_be_sorted_by(page: Browser) -> None:
    page.open()
    assert len(page.all("thead .sorter")) == 9


def test_a_path_is_copied(page: Browser, running: Cluster) -> None:
    page.open()
    # What is copied is read where it can be: the clipboard of a browser without a screen.
    page.script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    [entry] = running.environments("shine")
    page.click(f"Copy: path of shine · Python {entry['python_version']}, {entry['worker_address']}")
    assert page.wait(lambda: page.script("return window.copied")) == entry["path"]
    page.hears("Copied: path of shine")


def _open_removal(page: Browser, entry: dict[str, str]) -> None:
    engine = f" · {entry['model_engine']}" if entry["model_engine"] else ""
    called = f"{entry['model_name']}{engine} · Python {entry['python_version']}"
    page.click(f"Remove: {called}, {entry['worker_address']}")


def test_removal_shows_its_plan_first_and_changes_nothing_until_it_is_asked_to(
    page: Browser, running: Cluster
) -> None:
    running.launch("spare", "lantern==2.0", workers=[running.workers[1].address])
    [entry] = running.environments("spare")
    page.open()
    _open_removal(page, entry)
    page.shows("Would be removed", "dialog")
    page.shows(entry["path"], "dialog")
    assert Path(entry["path"]).exists()
    # The first choice is the one that keeps it.
    page.wait(lambda: page.focused.accessible_name == "Keep it")
    page.click("Keep it", "dialog")
    page.wait(lambda: not page.all("dialog"))
    assert running.environments("spare") == [entry]

    _open_removal(page, entry)
    page.click("Remove", "dialog")
    page.shows("1 environment is gone", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: "spare" not in [row[MODEL] for row in page.rows()])
    assert running.environments("spare") == []
    assert not Path(entry["path"]).exists()


def test_what_is_in_use_is_refused_with_who_uses_it_and_force_is_a_second_choice(
    page: Browser, running: Cluster
) -> None:
    hold(running, "held")
    [entry] = running.environments("held")
    pid = entry["leases"][0]["process"]["pid"]
    page.open()
    page.wait(lambda: any(row[MODEL] == "held" and row[USERS] != "–" for row in page.rows()))
    _open_removal(page, entry)
    page.shows("Nothing is removed: it is in use", "dialog")
    page.shows(f"process {pid}", "dialog")
    names = [each.accessible_name for each in page.all("dialog .dialog-foot button")]
    assert names == ["Show what force would do", "Keep it"]

    page.click("Show what force would do", "dialog")
    page.shows("Removed now, its files deleted later", "dialog")
    assert len(running.environments("held")) == 1
    page.click("Remove by force", "dialog")
    page.shows("1 environment is gone", "dialog")
    assert running.environments("held") == []
    # Who uses it keeps its files.
    assert Path(entry["real_path"]).exists()


def test_an_environment_has_its_packages_with_reasons_and_its_tree(
    page: Browser, running: Cluster
) -> None:
    page.open(model="glow", worker=running.workers[0].address)
    page.click("glow", "tbody")
    page.shows("lantern==1.0 -> wick==1.0")
    page.type("#filter-package", "tomli")
    page.wait(lambda: sorted(row[2] for row in page.rows()) == ["installed", "shadowed"])
    page.click("Why each is there")
    page.wait(lambda: page.all(".tree"))
    top = page.one(".tree > li > details > summary")
    assert top.text.startswith("lantern 1.0 installed")
    below = [each.text for each in page.all(".tree > li:first-child .tree > li")]
    assert [each.split()[0] for each in below] == ["click", "wick"]
    assert "click" in below[0] and "inherited" in below[0]
    page.shows("Shadowed: packages of the host that installed ones replace")
    page.shows("0.1 is installed: model: tomli-w==0.1")
    page.click("Fold all")
    assert not page.one(".tree .tree").is_displayed()
    page.click("Logs")
    page.shows("Resolved")


def test_reasons_and_what_is_malformed_are_chinese_on_the_chinese_page(
    page: Browser, running: Cluster
) -> None:
    page.open(model="glow", worker=running.workers[0].address)
    page.choose("#language", "zh")
    page.wait(lambda: page.text("h1") == "环境")
    page.click("glow", "tbody")
    page.shows("模型：lantern==1.0 -> wick==1.0")
    page.shows("xoscar 必须可导入")
    assert page.script(_ENGLISH) == []
    page.click("依赖树与原因")
    page.wait(lambda: page.all(".tree"))
    page.shows("沿用主机的")
    page.shows("让位，因为请求需要 tomli-w")
    page.shows("安装了 0.1：模型：tomli-w==0.1")
    assert page.script(_ENGLISH) == []

    # What the form would not send, another program or a later page may.
    page.open("launch", model="glow")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern==1.0", "\n")
    page.wait(lambda: page.all(".chips li"))
    page.script(
        "const ask = window.fetch;"
        "window.fetch = (url, options) => {"
        "  if (!options?.body) return ask(url, options);"
        "  const body = { ...JSON.parse(options.body), everywhere: 'yes', inherit: 'all' };"
        "  return ask(url, { ...options, body: JSON.stringify(body) });"
        "};"
    )
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    page.shows("body.everywhere: 必须是 true 或 false")
    page.shows("body.inherit: 必须是 'host', 'exact' 或 'none'")
    assert page.script(_ENGLISH) == []


def test_two_environments_are_compared(page: Browser, running: Cluster) -> None:
    page.open()
    page.click("Compare")
    page.wait(lambda: len(page.all("#compare-left option")) == 5)

    def position(side: str, model: str) -> str:
        options = page.all(f"#compare-{side} option")
        [found] = [
            each
            for each in options
            if each.text.startswith(f"{model} · ") and running.workers[0].address in each.text
        ]
        return str(found.get_attribute("value"))

    page.choose("#compare-left", position("left", "glow"))
    page.choose("#compare-right", position("right", "shine"))
    page.wait(lambda: [row[0] for row in page.rows()][:2] == ["lantern", "tomli-w"])
    rows = {row[0]: row[1:] for row in page.rows()}
    assert rows["lantern"] == ["1.0", "2.0", "another version"]
    assert rows["tomli-w"][0] == "0.1"
    assert "wick" not in rows
    # What is compared is in the address.
    page.driver.refresh()
    page.wait(lambda: {row[0]: row[1:] for row in page.rows()} == rows)
    page.one("#compare-only").click()
    page.wait(lambda: ["wick", "1.0", "1.0", "the same"] in page.rows())


def _bytes(page: Browser, css: str) -> dict[str, float]:
    """What the picture of a disk shows, by its parts' names."""
    label = page.one(f"{css} svg").get_attribute("aria-label") or ""
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    parts = re.findall(r"([^:,]+(?:, linked to uv's cache)?) ([\d.]+) (\w+)", label)
    return {name.strip(): float(number) * units[unit] for name, number, unit in parts}


def test_the_disks_are_measured_and_drawn(page: Browser, running: Cluster) -> None:
    page.open("disk")
    page.wait(lambda: len(page.all(".cards .card")) == 2)
    # All of them together come first.
    assert page.all(".card")[0].accessible_name == "All workers"
    # They are on one machine: its disk and uv's cache are there once.
    page.shows("2 workers · 1 disk ·", ".card")
    reports = running.ask.get("/v1/disk").json()["list"]
    cached = {each["uv_cache"]["path"]: each["uv_cache"]["size_bytes"] for each in reports}
    assert len(cached) == 1
    in_all = _bytes(page, ".card")
    assert sum(in_all.values()) == pytest.approx(reports[0]["total_bytes"], rel=0.01)
    linked = in_all["Environments, linked to uv's cache"] + in_all["The rest of uv's cache"]
    assert linked == pytest.approx(sum(cached.values()), rel=0.05)
    picture = page.one(".cards .card svg").get_attribute("aria-label")
    assert picture is not None
    assert picture.startswith(f"Disk of {running.workers[0].address}: Environments alone")
    names = [row[0] for row in page.rows(".cards .card:first-child .sheet tbody")]
    assert {"glow", "glow-large", "shine"} <= set(names)
    # Two models of one environment have it once.
    python = running.environments("glow")[0]["python_version"]
    assert f"glow · vllm · Python {python}; glow-large · Python {python}" in names
    page.click("Measure again")
    page.hears("The disks are measured")


def test_the_workers_are_shown_with_their_state(page: Browser, running: Cluster) -> None:
    page.open("workers")
    page.wait(lambda: len(page.rows()) == 2)
    assert [row[0] for row in page.rows()] == sorted(each.address for each in running.workers)
    assert {row[2] for row in page.rows()} == {"alive"}
    page.click("Environments", "tbody")
    page.wait(lambda: {row[WORKER] for row in page.rows()} == {running.workers[0].address})


def test_hostile_names_and_packages_stay_texts(page: Browser, running: Cluster) -> None:
    name = "<img src=x onerror=alert(1)>".replace(" ", "\u00b7").replace("=", "\u2261")
    requirement = "<script>alert(1)</script>"
    page.open("launch", model=name)
    page.one("#launch-own").click()
    page.type("#launch-packages", requirement)
    page.shows("Invalid requirement", ".status.bad")
    assert "<script>" in page.text(".status.bad")
    page.type("#launch-packages", "lantern==2.0", "\n")
    page.wait(lambda: page.all(".chips li"))
    page.one("#launch-start").click()
    page.shows(name, "h1")
    page.shows("Ready")
    page.open(model=name)
    _listed(page, name)
    page.click(name, "tbody")
    page.shows("lantern")
    page.open("job", id="<b>x<b>", model="<b>hostile</b>")
    page.shows("<b>hostile</b>", "h1")
    page.shows("There is no such launch any more")
    assert page.all("main img, main script, main b") == []
    # Nothing can be made of a text here, whoever tried.
    make = "try { document.body.innerHTML = '<b>x</b>' } catch (error) { return error.name }"
    assert page.script(make) == "TypeError"
    page.complaints()
    running.ask.delete("/v1/virtualenvs", params={"model_name": name})
