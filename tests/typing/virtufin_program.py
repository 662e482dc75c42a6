"""What type checkers see of the Virtufin client: nothing of it is `Any` but what JSON makes so."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from typing_extensions import assert_type

from virtufin.api.client import (
    ApiClient,
    DaprPublisher,
    EventStream,
    Gap,
    GatewayClient,
    PubsubClient,
    PubsubEvent,
    Response,
    ServiceClient,
    ServiceMethod,
    StreamEvent,
    StreamEventHandler,
    Subscription,
)
from virtufin.api.client.gateway_pb2_grpc import GatewayAsyncStub


async def use(client: ApiClient, stub: GatewayAsyncStub) -> None:
    assert_type(client.gateway, GatewayClient)
    assert_type(client.pubsub, PubsubClient)
    assert_type(client.gateway.workmanager, ServiceClient)
    assert_type(client.gateway["workmanager"].ListWorkers, ServiceMethod)
    assert_type(await client.gateway.workmanager.ListWorkers({}, timeout=None), Response)
    assert_type(client.gateway.workmanager.ListWorkers.stream(), AsyncGenerator[Response, None])
    assert_type(await client.wait_ready(timeout=1), list[str])
    assert_type(await client.list_methods_async("s"), list[Response])
    assert_type(await client.invoke_raw_async("s", "m", b""), bytes)
    assert_type(await client.save_state_async("s", "k", "v", etag=None), Response)
    assert_type((await client.get_all_state_async("s"))["values"], dict[str, str])
    assert_type(await client.pubsub.subscribe_async("t"), EventStream[PubsubEvent])
    assert_type(await client.gateway.subscribe_async(), EventStream[StreamEvent])
    async for event in client.pubsub.subscribe_async_iter("t", reconnect=True):
        assert_type(event, PubsubEvent)
        assert_type((event.topic, event.data, event.metadata, event.service), tuple[str, bytes, dict[str, str], str])
    handler = StreamEventHandler(on_event=lambda event: None, on_error=lambda error: None)
    subscription = await client.subscribe_async_with_handler(handler, topics=["t"])
    assert_type(subscription, Subscription)
    assert_type(subscription.last_gap, Gap | None)
    assert_type(await client.pubsub.publish_with_result_async("t", {}, "r"), PubsubEvent)
    async with DaprPublisher() as publisher:
        assert_type(await publisher.publish_async("t", {}), None)
