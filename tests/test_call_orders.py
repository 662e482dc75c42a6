"""Calls, asked in any order: what is ours of it.

What a call answers at each moment is compared with grpcio's answers in test_differential.py (`everything_asked`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
STREAMS = ("UnaryStream", "StreamStream")

#: How soon a server is to hear of a call that nobody keeps, in seconds.
SOON = 1.0


class Handling:
    """Handlers of all kinds that send metadata and some responses, then wait, and tell what becomes of their calls."""

    def __init__(self, responses: int = 2) -> None:
        self.responses = responses
        self.begun = asyncio.Event()
        self.sent = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self) -> None:
        self.sent.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def unary(self, request: Any, context: Any) -> bytes:
        self.begun.set()
        await context.send_initial_metadata((("initial", "sent"),))
        await self.wait()
        raise AssertionError

    async def stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        self.begun.set()
        for number in range(self.responses):
            yield b"%d" % number
        await self.wait()

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {kind: self.unary if kind.endswith("Unary") else self.stream for kind in KINDS}


class Through(aio.UnaryStreamClientInterceptor, aio.StreamStreamClientInterceptor):
    """An interceptor that does nothing."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(client_call_details, request_iterator)


class Channel:
    """Calls of any kind by name."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel

    def start(self, kind: str, **options: Any) -> Any:
        if kind == "UnaryUnary":
            return self.channel.unary_unary(echo.path(kind))(b"2", **options)
        if kind == "UnaryStream":
            return self.channel.unary_stream(echo.path(kind))(b"2", **options)
        if kind == "StreamUnary":
            return self.channel.stream_unary(echo.path(kind))(**options)
        return self.channel.stream_stream(echo.path(kind))(**options)


@asynccontextmanager
async def serving(handling: Handling | None = None, intercepted: bool = False) -> AsyncIterator[Channel]:
    handlers = handling.handlers() if handling is not None else {}
    interceptors = [Through()] if intercepted else None
    async with (
        echo.serving(**handlers) as service,
        aio.insecure_channel(service.target, interceptors=interceptors) as channel,
    ):
        yield Channel(channel)


@asynccontextmanager
async def without_garbage_collection() -> AsyncIterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), SOON)


intercepted_or_not = pytest.mark.parametrize("intercepted", [False, True], ids=["plain", "intercepted"])


@intercepted_or_not
@pytest.mark.parametrize("kind", STREAMS)
async def test_leaving_async_for_cancels_a_call_that_nobody_keeps_at_once(kind: str, intercepted: bool) -> None:
    handling = Handling()
    async with serving(handling, intercepted) as channel, without_garbage_collection():
        async for response in channel.start(kind):
            assert response == b"0"
            break
        await soon(handling.cancelled)


@intercepted_or_not
@pytest.mark.parametrize("kind", STREAMS)
async def test_an_exception_in_async_for_cancels_its_call_once_it_is_dropped(kind: str, intercepted: bool) -> None:
    handling = Handling()

    async def fail(channel: Channel) -> None:
        call = channel.start(kind)
        async for _ in call:
            raise LookupError("in the loop")

    async with serving(handling, intercepted) as channel, without_garbage_collection():
        # The exception's traceback holds the function's frame, and so the call.
        with contextlib.suppress(LookupError):
            await fail(channel)
        await soon(handling.cancelled)


@intercepted_or_not
@pytest.mark.parametrize("kind", STREAMS)
async def test_a_call_that_is_kept_can_be_iterated_again_at_any_time(kind: str, intercepted: bool) -> None:
    handling = Handling(responses=5)
    async with serving(handling, intercepted) as channel, without_garbage_collection():
        call = channel.start(kind)
        responses = []
        for _ in range(3):
            async for response in call:
                responses.append(response)
                break
        # Nobody uses the call meanwhile.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handling.cancelled.wait(), SOON)
        assert not call.done()
        async for response in call:
            responses.append(response)
            if len(responses) == 5:
                break
        assert responses == [b"0", b"1", b"2", b"3", b"4"]
        assert call.cancel()


@intercepted_or_not
async def test_an_iterator_keeps_its_call(intercepted: bool) -> None:
    handling = Handling()
    async with serving(handling, intercepted) as channel, without_garbage_collection():
        responses = channel.start("UnaryStream").__aiter__()
        assert await responses.__anext__() == b"0"
        assert await responses.__anext__() == b"1"
        assert not handling.cancelled.is_set()
        del responses
        await soon(handling.cancelled)


async def test_a_stream_that_has_ended_can_be_read_on() -> None:
    async with serving() as channel:
        call = channel.start("UnaryStream")
        async for response in call:
            assert response == b"0"
            break
        assert await call.code() is grpc.StatusCode.OK
        assert [response async for response in call] == [b"1"]
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_that_waits_cancels_the_call(kind: str) -> None:
    handling = Handling(responses=0)

    async def wait(call: Any) -> Any:
        return await (call if kind.endswith("Unary") else call.read())

    async with serving(handling) as channel:
        call = channel.start(kind)
        if kind == "StreamUnary":
            await call.done_writing()
        task = asyncio.create_task(wait(call))
        await handling.sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handling.cancelled.wait()
        assert call.cancelled()


async def limited(awaitable: Any) -> None:
    if hasattr(asyncio, "timeout"):
        async with asyncio.timeout(0.01):
            await awaitable
    else:
        await asyncio.wait_for(awaitable, 0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_time_limit_of_asyncios_cancels_the_call(kind: str) -> None:
    handling = Handling(responses=0)

    async def wait(call: Any) -> Any:
        return await (call if kind.endswith("Unary") else call.__anext__())

    async with serving(handling) as channel:
        call = channel.start(kind)
        await handling.begun.wait()
        with pytest.raises(asyncio.TimeoutError):
            await limited(wait(call))
        await handling.cancelled.wait()
        assert await call.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize(
    "question", ["initial_metadata", "trailing_metadata", "code", "details", "wait_for_connection"]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_asking_is_not_waiting(kind: str, question: str) -> None:
    """Who stops to wait for an answer leaves the call alone."""
    handling = Handling(responses=0)
    async with serving(handling) as channel:
        call = channel.start(kind)
        await handling.begun.wait()
        asked = asyncio.create_task(getattr(call, question)())
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait((asked,))
        assert not call.done()
        call.cancel()


async def test_initial_metadata_of_a_unary_call_comes_before_its_response() -> None:
    handling = Handling()
    async with serving(handling) as channel:
        for kind in ("UnaryUnary", "StreamUnary"):
            call = channel.start(kind)
            assert (await call.initial_metadata())["initial"] == "sent"
            assert not call.done()
            call.cancel()
            # What has come stays.
            assert (await call.initial_metadata())["initial"] == "sent"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_is_there_before_any_answer(kind: str) -> None:
    handling = Handling(responses=0)
    async with serving(handling) as channel:
        call = channel.start(kind)
        await call.wait_for_connection()
        assert not call.done()
        call.cancel()


@pytest.mark.parametrize("kind", STREAMS)
async def test_the_code_is_known_before_all_responses_are_read(kind: str) -> None:
    async with serving() as channel:
        call = channel.start(kind)
        if kind == "StreamStream":
            await call.write(b"0")
            await call.write(b"1")
            await call.done_writing()
        assert await call.read() == b"0"
        assert await call.code() is grpc.StatusCode.OK
        assert not call.done()
        assert await call.read() == b"1"
        assert await call.read() is aio.EOF
        assert call.done()


@pytest.mark.parametrize("kind", ["StreamUnary", "StreamStream"])
async def test_a_cancelled_write_cancels_a_call_without_a_connection(kind: str) -> None:
    async with aio.insecure_channel("unix:/nonexistent/socket") as channel:
        call = Channel(channel).start(kind, wait_for_ready=True)
        writing = asyncio.create_task(call.write(b""))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert call.cancelled()


@pytest.mark.parametrize("kind", STREAMS)
async def test_styles_are_not_mixed(kind: str) -> None:
    handling = Handling(responses=3)
    async with serving(handling) as channel:
        iterated, read = channel.start(kind), channel.start(kind)
        async for _ in iterated:
            break
        with pytest.raises(aio.UsageError, match="mixed"):
            await iterated.read()
        assert await read.read() == b"0"
        with pytest.raises(aio.UsageError, match="mixed"):
            async for _ in read:
                pass
        iterated.cancel()
        read.cancel()


@pytest.mark.parametrize("kind", STREAMS)
async def test_stream_calls_have_anext(kind: str) -> None:
    handling = Handling(responses=2)
    async with serving(handling) as channel:
        call = channel.start(kind)
        assert await call.__anext__() == b"0"
        assert await call.__anext__() == b"1"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.__anext__()


async def test_unary_calls_are_tasks_where_a_coroutine_is_wanted() -> None:
    async with serving() as channel:
        assert await asyncio.create_task(channel.start("UnaryUnary")) == b"2"
        call = channel.start("StreamUnary")
        task = asyncio.create_task(call)
        await call.write(b"x")
        await call.done_writing()
        assert await task == b"x"
