"""Compression: who asks for it, what goes over the wire, and that nobody notices otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

#: Compresses to next to nothing.
MESSAGE = b"compressible " * 20_000
#: What a message on the wire is at least, if it is not compressed.
PLAIN = len(MESSAGE)

Compression = grpc.Compression
COMPRESSED = [Compression.Deflate, Compression.Gzip]


class Wire:
    """Counts the octets that a proxy carries, each way."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


@asynccontextmanager
async def watching(service: echo.Service, **options: Any) -> AsyncIterator[tuple[aio.Channel, Wire]]:
    """A channel through a proxy to a service."""
    wire = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while data := await reader.read(1 << 16):
            setattr(wire, way, getattr(wire, way) + len(data))
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", service.port)
        tasks.add(asyncio.create_task(carry(reader, there_writer, "sent")))
        tasks.add(asyncio.create_task(carry(there_reader, writer, "received")))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with aio.insecure_channel(f"127.0.0.1:{port}", **options) as channel:
        yield channel, wire
    await asyncio.gather(*tasks)
    proxy.close()
    await proxy.wait_closed()


@pytest.mark.parametrize("compression", list(Compression))
async def test_every_algorithm_carries_every_kind_of_call(compression: grpc.Compression) -> None:
    messages = [MESSAGE, b"", b"x", bytes(range(256)) * 300, MESSAGE]
    server = aio.server(compression=compression)
    async with echo.serving(server, channel_compression=compression) as service:
        for message in messages:
            assert await service.unary_unary(message) == message
        assert await service.stream_unary(iter(messages)) == b"".join(messages)
        assert [message async for message in service.stream_stream(iter(messages))] == messages
        assert len([message async for message in service.unary_stream(b"50")]) == 50


@pytest.mark.parametrize("compression", COMPRESSED)
async def test_a_channel_compresses_its_requests(compression: grpc.Compression) -> None:
    async with echo.serving() as service, watching(service, compression=compression) as (channel, wire):
        assert await channel.stream_unary(echo.path("StreamUnary"))(iter([MESSAGE])) == MESSAGE
        assert wire.sent < PLAIN / 10
        # A server answers as it likes, and nobody has told it to compress.
        assert wire.received >= PLAIN


@pytest.mark.parametrize("compression", COMPRESSED)
async def test_a_call_compresses_its_requests(compression: grpc.Compression) -> None:
    async with echo.serving() as service, watching(service) as (channel, wire):
        method = channel.unary_unary(echo.path("UnaryUnary"))
        assert await method(MESSAGE, compression=compression) == MESSAGE
        assert wire.sent < PLAIN / 10
        assert await method(MESSAGE) == MESSAGE
        assert wire.sent >= PLAIN


async def test_a_call_does_not_compress_where_its_channel_does() -> None:
    async with echo.serving() as service, watching(service, compression=Compression.Gzip) as (channel, wire):
        method = channel.unary_unary(echo.path("UnaryUnary"))
        assert await method(MESSAGE, compression=Compression.NoCompression) == MESSAGE
        assert wire.sent >= PLAIN


async def test_a_channel_option_compresses() -> None:
    options = [("grpc.default_compression_algorithm", 2)]
    async with echo.serving() as service, watching(service, options=options) as (channel, wire):
        assert await channel.unary_unary(echo.path("UnaryUnary"))(MESSAGE) == MESSAGE
        assert wire.sent < PLAIN / 10


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("kind", ["UnaryUnary", "StreamStream"])
async def test_a_server_compresses_its_responses(compression: grpc.Compression, kind: str) -> None:
    async with echo.serving(aio.server(compression=compression)) as service, watching(service) as (channel, wire):
        if kind == "UnaryUnary":
            assert await channel.unary_unary(echo.path(kind))(MESSAGE) == MESSAGE
        else:
            assert [m async for m in channel.stream_stream(echo.path(kind))(iter([MESSAGE]))] == [MESSAGE]
        assert wire.received < PLAIN / 10
        assert wire.sent >= PLAIN


@pytest.mark.parametrize("compression", COMPRESSED)
async def test_a_handler_compresses_its_responses(compression: grpc.Compression) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_compression(compression)
        return request

    async with echo.serving(UnaryUnary=handler) as service, watching(service) as (channel, wire):
        assert await channel.unary_unary(echo.path("UnaryUnary"))(MESSAGE) == MESSAGE
        assert wire.received < PLAIN / 10


async def test_a_handler_leaves_single_responses_as_they_are() -> None:
    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield MESSAGE
        if request == b"skip":
            context.disable_next_message_compression()
        yield MESSAGE
        yield MESSAGE

    async with echo.serving(aio.server(compression=Compression.Gzip), UnaryStream=handler) as service:
        for request, least, most in ((b"", 0, PLAIN / 10), (b"skip", PLAIN, PLAIN * 1.2)):
            async with watching(service) as (channel, wire):
                call = channel.unary_stream(echo.path("UnaryStream"))(request)
                assert [message async for message in call] == [MESSAGE] * 3
                assert least <= wire.received < most


async def test_compression_is_chosen_before_anything_is_sent() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata(())
        with pytest.raises(RuntimeError, match="before sending"):
            context.set_compression(Compression.Gzip)
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_what_would_grow_is_sent_as_it_is() -> None:
    """Nobody pays for compressing three octets."""
    async with echo.serving() as service, watching(service, compression=Compression.Gzip) as (channel, wire):
        method = channel.stream_unary(echo.path("StreamUnary"))
        requests = [b"abc"] * 1000
        assert await method(iter(requests)) == b"abc" * 1000
        # A frame's and a message's header, and the message.
        assert wire.sent < 1000 * (9 + 5 + 3) + 2000


@pytest.mark.parametrize("compression", [3, -1, "gzip", object()])
async def test_what_is_no_algorithm_is_refused(compression: Any) -> None:
    with pytest.raises(ValueError, match="Compression"):
        aio.insecure_channel("localhost:1", compression=compression)
    with pytest.raises(ValueError, match="Compression"):
        aio.server(compression=compression)
    async with echo.serving() as service:
        with pytest.raises(ValueError, match="Compression"):
            service.unary_unary(b"", compression=compression)


def pairs() -> Iterator[tuple[grpc.Compression, grpc.Compression]]:
    for request in Compression:
        for response in Compression:
            yield request, response


@pytest.mark.parametrize(("request_as", "response_as"), list(pairs()))
async def test_each_side_chooses_for_itself(request_as: grpc.Compression, response_as: grpc.Compression) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_compression(response_as)
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        assert await service.unary_unary(MESSAGE, compression=request_as) == MESSAGE
