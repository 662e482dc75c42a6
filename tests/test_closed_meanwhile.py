"""Channels that are closed while a call is made, by its serializer, its metadata, its requests or its deserializer.

The call that is being made ends as the channel's other calls do: with CancelledError.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

#: Seconds after which a call that should long have ended has hung. None of the calls has a deadline of its own.
HANG_SECONDS = 20.0

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")


def close_now(channel: aio.Channel) -> None:
    """Runs `close` up to its end: it has nothing to wait for."""
    with pytest.raises(StopIteration):
        channel.close().send(None)


class Closing:
    """Closes a channel when it is used, in any of the ways in which a call uses what it is given."""

    def __init__(self, channel: aio.Channel, value: Any) -> None:
        self.channel, self.value = channel, value

    def __call__(self, message: bytes) -> bytes:
        close_now(self.channel)
        return message

    def __iter__(self) -> Iterator[Any]:
        close_now(self.channel)
        return iter(self.value)

    def __float__(self) -> float:
        close_now(self.channel)
        return float(self.value)


async def end(call: Any) -> Any:
    """What a call raises, or its responses."""

    async def responses() -> Any:
        return [response async for response in call] if hasattr(call, "__aiter__") else await call

    (outcome,) = await asyncio.gather(asyncio.wait_for(responses(), HANG_SECONDS), return_exceptions=True)
    return outcome


def start(channel: aio.Channel, kind: str, serializer: Any = None, requests: Any = None, **options: Any) -> Any:
    methods = {
        "UnaryUnary": channel.unary_unary,
        "UnaryStream": channel.unary_stream,
        "StreamUnary": channel.stream_unary,
        "StreamStream": channel.stream_stream,
    }
    method: Any = methods[kind](echo.path(kind), request_serializer=serializer)
    return method(b"1" if kind.startswith("Unary") else requests or iter([b"1"]), **options)


WAYS: dict[str, Callable[[aio.Channel, str], Any]] = {
    "serializer": lambda channel, kind: start(channel, kind, Closing(channel, None)),
    "metadata": lambda channel, kind: start(channel, kind, metadata=Closing(channel, [("a", "b")])),
    "timeout": lambda channel, kind: start(channel, kind, timeout=Closing(channel, 1000)),
}


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_whose_parts_close_its_channel(kind: str, way: str, connected: bool) -> None:
    async with echo.serving() as service:
        channel = aio.insecure_channel(service.target)
        if connected:
            await channel.channel_ready()
        call = WAYS[way](channel, kind)
        assert isinstance(await end(call), asyncio.CancelledError)
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", ["StreamUnary", "StreamStream"])
async def test_requests_that_close_their_channel_when_they_are_iterated(kind: str) -> None:
    async with echo.serving() as service:
        channel = aio.insecure_channel(service.target)
        await channel.channel_ready()
        call = start(channel, kind, requests=Closing(channel, [b"1"]))
        assert isinstance(await end(call), asyncio.CancelledError)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_serializer_that_closes_the_channel_of_a_request_that_is_written(connected: bool) -> None:
    async with echo.serving() as service:
        channel = aio.insecure_channel(service.target)
        if connected:
            await channel.channel_ready()
        method = channel.stream_stream(echo.path("StreamStream"), request_serializer=Closing(channel, None))
        call = method()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call.write(b"1"), HANG_SECONDS)
        assert isinstance(await end(call), asyncio.CancelledError)


async def test_a_deserializer_that_closes_its_channel() -> None:
    async with echo.serving() as service:
        channel = aio.insecure_channel(service.target)
        call = channel.unary_unary(echo.path("UnaryUnary"), response_deserializer=Closing(channel, None))(b"x")
        assert await end(call) == b"x"

        channel = aio.insecure_channel(service.target)
        stream = channel.stream_stream(echo.path("StreamStream"), response_deserializer=Closing(channel, None))()
        await stream.write(b"x")
        assert await stream.read() == b"x"
        with pytest.raises(asyncio.CancelledError):
            await stream.read()


async def test_plugins_that_close_the_channel_of_their_call() -> None:
    threads: list[threading.Thread] = []

    class Plugin(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            threads.append(threading.current_thread())
            asyncio.run_coroutine_threadsafe(channel.close(), loop).result()
            callback((("a", "b"),), None)

    loop = asyncio.get_running_loop()
    async with echo.serving() as service:
        credentials = grpc.composite_channel_credentials(
            grpc.local_channel_credentials(), grpc.metadata_call_credentials(Plugin())
        )
        channel = aio.secure_channel(service.target, credentials)
        assert isinstance(await end(channel.unary_unary(echo.path("UnaryUnary"))(b"")), asyncio.CancelledError)
        # The answer, which nobody waits for any more, has come when the plugin's thread has ended.
        while threads[0].is_alive():
            await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_response_serializer_that_ends_its_call() -> None:
    raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    contexts: list[Any] = []

    async def handler(requests: Any, context: Any) -> None:
        contexts.append(context)
        try:
            await context.write(b"x")
        except BaseException as error:
            raised.set_result(error)
            raise

    def serialize(message: bytes) -> bytes:
        with pytest.raises(aio.AbortError):
            contexts[0].abort(grpc.StatusCode.NOT_FOUND, "by the serializer").send(None)
        return message

    async with echo.serving() as service:
        method = grpc.stream_stream_rpc_method_handler(handler, response_serializer=serialize)
        service.server.add_registered_method_handlers("a", {"b": method})
        call = service.channel.stream_stream("/a/b")()
        error = await end(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error.details() == "by the serializer"
        assert isinstance(await raised, aio.AbortError)
