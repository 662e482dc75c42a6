"""The console's tests click through its pages in headless Chromium, against `oxgrpc up`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

HERE = Path(__file__).parent
TESTS = HERE.parent

sys.path[:0] = [str(TESTS), str(TESTS / "virtufin_client"), str(TESTS / "generated")]
sys.path.append(str(TESTS.parent / "python" / "virtufin" / "src"))

#: What keeps Chromium from looking for its maker's servers, and lets root run it.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Any name leads to this machine: a page of another site, as it is after DNS rebinding.
    "--host-resolver-rules=MAP * 127.0.0.1",
]


@pytest.fixture(autouse=True)
def leak_guard() -> None:
    """In place of the one of all tests: the browser is a process of its own."""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "apt-get install chromium"
    assert driver, "apt-get install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("chromium")
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()
