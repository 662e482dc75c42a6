"""Streams: order, back-pressure, half-close, and the end that either side may choose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

MANY = 10_000
#: More than both sides hold for a stream that nobody reads.
MUCH = 64 << 20
PIECE = bytes(1 << 16)


async def failure(awaitable: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


async def settled(count: Any) -> int:
    """What a counter comes to when whoever counts has stopped: no progress for many turns of the loop."""
    last, turns = -1, 0
    while turns < 200:
        turns = turns + 1 if count() == last else 0
        last = count()
        await asyncio.sleep(0 if turns < 190 else 0.001)
    return last


async def numbers(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"%d" % number


async def test_many_small_messages_each_way() -> None:
    async with echo.serving() as service:
        call = service.stream_stream(numbers(MANY))
        assert [int(message) async for message in call] == list(range(MANY))
        assert await call.code() is grpc.StatusCode.OK


async def test_many_small_messages_written_and_read_by_hand() -> None:
    async with echo.serving() as service:
        call = service.stream_stream()

        async def write() -> None:
            for number in range(MANY):
                await call.write(b"%d" % number)
            await call.done_writing()

        writing = asyncio.create_task(write())
        for number in range(MANY):
            assert await call.read() == b"%d" % number
        assert await call.read() is aio.EOF
        await writing


async def test_messages_of_all_sizes_arrive_whole() -> None:
    sizes = [0, 1, 5, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20, 3 << 20, 0]
    messages = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    async with echo.serving() as service:
        assert [message async for message in service.stream_stream(iter(messages))] == messages
        for message in messages:
            assert await service.unary_unary(message) == message


async def test_a_client_stops_writing_when_the_server_does_not_read() -> None:
    read = asyncio.Event()
    received = 0

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        nonlocal received
        await read.wait()
        async for request in requests:
            received += len(request)
        return b"%d" % received

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary()
        written = 0

        async def write() -> None:
            nonlocal written
            while written < MUCH:
                await call.write(PIECE)
                written += len(PIECE)
            await call.done_writing()

        writing = asyncio.create_task(write())
        assert await settled(lambda: written) < MUCH / 4
        # Other calls of the connection are not held up.
        assert await service.unary_unary(b"x") == b"x"
        read.set()
        assert int(await call) == MUCH
        await writing


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_request_iterator_is_not_asked_for_more_than_is_sent(kind: str) -> None:
    read = asyncio.Event()
    asked = 0

    def sync_requests() -> Iterator[bytes]:
        nonlocal asked
        while asked < MUCH:
            asked += len(PIECE)
            yield PIECE

    async def async_requests() -> AsyncIterator[bytes]:
        for request in sync_requests():
            yield request

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await read.wait()
        return b"%d" % sum([len(request) async for request in requests])

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary(async_requests() if kind == "async" else sync_requests())
        assert await settled(lambda: asked) < MUCH / 4
        read.set()
        assert int(await call) == MUCH


@pytest.mark.parametrize("style", ["generator", "write", "plain"])
async def test_a_server_stops_writing_when_the_client_does_not_read(style: str) -> None:
    written = 0

    def note() -> bytes:
        nonlocal written
        written += len(PIECE)
        return PIECE

    async def generator(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while written < MUCH:
            yield note()

    async def write(request: bytes, context: Any) -> None:
        while written < MUCH:
            await context.write(note())

    def plain(request: bytes, context: Any) -> Iterator[bytes]:
        while written < MUCH:
            yield note()

    async with echo.serving(UnaryStream={"generator": generator, "write": write, "plain": plain}[style]) as service:
        call = service.unary_stream(b"")
        assert await call.read() == PIECE
        assert await settled(lambda: written) < MUCH / 4
        assert await service.unary_unary(b"x") == b"x"
        received = len(PIECE)
        while (message := await call.read()) is not aio.EOF:
            received += len(message)
        assert received == MUCH


async def test_half_close_ends_the_requests_and_nothing_else() -> None:
    closed = asyncio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        assert [request async for request in requests] == [b"one", b"two"]
        closed.set()
        for number in range(3):
            yield b"%d" % number

    async with echo.serving(StreamStream=handler) as service:
        call = service.stream_stream()
        await call.write(b"one")
        await call.write(b"two")
        assert not closed.is_set()
        await call.done_writing()
        await closed.wait()
        assert not call.done()
        assert [message async for message in call] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_writing_after_half_close(kind: str) -> None:
    async with echo.serving() as service:
        call = getattr(service, kind)()
        await call.write(b"x")
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError, match="done_writing"):
            await call.write(b"y")
        assert await (call if kind == "stream_unary" else call.read()) == b"x"


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_writing_after_the_end(kind: str) -> None:
    async def unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"enough"

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"enough"

    async with echo.serving(StreamUnary=unary, StreamStream=stream) as service:
        call = getattr(service, kind)()
        assert await (call if kind == "stream_unary" else call.read()) == b"enough"
        assert await call.code() is grpc.StatusCode.OK
        with pytest.raises(asyncio.InvalidStateError, match="finished"):
            await call.write(b"more")
        await call.done_writing()


async def test_a_server_that_fails_early_stops_the_writer() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for _ in requests:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "that is no request")
        return b""

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary()

        async def write() -> None:
            while True:
                await call.write(PIECE)

        # Either the write that waited fails with the call, or the next one meets a call that has ended.
        with pytest.raises((aio.AioRpcError, asyncio.InvalidStateError)):
            await write()
        error = await failure(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "that is no request")


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_server_that_ends_early_stops_the_request_iterator(kind: str) -> None:
    closed = asyncio.Event()

    def sync_requests() -> Iterator[bytes]:
        try:
            while True:
                yield PIECE
        finally:
            closed.set()

    async def async_requests() -> AsyncIterator[bytes]:
        try:
            while True:
                yield PIECE
        finally:
            closed.set()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for request in requests:
            return b"%d" % len(request)
        return b"nothing"

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary(async_requests() if kind == "async" else sync_requests())
        assert int(await call) == len(PIECE)
        assert await call.code() is grpc.StatusCode.OK
        await closed.wait()


async def test_a_server_answers_before_the_requests_end() -> None:
    """What was not read is no error."""

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with echo.serving(StreamStream=handler) as service:
        call = service.stream_stream()
        await call.write(b"unread")
        assert [message async for message in call] == [b"one", b"two"]
        assert await call.code() is grpc.StatusCode.OK


async def test_streams_without_messages() -> None:
    async with echo.serving() as service:
        assert await service.stream_unary(iter([])) == b""
        assert [message async for message in service.stream_stream(iter([]))] == []
        assert [message async for message in service.unary_stream(b"0")] == []
        call = service.stream_unary()
        await call.done_writing()
        assert await call == b""


async def test_empty_messages_are_messages() -> None:
    async with echo.serving() as service:
        assert [message async for message in service.stream_stream(iter([b"", b"", b""]))] == [b"", b"", b""]


async def test_what_is_no_iterator_is_refused() -> None:
    started = False

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        nonlocal started
        started = True
        return b""

    async with echo.serving(StreamUnary=handler, StreamStream=handler) as service:
        await service.unary_unary(b"")
        for method in (service.stream_unary, service.stream_stream):
            with pytest.raises(TypeError, match="int"):
                method(42)
        await service.unary_unary(b"")
        assert not started


@pytest.mark.parametrize("requests", [[b"a", b"b"], (b"a", b"b"), {b"a": 1, b"b": 2}], ids=["list", "tuple", "dict"])
async def test_anything_that_can_be_iterated_is_a_request_iterator(requests: Any) -> None:
    async with echo.serving() as service:
        assert await service.stream_unary(requests) == b"ab"


async def test_many_streams_share_a_connection() -> None:
    async with echo.serving() as service:

        async def use(number: int) -> None:
            messages = [b"%d-%d" % (number, at) for at in range(100)]
            assert [message async for message in service.stream_stream(iter(messages))] == messages

        await asyncio.gather(*map(use, range(50)))


async def test_a_stream_that_is_not_read_does_not_hold_up_others() -> None:
    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield PIECE

    async with echo.serving(UnaryStream=endless) as service:
        unread = [service.unary_stream(b"") for _ in range(20)]
        for call in unread:
            await call.read()
        for _ in range(20):
            assert await service.unary_unary(PIECE) == PIECE
        for call in unread:
            call.cancel()


async def test_two_tasks_read_one_stream() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"100")
        seen: list[bytes] = []

        async def read() -> None:
            while (message := await call.read()) is not aio.EOF:
                seen.append(message)
                await asyncio.sleep(0)

        await asyncio.gather(read(), read())
        assert sorted(map(int, seen)) == list(range(100))


async def test_a_stream_is_iterated_twice() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"3")
        assert [message async for message in call] == [b"0", b"1", b"2"]
        assert [message async for message in call] == []


async def test_ping_pong_in_lock_step() -> None:
    async with echo.serving() as service:
        call = service.stream_stream()
        for number in range(500):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
