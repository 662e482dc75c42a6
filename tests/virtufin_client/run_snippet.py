"""Runs a section of the documentation (snippets.md) against a gateway, as printed.

    run_snippet.py SECTION --port PORT [--replace OLD NEW]...
    run_snippet.py NUMBER --page FILE --port PORT

The documentation's gateway listens on port 5002; here it is another port. Pauses are shortened. Names that a section
takes for granted (`client`, `topic`) are given to it, and where it waits for others, they are played here.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from virtufin.api import client as api
from virtufin.api.client import ApiClient

TEXT = Path(__file__).with_name("snippets.md").read_text()

#: The code of each section.
SECTIONS = dict(re.findall(r"^## (.+?)\n+```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def blocks(page: Path) -> list[str]:
    """The blocks of Python of a page of ours."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PORT = 5002

really_sleep = asyncio.sleep


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await really_sleep(0.01)


async def publish_events() -> None:
    """Publishes what the section that watches all events is to see."""
    async with ApiClient() as publisher:
        await publisher.save_state_async("workmanager", "watched", "1")
        await publisher.pubsub.publish_async("somewhere", "x")


async def sleep(delay: float, result: Any = None) -> Any:
    """A twentieth of a pause; while a section says that it keeps running, something happens."""
    if delay == 10:
        await publish_events()
    return await really_sleep(delay / 20, result)


class Others:
    """What the section that shows the methods of pub/sub waits for: events, the end of a subscription, an answer."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def play(self) -> None:
        async def answer(event: api.PubsubEvent) -> None:
            result = {"answered": event.data_as_json()}
            await self._client.pubsub.publish_async("responses", result, {"correlationid": event.correlation_id})

        await self._client.pubsub.subscribe_async_with_handler(answer, topics=["requests"])
        connection = self._client._connections.current()

        def iterating() -> list[api.EventStream[Any]]:
            return [s for s in connection.open if isinstance(s, api.EventStream) and s.live and s.topics == ("news",)]

        await until(iterating)
        [stream] = iterating()
        for text in ("one", "two"):
            await self._client.pubsub.publish_async("news", text)
        await self._client.pubsub.unsubscribe_async(stream.id)
        await until(lambda: any(getattr(s, "topics", ()) == ("my-topic",) and s.live for s in connection.open))  # type: ignore[attr-defined]
        await self._client.pubsub.publish_async("my-topic", "three")


async def an_event(client: ApiClient) -> api.PubsubEvent:
    async with await client.pubsub.subscribe_async("t") as stream:
        await client.pubsub.publish_async("t", {"a": 1})
        return await anext(stream)


async def given(section: str) -> dict[str, Any]:
    """The names that a section takes for granted."""
    if section == "Methods":
        names = {"service": "echo", "method": "UnaryMethod", "request_data": {"message": "hi"}}
        return {**names, "key": "k", "value": "v", "keys": ["k"], "handler": api.StreamEventHandler(print)}
    if section == "Pub/Sub Methods":
        return {"topic": "news", "data": "nobody hears this"}
    return {}


async def run(section: str, code: Any) -> None:
    names = {"__name__": "snippet", "asyncio": asyncio, **vars(api), **await given(section)}
    client = names["client"] = ApiClient()
    others: list[asyncio.Task[None]] = []
    if section == "Pub/Sub Methods":
        others.append(asyncio.create_task(Others(client).play()))
    if section == "PubsubEvent":
        names["event"] = await an_event(client)
    outcome = eval(code, names)
    if isinstance(outcome, Awaitable):
        await outcome
    await AFTER.get(section, nothing)(names)
    for task in others:
        await task
    await client.close()


async def nothing(names: dict[str, Any]) -> None: ...


async def sees_the_last_event(names: dict[str, Any]) -> None:
    await really_sleep(0.2)


async def publish_through_dapr(names: dict[str, Any]) -> None:
    client: ApiClient = names["client"]
    async with await client.pubsub.subscribe_async("my-topic") as stream:
        await names["main"]()
        event = await anext(stream)
        print(event.topic, event.data_as_json(), event.metadata["ce-datacontenttype"])


async def call_the_handler(names: dict[str, Any]) -> None:
    client: ApiClient = names["client"]
    heard = asyncio.Event()
    says = names["handler"].on_event

    def on_event(event: api.PubsubEvent) -> None:
        says(event)
        heard.set()

    names["handler"].on_event = on_event
    await client.subscribe_async_with_handler(names["handler"], topics=["echo.events"])
    await client.pubsub.publish_async("echo.events", "x")
    await heard.wait()
    names["handler"].on_error(LookupError("shown"))


async def handle_a_request(names: dict[str, Any]) -> None:
    print(await names["handle_request"]())


async def say_what_it_is(names: dict[str, Any]) -> None:
    event = names["event"]
    print(event.topic, event.data, event.data_as_text(), event.data_as_json(), len(event.message_id) > 0)
    print(event.metadata["ce-id"] == event.message_id, event.timestamp.endswith("Z"))


AFTER: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
    "DaprPublisher": publish_through_dapr,
    "StreamEventHandler": call_the_handler,
    "Thread Safety": handle_a_request,
    "PubsubEvent": say_what_it_is,
    "Pub/Sub Methods": sees_the_last_event,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("section")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--page", type=Path, help="a page of ours, of which SECTION is the number of a block")
    parser.add_argument("--replace", nargs=2, action="append", default=[])
    options = parser.parse_args()

    ApiClient.__init__.__defaults__ = ("localhost", options.port)
    os.environ["DAPR_GRPC_PORT"] = str(options.port)
    asyncio.sleep = sleep  # type: ignore[assignment]
    code = SECTIONS[options.section] if options.page is None else blocks(options.page)[int(options.section)]
    for written in ("grpc_port=", "localhost:"):
        code = code.replace(f"{written}{PORT}", f"{written}{options.port}")
    for old, new in options.replace:
        assert old in code, f"{old} is not in {options.section}"
        code = code.replace(old, new)
    if "asyncio.run(" in code:
        exec(compile(code, options.section, "exec"), {"__name__": "snippet", "asyncio": asyncio})
    else:
        awaiting = compile(code, options.section, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        asyncio.run(run(options.section, awaiting))


if __name__ == "__main__":
    main()
