"""A real browser for the whole run and a real cluster for each module; pictures for the docs.

``pytest tests/ui --pictures docs/pictures`` makes the pictures anew. Without Chromium and its
driver the tests of the page are skipped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, cluster
from xinference_venv.settings import WIRE_KEY_VARIABLE

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--force-prefers-reduced-motion", "--lang=en-US", "--window-size=1360,900"),
)
_OF_INSTALLERS = ("PIP_", "UV_", "XINFERENCE_", "XOSCAR_", "PYTHONPATH")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", metavar="DIR", help="write pictures of the page there")


@pytest.fixture(scope="session")
def driver() -> Iterator[WebDriver]:
    """A browser with a profile of its own, which looks for no driver on the network."""
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    service = shutil.which("chromedriver")
    if binary is None or service is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        running = webdriver.Chrome(options=options, service=Service(executable_path=service))
        yield running
        running.quit()


@pytest.fixture(scope="module")
def module_environ(
    tmp_path_factory: pytest.TempPathFactory, uv_cache: Path, wire_key: str
) -> dict[str, str]:
    """The variables of this process without what configures installers."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_OF_INSTALLERS)}
    home = tmp_path_factory.mktemp("home")
    return {
        **kept,
        "HOME": str(home),
        "XINFERENCE_HOME": str(home / "xinference"),
        "UV_CACHE_DIR": str(uv_cache),
        "PIP_CONFIG_FILE": os.devnull,
        WIRE_KEY_VARIABLE: wire_key,
    }


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, module_environ: dict[str, str]
) -> Iterator[Cluster]:
    """A cluster without tokens."""
    with cluster(tmp_path_factory.mktemp("cluster"), module_environ) as started:
        yield started


@pytest.fixture
def page(driver: WebDriver, running: Cluster) -> Iterator[Browser]:
    """The page of the cluster, as somebody opens it who never did."""
    browser = Browser(driver=driver, url=running.url)
    browser.forget()
    yield browser
    assert browser.complaints() == []


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where pictures of the page are to be put; skips where none are wanted."""
    folder = request.config.getoption("--pictures", default=None)
    if folder is None:
        pytest.skip("pictures are made with --pictures DIR")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)
