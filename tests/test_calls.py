"""The four kinds of calls, as the documentation of ``grpc.aio`` shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio


async def numbers(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"%d," % number


async def test_a_unary_call_gives_the_response_however_often_it_is_awaited() -> None:
    async with echo.serving() as service:
        call = service.unary_unary(b"hello")
        assert await call == b"hello"
        assert await call == b"hello"
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()


async def test_a_server_stream_is_iterated() -> None:
    async with echo.serving() as service:
        assert [int(number) async for number in service.unary_stream(b"1000")] == list(range(1000))


async def test_a_server_stream_is_read_up_to_eof() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"2")
        assert await call.read() == b"0"
        assert await call.read() == b"1"
        assert await call.read() is aio.EOF
        assert await call.read() is aio.EOF
        assert not aio.EOF


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_client_stream_takes_either_kind_of_iterator(kind: str) -> None:
    expected = [b"%d," % number for number in range(1000)]
    async with echo.serving() as service:
        requests = numbers(1000) if kind == "async" else iter(expected)
        assert await service.stream_unary(requests) == b"".join(expected)


async def test_a_client_stream_is_written_by_hand() -> None:
    async with echo.serving() as service:
        call = service.stream_unary()
        for part in (b"a", b"b", b"c"):
            await call.write(part)
        await call.done_writing()
        await call.done_writing()
        assert await call == b"abc"


async def test_both_streams_flow_independently() -> None:
    async with echo.serving() as service:
        assert [message async for message in service.stream_stream(numbers(500))] == [b"%d," % n for n in range(500)]
        call = service.stream_stream()
        for number in range(100):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is aio.EOF


async def test_handlers_may_read_and_write_by_hand() -> None:
    async def handler(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not aio.EOF:
            await context.write(b"got " + request)

    async with echo.serving(StreamStream=handler) as service:
        assert [message async for message in service.stream_stream(numbers(2))] == [b"got 0,", b"got 1,"]


async def test_calls_run_as_tasks_and_gathered() -> None:
    async with echo.serving() as service:
        tasks = [asyncio.create_task(service.unary_unary(b"%d" % number)) for number in range(10)]
        assert await asyncio.gather(*tasks) == [b"%d" % number for number in range(10)]
        assert await asyncio.gather(*(service.unary_unary(b"%d" % number) for number in range(10))) == [
            b"%d" % number for number in range(10)
        ]
        assert await asyncio.wait_for(service.unary_unary(b"x"), 5) == b"x"


async def test_calls_are_instances_of_their_classes() -> None:
    async with echo.serving() as service:
        unary, stream = service.unary_unary(b""), service.stream_stream()
        assert isinstance(unary, aio.UnaryUnaryCall)
        assert isinstance(unary, aio.Call)
        assert isinstance(stream, aio.StreamStreamCall)
        assert not isinstance(unary, aio.StreamStreamCall)
        assert isinstance(service.unary_unary, aio.UnaryUnaryMultiCallable)
        await unary
        stream.cancel()


async def test_mixing_the_two_styles_is_a_usage_error() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"3")
        await call.read()
        with pytest.raises(aio.UsageError):
            async for _ in call:
                pass
        call.cancel()
        call = service.stream_unary(numbers(1))
        with pytest.raises(aio.UsageError):
            await call.write(b"")
        await call
