"""The console, by clicking."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import platform_process
import pytest
from pages import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SERVICE = "echo"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[platform_process.Platform]:
    flags = ["--ephemeral", "--http-port=0", "--grpc-port=0"]
    with platform_process.started(tmp_path_factory.mktemp("platform"), *flags) as started:
        yield started


@pytest.fixture
def console(browser: webdriver.Chrome, platform: platform_process.Platform) -> Iterator[Console]:
    browser.set_window_size(1200, 900)
    yield Console(browser, f"http://127.0.0.1:{platform.http_port}")
    browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    # Nothing on the page may have been refused or have failed.
    errors = [entry for entry in browser.get_log("browser") if "Failed to load resource" not in entry["message"]]
    assert not errors


def method(name: str) -> str:
    return f"call/{SERVICE}/test.MyService.{name}"


def call_page(console: Console, name: str) -> None:
    console.open("services")
    console.find(f'//a[contains(., ".{name}")]').click()
    console.shows("Request")


def test_services_and_their_hosts_health(console: Console) -> None:
    console.open("services")
    for name in (SERVICE, "workmanager", "websocketmanager"):
        console.shows(name)
    console.shows("serving")


def test_a_unary_call_by_form(console: Console) -> None:
    call_page(console, "UnaryMethod")
    console.fill("message", "hello")
    console.click("Call")
    console.shows("OK")
    assert [json.loads(text) for text in console.received()] == [{"reply": "echo: hello"}]


def test_a_request_that_does_not_fit_says_where(console: Console) -> None:
    call_page(console, "UnaryMethod")
    console.find('//label[contains(., "as JSON")]').click()
    area = console.named("Request as JSON")
    area.clear()
    area.send_keys('{"message": 7}')
    console.click("Call")
    console.shows("message")
    assert console.received() == []


def test_a_stream_shows_each_message(console: Console) -> None:
    call_page(console, "UnaryStreamMethod")
    console.fill("count", "3")
    console.click("Call")
    console.shows("OK")
    assert [json.loads(text)["reply"] for text in console.received()] == ["item 0", "item 1", "item 2"]


def test_messages_one_by_one_then_close_sending(console: Console) -> None:
    call_page(console, "StreamStreamMethod")
    console.click("Start")
    for word in ("one", "two"):
        console.fill("message", word)
        console.click("Send")
        console.wait(lambda word=word: any(word in text for text in console.received()))
    console.click("Close sending")
    console.shows("OK")
    assert len(console.received()) == 2


def test_cancel_ends_a_call(console: Console) -> None:
    call_page(console, "StreamStreamMethod")
    console.click("Start")
    console.fill("message", "one")
    console.click("Send")
    console.wait(console.received)
    console.click("Cancel")
    console.shows("CANCELLED")
    assert not console.button("Cancel").is_enabled()


@pytest.mark.parametrize("way", ["oxgrpc", "curl", "Python"])
def test_a_copied_line_gives_the_same_answer(console: Console, way: str) -> None:
    call_page(console, "UnaryMethod")
    console.fill("message", 'it\'s "quoted" $HOME')
    console.click(f"Copy as {way}")
    copied = console.wait(lambda: console.named("Copied command").get_attribute("value"))
    if way == "Python":
        command = [sys.executable, "-c", "import virtufin.api.client\n" + copied]
    else:
        command = ["bash", "-c", copied]
    path = str(platform_process.BINARY.parent)
    env = {"PATH": f"{path}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "HOME": "/nowhere"}
    output = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
    answer = json.loads(output)
    if way == "curl":
        answer = json.loads(answer["responseData"])
    assert answer == {"reply": 'echo: it\'s "quoted" $HOME'}


def test_secrets_enter_neither_copies_nor_history(console: Console) -> None:
    console.open("settings")
    console.fill("Metadata for every call", "authorization: Bearer hush-hush\nx-region: north")
    console.click("Keep")
    call_page(console, "UnaryMethod")
    console.click("Copy as oxgrpc")
    copied = console.wait(lambda: console.named("Copied command").get_attribute("value"))
    assert "$AUTHORIZATION" in copied
    assert "x-region: north" in shlex.split(copied)
    console.click("Call")
    console.shows("OK")
    kept = console.browser.execute_script("return JSON.stringify(localStorage)")
    assert "authorization" in kept
    assert "hush-hush" not in kept + copied


def test_history_makes_a_call_again(console: Console) -> None:
    call_page(console, "UnaryMethod")
    console.fill("message", "again")
    console.click("Call")
    console.shows("OK")
    console.open("history")
    console.find("//tbody//a").click()
    console.shows("Request")
    console.click("Call")
    console.shows("OK")
    assert [json.loads(text)["reply"] for text in console.received()] == ["echo: again"]


def test_events_of_a_topic_as_they_come(console: Console) -> None:
    console.open("topics")
    console.fill("Topic", "console-topic")
    console.click("Subscribe")
    console.shows("Subscribed")
    console.fill("Publish to topic", "console-topic")
    console.fill("Event data", "grüße")
    console.click("Publish")
    console.shows("grüße")
    console.click("Unsubscribe")
    console.shows("Not subscribed")


def test_state_is_edited_and_a_conflict_is_shown(console: Console) -> None:
    console.open("state/console-test")
    console.fill("Key", "a/b c")
    console.fill("Value", "mine")
    console.click("Save")
    console.shows("etag")
    body = json.dumps({"service": "console-test", "key": "a/b c", "value": "theirs"}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{console.url}/v1/state/save-state", body, headers)
    urllib.request.urlopen(request).close()
    console.fill("Value", "mine again")
    console.click("Save")
    console.shows("Somebody else has changed this value")
    console.shows("theirs")
    console.click("Take theirs")
    console.wait(lambda: console.named("Value").get_attribute("value") == "theirs")
    console.fill("Value", "ours")
    console.click("Save")
    console.wait(lambda: "ours" in console.find("//tbody").text)
    console.click("Delete")
    console.shows("No values.")


def test_the_keyboard_is_enough(console: Console) -> None:
    console.open("services")
    link = console.find('//a[contains(., ".UnaryMethod")]')
    for _ in range(60):
        if console.browser.switch_to.active_element == link:
            break
        console.browser.switch_to.active_element.send_keys(Keys.TAB)
    assert console.browser.switch_to.active_element == link
    link.send_keys(Keys.ENTER)
    console.shows("Request")
    field = console.named("message")
    field.send_keys("typed", Keys.ENTER)
    console.shows("OK")


def test_a_phone_shows_everything_without_scrolling_sideways(console: Console) -> None:
    for page in ("services", method("UnaryMethod"), "topics", "state", "history", "settings"):
        console.browser.set_window_size(500, 800)
        console.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        )
        console.open(page)
        width = console.browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360, page
    console.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_pages_of_other_sites_do_not_reach_the_gateway(console: Console, platform: platform_process.Platform) -> None:
    # A name of another site that leads to this machine, as after DNS rebinding.
    console.browser.get(f"http://evil.example:{platform.http_port}/")
    assert "Services" not in console.browser.find_element(By.TAG_NAME, "body").text
    # And a page that asks the gateway by its own name.
    for origin in ("http://evil.example", "null"):
        request = urllib.request.Request(
            f"{console.url}/v1/state/save-state",
            b'{"service": "s", "key": "k", "value": "v"}',
            {"content-type": "text/plain", "origin": origin},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 403
    console.open("services")
