"""The first step of a handler, which runs as soon as its call is there where asyncio can do that (Python 3.12).

Nothing that a handler does in it may differ from what it could do a turn of the loop later.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from conftest import LOOPS


def reset_connection(peer: wire.Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def call(stream: int, kind: str) -> bytes:
    """A call whose requests are yet to come."""
    return wire.headers(stream, wire.request_head(echo.path(kind).encode()))


async def test_a_client_goes_away_in_it() -> None:
    seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(requests: Any, context: Any) -> None:
        # There is something to write: that the client has gone is found in this step.
        await context.send_initial_metadata((("a", "b"),))
        reset_connection(peer)
        try:
            seen.set_result(await context.read())
        except asyncio.CancelledError as error:
            seen.set_result(error)
            raise

    async with echo.serving(StreamStream=handler) as service:
        peer = await wire.Peer.connect(service.port)
        await peer.greet()
        await peer.pong()
        await peer.send(call(1, "StreamStream"))
        assert isinstance(await asyncio.wait_for(seen, 10), asyncio.CancelledError)


async def test_clients_go_away_in_that_of_an_earlier_call() -> None:
    ended = asyncio.Event()
    ends_of_requests = 0

    async def first(requests: Any, context: Any) -> None:
        await context.send_initial_metadata((("a", "b"),))
        reset_connection(peer)
        try:
            await context.read()
        finally:
            ended.set()

    async def second(requests: Any, context: Any) -> bytes:
        nonlocal ends_of_requests
        async for _ in requests:
            pass
        ends_of_requests += 1
        return b""

    async with echo.serving(StreamStream=first, StreamUnary=second) as service:
        peer = await wire.Peer.connect(service.port)
        await peer.greet()
        await peer.pong()
        await peer.send(call(1, "StreamStream"), *(call(stream, "StreamUnary") for stream in (3, 5, 7)))
        await asyncio.wait_for(ended.wait(), 10)
        # Calls that nobody waits for any more count no more, either.
        await asyncio.wait_for(service.server.stop(grace=50), 10)
    assert ends_of_requests == 0


async def test_a_task_that_cannot_be_made() -> None:
    loop = asyncio.get_running_loop()
    refused: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        if type(coroutine).__name__ == "HandlerTask" and not refused:
            refused.append(coroutine)
            raise RuntimeError("no task for you")
        return asyncio.Task(coroutine, loop=loop, **options)

    async with echo.serving() as service:
        loop.set_task_factory(factory)
        try:
            call = service.unary_unary(b"")
            assert await call.code() is grpc.StatusCode.UNKNOWN
            assert await service.unary_unary(b"x") == b"x"
        finally:
            loop.set_task_factory(None)
        with pytest.raises(RuntimeError):
            refused.pop().send(None)


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_loop(error: type[BaseException], loop_kind: str) -> None:
    served = []

    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"end":
            raise error("by the handler")
        served.append(request)
        return request

    async def main() -> list[grpc.StatusCode]:
        async with echo.serving(UnaryUnary=handler) as service:
            calls = [service.unary_unary(request) for request in (b"before", b"end", b"after")]
            return [await call.code() for call in calls]

    loop = LOOPS[loop_kind]()
    # The handler's task has an exception that nobody takes.
    loop.set_exception_handler(lambda *_: None)
    try:
        task = loop.create_task(main())
        with pytest.raises(error, match="by the handler"):
            loop.run_until_complete(task)
        codes = loop.run_until_complete(task)
    finally:
        loop.close()
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK]
    assert served == [b"before", b"after"]
