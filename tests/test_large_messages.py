"""Many large messages at once: behind a proxy whose clients share one window none waits for the end of another, and
without a proxy few are held at a time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import relay
import wire
from oxgrpc import aio

KIB = 1 << 10
MIB = 1 << 20

#: Concurrency and size, each more than 16 MiB together.
BURSTS = [(16, MIB), (64, MIB), (4, 4 * MIB), (5, 4 * MIB), (70, 256 * KIB), (100, 4000 * KIB)]

TIMEOUT_SECONDS = 50.0


async def length(request: bytes, context: Any) -> bytes:
    return b"%d" % len(request)


async def zeros(request: bytes, context: Any) -> bytes:
    return bytes(int(request))


async def lengths(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"%d" % len(request)


async def stream_of_zeros(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for size in request.split():
        yield bytes(int(size))


@pytest.mark.parametrize(("count", "size"), BURSTS)
async def test_uploads_through_a_relay_all_arrive(count: int, size: int) -> None:
    async with (
        echo.serving(UnaryUnary=length) as service,
        relay.relaying(service.port) as port,
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        upload = channel.unary_unary(echo.path("UnaryUnary"))
        calls = [upload(bytes(size), timeout=TIMEOUT_SECONDS) for _ in range(count)]
        # Nor do others wait for them.
        assert await upload(b"x", timeout=TIMEOUT_SECONDS) == b"1"
        assert await asyncio.gather(*calls) == count * [b"%d" % size]


@pytest.mark.parametrize(("count", "size"), BURSTS)
async def test_downloads_through_a_relay_all_arrive(count: int, size: int) -> None:
    async with (
        echo.serving(UnaryUnary=zeros) as service,
        relay.relaying(service.port) as port,
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        download = channel.unary_unary(echo.path("UnaryUnary"))
        calls = [download(b"%d" % size, timeout=TIMEOUT_SECONDS) for _ in range(count)]
        assert await download(b"1", timeout=TIMEOUT_SECONDS) == bytes(1)
        # Awaited one after the other, and the last first: unary calls are read whether or not they are awaited.
        assert [len(await call) for call in reversed(calls)] == count * [size]


async def test_streams_through_a_relay_all_arrive() -> None:
    sizes = [0, 1, 300 * KIB, 2 * MIB, 65_530]

    async def upload(channel: aio.Channel) -> None:
        async def requests() -> AsyncIterator[bytes]:
            for size in sizes:
                yield bytes(size)

        call = channel.stream_stream(echo.path("StreamStream"))(requests(), timeout=TIMEOUT_SECONDS)
        assert [int(response) async for response in call] == sizes

    async def download(channel: aio.Channel) -> None:
        request = b" ".join(b"%d" % size for size in sizes)
        call = channel.unary_stream(echo.path("UnaryStream"))(request, timeout=TIMEOUT_SECONDS)
        assert [len(response) async for response in call] == sizes

    async with (
        echo.serving(StreamStream=lengths, UnaryStream=stream_of_zeros) as service,
        relay.relaying(service.port) as port,
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await asyncio.gather(*(act(channel) for act in (upload, download) for _ in range(15)))


@pytest.mark.parametrize("count", [4, 50])
async def test_stalled_announcements_do_not_stop_honest_calls(count: int) -> None:
    """They come on the same connection, as they would behind a proxy."""
    async with echo.serving(UnaryUnary=length) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            head = wire.request_head(echo.path("UnaryUnary").encode())
            for stream in range(1, 2 * count, 2):
                begun = wire.data(stream, struct.pack(">BI", 0, 4 * MIB - 1) + b"x")
                await peer.send(wire.headers(stream, head), begun)
            honest = 2 * count + 1
            await peer.send(wire.headers(honest, head))
            content, window = wire.message(bytes(200 * KIB)), relay.WINDOW
            while content:
                while not window:
                    window = int.from_bytes((await peer.until(wire.WINDOW_UPDATE, honest)).payload, "big")
                now, content, window = content[:window], content[window:], max(window - len(content), 0)
                await peer.send(wire.data(honest, now, 0 if content else wire.END_STREAM))
            answer = await peer.until(wire.DATA, honest)
            assert answer.payload == wire.message(b"%d" % (200 * KIB))


async def test_a_message_that_is_waited_for_between_reads_of_the_socket_arrives() -> None:
    """Its reader comes when all that its window allows is there, and nothing else moves on the connection."""
    may_read = asyncio.Event()

    async def late(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await may_read.wait()
        return b"%d" % sum([len(request) async for request in requests])

    async with echo.serving(StreamUnary=late) as service:
        calls = [service.stream_unary(iter([bytes(3 * MIB)]), timeout=TIMEOUT_SECONDS) for _ in range(10)]
        # An answer to a later call: what the windows allow has come.
        assert await service.unary_unary(b"x") == b"x"
        may_read.set()
        assert await asyncio.gather(*calls) == 10 * [b"%d" % (3 * MIB)]


@pytest.mark.parametrize(("count", "size"), [(200, 64 * KIB), (4, 4 * MIB)])
async def test_a_program_that_writes_everything_before_it_reads_gets_it_all(count: int, size: int) -> None:
    """The server answers each message before it takes the next, and nobody takes the answers."""
    async with echo.serving() as service:
        call = service.stream_stream(timeout=TIMEOUT_SECONDS)
        for _ in range(count):
            await call.write(bytes(size))
        await call.done_writing()
        assert [len(response) async for response in call] == count * [size]
