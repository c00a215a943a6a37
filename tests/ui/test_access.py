"""Tokens in the page: asked for when one is needed, kept for the tab, and what each allows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, cluster

SCOPES = {
    "all": "virtualenv:list virtualenv:create virtualenv:delete",
    "look": "virtualenv:list",
}


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, module_environ: dict[str, str]
) -> Iterator[Cluster]:
    """A cluster whose page needs the token "all", or "look"."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in SCOPES}
    tokens.write_text(
        f"sha256:{digests['all']} name=alice {SCOPES['all']}\n"
        f"sha256:{digests['look']} {SCOPES['look']}\n"
    )
    tokens.chmod(0o600)
    options = ("--token-file", str(Path(tokens)))
    with cluster(
        folder / "cluster", module_environ, hosts=["127.0.0.2"], web_options=options
    ) as running:
        running.ask.headers["Authorization"] = "Bearer all"
        running.launch("glow", "lantern==1.0")
        yield running


@pytest.fixture
def page(driver: WebDriver, guarded: Cluster) -> Iterator[Browser]:
    browser = Browser(driver=driver, url=guarded.url)
    browser.forget()
    yield browser
    assert browser.complaints() == []


def _enter(page: Browser, token: str) -> None:
    page.type("#token-text", token, Keys.ENTER)


def test_a_token_is_asked_for_and_kept_for_this_tab_only(page: Browser) -> None:
    page.driver.get(page.url)
    page.shows("Enter a token", "dialog")
    page.wait(lambda: page.focused == page.one("#token-text"))
    _enter(page, "wrong")
    page.shows("This token is not known.", "dialog")
    _enter(page, "all")
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow"])
    assert not page.all("dialog")
    page.driver.refresh()
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow"])
    kept = page.script("return [JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert "all" not in kept[0]
    assert '"all"' in kept[1]
    page.click("Token")
    page.click("Forget the token", "dialog")
    page.driver.refresh()
    page.shows("Enter a token", "dialog")


def test_who_closes_the_dialog_learns_what_is_missing_and_is_not_asked_again(page: Browser) -> None:
    page.driver.get(page.url)
    page.shows("Enter a token", "dialog")
    page.click("Close", "dialog")
    page.shows("A token is needed")
    # The workers are asked for every three seconds: the dialog must not come back with them.
    page.click("Workers", ".menu")
    page.shows("A token is needed")
    assert not page.all("dialog")
    page.click("Token")
    _enter(page, "all")
    page.wait(lambda: page.rows())


def test_what_a_token_does_not_allow_is_disabled_and_explained(page: Browser) -> None:
    page.driver.get(page.url)
    _enter(page, "look")
    page.wait(lambda: [row[0] for row in page.rows()] == ["glow"])
    [remove] = page.all("tbody button.danger")
    assert not remove.is_enabled()
    assert "virtualenv:delete" in str(remove.get_attribute("title"))
    page.all("tbody input.pick")[0].click()
    allowed = {each.text: each.is_enabled() for each in page.all(".chosen button")}
    assert sorted(allowed.values()) == [False, False, False, True]
    assert allowed["Make ahead"] is False
    page.click("Disk", ".menu")
    assert not page.button("Collect garbage").is_enabled()
    page.click("Workers", ".menu")
    page.wait(lambda: page.all("tbody button[aria-label^='Drain']"))
    assert not page.all("tbody button[aria-label^='Drain']")[0].is_enabled()
    page.click("Launch", ".menu")
    page.shows("Your token does not allow this: it lacks the scope virtualenv:create")
    assert not page.one("#launch-start").is_enabled()
    assert not page.one("#launch-plan").is_enabled()


def test_a_token_that_is_taken_back_is_asked_for_again(page: Browser) -> None:
    page.driver.get(page.url)
    _enter(page, "all")
    page.wait(lambda: page.rows())
    page.script("sessionStorage.setItem('xinference-venv-token /v1/', 'gone')")
    page.driver.refresh()
    page.shows("Enter a token", "dialog")


def test_a_token_is_not_sent_to_another_server_at_the_same_origin(page: Browser) -> None:
    page.driver.get(page.url)
    page.script("sessionStorage.setItem('xinference-venv-token /other/v1/', 'all')")
    page.driver.refresh()
    page.shows("Enter a token", "dialog")
    _enter(page, "look")
    page.wait(lambda: page.rows())
    kept = page.script("return sessionStorage.getItem('xinference-venv-token /other/v1/')")
    assert kept == "all"


def test_the_stream_of_a_launch_is_sent_the_token(page: Browser, guarded: Cluster) -> None:
    guarded.index.hang("/simple/lantern/")
    page.driver.get(page.url)
    _enter(page, "all")
    page.wait(lambda: page.rows())
    page.click("Launch", ".menu")
    page.type("#launch-model", "streamed")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern==2.0")
    page.one("#launch-start").click()
    page.wait(lambda: page.text(".view > .toolbar .badge") == "resolving")
    guarded.index.release()
    page.shows("Ready: launches of this model")


def test_a_job_names_the_token_that_asked_for_it(page: Browser, guarded: Cluster) -> None:
    job = guarded.launch("beam", "lantern==1.0")
    page.driver.get(page.url)
    _enter(page, "look")
    page.wait(lambda: page.rows())
    page.click("Jobs", ".menu")
    page.type("#filter-jobs", "beam")
    page.shows("token alice", "tbody")
    page.click("beam", "tbody")
    page.shows("Asked for by token alice")
    assert guarded.ask.get(f"/v1/jobs/{job}").json()["asked_by"] == "token alice"


def test_a_token_that_allows_less_after_a_restart_counts_as_it_is_now(
    page: Browser, guarded: Cluster, tmp_path: Path
) -> None:
    page.driver.get(page.url)
    _enter(page, "all")
    page.wait(lambda: page.rows())
    page.all("tbody button.danger")[0].click()
    page.shows("Would be removed", "dialog")
    less = tmp_path / "tokens"
    digest = hashlib.sha256(b"all").hexdigest()
    less.write_text(f"sha256:{digest} virtualenv:list\n")
    less.chmod(0o600)
    port = guarded.web.address.rpartition(":")[2]
    guarded.web.end()
    page.shows("The server does not answer.", "#connection")
    options = ("--port", port, "--supervisor", guarded.supervisor.address)
    guarded.web = guarded.running.start("web", *options, "--token-file", str(less)).ready()
    page.wait(lambda: not page.text("#connection"))
    page.click("Remove", "dialog")
    page.shows("it lacks the scope virtualenv:delete", "dialog")
    page.shows("Enter a token that has this scope", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: not any(each.is_enabled() for each in page.all("tbody button.danger")))
    # Nobody had to load the page again.
    assert page.rows()
