"""What a person does on the console's pages: looks for things by what they are called, and clicks."""

from __future__ import annotations

from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

#: Seconds that a page has to show something.
PATIENCE_SECONDS = 30.0


class Console:
    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        self.url = url

    def open(self, page: str) -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.url}/#/{page}")
        name = page.partition("/")[0]
        self.wait(lambda: self.browser.find_element(By.TAG_NAME, "main").get_attribute("data-page") == name)

    def wait(self, condition: Any) -> Any:
        """Waits until the condition holds, and returns what it gave."""
        ignored = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.browser, PATIENCE_SECONDS, poll_frequency=0.05, ignored_exceptions=ignored)
        return waiting.until(lambda _: condition())

    def find(self, path: str) -> WebElement:
        def visible() -> WebElement | None:
            return next((found for found in self.browser.find_elements(By.XPATH, path) if found.is_displayed()), None)

        found: WebElement = self.wait(visible)
        return found

    def named(self, name: str) -> WebElement:
        """An input by its label."""
        return self.find(f'//*[@aria-label="{name}"] | //label[span[starts-with(normalize-space(),"{name}")]]//input')

    def fill(self, name: str, text: str) -> None:
        field = self.named(name)
        field.clear()
        field.send_keys(text)

    def choose(self, name: str, option: str) -> None:
        Select(self.named(name)).select_by_visible_text(option)

    def button(self, text: str) -> WebElement:
        return self.find(f'//button[normalize-space()="{text}"]')

    def click(self, text: str) -> None:
        button = self.button(text)
        self.wait(button.is_enabled)
        button.click()

    def text(self) -> str:
        text: str = self.browser.find_element(By.TAG_NAME, "main").text
        return text

    def shows(self, text: str) -> None:
        """Waits until the page shows a text."""
        try:
            self.wait(lambda: text in self.text())
        except Exception as error:
            raise AssertionError(f"{text!r} is not on the page:\n{self.text()}") from error

    def received(self) -> list[str]:
        """The messages that came in, in their order."""
        return [found.text for found in self.browser.find_elements(By.CSS_SELECTOR, ".message.in pre")]
