"""Client interceptors: what is ours of them. What they share with grpcio is compared in test_differential.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import _native, aio
from test_compression import MESSAGE, PLAIN, watching

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")

Intercept = Callable[[Any, aio.ClientCallDetails, Any], Awaitable[Any]]


class All(
    aio.UnaryUnaryClientInterceptor,
    aio.UnaryStreamClientInterceptor,
    aio.StreamUnaryClientInterceptor,
    aio.StreamStreamClientInterceptor,
):
    """An interceptor of all kinds."""

    def __init__(self, function: Intercept) -> None:
        self.function = function

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self.function(continuation, client_call_details, request)

    intercept_unary_stream = intercept_unary_unary

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self.function(continuation, client_call_details, request_iterator)

    intercept_stream_stream = intercept_stream_unary


async def untouched(continuation: Any, details: Any, request: Any) -> Any:
    return await continuation(details, request)


@asynccontextmanager
async def serving(*functions: Intercept, **handlers: Callable[..., Any]) -> AsyncIterator[echo.Service]:
    async with (
        echo.serving(**handlers) as service,
        aio.insecure_channel(service.target, interceptors=[All(function) for function in functions]) as channel,
    ):
        yield echo.Service(service.server, channel, service.port)


class Abandoned:
    """A handler of any kind that waits, and notices when its call is given up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Any, context: Any) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def request_for(kind: str) -> Any:
    return b"2" if kind.startswith("Unary") else [b"2", b"3"]


async def test_an_interceptor_of_several_kinds_is_used_for_each() -> None:
    seen = []

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        seen.append(details.method.decode())
        return await continuation(details, request)

    async with serving(function) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert [response async for response in service.unary_stream(b"2")] == [b"0", b"1"]
        assert await service.stream_unary([b"a", b"b"]) == b"ab"
        assert [response async for response in service.stream_stream([b"a", b"b"])] == [b"a", b"b"]
    assert seen == [echo.path(kind) for kind in KINDS]


async def test_what_is_no_interceptor_is_refused() -> None:
    class Nothing(aio.ClientInterceptor):
        pass

    for wrong in (object(), Nothing()):
        with pytest.raises(ValueError, match="must be UnaryUnaryClientInterceptor or"):
            aio.insecure_channel("localhost:1", interceptors=[wrong])


async def test_methods_without_interceptors_are_native() -> None:
    class Only(aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            raise AssertionError

    channels = [aio.insecure_channel("localhost:1", interceptors=given) for given in (None, [], [Only()])]
    for channel in channels:
        assert type(channel.unary_unary("/a/b")) is _native.UnaryUnaryMultiCallable
        assert type(channel.stream_unary("/a/b")) is _native.StreamUnaryMultiCallable
        assert type(channel.stream_stream("/a/b")) is _native.StreamStreamMultiCallable
    assert type(channels[0].unary_stream("/a/b")) is _native.UnaryStreamMultiCallable
    assert type(channels[2].unary_stream("/a/b")) is not _native.UnaryStreamMultiCallable
    with pytest.raises(ValueError, match="method"):
        channels[2].unary_stream("nonsense")


async def test_calls_are_coroutines_to_asyncio() -> None:
    async with serving(untouched) as service:
        tasks = [
            asyncio.create_task(service.unary_unary(b"x")),  # type: ignore[arg-type]
            asyncio.create_task(service.stream_unary([b"a", b"b"])),  # type: ignore[arg-type]
        ]
        assert await asyncio.gather(*tasks) == [b"x", b"ab"]


async def test_a_cancelled_task_cancels_its_call() -> None:
    waiting = Abandoned()
    async with serving(untouched, UnaryUnary=waiting) as service:
        call = service.unary_unary(b"")
        task = asyncio.create_task(call)  # type: ignore[arg-type]
        await waiting.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call.code() is grpc.StatusCode.CANCELLED
        await waiting.cancelled.wait()


async def test_asking_for_the_code_is_not_waiting_for_the_call() -> None:
    """Whoever stops to wait for the code leaves the interceptor alone."""
    go_on = asyncio.Event()

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        await go_on.wait()
        return await continuation(details, request)

    async with serving(function) as service:
        call = service.unary_unary(b"x")
        for question in (call.code, call.details, call.initial_metadata, call.wait_for_connection):
            asked = asyncio.create_task(question())
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        go_on.set()
        assert await call == b"x"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_an_interceptor_has_started_is_cancelled_with_it(kind: str) -> None:
    waiting = Abandoned()
    calls = []

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        calls.append(await continuation(details, request))
        await asyncio.Event().wait()

    async with serving(function, **{kind: waiting}) as service:
        method = {
            "UnaryUnary": service.unary_unary,
            "UnaryStream": service.unary_stream,
            "StreamUnary": service.stream_unary,
            "StreamStream": service.stream_stream,
        }[kind]
        call: Any = method(request_for(kind))  # type: ignore[operator]
        await waiting.begun.wait()
        assert call.cancel()
        await waiting.cancelled.wait()
        assert calls[0].cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_stream_that_nobody_keeps_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def forever(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.add_done_callback(lambda _: cancelled.set())
        while True:
            yield b"more"

    async with serving(untouched, UnaryStream=forever) as service:
        async for response in service.unary_stream(b""):
            assert response == b"more"
            break
        await cancelled.wait()


async def test_stream_calls_have_anext() -> None:
    async with serving(untouched) as service:
        call = service.unary_stream(b"2")
        assert await call.__anext__() == b"0"  # type: ignore[attr-defined]
        assert [response async for response in call] == [b"1"]
        assert await call.read() is aio.EOF


async def test_time_remaining_before_there_is_a_call_and_after() -> None:
    go_on, waiting = asyncio.Event(), Abandoned()

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        await go_on.wait()
        return await continuation(details._replace(timeout=10), request)

    async with serving(function, UnaryUnary=waiting) as service:
        assert service.unary_unary(b"").time_remaining() is None
        call = service.unary_unary(b"", timeout=1000)
        assert 900 < (call.time_remaining() or 0) <= 1000
        go_on.set()
        await waiting.begun.wait()
        await call.wait_for_connection()
        assert 5 < (call.time_remaining() or 0) <= 10
        call.cancel()


async def test_requests_written_by_hand_reach_an_interceptor_that_waits_for_the_response() -> None:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        assert await call == b"ab"
        return call

    async with serving(function) as service:
        call = service.stream_unary()
        await call.write(b"a")
        await call.write(b"b")
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError, match="half closed"):
            await call.write(b"c")
        assert await call == b"ab"
        with pytest.raises(asyncio.InvalidStateError, match="finished"):
            await call.write(b"d")


async def test_a_write_that_waits_ends_with_its_call() -> None:
    async with serving(untouched, StreamStream=Abandoned()) as service:
        call = service.stream_stream()

        async def write() -> None:
            while True:
                await call.write(bytes(1 << 20))

        writing = asyncio.create_task(write())
        _, pending = await asyncio.wait((writing,), timeout=0.1)
        assert pending
        call.cancel()
        with pytest.raises(asyncio.InvalidStateError, match="finished"):
            await writing


async def test_a_cancelled_write_cancels_its_call() -> None:
    waiting = Abandoned()
    async with serving(untouched, StreamStream=waiting) as service:
        call = service.stream_stream()

        async def write() -> None:
            while True:
                await call.write(bytes(1 << 20))

        writing = asyncio.create_task(write())
        await waiting.begun.wait()
        await asyncio.wait((writing,), timeout=0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await waiting.cancelled.wait()


async def test_a_response_of_the_interceptors_own_to_a_stream_of_requests() -> None:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        return b"mine"

    async with serving(function) as service:
        call = service.stream_unary([b"a"])
        assert await call == b"mine"
        assert call.done()
        assert await call.code() is grpc.StatusCode.OK
        call = service.stream_unary()
        assert await call == b"mine"
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"a")


async def test_responses_of_the_interceptors_own_without_a_call() -> None:
    async def own() -> AsyncIterator[bytes]:
        yield b"mine"

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        return own()

    async with serving(function) as service:
        for call in (service.unary_stream(b"1"), service.stream_stream([b"1"])):
            done = asyncio.Event()
            call.add_done_callback(lambda _, done=done: done.set())
            assert [response async for response in call] == [b"mine"]
            assert await call.code() is grpc.StatusCode.OK
            await done.wait()


async def test_compression_is_kept() -> None:
    """Even where an interceptor replaces the metadata, which is where grpcio hides it."""

    async def without_metadata(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(metadata=None), request)

    async with (
        echo.serving() as service,
        watching(service, interceptors=[All(without_metadata)]) as (channel, wire),
    ):
        method = channel.stream_unary(echo.path("StreamUnary"))
        assert await method([MESSAGE], compression=grpc.Compression.Gzip) == MESSAGE
        assert wire.sent < PLAIN / 2


async def test_the_caller_sees_no_context_variable_of_the_interceptors() -> None:
    variable = ContextVar("variable", default="none")
    seen = []

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        seen.append(variable.get())
        variable.set("the interceptor's")
        return await continuation(details, request)

    async with serving(function) as service:
        variable.set("the caller's")
        assert await service.unary_unary(b"x") == b"x"
        assert variable.get() == "the caller's"
    assert seen == ["the caller's"]


async def test_a_done_callback_that_raises_keeps_the_others_from_nothing() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[Any] = []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    called = asyncio.Event()

    def broken(call: Any) -> None:
        raise ValueError("broken")

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        return b"mine"

    async with serving(function) as service:
        call = service.unary_unary(b"")
        call.add_done_callback(broken)
        call.add_done_callback(lambda _: called.set())
        await call
        await called.wait()
    loop.set_exception_handler(handler)
    assert [str(complaint) for complaint in complaints] == ["broken"]


async def test_close_with_grace_waits_for_interceptors() -> None:
    go_on = asyncio.Event()

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        response = await call
        await go_on.wait()
        return response + b" and more"

    async with serving(function) as service:
        call = service.unary_unary(b"x")
        await asyncio.sleep(0)
        closing = asyncio.create_task(service.channel.close(60))
        await asyncio.sleep(0)
        go_on.set()
        assert await call == b"x and more"
        await closing


async def test_close_cancels_what_is_left_in_interceptors() -> None:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        await asyncio.Event().wait()

    async with serving(function) as service:
        call = service.unary_unary(b"x")
        await service.channel.close(0.01)
        with pytest.raises(asyncio.CancelledError):
            await call
        late = service.unary_unary(b"x")
        late.cancel()


async def test_a_closed_channel_says_so_behind_its_interceptors() -> None:
    async with serving(untouched) as service:
        await service.channel.close()
        with pytest.raises(aio.UsageError, match="closed"):
            await service.unary_unary(b"x")


async def test_a_thousand_calls_leave_nothing() -> None:
    async with serving(untouched, untouched) as service:
        responses = await asyncio.gather(*(service.unary_unary(b"%d" % number) for number in range(1000)))
        assert responses == [b"%d" % number for number in range(1000)]
