"""What an application does with Dapr's stock Python SDK, run against the gateway: ``program.py aio|sync [oxgrpc]``.

It runs in a virtual environment that has the SDK, and so genuine grpcio; with ``oxgrpc`` that is what ``grpc`` means.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import Any

STORE = "statestore"
PUBSUB = "pubsub"

if sys.argv[2:] == ["oxgrpc"]:
    import oxgrpc

    oxgrpc.install_as_grpc()

import grpc  # noqa: E402
from dapr.aio.clients import DaprClient as AioClient  # noqa: E402
from dapr.clients import DaprClient  # noqa: E402
from dapr.clients.grpc._request import (  # noqa: E402
    TransactionalStateOperation,
    TransactionOperationType,
)
from dapr.clients.grpc._state import Concurrency, StateItem, StateOptions  # noqa: E402

assert grpc.__name__ == (sys.argv[2:] or ["grpc"])[0], grpc.__name__
FIRST_WRITE = StateOptions(concurrency=Concurrency.first_write)


def refused(error: Exception, word: str) -> None:
    assert word in str(error), error


def transaction(name: str) -> list[TransactionalStateOperation]:
    return [
        TransactionalStateOperation(key=f"{name}/1", data="one"),
        TransactionalStateOperation(key=f"{name}/2", data="two", etag=None),
        TransactionalStateOperation(key=name, data="", operation_type=TransactionOperationType.delete),
    ]


async def state(client: AioClient) -> None:
    key = f"key/{uuid.uuid4()}"
    missing = await client.get_state(STORE, key)
    assert (missing.data, missing.etag) == (b"", "")
    await client.save_state(STORE, key, "1", etag="", options=FIRST_WRITE)
    try:
        await client.save_state(STORE, key, "2", options=FIRST_WRITE)
    except Exception as error:
        refused(error, "etag")
    else:
        raise AssertionError("created twice")
    found = await client.get_state(STORE, key)
    assert found.data == b"1"
    await client.save_state(STORE, key, "2", etag=found.etag)
    try:
        await client.save_state(STORE, key, "3", etag=found.etag)
    except Exception as error:
        refused(error, "etag")
    else:
        raise AssertionError("a stale etag was taken")
    try:
        await client.delete_state(STORE, key, etag=found.etag)
    except grpc.RpcError as error:
        refused(error, "ABORTED")
    else:
        raise AssertionError("a stale etag was taken")
    await client.save_bulk_state(STORE, [StateItem(f"{key}/a", "a"), StateItem(f"{key}/b", "b")])
    items = (await client.get_bulk_state(STORE, [f"{key}/a", f"{key}/b", f"{key}/c"])).items
    assert [item.data for item in items] == [b"a", b"b", b""]
    await client.execute_state_transaction(STORE, transaction(key))
    assert (await client.get_state(STORE, f"{key}/2")).data == b"two"
    assert (await client.get_state(STORE, key)).data == b""
    await client.save_state(STORE, key, "1", state_metadata={"ttlInSeconds": "60"})
    await client.delete_state(STORE, key)
    try:
        await client.invoke_method("app", "method", b"")
    except Exception as error:
        refused(error, "InvokeJson")
    else:
        raise AssertionError("there is no such method")


async def pubsub(client: AioClient) -> None:
    topic, dead = f"topic/{uuid.uuid4()}", f"dead/{uuid.uuid4()}"
    quick = {"retryBackoffMs": "1", "maxRetries": "1"}
    events = await client.subscribe(PUBSUB, topic, metadata=quick, dead_letter_topic=dead)
    letters = await client.subscribe(PUBSUB, dead)
    for number in range(3):
        await client.publish_event(PUBSUB, topic, json.dumps({"number": number}), data_content_type="application/json")
    await client.publish_event(PUBSUB, topic, "voilà", publish_metadata={"correlationid": "c"})
    seen: list[Any] = []
    async for message in events:
        seen.append(message.data())
        if message.data() == {"number": 1}:
            await events.respond_retry(message)
        else:
            await events.respond_success(message)
        if "voilà" in seen and seen.count({"number": 1}) == 2:
            break
    assert [data for data in seen if data != {"number": 1}] == [{"number": 0}, {"number": 2}, "voilà"]
    letter = await letters.next_message()
    assert letter is not None
    assert letter.data() == {"number": 1}
    assert letter.extensions()["deadlettertopic"] == topic
    await letters.respond_success(letter)
    await events.close()
    await letters.close()


async def handler(client: AioClient) -> None:
    from dapr.clients.grpc._response import TopicEventResponse

    topic, got = f"topic/{uuid.uuid4()}", asyncio.Event()

    async def on_event(message: Any) -> TopicEventResponse:
        assert message.data() == "handled"
        got.set()
        return TopicEventResponse("success")

    close = await client.subscribe_with_handler(PUBSUB, topic, on_event)
    while not got.is_set():
        await client.publish_event(PUBSUB, topic, "handled")
        await asyncio.sleep(0.01)
    await close()


async def aio() -> None:
    async with AioClient() as client:
        await state(client)
        await pubsub(client)
        await handler(client)


def sync() -> None:
    key, topic = f"key/{uuid.uuid4()}", f"topic/{uuid.uuid4()}"
    with DaprClient() as client:
        client.save_state(STORE, key, "1", etag="", options=FIRST_WRITE)
        found = client.get_state(STORE, key)
        assert found.data == b"1"
        client.save_state(STORE, key, "2", etag=found.etag)
        try:
            client.save_state(STORE, key, "3", etag=found.etag)
        except Exception as error:
            refused(error, "etag")
        else:
            raise AssertionError("a stale etag was taken")
        client.execute_state_transaction(STORE, transaction(key))
        assert client.get_state(STORE, f"{key}/1").data == b"one"
        client.delete_state(STORE, f"{key}/1")
        assert client.get_state(STORE, f"{key}/1").data == b""
        events = client.subscribe(PUBSUB, topic)
        client.publish_event(PUBSUB, topic, '{"n": 1}', data_content_type="application/json")
        message = events.next_message()
        assert message is not None
        assert message.data() == {"n": 1}
        events.respond_success(message)
        events.close()


if __name__ == "__main__":
    for name in ("DAPR_GRPC_PORT", "DAPR_HTTP_PORT"):
        assert os.environ[name]
    if sys.argv[1] == "aio":
        asyncio.run(aio())
    else:
        sync()
    print("done")
