"""Deadlines: a call ends when its time is up, on both sides, whatever it waits for."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

#: Long enough for a call to arrive, short enough to wait for.
SHORT = 0.2
#: Nothing takes this long.
LONG = 50.0


class Waiting:
    """Handlers that wait for ever, and whether they were told to stop."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def wait(self, context: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def unary(self, request: Any, context: Any) -> bytes:
        await self.wait(context)
        return b""

    async def stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"0"
        yield b"1"
        await self.wait(context)

    def serving(self) -> Any:
        return echo.serving(
            UnaryUnary=self.unary, UnaryStream=self.stream, StreamUnary=self.unary, StreamStream=self.stream
        )


@contextmanager
def nobody() -> Iterator[str]:
    """A target where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def check_exceeded(error: aio.AioRpcError, call: Any) -> None:
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "Deadline Exceeded"
    assert call.done()
    assert not call.cancelled()
    assert not call.cancel()
    assert call.time_remaining() == 0
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_a_unary_response_that_is_late(kind: str) -> None:
    waiting = Waiting()
    async with waiting.serving() as service:
        requests = b"" if kind == "unary_unary" else iter([b""])
        call = getattr(service, kind)(requests, timeout=SHORT)
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        await check_exceeded(caught.value, call)
        await waiting.cancelled.wait()


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_a_stream_is_read_up_to_the_deadline(kind: str) -> None:
    waiting = Waiting()
    async with waiting.serving() as service:
        requests = b"" if kind == "unary_stream" else iter([b""])
        call = getattr(service, kind)(requests, timeout=SHORT)
        seen = []

        async def iterate() -> None:
            async for message in call:
                seen.append(message)

        with pytest.raises(aio.AioRpcError) as caught:
            await iterate()
        assert seen == [b"0", b"1"]
        await check_exceeded(caught.value, call)
        await waiting.cancelled.wait()


async def by_iterating(call: Any, take: Any) -> None:
    async for message in call:
        await take(message)


async def by_reading(call: Any, take: Any) -> None:
    while (message := await call.read()) is not aio.EOF:
        await take(message)


#: What the handler does once its responses are sent, and the status that is known before they are read.
async def goes_on(context: Any) -> None:
    await asyncio.Event().wait()


async def returns(context: Any) -> None:
    """With OK."""


async def aborts(context: Any) -> None:
    await context.abort(grpc.StatusCode.NOT_FOUND)


async def until_done(call: Any) -> None:
    """The loop learns of the deadline by its timer."""
    done = asyncio.Event()
    call.add_done_callback(lambda _: done.set())
    await done.wait()


async def without_the_loop(call: Any) -> None:
    """The loop is too busy to run a timer."""
    while call.time_remaining():
        pass


@pytest.mark.parametrize("until_late", [until_done, without_the_loop])
@pytest.mark.parametrize("then", [goes_on, returns, aborts])
@pytest.mark.parametrize("read", [by_iterating, by_reading])
async def test_a_stream_gives_nothing_after_the_deadline_whatever_is_buffered(
    read: Any, then: Any, until_late: Any
) -> None:
    sent = asyncio.Event()

    async def handler(request: Any, context: Any) -> AsyncIterator[bytes]:
        for number in range(60):
            yield b"%d" % number
        sent.set()
        await then(context)

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"", timeout=SHORT)
        seen = []

        async def take(message: bytes) -> None:
            seen.append(message)
            await sent.wait()
            await until_late(call)

        with pytest.raises(aio.AioRpcError) as caught:
            await read(call, take)
        assert seen == [b"0"]
        await check_exceeded(caught.value, call)


async def test_a_stream_whose_responses_are_read_in_time_keeps_its_status() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"2", timeout=SHORT)
        assert [await call.read(), await call.read()] == [b"0", b"1"]
        await call.code()
        await without_the_loop(call)
        await asyncio.sleep(0)
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("read", [by_iterating, by_reading])
async def test_an_endless_stream_of_empty_messages_ends_at_the_deadline(read: Any) -> None:
    async def handler(request: Any, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield b""

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"", timeout=SHORT)
        late = 0

        async def take(message: bytes) -> None:
            nonlocal late
            # One may be handed out in time and looked at after it.
            late += call.time_remaining() == 0
            assert late <= 1

        with pytest.raises(aio.AioRpcError) as caught:
            await read(call, take)
        await check_exceeded(caught.value, call)


async def test_a_write_that_waits_for_the_reader() -> None:
    waiting = Waiting()
    async with waiting.serving() as service:
        call = service.stream_unary(timeout=SHORT)
        with pytest.raises(aio.AioRpcError) as caught:
            # The handler reads nothing, so that this cannot be within the windows.
            await call.write(bytes(3 << 20))
        await check_exceeded(caught.value, call)
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"")
        await waiting.cancelled.wait()


async def test_a_call_that_waits_for_a_server() -> None:
    with nobody() as target:
        async with aio.insecure_channel(target) as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"", timeout=SHORT, wait_for_ready=True)
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            await check_exceeded(caught.value, call)


async def test_a_call_that_waits_for_a_server_that_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with aio.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"", timeout=SHORT)
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            await check_exceeded(caught.value, call)


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 1e-9])
@pytest.mark.parametrize("connected", [False, True])
async def test_a_deadline_that_has_passed_already(timeout: float, connected: bool) -> None:
    async with echo.serving() as service:
        if connected:
            await service.unary_unary(b"")
        for call in (service.unary_unary(b"", timeout=timeout), service.stream_unary(timeout=timeout)):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            await check_exceeded(caught.value, call)
        assert await service.unary_unary(b"x", timeout=LONG) == b"x"


@pytest.mark.parametrize("timeout", [1, 3600 * 24 * 365 * 200, 1e300, math.inf])
async def test_a_deadline_may_be_as_far_away_as_you_like(timeout: float) -> None:
    async with echo.serving() as service:
        for _ in range(2):
            assert await service.unary_unary(b"x", timeout=timeout) == b"x"


@pytest.mark.parametrize(("timeout", "error"), [(math.nan, ValueError), ("soon", TypeError), (b"1", TypeError)])
async def test_what_is_no_number_of_seconds_is_refused(timeout: Any, error: type[Exception]) -> None:
    async with echo.serving() as service:
        with pytest.raises(error):
            service.unary_unary(b"", timeout=timeout)
        with pytest.raises(error):
            service.stream_stream(timeout=timeout)


async def test_both_sides_know_how_much_time_remains() -> None:
    remaining: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        remaining.append(context.time_remaining())
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"", timeout=LONG)
        left = call.time_remaining()
        assert 0 < left <= LONG
        await call
        await asyncio.sleep(0.01)
        assert 0 < call.time_remaining() < left
        assert LONG / 2 < remaining[0] <= LONG

        call = service.unary_unary(b"")
        assert call.time_remaining() is None
        await call
        assert remaining[1] is None


async def test_a_call_that_is_in_time_stays_as_it_is() -> None:
    async with echo.serving() as service:
        call = service.unary_unary(b"x", timeout=SHORT)
        assert await call == b"x"
        await asyncio.sleep(SHORT)
        assert await call == b"x"
        assert await call.code() is grpc.StatusCode.OK


async def test_deadlines_pass_in_their_order() -> None:
    waiting = Waiting()
    async with waiting.serving() as service:
        await asyncio.gather(service.unary_unary(b"", timeout=0), return_exceptions=True)
        ended: list[float] = []
        timeouts = [SHORT * factor for factor in (2, 0.5, 1.5, 1)]

        async def call(timeout: float) -> None:
            with pytest.raises(aio.AioRpcError):
                await service.unary_unary(b"", timeout=timeout)
            ended.append(timeout)

        await asyncio.gather(*map(call, timeouts))
        assert ended == sorted(timeouts)


@pytest.mark.parametrize("connected", [False, True])
async def test_no_deadline_passes_before_its_time(connected: bool) -> None:
    """Not by a fraction of a millisecond: an event loop's timers may be that much early."""
    waiting = Waiting()
    async with waiting.serving() as service:
        with nobody() as target:
            async with aio.insecure_channel(service.target if connected else target) as channel:
                method = channel.unary_unary(echo.path("UnaryUnary"))
                if connected:
                    await channel.channel_ready()

                async def call(timeout: float) -> None:
                    call = method(b"", timeout=timeout, wait_for_ready=True)
                    with pytest.raises(aio.AioRpcError):
                        await call
                    assert call.time_remaining() == 0

                await asyncio.gather(*(call(0.02 + number / 9000) for number in range(40)))


async def test_a_deadline_is_handed_on_to_the_next_server() -> None:
    waiting = Waiting()
    async with waiting.serving() as backend:

        async def forward(request: bytes, context: Any) -> bytes:
            try:
                return await backend.unary_unary(request, timeout=context.time_remaining())
            except aio.AioRpcError as error:
                # Its time is up a moment before or after this handler's own.
                await context.abort(error.code(), error.details())
            return b""

        async with echo.serving(UnaryUnary=forward) as service:
            with pytest.raises(aio.AioRpcError) as caught:
                await service.unary_unary(b"", timeout=SHORT)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await waiting.cancelled.wait()


async def test_the_handlers_context_is_over_at_the_deadline() -> None:
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(request: bytes, context: Any) -> bytes:
        def done(context: Any) -> None:
            told.set_result((context.cancelled(), context.done(), context.time_remaining()))

        context.add_done_callback(done)
        await asyncio.Event().wait()
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        with pytest.raises(aio.AioRpcError):
            await service.unary_unary(b"", timeout=SHORT)
        cancelled, done, remaining = await told
        assert cancelled
        assert done
        assert remaining < SHORT


async def test_a_handler_does_not_begin_once_its_deadline_has_passed() -> None:
    """Two calls come at once, and the first keeps the loop until the second has no time left."""
    begun: list[bytes] = []

    async def handler(request: bytes, context: Any) -> bytes:
        begun.append(request)
        while request == b"first" and context.time_remaining():
            pass
        return request

    def call(stream: int, request: bytes, timeout: bytes) -> bytes:
        head = wire.request_head(echo.path("UnaryUnary").encode(), (b"grpc-timeout", timeout))
        return wire.headers(stream, head) + wire.data(stream, wire.message(request), wire.END_STREAM)

    async with echo.serving(UnaryUnary=handler) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(call(1, b"first", b"50m"), call(3, b"second", b"10m"))
            answer = await peer.until(wire.HEADERS, 3)
            assert answer.fields[b"grpc-status"] == b"4"
            assert begun == [b"first"]


async def test_a_stuck_client_does_not_keep_the_handler() -> None:
    """The server watches the deadline itself: this client's loop does not run any more."""
    waiting = Waiting()
    async with waiting.serving() as service:
        other = asyncio.new_event_loop()

        async def begin() -> Any:
            channel = aio.insecure_channel(service.target)
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"", timeout=SHORT)
            await call.wait_for_connection()
            return channel, call

        channel, call = await asyncio.to_thread(other.run_until_complete, begin())
        await waiting.cancelled.wait()
        await asyncio.to_thread(other.run_until_complete, channel.close())
        other.close()
        assert call.done()
