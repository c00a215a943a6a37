"""Launches from the page: the form, the dry run, progress, cancelling, errors, connections."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster
from tests.wheels import build_wheel
from xinference_venv.store.catalog import built_in_catalog

pytestmark = pytest.mark.uv


@pytest.fixture(autouse=True)
def index_again(running: Cluster) -> Iterator[None]:
    """Each test leaves an index that answers."""
    yield
    running.index.release()


@pytest.fixture
def package(running: Cluster, request: pytest.FixtureRequest) -> str:
    """A package of the test's own, which nobody has downloaded."""
    name = re.sub("[^a-z]", "", request.node.name)[-40:]
    build_wheel(running.wheels, name, "1.0", requires=["wick"])
    return name


def _add(page: Browser, package: str) -> None:
    page.type("#launch-packages", package)
    page.click("Add to: Packages")
    page.wait(lambda: package in page.text(".chips"))


def _of_its_own(page: Browser, model: str) -> None:
    """Open the form for a model that is not of the catalogue."""
    page.open("launch", model=model)
    page.one("#launch-own").click()
    page.wait(lambda: page.one("#launch-start").is_enabled())


def _phase(page: Browser) -> str:
    return page.text(".view > .toolbar .badge")


def test_a_package_is_checked_as_it_is_typed_and_added_by_the_plus_icon(page: Browser) -> None:
    page.open("launch", model="checked")
    page.type("#launch-packages", "lantern==")
    page.shows("Invalid requirement 'lantern=='", ".status.bad")
    assert page.one("#launch-packages").get_attribute("aria-invalid") == "true"
    page.click("Add to: Packages")
    assert page.all(".chips li") == []
    page.type("#launch-packages", "Lantern >= 1.0, <2")
    page.shows("lantern · Lantern<2,>=1.0", ".status.good")
    page.click("Add to: Packages")
    page.wait(lambda: page.text(".chips") == "Lantern >= 1.0, <2")
    page.click("Take out Lantern >= 1.0, <2")
    page.wait(lambda: page.all(".chips li") == [])
    page.type("#launch-links", "wheels")
    page.shows("not an absolute path", ".status.bad")


def test_a_model_of_the_catalogue_says_what_it_needs(page: Browser) -> None:
    known = built_in_catalog().models["magika-1"]
    page.open("launch")
    page.wait(lambda: page.all("#models option[value=magika-1]"))
    page.type("#launch-model", "magika-1")
    page.shows(f"In the catalogue, with {known.variants[0].virtualenv.packages[0]}.", "#model-hint")
    page.type("#launch-model", "another")
    page.shows("The catalogue has no another.", "#model-hint")
    page.one("#launch-own").click()
    page.shows("Not from the catalogue", "#model-hint")


def test_the_engines_that_are_offered_are_those_of_the_catalogue(page: Browser) -> None:
    page.open("launch")
    known = sorted(each.name for each in built_in_catalog().engines.values())
    page.wait(
        lambda: [each.get_attribute("value") for each in page.all("#engines option")] == known
    )


def test_of_a_model_that_names_its_engines_these_are_offered(page: Browser) -> None:
    page.open("launch")
    page.wait(lambda: page.all("#models option[value='qwen2.5-omni']"))
    page.type("#launch-model", "qwen2.5-omni")
    offered = [each.get_attribute("value") for each in page.all("#engines option")]
    assert offered == ["transformers", "vllm", "sglang"]


def test_what_is_filled_in_is_still_there_when_the_page_is_loaded_again(page: Browser) -> None:
    _of_its_own(page, "half-filled")
    _add(page, "lantern<2")
    _add(page, "shade @ git+https://someone:hunt@er22@git.example/shade@main")
    page.driver.refresh()
    page.wait(lambda: page.one("#launch-model").get_attribute("value") == "half-filled")
    assert page.one("#launch-own").is_selected()
    assert "lantern<2" in page.text(".chips")
    assert "shade @ git+https://git.example/shade@main" in page.text(".chips")


def test_a_dry_run_shows_what_would_be_installed_inherited_and_shadowed(
    page: Browser, running: Cluster
) -> None:
    _of_its_own(page, "planned")
    _add(page, "lantern==1.0")
    _add(page, "tomli-w==0.1")
    page.one("input[value=named]").click()
    page.wait(lambda: len(page.all(".options label")) == 2)
    page.all(".options input")[1].click()
    page.click("Dry run")
    page.shows("What the launch would do")
    page.shows(f"Resolved on {running.workers[1].address}, and not built.")
    assert page.one(".tree > li summary").text.startswith("lantern 1.0 installed")
    totals = page.one(".totals").text.split("\n")
    assert totals[:2] == ["installed", "3 packages"]
    page.shows("tomli-w", "section:last-of-type")
    assert page.focused.text == "What the launch would do"
    assert running.environments("planned") == []


def test_with_the_toggle_off_nothing_would_be_made(page: Browser, running: Cluster) -> None:
    _of_its_own(page, "off")
    page.one("input[name=toggle][value=off]").click()
    page.click("Dry run")
    page.shows("No environment would be built: the model would use the host's Python.")
    page.one("#launch-start").click()
    page.shows("No environment is needed: the host's Python")
    assert running.environments("off") == []


def test_a_launch_that_only_downloads_comes_after_the_others(
    page: Browser, running: Cluster, package: str
) -> None:
    _of_its_own(page, "ahead")
    _add(page, package)
    page.click("More options")
    page.one("#launch-background").click()
    page.script(
        "const ask = window.fetch; window.asked = [];"
        "window.fetch = (url, more) => { window.asked.push(more?.body); return ask(url, more); }"
    )
    page.one("#launch-start").click()
    page.shows("Ready: launches of this model use this environment.")
    bodies = [json.loads(each) for each in page.script("return window.asked") if each]
    assert [each["background"] for each in bodies if each.get("model_name") == "ahead"] == [True]
    [made] = running.environments("ahead")
    assert (made["state"], made["leases"]) == ("ready", [])


def test_a_launch_everywhere_shows_each_worker_to_its_end(
    page: Browser, running: Cluster, package: str
) -> None:
    running.index.hang(f"/files/{package}-*")
    _of_its_own(page, "everywhere")
    page.type("#launch-engine", "vllm")
    page.type("#launch-links", str(running.wheels))
    page.click("Add to: Find-links folders")
    # What is typed and not added is added by the launch.
    page.type("#launch-packages", package)
    page.one("input[value=everywhere]").click()
    page.one("#launch-start").click()
    page.wait(lambda: len(page.all(".card")) == 2)
    assert "#/job?" in page.driver.current_url
    page.wait(lambda: _phase(page) not in ("", "ready"))
    running.index.release()
    page.shows("Ready: launches of this model use this environment.")
    assert [each.text for each in page.all(".card > header .badge")] == ["ready", "ready"]
    assert len(running.environments("everywhere")) == 2
    page.click("Output of uv in builds")
    page.shows("Resolved", ".card pre")

    page.open("jobs")
    listed = ["everywhere", "vllm", "ready", "2 workers"]
    page.wait(lambda: listed in [row[:4] for row in page.rows()])


def test_a_launch_goes_on_when_the_page_is_loaded_again_in_the_middle(
    page: Browser, running: Cluster, package: str
) -> None:
    running.index.hang(f"/simple/{package}/")
    _of_its_own(page, "reloaded")
    _add(page, package)
    page.one("#launch-start").click()
    page.wait(lambda: _phase(page) == "resolving")
    page.driver.refresh()
    page.wait(lambda: _phase(page) == "resolving")
    page.shows("reloaded", "h1")
    running.index.release()
    page.wait(lambda: _phase(page) == "ready")


def test_a_lost_connection_is_reported_and_the_launch_followed_on(
    page: Browser, running: Cluster, package: str
) -> None:
    running.index.hang(f"/simple/{package}/")
    _of_its_own(page, "lost")
    _add(page, package)
    page.one("#launch-start").click()
    page.wait(lambda: _phase(page) == "resolving")
    port = running.web.address.rpartition(":")[2]
    running.web.end()
    page.shows("The connection to this launch was lost; retrying.")
    page.shows("The server does not answer.")
    options = ("--port", port, "--supervisor", running.supervisor.address)
    running.web = running.running.start("web", *options).ready()
    page.wait(lambda: "The connection to this launch was lost" not in page.text())
    running.index.release()
    page.wait(lambda: _phase(page) == "ready")
    assert "The server does not answer." not in page.text()
    # Each event once: what was told before the loss is not told again.
    page.script("document.querySelector('.view > details').open = true")
    lines = [each.text for each in page.all(".events li")]
    assert len([each for each in lines if "queued" in each]) == 1


def test_a_launch_is_cancelled(page: Browser, running: Cluster, package: str) -> None:
    running.index.hang(f"/simple/{package}/")
    _of_its_own(page, "unwanted")
    _add(page, package)
    page.one("#launch-start").click()
    page.wait(lambda: _phase(page) == "resolving")
    page.click("Cancel the launch")
    page.shows("The launch ends on all its workers.", "dialog")
    page.click("Let it run", "dialog")
    assert _phase(page) == "resolving"
    page.click("Cancel the launch")
    page.click("Cancel it", "dialog")
    page.shows("Cancelled: nothing half-made stays.", "dialog")
    page.click("Done", "dialog")
    page.shows("Cancelled: nothing half-made stays.")
    assert _phase(page) == "cancelled"
    assert running.environments("unwanted") == []
    assert not [each for each in page.all("main button") if "Cancel" in each.text]


def test_a_launch_that_fails_says_why_and_what_to_do(page: Browser) -> None:
    _of_its_own(page, "impossible")
    _add(page, "lantern==9")
    page.one("#launch-start").click()
    page.shows("The requirements could not be resolved")
    page.shows("lantern==9", ".notice.bad")
    page.shows("Output of uv", ".notice.bad")
    assert _phase(page) == "failed"
    assert page.all(".steps .stopped")


def test_input_that_cant_be_meant_is_reported_at_the_form(page: Browser) -> None:
    _of_its_own(page, "a/b")
    page.one("#launch-start").click()
    page.shows("Invalid name 'a/b'", ".notice.bad")
    assert "#/launch" in page.driver.current_url


def test_a_launch_takes_the_keyboard_alone(page: Browser, running: Cluster) -> None:
    page.open()
    page.keys(Keys.TAB)
    assert page.focused.text == "Skip to the content"
    page.keys(Keys.ENTER)
    assert page.focused == page.one("main")
    page.tab_to("a.primary").send_keys(Keys.ENTER)
    page.wait(lambda: page.focused.text == "Launch" and page.focused.tag_name == "h1")
    page.tab_to("#launch-model").send_keys("by-keyboard")
    page.tab_to("#launch-own").send_keys(Keys.SPACE)
    page.tab_to("#launch-packages").send_keys("lantern==2.0", Keys.ENTER)
    page.wait(lambda: page.text(".chips") == "lantern==2.0")
    assert page.focused == page.one("#launch-packages")
    page.tab_to("input[name=where]").send_keys(Keys.ARROW_RIGHT)
    page.wait(lambda: page.one(".options").is_displayed())
    page.tab_to(".options input").send_keys(Keys.SPACE)
    page.tab_to("#launch-start").send_keys(Keys.ENTER)
    page.wait(lambda: _phase(page) == "ready")
    [made] = running.environments("by-keyboard")
    assert made["worker_address"] == running.workers[0].address
