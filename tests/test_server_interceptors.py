"""Server interceptors: what is ours of them. What they share with grpcio is compared in test_differential.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

Intercept = Callable[[Any, Any], Awaitable[Any]]

OWNER: ContextVar[str] = ContextVar("OWNER", default="nobody")


class Interceptor(aio.ServerInterceptor):
    def __init__(self, function: Intercept) -> None:
        self.function = function

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await self.function(continuation, handler_call_details)


async def untouched(continuation: Any, details: Any) -> Any:
    return await continuation(details)


@asynccontextmanager
async def serving(*functions: Intercept, options: dict[str, Any] | None = None, **handlers: Any) -> Any:
    server = aio.server(interceptors=[Interceptor(function) for function in functions], **(options or {}))
    async with echo.serving(server, **handlers) as service:
        yield service


async def ended(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_calls_of_every_kind_go_through_all_interceptors_in_order() -> None:
    seen = []

    def named(name: str) -> Intercept:
        async def function(continuation: Any, details: Any) -> Any:
            seen.append((name, details.method, dict(details.invocation_metadata)["of"]))
            await asyncio.sleep(0)
            handler = await continuation(details)
            seen.append((name, "has its handler", ""))
            return handler

        return function

    async with serving(named("first"), named("second")) as service:
        assert await service.unary_unary(b"x", metadata=(("of", "1"),)) == b"x"
        assert [response async for response in service.unary_stream(b"2", metadata=(("of", "2"),))] == [b"0", b"1"]
        assert await service.stream_unary([b"a", b"b"], metadata=(("of", "3"),)) == b"ab"
        mirrored = service.stream_stream([b"a", b"b"], metadata=(("of", "4"),))
        assert [response async for response in mirrored] == [b"a", b"b"]
    kinds = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
    assert seen == [
        step
        for number, kind in enumerate(kinds, 1)
        for step in (
            ("first", echo.path(kind), str(number)),
            ("second", echo.path(kind), str(number)),
            ("second", "has its handler", ""),
            ("first", "has its handler", ""),
        )
    ]


async def test_what_is_no_interceptor_is_refused() -> None:
    with pytest.raises(ValueError, match="must be ServerInterceptor"):
        aio.server(interceptors=[Interceptor(untouched), object()])


async def test_an_interceptor_is_given_the_handler_that_was_registered() -> None:
    handler = grpc.unary_unary_rpc_method_handler(echo.echo)
    given = []

    async def function(continuation: Any, details: Any) -> Any:
        given.append(await continuation(details))
        return given[-1]

    server = aio.server(interceptors=[Interceptor(function)])
    server.add_registered_method_handlers("registered", {"Method": handler})
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("generic", {"Method": handler}),))
    async with echo.serving(server) as service:
        for name in ("registered", "generic"):
            assert await service.channel.unary_unary(f"/{name}/Method")(b"x") == b"x"
        error = await ended(service.channel.unary_unary("/nothing/Method")(b"x"))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert given[0] is handler
    assert given[1] is handler
    assert given[2] is None


async def test_a_generic_handler_is_asked_behind_the_interceptors() -> None:
    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            asked.append((handler_call_details.method, OWNER.get()))
            return grpc.stream_stream_rpc_method_handler(echo.mirror)

    asked: list[tuple[str, str]] = []

    async def function(continuation: Any, details: Any) -> Any:
        OWNER.set("the interceptor")
        return await continuation(details)

    server = aio.server(interceptors=[Interceptor(function)], handlers=[Anything()])
    async with echo.serving(server) as service:
        call = service.channel.stream_stream("/any/Method")([b"a", b"b"])
        assert [response async for response in call] == [b"a", b"b"]
    assert asked == [("/any/Method", "the interceptor")]


async def test_the_continuation_can_be_asked_twice() -> None:
    seen = []

    async def twice(continuation: Any, details: Any) -> Any:
        assert await continuation(details) is await continuation(details)
        return await continuation(Details(echo.path("StreamUnary"), ()))

    async def inner(continuation: Any, details: Any) -> Any:
        seen.append(details.method)
        return await continuation(details)

    async with serving(twice, inner) as service:
        # A stream of one request is a request.
        assert await service.unary_unary(b"x") == b"x"
    assert seen == [echo.path("UnaryUnary"), echo.path("UnaryUnary"), echo.path("StreamUnary")]


class Details(NamedTuple):
    """A program's own details of a call."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


async def test_an_interceptor_answers_itself() -> None:
    """Another kind of handler than the one that is registered, and none where there was one."""

    async def twice(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        yield request

    async def function(continuation: Any, details: Any) -> Any:
        if details.method == echo.path("UnaryStream"):
            return grpc.unary_stream_rpc_method_handler(twice)
        return None

    async with serving(function) as service:
        assert [response async for response in service.unary_stream(b"x")] == [b"x", b"x"]
        error = await ended(service.unary_unary(b"x"))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


async def test_a_plain_function_runs_in_a_thread_and_in_the_calls_context() -> None:
    def plain(request: bytes, context: Any) -> bytes:
        return f"{OWNER.get()} {threading.current_thread() is threading.main_thread()}".encode()

    async def function(continuation: Any, details: Any) -> Any:
        OWNER.set("the interceptor")
        return await continuation(details)

    async with serving(function, UnaryUnary=plain) as service:
        assert await service.unary_unary(b"") == b"the interceptor False"


async def test_interceptors_and_handler_share_a_context_of_their_own() -> None:
    seen = []

    async def outer(continuation: Any, details: Any) -> Any:
        seen.append(OWNER.get())
        OWNER.set(dict(details.invocation_metadata)["owner"])
        return await continuation(details)

    async def inner(continuation: Any, details: Any) -> Any:
        OWNER.set(OWNER.get() + "+")
        await asyncio.sleep(0)
        return await continuation(details)

    async def tell(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0)
        return OWNER.get().encode()

    async with serving(outer, inner, UnaryUnary=tell) as service:
        calls = [service.unary_unary(b"", metadata=(("owner", f"call {number}"),)) for number in range(20)]
        assert await asyncio.gather(*calls) == [b"call %d+" % number for number in range(20)]
    assert set(seen) == {"nobody"}
    assert OWNER.get() == "nobody"


async def test_the_current_task_is_the_calls() -> None:
    tasks = []

    async def function(continuation: Any, details: Any) -> Any:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else untimed():
            await asyncio.sleep(0)
        return await continuation(details)

    async def tell(request: bytes, context: Any) -> bytes:
        tasks.append(asyncio.current_task())
        return request

    async with serving(function, UnaryUnary=tell) as service:
        assert await service.unary_unary(b"x") == b"x"
    assert tasks[0] is tasks[1] is not None


@asynccontextmanager
async def untimed() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("error", [ValueError, grpc.RpcError])
async def test_an_interceptor_that_raises_ends_the_call_alone(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def function(continuation: Any, details: Any) -> Any:
        if details.method == echo.path("UnaryUnary"):
            raise error("no")
        return await continuation(details)

    async with serving(function) as service:
        failed = await ended(service.unary_unary(b"x"))
        assert failed.code() is grpc.StatusCode.UNKNOWN
        assert "no" in (failed.details() or "")
        assert await service.stream_unary([b"a"]) == b"a"
    assert [record.getMessage() for record in caplog.records if record.name == "oxgrpc.server"] == [
        f"Unexpected [{error.__name__}] raised by servicer method [{echo.path('UnaryUnary')}]"
    ]


async def test_an_interceptor_that_returns_nonsense_ends_the_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def function(continuation: Any, details: Any) -> Any:
        return "no handler" if details.method == echo.path("UnaryUnary") else await continuation(details)

    async with serving(function) as service:
        assert (await ended(service.unary_unary(b"x"))).code() is grpc.StatusCode.UNKNOWN
        assert await service.stream_unary([b"a"]) == b"a"


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
async def test_a_call_that_is_over_cancels_its_interceptors(how: str) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def function(continuation: Any, details: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(function) as service:
        if how == "connection":
            with await wire.Peer.connect(service.port) as peer:
                await peer.greet()
                await peer.send(wire.headers(1, wire.request_head(echo.path("UnaryUnary").encode())))
                await begun.wait()
        else:
            call = service.unary_unary(b"x", timeout=0.1 if how == "deadline" else None)
            await begun.wait()
            if how == "cancel":
                call.cancel()
            else:
                assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await cancelled.wait()


async def test_an_interceptor_that_swallows_its_cancellation_begins_no_handler() -> None:
    begun, over, called = asyncio.Event(), asyncio.Event(), []

    async def function(continuation: Any, details: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(over.set)
        return await continuation(details)

    async def handle(request: bytes, context: Any) -> bytes:
        called.append(request)
        return request

    async with serving(function, UnaryUnary=handle) as service:
        call = service.unary_unary(b"x")
        await begun.wait()
        call.cancel()
        await over.wait()
        await asyncio.sleep(0)
    assert not called


async def test_a_request_that_comes_while_interceptors_run_and_one_that_comes_after() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def function(continuation: Any, details: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await continuation(details)

    async with serving(function) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            for stream, first, then in ((1, b"early", b""), (3, b"", b"late")):
                begun.clear()
                go_on.clear()
                await peer.send(wire.headers(stream, wire.request_head(echo.path("UnaryUnary").encode())))
                await begun.wait()
                if first:
                    await peer.send(wire.data(stream, wire.message(first), wire.END_STREAM))
                    await peer.pong()
                go_on.set()
                if then:
                    await peer.pong()
                    await peer.send(wire.data(stream, wire.message(then), wire.END_STREAM))
                frame = await peer.until(wire.DATA, stream)
                assert frame.payload == wire.message(first or then)


async def test_calls_in_interceptors_count_as_concurrent() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def function(continuation: Any, details: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await continuation(details)

    async with serving(function, options={"maximum_concurrent_rpcs": 1}) as service:
        call = service.unary_unary(b"x")
        await begun.wait()
        error = await ended(service.unary_unary(b"y"))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        go_on.set()
        assert await call == b"x"
        assert await service.unary_unary(b"z") == b"z"


async def test_stop_waits_for_interceptors_and_then_cancels_them() -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def function(continuation: Any, details: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await continuation(details)

    async with serving(function) as service:
        call = service.unary_unary(b"x")
        await begun.wait()
        stopping = asyncio.create_task(service.server.stop(60))
        await asyncio.sleep(0)
        go_on.set()
        assert await call == b"x"
        await stopping
    go_on.clear()
    begun.clear()
    async with serving(function) as service:
        call = service.unary_unary(b"x")
        await begun.wait()
        await service.server.stop(None)
        assert (await ended(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_path_that_is_no_text() -> None:
    async with serving(untouched) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(b"/a/\xff"), wire.END_HEADERS | wire.END_STREAM))
            headers = await peer.until(wire.HEADERS, 1)
            assert headers.fields[b"grpc-status"] == b"12"


async def test_a_thousand_calls_leave_nothing() -> None:
    async with serving(untouched, untouched) as service:
        responses = await asyncio.gather(*(service.unary_unary(b"%d" % number) for number in range(1000)))
        assert responses == [b"%d" % number for number in range(1000)]
