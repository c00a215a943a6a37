"""The pictures of the docs: ``pytest tests/ui --pictures docs/pictures`` makes them anew."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tests.daemons import eventually
from tests.ui.browser import Browser
from tests.ui.cluster import Cluster
from tests.wheels import build_wheel

pytestmark = pytest.mark.uv


@pytest.fixture(scope="module")
def launched(pictures: Path, running: Cluster) -> Path:
    """Some models on both workers, with packages of a size; returns where pictures go."""
    for name, megabytes in (("ember", 34), ("flint", 12), ("tinder", 5)):
        data = {f"{name}.bin": os.urandom(megabytes << 20)}
        build_wheel(running.wheels, name, "1.0", requires=["lantern"], data=data)
    first = [running.workers[0].address]
    chat = ("ember", "flint", "tomli-w==0.1")
    running.launch("qwen3", *chat, everywhere=True, model_engine="vllm")
    running.launch("qwen3-omni", *chat, everywhere=True, model_engine="vllm")
    running.launch("qwen2.5", "ember", "tinder", workers=first, model_engine="transformers")
    running.launch("bge-m3", "tinder", everywhere=True, model_engine="sentence_transformers")
    running.launch("whisper-large-v3", "flint", workers=first)
    # Until then each view says that workers may be missing.
    eventually(lambda: bool(running.ask.get("/v1/virtualenvs").json()["complete"]))
    return pictures


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_views_of_a_cluster(
    launched: Path, page: Browser, running: Cluster, theme: str, language: str
) -> None:
    def take(name: str) -> None:
        shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        picture = launched / f"{name}-{theme}-{language}.png"
        picture.write_bytes(base64.b64decode(shot["data"]))

    [entry, *_] = running.environments("qwen3")
    page.screen(1280, 760)
    page.open()
    page.choose("#theme", theme)
    page.choose("#language", language)
    page.wait(lambda: page.text("h1") == {"en": "Environments", "zh": "环境"}[language])
    page.wait(lambda: len(page.rows()) == 8)
    page.script("document.activeElement.blur()")
    take("environments")
    page.open("launch", model="qwen3-coder", engine="vllm")
    page.one("#launch-own").click()
    page.type("#launch-packages", "ember\n")
    page.wait(lambda: page.all(".chips li"))
    page.type("#launch-packages", "tomli-w==0.1\n")
    page.wait(lambda: len(page.all(".chips li")) == 2)
    page.type("#launch-packages", "flash-attn>=2.7 ; has_cuda")
    page.wait(lambda: page.text(".status.good"))
    page.one("input[value=named]").click()
    page.one(".options input").click()
    page.script("scrollTo(0, 0)")
    take("launch")
    if language == "zh":
        return
    page.one("#launch-plan").click()
    page.shows("What the launch would do")
    page.script("document.querySelector('#plan h2').scrollIntoView()")
    take("plan")
    page.open("environment", part="tree", **_address_of(entry))
    page.wait(lambda: page.all(".tree"))
    take("environment")
    page.open("disk")
    page.wait(lambda: len(page.all(".cards .card")) == 2)
    take("disk")
    page.open()
    page.wait(lambda: len(page.rows()) == 8)
    page.all("tbody button.danger")[0].click()
    page.shows("Would be removed", "dialog")
    take("removal")
    _launch_in_the_middle(page, running, f"coal-{theme}")
    take("job")
    running.index.release()
    page.shows("Ready")
    running.ask.delete("/v1/virtualenvs", params={"model_name": "glm-4.6"})
    page.screen(390, 844, mobile=True)
    page.open()
    page.wait(lambda: len(page.rows()) == 8)
    take("phone")


def _address_of(entry: dict[str, str]) -> dict[str, str]:
    return {
        "model": entry["model_name"],
        "engine": entry["model_engine"],
        "python": entry["python_version"],
        "worker": entry["worker_address"],
    }


def _launch_in_the_middle(page: Browser, running: Cluster, package: str) -> None:
    """A launch on both workers, which wait for a file."""
    build_wheel(running.wheels, package, "1.0", requires=["ember"])
    running.index.hang(f"/files/{package.replace('-', '_')}-*.whl")
    block = {"packages": [package, "flint"]}
    body = {"model_name": "glm-4.6", "virtualenv": block, "everywhere": True}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    page.open("job", id=job, model="glm-4.6")
    page.shows("downloading")
    page.click("Output of uv in builds")
    page.shows("esolv", ".card pre")
