"""Messages that inflate to much more than was sent do not hold the event loop: it gets a turn between them.

So it does with messages that are compressed to much less: their sender gives it a turn, however little is to be sent.

What is measured is the CPU time that this thread spends between two turns of the loop: with many messages ready at most
twice as much as with a single one. The peers are played by hand, and send everything at once.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

#: Messages that are ready at once. Compressed they fit into a stream's first window.
MANY = 12
#: What a message inflates to: as much as both sides take.
INFLATED_BYTES = 4 << 20

SMALL = gzip.compress(bytes(INFLATED_BYTES), 9)
MESSAGE = wire.message(SMALL, 1)
GZIP = (b"grpc-encoding", b"gzip")
HEAD = [*wire.RESPONSE_HEAD, GZIP]

#: Makes the messages ready, and waits until they are read.
Load = Callable[[int], Awaitable[None]]


async def longest_stall(load: Awaitable[None]) -> float:
    """The most CPU time in seconds that passes between two turns of the loop while something is under way."""
    longest, loading = 0.0, asyncio.ensure_future(load)
    gc.collect()
    gc.disable()
    try:
        last = time.thread_time()
        while not loading.done():
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    finally:
        gc.enable()
    await loading
    return longest


async def check(load: Load, ratio: float = 2) -> None:
    """The loop may be held `ratio` times as long as by one message. Without turns it is 3.4 to 12 times."""
    await load(1)
    one = max([await longest_stall(load(1)) for _ in range(3)])
    many = min([await longest_stall(load(MANY)) for _ in range(3)])
    assert many <= ratio * one, f"{many * 1e3:.1f} ms instead of {one * 1e3:.1f} ms"


class Count:
    """Counts messages that were read, each of which has to be whole."""

    def __init__(self) -> None:
        self.left = 0
        self.none_left = asyncio.Event()

    def expect(self, count: int) -> None:
        self.left = count
        self.none_left.clear()

    def read(self, message: bytes) -> None:
        assert len(message) == INFLATED_BYTES
        self.left -= 1
        if self.left == 0:
            self.none_left.set()


async def a_call_each(peer: wire.Peer, kind: str, count: int, first: int) -> None:
    for stream in range(first, first + 2 * count, 2):
        await peer.send(wire.headers(stream, wire.request_head(echo.path(kind).encode(), GZIP)))
    await peer.pong()
    await peer.send(*(wire.data(stream, MESSAGE, wire.END_STREAM) for stream in range(first, first + 2 * count, 2)))


async def one_call_for_all(peer: wire.Peer, kind: str, count: int, first: int) -> None:
    await peer.send(wire.headers(first, wire.request_head(echo.path(kind).encode(), GZIP)))
    await peer.pong()
    await peer.send(wire.data(first, MESSAGE * count, wire.END_STREAM))


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        ("UnaryUnary", a_call_each),
        ("StreamUnary", a_call_each),
        ("StreamUnary", one_call_for_all),
        ("StreamStream", one_call_for_all),
    ],
)
async def test_requests(kind: str, ask: Callable[[wire.Peer, str, int, int], Awaitable[None]]) -> None:
    seen = Count()

    async def unary(request: bytes, context: Any) -> bytes:
        seen.read(request)
        return b""

    async def iterated(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for request in requests:
            seen.read(request)
        return b""

    async def read(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not aio.EOF:
            seen.read(request)

    async with echo.serving(UnaryUnary=unary, StreamUnary=iterated, StreamStream=read) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            first = 1

            async def load(count: int) -> None:
                nonlocal first
                seen.expect(count)
                await ask(peer, kind, count, first)
                first += 2 * count
                await seen.none_left.wait()

            await check(load)


@asynccontextmanager
async def answering(go: asyncio.Event, messages: int) -> AsyncIterator[tuple[aio.Channel, list[int]]]:
    """A channel to a server that answers all calls at once when it is told to, each with so many messages."""
    streams: list[int] = []

    async def script(peer: wire.Peer) -> None:
        await peer.send(wire.settings((wire.MAX_CONCURRENT_STREAMS, 1000)))

        async def take() -> None:
            while True:
                frame = await peer.until(wire.DATA)
                if frame.ends_stream:
                    streams.append(frame.stream)

        taking = asyncio.create_task(take())
        try:
            while True:
                await go.wait()
                go.clear()
                answers = [
                    wire.headers(stream, HEAD)
                    + wire.data(stream, MESSAGE * messages)
                    + wire.headers(stream, [(b"grpc-status", b"0")], wire.END_HEADERS | wire.END_STREAM)
                    for stream in streams
                ]
                streams.clear()
                await peer.send(b"".join(answers))
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async with wire.peer_server(script) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, streams


async def until_asked(streams: list[int], count: int) -> None:
    while len(streams) < count:
        await asyncio.sleep(0)


async def test_unary_responses() -> None:
    go = asyncio.Event()
    async with answering(go, 1) as (channel, streams):
        method = channel.unary_unary("/test/Unary")

        async def load(count: int) -> None:
            calls = [method(b"") for _ in range(count)]
            await until_asked(streams, count)
            go.set()
            for call in calls:
                assert len(await call) == INFLATED_BYTES

        await check(load)


@pytest.mark.parametrize("how", ["iterated", "read"])
async def test_a_stream_of_responses(how: str) -> None:
    go = asyncio.Event()

    async def load(count: int) -> None:
        async with answering(go, count) as (channel, streams):
            call = channel.unary_stream("/test/Stream")(b"")
            await until_asked(streams, 1)
            go.set()
            seen = 0
            if how == "iterated":
                async for response in call:
                    seen += len(response)
            else:
                while (response := await call.read()) is not aio.EOF:
                    seen += len(response)
            assert seen == count * INFLATED_BYTES

    await check(load)


async def test_streams_of_responses() -> None:
    go = asyncio.Event()
    async with answering(go, 1) as (channel, streams):
        method = channel.unary_stream("/test/Stream")

        async def read(call: Any) -> None:
            assert [len(response) async for response in call] == [INFLATED_BYTES]

        async def load(count: int) -> None:
            tasks = [asyncio.create_task(read(method(b""))) for _ in range(count)]
            await until_asked(streams, count)
            go.set()
            await asyncio.gather(*tasks)

        await check(load)


@pytest.mark.parametrize("how", ["yielded", "written"])
async def test_responses_that_are_compressed(how: str) -> None:
    async def yielded(requests: Any, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(await context.read())):
            yield bytes(INFLATED_BYTES)

    async def written(requests: Any, context: Any) -> None:
        for _ in range(int(await context.read())):
            await context.write(bytes(INFLATED_BYTES))

    server = aio.server(compression=grpc.Compression.Gzip)
    async with echo.serving(server, StreamStream=yielded if how == "yielded" else written) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet((wire.INITIAL_WINDOW_SIZE, 1 << 20))
            await peer.send(wire.window_update(0, 1 << 30))
            head = wire.request_head(echo.path("StreamStream").encode(), (b"grpc-accept-encoding", b"gzip"))
            stream = -1

            async def load(count: int) -> None:
                nonlocal stream
                stream += 2
                await peer.send(wire.headers(stream, head), wire.data(stream, wire.message(b"%d" % count)))
                while not (await peer.until(wire.HEADERS, stream)).ends_stream:
                    pass

            await check(load, ratio=3)


@pytest.mark.parametrize("how", ["iterated", "written"])
async def test_requests_that_are_compressed(how: str) -> None:
    async def script(peer: wire.Peer) -> None:
        await peer.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 1 << 20)), wire.window_update(0, 1 << 30))
        while True:
            while not (frame := await peer.until(wire.DATA)).ends_stream:
                pass
            answer = wire.headers(frame.stream, wire.RESPONSE_HEAD) + wire.data(frame.stream, wire.message(b""))
            end = wire.headers(frame.stream, [(b"grpc-status", b"0")], wire.END_HEADERS | wire.END_STREAM)
            await peer.send(answer, end)

    async with wire.peer_server(script) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.stream_unary("/test/Stream")

        async def load(count: int) -> None:
            requests = (bytes(INFLATED_BYTES) for _ in range(count))
            if how == "iterated":
                await method(requests, compression=grpc.Compression.Gzip)
                return
            call = method(compression=grpc.Compression.Gzip)
            for request in requests:
                await call.write(request)
            await call.done_writing()
            await call

        await check(load, ratio=3)


async def test_a_response_that_waits_for_its_turn_can_be_cancelled() -> None:
    go = asyncio.Event()
    async with answering(go, 1) as (channel, streams):
        method = channel.unary_unary("/test/Unary")
        calls = [method(b"") for _ in range(MANY)]
        await until_asked(streams, MANY)
        go.set()
        assert len(await calls[0]) == INFLATED_BYTES
        assert calls[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[-1]
        for call in calls[1:-1]:
            assert len(await call) == INFLATED_BYTES
