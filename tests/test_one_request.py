"""Methods that take one request: a second is refused before the handler runs, whatever the timing; and a client that
never ends its side is answered, as by grpcio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

KINDS = ("UnaryUnary", "UnaryStream")
#: How a server comes to know its methods.
KNOWN = ("registered", "generic", "intercepted")

REQUEST = wire.data(1, wire.message(b"request"))
END = wire.data(1, b"", wire.END_STREAM)


class Untouched(aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


class Called:
    """A service whose handlers note what they are called with; and a client of it that speaks HTTP/2 by hand."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.peer: wire.Peer

    async def one(self, request: bytes, context: Any) -> bytes:
        self.requests.append(request)
        return request

    async def two(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.requests.append(request)
        yield request
        yield request

    async def send(self, *octets: bytes) -> None:
        """Sends, and waits until the server has taken it in."""
        await self.peer.send(*octets)
        await self.peer.pong()

    async def status(self) -> grpc.StatusCode:
        trailers = await self.peer.until(wire.HEADERS, 1)
        while not trailers.ends_stream:
            trailers = await self.peer.until(wire.HEADERS, 1)
        number = int(trailers.fields[b"grpc-status"])
        return next(code for code in grpc.StatusCode if code.value[0] == number)


@asynccontextmanager
async def calling(kind: str, known: str) -> AsyncIterator[Called]:
    """A call whose headers have been sent."""
    called = Called()
    server = aio.server(interceptors=[Untouched()] if known == "intercepted" else None)
    methods = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(called.one),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(called.two),
    }
    if known == "generic":
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(echo.SERVICE, methods),))
    else:
        server.add_registered_method_handlers(echo.SERVICE, methods)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with await wire.Peer.connect(port) as called.peer:
            await called.peer.greet()
            await called.send(wire.headers(1, wire.request_head(echo.path(kind).encode())))
            yield called
            # The connection has survived it.
            await called.peer.pong()
    finally:
        await server.stop(None)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_handler_starts_when_the_client_has_ended(kind: str, known: str) -> None:
    async with calling(kind, known) as called:
        await called.send(REQUEST)
        assert called.requests == []
        await called.peer.send(END)
        assert await called.status() is grpc.StatusCode.OK
        assert called.requests == [b"request"]


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "goes_on"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "together"])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_second_request_is_refused_and_no_handler_runs(kind: str, known: str, apart: bool, ends: bool) -> None:
    second = REQUEST + END if ends else REQUEST
    async with calling(kind, known) as called:
        if apart:
            await called.send(REQUEST)
            await called.peer.send(second)
        else:
            await called.peer.send(REQUEST, second)
        assert await called.status() is grpc.StatusCode.UNIMPLEMENTED
        await called.peer.pong()
        assert called.requests == []


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_request_is_refused_and_no_handler_runs(kind: str, known: str) -> None:
    async with calling(kind, known) as called:
        await called.peer.send(END)
        assert await called.status() is grpc.StatusCode.UNIMPLEMENTED
        await called.peer.pong()
        assert called.requests == []


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_never_ends_is_answered_and_what_else_it_sends_is_ignored(kind: str, known: str) -> None:
    async with calling(kind, known) as called:
        await called.peer.send(REQUEST)
        assert await called.status() is grpc.StatusCode.OK
        assert called.requests == [b"request"]
        await called.send(20 * REQUEST)
        assert called.requests == [b"request"]


async def test_a_second_request_does_not_disturb_a_handler_that_runs() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        started.set()
        await go_on.wait()
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.channel.stream_stream(echo.path("UnaryUnary"))()
        await call.write(b"first")
        await started.wait()
        for _ in range(100):
            await call.write(b"second" * 1000)
        go_on.set()
        assert [response async for response in call] == [b"first"]
        assert await call.code() is grpc.StatusCode.OK
