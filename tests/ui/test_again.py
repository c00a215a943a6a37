"""What the launch form shows is what it launches: again, corrected, refused, or not at all."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest

from tests.daemons import eventually
from tests.ui.browser import Browser
from tests.ui.cluster import Cluster
from xinference_venv.rest.schemas.requests import PrepareRequest, VirtualEnvBlock

pytestmark = pytest.mark.uv

BLOCK = {
    "packages": ["lantern==1.0", "tomli-w==0.1"],
    "inherit_pip_config": True,
    "index_strategy": "unsafe-best-match",
}
ASKED = {
    "model_name": "glow",
    "model_engine": "vllm",
    "model_format": "awq",
    "virtualenv": BLOCK,
    "enable_virtual_env": True,
    "inherit": "exact",
    "constraints": ["click<99"],
    "exclude": ["left-out"],
    "import_check": ["json"],
    "no_proof": True,
}
ENDS = {"ready", "failed", "cancelled"}
# What a launch may say that is not of the next one: the form of the request, the name of one
# running model, and what chose the workers, which are named.
NOT_AGAIN = {"version", "model_uid", "count", "everywhere"}
# Keeps the launch that the form sends, and sends it to nobody.
_KEEP = """
const real = window.fetch;
window.fetch = (url, options) => {
  if (options?.method !== "POST" || !String(url).endsWith("/v1/virtualenvs"))
    return real(url, options);
  window.sent = options.body;
  return Promise.reject(new DOMException("", "AbortError"));
};
"""


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    """A model with all kinds of options on one worker, and a plain one."""
    more = {name: each for name, each in ASKED.items() if name != "model_name"}
    links = [str(running.wheels)]
    where = [running.workers[1].address]
    running.launch("glow", **more, virtual_env_find_links=links, workers=where)
    running.launch("plain", "lantern==2.0", workers=[running.workers[0].address])


def _again(page: Browser, model: str) -> None:
    page.open("environments", model=model)
    page.click(model, "tbody")
    page.click("Launch again")
    page.shows("Filled in with what it was last launched with")
    page.wait(lambda: page.one("#launch-start").is_enabled())


def _chips(page: Browser, label: str) -> list[str]:
    return [each.text for each in page.all(f"ul[aria-label='{label}'] li")]


def _value(page: Browser, css: str) -> str:
    return str(page.one(css).get_property("value"))


def _asked(running: Cluster, job: str) -> dict[str, Any]:
    """What a job was asked for, without what says nothing."""
    listed = running.ask.get("/v1/jobs").json()["list"]
    [launch, *_] = [each["launch"] for each in listed if each["job_id"] == job]
    return {name: each for name, each in launch.items() if each}


def test_launch_again_fills_in_exactly_what_it_was_launched_with_and_launches_it(
    page: Browser, running: Cluster
) -> None:
    _again(page, "glow")
    assert _value(page, "#launch-model") == "glow"
    assert page.one("#launch-own").is_selected()
    assert _value(page, "#launch-engine") == "vllm"
    assert _value(page, "#launch-format") == "awq"
    assert _value(page, "#launch-python") == ""
    assert _value(page, "#launch-inherit") == "exact"
    assert _chips(page, "Packages") == BLOCK["packages"]
    assert _chips(page, "Find-links folders") == [str(running.wheels)]
    assert _chips(page, "Constraints") == ["click<99"]
    assert _chips(page, "Left out") == ["left-out"]
    assert not page.one("#launch-proof").is_selected()
    assert page.one("input[name=toggle][value=on]").is_selected()
    # What has no field is shown too.
    assert "virtualenv.index_strategy" in page.text("#launch-also")
    chosen = [
        each.text
        for each in page.all(".options label")
        if each.find_elements("css selector", "input:checked")
    ]
    assert [each.split()[0] for each in chosen] == [running.workers[1].address]

    page.one("#launch-start").click()
    page.shows("Ready")
    job = page.script("return new URLSearchParams(location.hash.split('?')[1]).get('id')")
    asked = _asked(running, job)
    first = running.environments("glow")[0]
    before = running.ask.get("/v1/virtualenvs/packages", params={"model_name": "glow"}).json()
    kept = {name: each for name, each in before["list"][0]["launch"].items() if each}
    assert asked == kept
    assert {name: asked[name] for name in ASKED if name != "virtualenv"} == {
        name: each for name, each in ASKED.items() if name != "virtualenv"
    }
    assert first["worker_address"] == running.workers[1].address


def test_nothing_of_an_earlier_launch_is_in_the_next_one(page: Browser, running: Cluster) -> None:
    _again(page, "glow")
    _again(page, "plain")
    assert _chips(page, "Packages") == ["lantern==2.0"]
    assert _value(page, "#launch-engine") == ""
    assert _chips(page, "Constraints") == []
    assert _chips(page, "Find-links folders") == []
    assert page.one("#launch-proof").get_property("checked")
    assert not page.one("#launch-also").is_displayed()
    # A form that is opened for a model has nothing of it either.
    page.script("location.hash = '#/launch?model=another'")
    page.wait(lambda: _value(page, "#launch-model") == "another")
    assert _chips(page, "Packages") == []
    # What is being filled in stays in other views.
    page.one("#launch-own").click()
    page.script("location.hash = '#/workers'")
    page.wait(lambda: page.text("h1") == "Workers")
    page.script("location.hash = '#/launch'")
    page.wait(lambda: _value(page, "#launch-model") == "another")
    page.click("Clear the form")
    page.wait(lambda: _value(page, "#launch-model") == "")


def test_a_misspelt_model_is_refused_with_those_it_may_be(page: Browser, running: Cluster) -> None:
    page.open("launch", model="qwen2.5-omi")
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.shows("The catalogue has no qwen2.5-omi.", "#model-hint")
    page.one("#launch-start").click()
    page.shows("The catalogue does not have this model", ".notice.bad")
    assert "#/launch" in page.driver.current_url
    assert running.environments("qwen2.5-omi") == []
    page.click("qwen2.5-omni", "#model-hint")
    page.shows("In the catalogue", "#model-hint")


@pytest.mark.parametrize(
    ("field", "text", "error"),
    [
        ("#launch-engine", "vlm", "Neither the catalogue nor the model knows this engine"),
        ("#launch-format", "awk", "The model does not have this format"),
    ],
)
def test_a_misspelt_engine_or_format_is_refused_with_those_that_are_known(
    page: Browser, running: Cluster, field: str, text: str, error: str
) -> None:
    page.open("launch", model="misspelt")
    page.one("#launch-own").click()
    page.type(field, text)
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    page.shows(error, ".notice.bad")
    page.shows("Known: ", ".notice.bad")
    # The page's own way, not the command line's.
    page.shows("More options", ".notice.bad")
    assert "--any-engine" not in page.text(".notice.bad")
    assert running.environments("misspelt") == []


def test_without_the_catalogue_the_form_says_so_and_launches_nothing(page: Browser) -> None:
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/models*"]})
    try:
        page.open("launch", model="qwen2.5-omni")
        page.shows("The catalogue could not be read")
        assert not page.one("#launch-start").is_enabled()
        assert not page.one("#launch-plan").is_enabled()
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.click("Read the catalogue again")
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.wait(lambda: "The catalogue could not be read" not in page.text())


def test_a_launch_that_requires_fewer_workers_than_it_names(
    page: Browser, running: Cluster
) -> None:
    page.open("launch", model="required")
    page.one("#launch-own").click()
    page.type("#launch-packages", "lantern==2.0", "\n")
    page.wait(lambda: page.all(".chips li"))
    page.one("input[value=everywhere]").click()
    page.type("#launch-require", "9")
    page.one("#launch-start").click()
    page.shows("9 ready workers are required, of 2", ".notice.bad")
    page.type("#launch-require", "1")
    page.one("#launch-start").click()
    page.shows("Ready")
    assert len(running.environments("required")) == 2


def _everything(running: Cluster) -> dict[str, Any]:
    """A launch that says something in each of its fields."""
    wheels = str(running.wheels)
    block = {
        "packages": ["lantern==1.0", "tomli-w==0.1"],
        "inherit_pip_config": False,
        "index_url": running.index.url,
        "extra_index_url": [running.index.url],
        "find_links": [wheels],
        "trusted_host": ["127.0.0.1"],
        "index_strategy": "unsafe-best-match",
        "no_build_isolation": True,
        "constraints": ["click<98"],
        "overrides": ["wick==1.0"],
        "exclude": ["left-out-too"],
        "build_constraints": ["setuptools<100"],
        "must_import": ["click"],
        "import_check": ["json"],
        "view": "links",
    }
    assert block.keys() == VirtualEnvBlock.model_fields.keys()
    body = {
        "model_name": "all-of-it",
        "model_engine": "an-engine",
        "model_format": "a-format",
        "model_size_in_billions": "7",
        "quantization": "int4",
        "any_engine": True,
        "python_version": ".".join(map(str, sys.version_info[:2])),
        "virtualenv": block,
        "enable_virtual_env": True,
        "virtual_env_packages": ["wick==1.0"],
        "virtual_env_find_links": [wheels],
        "inherit": "exact",
        "constraints": ["click<99"],
        "overrides": ["lantern==1.0"],
        "exclude": ["left-out"],
        "build_constraints": ["setuptools<99"],
        "must_import": ["lantern"],
        "import_check": ["sys"],
        "no_proof": True,
        "view": "files",
        "refresh": True,
        "workers": sorted(each.address for each in running.workers),
        "require": 1,
        "background": True,
    }
    assert body.keys() == PrepareRequest.model_fields.keys() - NOT_AGAIN
    return body


def _kept(page: Browser) -> dict[str, Any]:
    """The launch that the form sent."""
    sent: dict[str, Any] = json.loads(page.wait(lambda: page.script("return window.sent")))
    page.script("delete window.sent")
    return sent


def test_a_launch_that_says_everything_is_sent_again_as_it_was(
    page: Browser, running: Cluster
) -> None:
    body = _everything(running)
    answer = running.ask.post("/v1/virtualenvs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["job_id"]

    def state() -> dict[str, Any]:
        listed: dict[str, Any] = running.ask.get(f"/v1/jobs/{job}").json()
        return listed

    eventually(lambda: state()["phase"] == "ready", lambda: str(state()["error"]))

    page.open("job", id=job, model="all-of-it")
    page.script(_KEEP)
    page.shows("Download only")
    page.click("Launch the same again")
    page.click("Launch the same again", "dialog")
    assert _kept(page) == body
    page.open("job", id=job, model="all-of-it")
    page.click("Edit and launch again")
    page.shows("Filled in with what it was last launched with")
    page.script(_KEEP)
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    assert _kept(page) == body

    # An environment is what was made, on one worker: not how soon it was wanted, or where else.
    page.open("environments", model="all-of-it")
    page.click("all-of-it", "tbody tr:first-child")
    page.click("Launch again")
    page.shows("Filled in with what it was last launched with")
    page.script(_KEEP)
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    sent = _kept(page)
    assert sent.pop("workers") in ([each] for each in body["workers"])
    assert sent == {
        name: each
        for name, each in body.items()
        if name not in {"refresh", "background", "require", "workers"}
    }


@pytest.mark.parametrize("seed", range(6))
def test_a_launch_at_random_is_sent_again_as_it_was(
    page: Browser, running: Cluster, seed: int
) -> None:
    chance = random.Random(seed)
    whole = _everything(running)
    where = {name: whole.pop(name) for name in ("workers", "require", "background")}
    block = whole.pop("virtualenv")
    body = {name: whole[name] for name in whole if name == "model_name" or chance.random() < 0.4}
    inner = {name: each for name, each in block.items() if chance.random() < 0.4}
    body |= {"virtualenv": {**inner, "packages": block["packages"][: chance.randint(0, 2)]}}
    if "model_engine" in body:
        body["any_engine"] = True
    if chance.random() < 0.5:
        where["background"] = False
    if chance.random() < 0.5:
        where |= {"workers": where["workers"][:1], "require": None}
    where = {name: each for name, each in where.items() if each}
    answer = running.ask.post("/v1/virtualenvs", json={**body, **where})
    assert answer.status_code == 202, answer.text
    job = answer.json()["job_id"]
    # Whether it becomes ready does not matter.
    eventually(lambda: running.ask.get(f"/v1/jobs/{job}").json()["phase"] in ENDS)
    page.open("job", id=job, model=body["model_name"])
    page.click("Edit and launch again")
    page.shows("Filled in with what it was last launched with")
    page.script(_KEEP)
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    assert _kept(page) == {**body, **where}
