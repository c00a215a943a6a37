"""A browser as a person uses it: by what things are called, waiting for what is to appear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.05
# What may be called so; the browser then says whether it is.
_CALLED = """
const controls = document.querySelector(arguments[0])?.querySelectorAll("button, a, summary") ?? [];
return [...controls].filter((each) =>
  [each.getAttribute("aria-label"), each.textContent.trim()].includes(arguments[1]));
"""
# What a page that is not there yet can make of a question: a table that is read has one cell.
# An open dialog hides from a screen reader what is outside of it.
_HEARD = """
const inDialogs = [...document.querySelectorAll("dialog[open] > .live")];
return (inDialogs.at(-1) ?? document.querySelector("#live")).textContent;
"""
_PASSING = (
    AssertionError,
    ElementClickInterceptedException,
    IndexError,
    NoSuchElementException,
    StaleElementReferenceException,
)


@dataclass(frozen=True, kw_only=True)
class Browser:
    """The page at `url` in a browser."""

    driver: WebDriver
    url: str

    def forget(self) -> None:
        """Be a browser that has never been here."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd(
            "Storage.clearDataForOrigin", {"origin": self.url[:-1], "storageTypes": "all"}
        )
        self.driver.get(f"{self.url}ui/icon.svg")
        self.driver.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.complaints()

    def complaints(self) -> list[str]:
        """What the page did that it should not, as the console has it since the last call.

        Answers with an error, and requests that nobody answers, are for the page to tell.
        """
        return [
            entry["message"]
            for entry in self.driver.execute("getLog", {"type": "browser"})["value"]
            if "Failed to load resource" not in entry["message"]
        ]

    def screen(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Have a screen of so many pixels, until `forget`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, view: str = "environments", **values: str) -> None:
        """Go to a view."""
        query = f"?{urlencode(values)}" if values else ""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#/{view}{query}")
        self.wait(lambda: self.all("h1"))

    def wait(self, what: Callable[[], Any]) -> Any:
        """Wait until something is (or asserts) so, and return it."""
        waiting = WebDriverWait(
            self.driver, PATIENCE_SECONDS, _POLL_SECONDS, ignored_exceptions=_PASSING
        )
        return waiting.until(lambda _: what())

    def all(self, css: str) -> list[WebElement]:
        """What matches a selector now."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        """What matches a selector, when it is there."""
        found: WebElement = self.wait(lambda: self.driver.find_element(By.CSS_SELECTOR, css))
        return found

    def button(self, name: str, within: str = "body") -> WebElement:
        """The button or link that is called so, when it can be seen."""

        def look() -> WebElement | None:
            for each in self.driver.execute_script(_CALLED, within, name):
                found: WebElement = each
                if found.accessible_name.strip() == name and found.is_displayed():
                    return found
            return None

        button: WebElement = self.wait(look)
        return button

    def click(self, name: str, within: str = "body") -> None:
        """Click the button or link that is called so."""

        def clicked() -> bool:
            self.button(name, within).click()
            return True

        self.wait(clicked)

    def type(self, css: str, *texts: str) -> None:
        """Type into a field what replaces its text."""
        field = self.one(css)
        field.clear()
        field.send_keys(*texts)

    def choose(self, css: str, value: str) -> None:
        """Choose an option by its value."""
        self.one(f"{css} option[value={json.dumps(value)}]").click()

    def keys(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        self.focused.send_keys(*keys)

    def tab_to(self, css: str) -> WebElement:
        """Press Tab until what matches has the focus."""
        for _ in range(60):
            if self.focused in self.all(css):
                return self.focused
            self.keys(Keys.TAB)
        raise AssertionError(f"Tab never reaches {css}")

    @property
    def focused(self) -> WebElement:
        """What has the focus."""
        return self.driver.switch_to.active_element

    def text(self, css: str = "main") -> str:
        """What can be read there now."""
        return self.driver.find_element(By.CSS_SELECTOR, css).text

    def shows(self, text: str, css: str = "main") -> None:
        """Wait until a text can be read."""
        try:
            self.wait(lambda: text in self.text(css))
        except Exception as error:
            error.add_note(f"it shows: {self.text()}")
            raise

    def hears(self, text: str) -> None:
        """Wait until a screen reader is told a text."""
        self.wait(lambda: text in self.script(_HEARD))

    def rows(self, css: str = "tbody") -> list[list[str]]:
        """The cells of a table's rows."""
        script = (
            "return [...document.querySelectorAll(arguments[0] + ' tr')]"
            ".map((tr) => [...tr.cells].map((td) => td.innerText.trim()))"
        )
        found: list[list[str]] = self.driver.execute_script(script, css)
        return found

    def script(self, source: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(source, *arguments)
