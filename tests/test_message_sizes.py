"""Limits on the size of messages, both ways and on both sides, and which side says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

DEFAULT_LIMIT = 4 << 20
RECEIVE = "grpc.max_receive_message_length"
SEND = "grpc.max_send_message_length"


async def exhausted(awaitable: Any) -> str:
    """The details of a call that must end because a message is too long."""
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value.details() or ""


def serving(server: list[tuple[str, int]] | None = None, channel: list[tuple[str, int]] | None = None) -> Any:
    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        yield bytes(int(request))

    async def count(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    options = {"UnaryUnary": answer, "UnaryStream": stream, "StreamUnary": count}
    return echo.serving(aio.server(options=server), channel_options=channel, **options)


async def test_four_mebibytes_are_received_unless_told_otherwise() -> None:
    async with serving() as service:
        assert len(await service.unary_unary(b"%d" % DEFAULT_LIMIT)) == DEFAULT_LIMIT
        details = await exhausted(service.unary_unary(b"%d" % (DEFAULT_LIMIT + 1)))
        assert details == f"CLIENT: Received message larger than max ({DEFAULT_LIMIT + 1} vs. {DEFAULT_LIMIT})"
        assert await service.stream_unary(iter([bytes(DEFAULT_LIMIT)])) == b"%d" % DEFAULT_LIMIT
        details = await exhausted(service.stream_unary(iter([bytes(DEFAULT_LIMIT + 1)])))
        assert details == f"SERVER: Received message larger than max ({DEFAULT_LIMIT + 1} vs. {DEFAULT_LIMIT})"


async def test_a_client_receives_no_more_than_it_allows() -> None:
    async with serving(channel=[(RECEIVE, 1000)]) as service:
        assert len(await service.unary_unary(b"1000")) == 1000
        assert (
            await exhausted(service.unary_unary(b"1001")) == "CLIENT: Received message larger than max (1001 vs. 1000)"
        )
        call = service.unary_stream(b"1001")
        assert await call.read() == b"first"
        assert await exhausted(call.read()) == "CLIENT: Received message larger than max (1001 vs. 1000)"
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The connection is as good as before.
        assert len(await service.unary_unary(b"10")) == 10


async def test_a_server_receives_no_more_than_it_allows() -> None:
    async with serving(server=[(RECEIVE, 1000)]) as service:
        assert await service.stream_unary(iter([bytes(1000), bytes(1000)])) == b"2000"
        details = await exhausted(service.stream_unary(iter([bytes(1000), bytes(1001)])))
        assert details == "SERVER: Received message larger than max (1001 vs. 1000)"
        assert (
            await exhausted(service.unary_unary(b"0" * 1001))
            == "SERVER: Received message larger than max (1001 vs. 1000)"
        )
        assert await service.stream_unary(iter([b"x"])) == b"1"


async def test_a_client_sends_no_more_than_it_allows() -> None:
    async with serving(channel=[(SEND, 1000)]) as service:
        # Once while it connects, once when it is connected.
        for _ in range(2):
            details = await exhausted(service.unary_unary(b"0" * 1001))
            assert details == "CLIENT: Sent message larger than max (1001 vs. 1000)"
            assert await service.stream_unary(iter([bytes(1000)])) == b"1000"
        call = service.stream_unary()
        await call.write(bytes(1000))
        assert await exhausted(call.write(bytes(1001))) == "CLIENT: Sent message larger than max (1001 vs. 1000)"
        assert await exhausted(call) == "CLIENT: Sent message larger than max (1001 vs. 1000)"


async def test_a_server_sends_no_more_than_it_allows() -> None:
    async with serving(server=[(SEND, 1000)]) as service:
        assert len(await service.unary_unary(b"1000")) == 1000
        assert await exhausted(service.unary_unary(b"1001")) == "SERVER: Sent message larger than max (1001 vs. 1000)"
        call = service.unary_stream(b"1001")
        assert await call.read() == b"first"
        assert await exhausted(call.read()) == "SERVER: Sent message larger than max (1001 vs. 1000)"


async def test_minus_one_is_no_limit() -> None:
    size = 20 << 20
    unlimited = [(RECEIVE, -1), (SEND, -1)]
    async with serving(server=unlimited, channel=unlimited) as service:
        assert len(await service.unary_unary(b"%d" % size)) == size
        assert await service.stream_unary(iter([bytes(size)] * 2)) == b"%d" % (2 * size)


async def test_zero_allows_only_empty_messages() -> None:
    async with echo.serving(channel_options=[(SEND, 0)]) as service:
        assert await service.unary_unary(b"") == b""
        assert await exhausted(service.unary_unary(b"x")) == "CLIENT: Sent message larger than max (1 vs. 0)"


async def test_what_counts_is_the_size_before_compression() -> None:
    gzip = grpc.Compression.Gzip
    async with serving(server=[(RECEIVE, 1000)]) as service:
        assert await service.stream_unary(iter([bytes(1000)]), compression=gzip) == b"1000"
        details = await exhausted(service.stream_unary(iter([bytes(100_000)]), compression=gzip))
        assert "larger than max" in details
        assert "1000" in details


async def test_metadata_has_a_limit_too() -> None:
    async with echo.serving() as service:
        with pytest.raises(aio.AioRpcError) as caught:
            await service.unary_unary(b"", metadata=(("key", "x" * 1_000_000),))
        assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert await service.unary_unary(b"x", metadata=(("key", "x" * 7000),)) == b"x"
    limits = [("grpc.max_metadata_size", 40_000), ("grpc.absolute_max_metadata_size", 40_000)]
    async with echo.serving(aio.server(options=limits)) as service:
        assert await service.unary_unary(b"x", metadata=(("key", "x" * 30_000),)) == b"x"
