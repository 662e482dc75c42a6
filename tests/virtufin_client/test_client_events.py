"""Publishing and subscribing: iterators, handlers, handles, and what happens when the gateway goes away."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from fake_gateway import FakeGateway, serving, status

from virtufin.api.client import ApiClient, Gap, PubsubEvent, StreamEvent, StreamEventHandler, Subscription, _streams

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(_streams, "LONGEST_DELAY_SECONDS", 0.05)


def client_of(fake: FakeGateway) -> ApiClient:
    return ApiClient("127.0.0.1", fake.port)


class Recorder:
    """A handler that awaits may be made on: the next event, error or gap."""

    def __init__(self, gaps: bool = True) -> None:
        self.events: asyncio.Queue[PubsubEvent] = asyncio.Queue()
        self.errors: asyncio.Queue[BaseException] = asyncio.Queue()
        self.gaps: asyncio.Queue[Gap] = asyncio.Queue()
        if gaps:
            self.on_gap: Callable[[Gap], None] = self.gaps.put_nowait

    def on_event(self, event: PubsubEvent) -> None:
        self.events.put_nowait(event)

    def on_error(self, error: BaseException) -> None:
        self.errors.put_nowait(error)


async def test_what_is_published_is_received() -> None:
    async with serving() as fake, client_of(fake) as client:
        iteration = client.pubsub.subscribe_async_iter("t")
        assert inspect.isasyncgen(iteration)
        first = asyncio.create_task(anext(iteration))
        result = await client.pubsub.publish_async("t", {"a": "é"}, {"k": "v", "correlationid": "c"})
        assert result == {"success": True, "status": "OK", "message": ""}
        event = await first
        assert type(event) is PubsubEvent
        assert (event.topic, event.data, event.metadata) == (
            "t",
            '{"a": "é"}'.encode(),
            {"k": "v", "correlationid": "c", "ce-datacontenttype": "application/json"},
        )
        assert (event.message_id[:1], event.timestamp, event.correlation_id) == ("m", "2026-01-02T03:04:05Z", "c")
        assert event.data_as_json() == {"a": "é"}
        assert event.data_as_text() == '{"a": "é"}'
        for data, expected in [
            ("text", b"text"),
            (b"\xff", b"\xff"),
            (bytearray(b"b"), b"b"),
            (None, b"null"),
            (7, b"7"),
        ]:
            await client.pubsub.publish_async("t", data)
            event = await anext(iteration)
            assert event.data == expected
        await client.pubsub.publish_async("t", b"\xff")
        event = await anext(iteration)
        assert event.data_as_text("replace") == "�"
        with pytest.raises(UnicodeDecodeError):
            event.data_as_text()
        with pytest.raises(UnicodeDecodeError):
            event.data_as_json()
        assert "topic='t'" in repr(event)
        await iteration.aclose()
        await fake.subscribed(0)


async def test_a_subscription_begun_before_a_publish_receives_it() -> None:
    """The documentation's example creates the task that subscribes, and publishes at once."""
    async with serving() as fake, client_of(fake) as client:
        received: list[str] = []

        async def collect() -> None:
            async for event in client.pubsub.subscribe_async_iter("t"):
                received.append(event.data_as_text())
                if len(received) == 3:
                    return

        task = asyncio.create_task(collect())
        for number in range(3):
            await client.pubsub.publish_async("t", f"Message {number}")
        await task
        assert received == ["Message 0", "Message 1", "Message 2"]


async def test_metadata_that_would_be_lost_is_refused() -> None:
    async with serving() as fake, client_of(fake) as client:
        with pytest.raises(TypeError, match="'n': '1' if that is meant"):
            await client.pubsub.publish_async("t", "d", {"n": 1})  # type: ignore[dict-item]
        with pytest.raises(TypeError, match="no JSON form"):
            await client.pubsub.publish_async("t", {1, 2})
        assert not fake.published


async def test_a_publish_that_failed_says_so() -> None:
    fake = FakeGateway()
    fake.publish_status = status(False, "ERROR", "no room")
    async with serving(fake), client_of(fake) as client:
        result = await client.pubsub.publish_async("t", "d")
        assert result == {"success": False, "status": "ERROR", "message": "no room"}


async def test_cancelling_the_task_ends_the_subscription() -> None:
    async with serving() as fake, client_of(fake) as client:

        async def collect() -> None:
            async for _ in client.pubsub.subscribe_async_iter("t"):
                pass

        task = asyncio.create_task(collect())
        await fake.subscribed()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.subscribed(0)


async def test_a_lost_connection_is_raised() -> None:
    async with serving() as fake, client_of(fake) as client:
        iteration = client.pubsub.subscribe_async_iter("t")
        waiting = asyncio.create_task(anext(iteration))
        await fake.subscribed()
        fake.lose()
        with pytest.raises(grpc.RpcError) as caught:
            await waiting
        assert caught.value.code() is UNAVAILABLE
        with pytest.raises(StopAsyncIteration):
            await anext(iteration)


async def test_an_iteration_that_resumes_tells_the_gap_and_repeats_nothing() -> None:
    async with serving() as fake, client_of(fake) as client:
        recorder = Recorder()
        iteration = client.pubsub.subscribe_async_iter(
            "t", reconnect=True, on_gap=recorder.on_gap, on_error=recorder.on_error
        )
        waiting = asyncio.create_task(anext(iteration))
        await fake.subscribed()
        fake.send("t", b"1", identifier="one")
        assert (await waiting).data == b"1"
        fake.refusals = [UNAVAILABLE, UNAVAILABLE]
        waiting = asyncio.create_task(anext(iteration))
        fake.lose()
        errors = [await recorder.errors.get() for _ in range(3)]
        assert [error.details() for error in errors] == ["lost", "refused", "refused"]  # type: ignore[attr-defined]
        gap = await recorder.gaps.get()
        assert (gap.topics, gap.last_message_id, gap.cause) == (("t",), "one", errors[0])
        assert gap.seconds > 0
        assert "events of t are missing for" in str(gap)
        fake.send("t", b"1", identifier="one")
        fake.send("t", b"2")
        assert (await waiting).data == b"2"
        await iteration.aclose()


async def test_a_refusal_that_trying_again_does_not_cure_ends_the_stream() -> None:
    async with serving() as fake, client_of(fake) as client:
        fake.refusals = [grpc.StatusCode.INVALID_ARGUMENT]
        with pytest.raises(grpc.RpcError) as caught:
            await client.pubsub.subscribe_async("", reconnect=True)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        recorder = Recorder()
        handle = await client.pubsub.subscribe_async_with_handler(recorder, ["t"])
        fake.lose(grpc.StatusCode.UNAUTHENTICATED)
        await handle
        error = recorder.errors.get_nowait()
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        assert handle.closed


async def test_a_stream_s_id_unsubscribes_it() -> None:
    async with serving() as fake, client_of(fake) as client:
        stream = await client.pubsub.subscribe_async("t")
        assert list(fake.subscriptions) == [stream.id]
        assert (stream.live, stream.closed) == (True, False)
        assert (await client.pubsub.unsubscribe_async(stream.id))["success"]
        assert [event async for event in stream] == []
        assert (stream.live, stream.closed) == (False, True)
        assert (await client.pubsub.unsubscribe_async("nobody"))["status"] == "NOT_FOUND"


async def test_a_wait_that_is_cancelled_loses_no_event() -> None:
    async with serving() as fake, client_of(fake) as client, await client.pubsub.subscribe_async("t") as stream:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        fake.send("t", b"1")
        fake.send("t", b"2")
        assert [(await anext(stream)).data, (await anext(stream)).data] == [b"1", b"2"]


async def test_a_gateway_that_announces_nothing_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "LIVE_TIMEOUT_SECONDS", 0.05)
    fake = FakeGateway()
    fake.announces = False
    async with serving(fake), client_of(fake) as client, await client.pubsub.subscribe_async("t") as stream:
        assert stream.id == ""
        await fake.subscribed()
        fake.send("t", b"1")
        assert (await anext(stream)).data == b"1"


async def test_events_of_nothing_are_dropped() -> None:
    async with serving() as fake, client_of(fake) as client, await client.pubsub.subscribe_async("") as stream:
        fake.send("", b"")
        fake.send("", b"x")
        assert (await anext(stream)).data == b"x"


async def test_dropped_events_are_a_gap_with_a_length() -> None:
    async with serving() as fake, client_of(fake) as client:
        recorder = Recorder()
        handle = await client.pubsub.subscribe_async_with_handler(recorder, ["t"])
        fake.send("t", b"1", identifier="one")
        fake.send("t", b"9", {"droppedevents": "7"})
        assert [(await recorder.events.get()).data for _ in range(2)] == [b"1", b"9"]
        gap = await recorder.gaps.get()
        assert (gap.dropped, gap.last_message_id, gap.cause) == (7, "one", None)
        assert str(gap).startswith("7 events of t were dropped")
        assert handle.last_gap == gap
        assert recorder.errors.empty()


async def test_a_handler_is_called_with_the_events_of_all_its_topics() -> None:
    async with serving() as fake, client_of(fake) as client:
        received: asyncio.Queue[PubsubEvent] = asyncio.Queue()
        handle = await client.pubsub.subscribe_async_with_handler(received.put, topics=["a", "b"])
        assert isinstance(handle, Subscription)
        assert len(fake.subscriptions) == 2
        assert sorted(handle.ids) == sorted(fake.subscriptions)
        assert (handle.topics, handle.id) == (("a", "b"), handle.ids[0])
        assert "live" in repr(handle)
        await client.pubsub.publish_async("a", "1")
        await client.pubsub.publish_async("b", "2")
        await client.pubsub.publish_async("c", "3")
        assert {(await received.get()).topic, (await received.get()).topic} == {"a", "b"}
        handle.cancel()
        await handle
        assert handle.closed
        await fake.subscribed(0)
        with pytest.raises(ValueError, match="at least one topic"):
            await client.pubsub.subscribe_async_with_handler(received.put)
        with pytest.raises(TypeError, match="list of names"):
            await client.pubsub.subscribe_async_with_handler(received.put, topics="a")
        with pytest.raises(TypeError, match="neither"):
            await client.pubsub.subscribe_async_with_handler(7, topics=["a"])


async def test_an_exception_of_on_event_goes_to_on_error_and_ends_nothing() -> None:
    async with serving() as fake, client_of(fake) as client:
        recorder = Recorder()

        async def on_event(event: PubsubEvent) -> None:
            if event.data == b"bad":
                raise LookupError("bad event")
            recorder.on_event(event)

        handler = StreamEventHandler(on_event=on_event, on_error=recorder.on_error)
        handle = await client.pubsub.subscribe_async_with_handler(handler, ["t"])
        for data in (b"bad", b"good"):
            fake.send("t", data)
        assert isinstance(await recorder.errors.get(), LookupError)
        assert (await recorder.events.get()).data == b"good"
        assert handle.live
        assert "on_error" in repr(handler)


async def test_an_exception_of_on_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as fake, client_of(fake) as client:
        received: asyncio.Queue[bytes] = asyncio.Queue()

        def on_event(event: PubsubEvent) -> None:
            received.put_nowait(event.data)
            raise LookupError("no handler")

        def on_error(error: BaseException) -> None:
            raise ArithmeticError("worse")

        await client.subscribe_async_with_handler(StreamEventHandler(on_event, on_error))
        await client.pubsub.subscribe_async_with_handler(on_event, ["t"])
        for data in (b"1", b"2"):
            fake.send("t", data)
            assert {await received.get(), await received.get()} == {data}
        text = caplog.text
        assert text.count("on_error raised") >= 1
        assert "without on_error: LookupError('no handler')" in text


async def test_a_handler_s_stream_reconnects_and_reports() -> None:
    async with serving() as fake, client_of(fake) as client:
        recorder = Recorder()
        handle = await client.subscribe_async_with_handler(recorder)
        before = handle.id
        assert before in fake.subscriptions
        fake.lose()
        error = await recorder.errors.get()
        assert error.code() is UNAVAILABLE  # type: ignore[attr-defined]
        gap = await recorder.gaps.get()
        assert (gap.topics, gap.cause) == ((), error)
        assert (handle.reconnects, handle.last_gap) == (1, gap)
        assert handle.id not in ("", before)
        fake.send("t", b"1")
        assert (await recorder.events.get()).data == b"1"
        await handle.aclose()
        assert "closed" in repr(handle)


async def test_a_server_that_restarts_is_found_again() -> None:
    async with ApiClient("127.0.0.1", 1) as unused:
        assert repr(unused)
    async with serving() as first:
        port = first.port
        async with ApiClient("127.0.0.1", port) as client:
            recorder = Recorder()
            await client.subscribe_async_with_handler(recorder)
            await first.subscribed()
            # The server's end of its block closes the connection, too.
            await _restarted(first, port, recorder)


async def _restarted(first: FakeGateway, port: int, recorder: Recorder) -> None:
    for _, queue in first.subscriptions.values():
        queue.put_nowait(UNAVAILABLE)
    await recorder.errors.get()
    await recorder.gaps.get()
    first.send("t", b"again")
    assert (await recorder.events.get()).data == b"again"


async def test_a_subscription_ends_from_within_its_handler() -> None:
    async with serving() as fake, client_of(fake) as client:
        done = asyncio.Event()
        handles: list[Subscription] = []

        async def on_event(event: PubsubEvent) -> None:
            await handles[0].aclose()
            await asyncio.sleep(0)
            done.set()

        handles.append(await client.pubsub.subscribe_async_with_handler(on_event, ["t"]))
        fake.send("t", b"1")
        await done.wait()
        await handles[0]
        await fake.subscribed(0)


async def test_the_event_stream_knows_the_service() -> None:
    async with serving() as fake, client_of(fake) as client:
        await client.list_services_async()
        async with await client.gateway.subscribe_async() as stream:
            fake.send("echo.events", b"", {"ce-source": "urn:com.virtufin.other"})
            fake.send("state-changes", json.dumps({"service": "s", "key": "k", "action": "save"}).encode())
            fake.send("state-changes", b"[]")
            fake.send("prices.eur", b"", {"ce-source": "urn:com.virtufin.trader"})
            fake.send("prices.eur", b"", {"ce-source": "workmanager"})
            fake.send("prices.eur", b'{"service": "payload"}', {"ce-source": "https://elsewhere"})
            events = [await anext(stream) for _ in range(6)]
        assert [event.service for event in events] == ["echo", "s", "", "trader", "", "payload"]
        assert all(type(event) is StreamEvent and event.event_type == "t" for event in events)
        assert "service='echo'" in repr(events[0])
        async with await client.pubsub.subscribe_async("prices.eur") as stream:
            fake.send("prices.eur", b"", {"ce-source": "urn:com.virtufin.trader"})
            assert (await anext(stream)).service == "trader"


async def test_closing_the_client_ends_what_is_open() -> None:
    async with serving() as fake:
        client = client_of(fake)
        recorder = Recorder()
        handle = await client.subscribe_async_with_handler(recorder)
        stream = await client.pubsub.subscribe_async("t", reconnect=True)

        async def collect() -> list[Any]:
            return [event async for event in client.pubsub.subscribe_async_iter("u")]

        collecting, waiting = asyncio.create_task(collect()), asyncio.create_task(anext(stream, None))
        await fake.subscribed(3)
        await client.close()
        await client.close()
        assert await collecting == []
        assert await waiting is None
        await handle
        assert recorder.errors.empty()
        await fake.subscribed(0)
        with pytest.raises(RuntimeError, match="closed"):
            await client.list_services_async()


async def test_closing_the_client_while_a_stream_is_lost_ends_it() -> None:
    async with serving() as fake, client_of(fake) as client:
        recorder = Recorder()
        handle = await client.subscribe_async_with_handler(recorder)
        fake.refusals = [UNAVAILABLE] * 1000
        fake.lose()
        await recorder.errors.get()
        assert not handle.live
    await handle
