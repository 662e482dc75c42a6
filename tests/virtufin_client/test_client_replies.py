"""Requests that are published, and the replies that are told apart by correlation id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, serving, status

from virtufin.api.client import ApiClient, GatewayError, PubsubEvent, _replies, _streams


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "FIRST_DELAY_SECONDS", 0.01)


@asynccontextmanager
async def answering(
    requests: str = "requests", replies: str = "replies"
) -> AsyncIterator[tuple[FakeGateway, ApiClient]]:
    """A fake gateway whose topic `requests` is answered on `replies`, and a client of it."""
    async with serving() as fake, ApiClient("127.0.0.1", fake.port) as client:

        async def answer(event: PubsubEvent) -> None:
            if event.data != b"silence":
                await client.pubsub.publish_async(replies, b"re: " + event.data, event.metadata)

        await client.pubsub.subscribe_async_with_handler(answer, [requests])
        yield fake, client


async def test_a_request_is_answered() -> None:
    async with answering() as (fake, client):
        result = await client.pubsub.publish_with_result_async(
            topic="requests", data="hello", reply_topic="replies", timeout=10.0, metadata={"k": "v"}
        )
        assert (result.topic, result.data) == ("replies", b"re: hello")
        sent = dict(fake.published[0].metadata)
        assert sent["k"] == "v"
        assert len(sent["correlationid"]) == 36
        assert result.correlation_id == sent["correlationid"]
        result = await client.pubsub.publish_with_result_async("requests", "x", "replies", correlation_id="mine")
        assert result.metadata["correlationid"] == "mine"


async def test_requests_share_one_stream_and_get_their_own_replies() -> None:
    async with answering() as (fake, client):
        results = await asyncio.gather(
            *(client.pubsub.publish_with_result_async("requests", str(n), "replies") for n in range(50))
        )
        assert [result.data for result in results] == [f"re: {n}".encode() for n in range(50)]
        assert len(fake.seen["Pubsub.Subscribe"]) == 2  # the one who answers, and this


async def test_no_reply_in_time_is_the_built_in_timeout_error() -> None:
    async with answering() as (_, client):
        with pytest.raises(TimeoutError, match=r"no reply to c1 on 'replies' within 0\.05 s") as caught:
            await client.pubsub.publish_with_result_async(
                "requests", "silence", "replies", timeout=0.05, correlation_id="c1"
            )
        assert type(caught.value) is TimeoutError
        # The stream serves on.
        assert (await client.pubsub.publish_with_result_async("requests", "x", "replies")).data == b"re: x"


async def test_a_request_on_its_own_reply_topic_does_not_answer_itself() -> None:
    async with serving() as fake, ApiClient("127.0.0.1", fake.port) as client:

        async def answer(event: PubsubEvent) -> None:
            if event.data == b"ping":
                metadata = {"correlationid": event.correlation_id}
                await client.pubsub.publish_async("t", b"pong", metadata)

        await client.pubsub.subscribe_async_with_handler(answer, ["t"])
        assert (await client.pubsub.publish_with_result_async("t", "ping", "t", timeout=10)).data == b"pong"


async def test_a_lost_reply_stream_is_resumed() -> None:
    async with answering() as (fake, client):
        waiting = asyncio.create_task(client.pubsub.publish_with_result_async("requests", "silence", "replies", None))
        while not fake.published:
            await asyncio.sleep(0)
        identifier = fake.published[0].metadata["correlationid"]
        replies = client._connections.current().replies["replies"]
        fake.lose()
        while not (replies._stream.reconnects and replies._stream.live):
            await asyncio.sleep(0.01)
        fake.send("replies", b"late", {"correlationid": identifier})
        assert (await waiting).data == b"late"


async def test_the_timeout_says_that_the_stream_was_lost() -> None:
    async with answering() as (fake, client):
        await client.pubsub.publish_with_result_async("requests", "x", "replies")
        fake.refusals = [grpc.StatusCode.UNAVAILABLE] * 1000
        fake.lose()
        with pytest.raises(TimeoutError, match=r"stream was lost meanwhile: UNAVAILABLE: refused"):
            await client.pubsub.publish_with_result_async("requests", "x", "replies", timeout=0.3)


async def test_a_reply_stream_that_is_refused_raises_its_error() -> None:
    async with serving() as fake, ApiClient("127.0.0.1", fake.port) as client:
        fake.refusals = [grpc.StatusCode.PERMISSION_DENIED]
        with pytest.raises(grpc.RpcError) as caught:
            await client.pubsub.publish_with_result_async("requests", "x", "replies")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert not fake.published


async def test_a_request_that_was_not_published_raises() -> None:
    async with answering() as (fake, client):
        fake.publish_status = status(False, "ERROR", "no room")
        with pytest.raises(GatewayError, match="publish to requests: ERROR: no room"):
            await client.pubsub.publish_with_result_async("requests", "x", "replies")


async def test_an_idle_reply_stream_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_replies, "IDLE_SECONDS", 0.0)
    async with answering() as (fake, client):
        for _ in range(2):
            await client.pubsub.publish_with_result_async("requests", "x", "replies")
            await fake.subscribed(1)
        assert not client._connections.current().replies


async def test_closing_the_client_fails_what_waits_for_a_reply() -> None:
    async with serving() as fake:
        client = ApiClient("127.0.0.1", fake.port)
        waiting: asyncio.Task[Any] = asyncio.create_task(
            client.pubsub.publish_with_result_async("requests", "x", "replies", timeout=None)
        )
        while not fake.published:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(RuntimeError, match="closed while it waited for"):
            await waiting


async def test_cancelling_a_request_leaves_the_others_alone() -> None:
    async with answering() as (fake, client):
        doomed = asyncio.create_task(client.pubsub.publish_with_result_async("requests", "silence", "replies"))
        while not fake.published:
            await asyncio.sleep(0)
        other = asyncio.create_task(client.pubsub.publish_with_result_async("requests", "y", "replies"))
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        assert (await other).data == b"re: y"
