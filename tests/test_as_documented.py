"""What grpcio's documentation says and grpcio does not do: each sentence has a row in docs/parity.md.

Calls' own: test_call_orders.py. A handler's context: test_context.py.
"""

from __future__ import annotations

import asyncio

import echo
from oxgrpc import aio
from program import output_of


async def test_stop_needs_no_argument() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return request

    async with echo.serving(UnaryUnary=wait) as service:
        call = service.unary_unary(b"")
        await begun.wait()
        await service.server.stop()
        # As with None: nobody is waited for.
        assert cancelled.is_set()
        assert not await service.server.wait_for_termination(0)
        assert (await call.code()).name == "UNAVAILABLE"


async def test_the_context_of_a_call_that_its_client_has_cancelled() -> None:
    begun, over = asyncio.Event(), asyncio.Event()
    contexts = []

    async def wait(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        contexts.append((isinstance(context, aio.ServicerContext), context.cancelled()))
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            contexts.append((isinstance(context, aio.ServicerContext), context.cancelled()))
            over.set()
        return request

    async with echo.serving(UnaryUnary=wait) as service:
        call = service.unary_unary(b"")
        await begun.wait()
        call.cancel()
        await over.wait()
    assert contexts == [(True, False), (True, True)]


def test_shutdown_is_harmless_at_any_time_and_silent() -> None:
    """Before everything, twice, while a server and calls are there, on another thread, after the loop's end."""
    code = """
import asyncio, threading
from oxgrpc import aio
import echo

aio.shutdown_grpc_aio()
aio.init_grpc_aio()
aio.shutdown_grpc_aio()
aio.shutdown_grpc_aio()

async def main():
    async with echo.serving() as service:
        call = service.stream_stream()
        await call.write(b"1")
        aio.shutdown_grpc_aio()
        await asyncio.to_thread(aio.shutdown_grpc_aio)
        assert await call.read() == b"1"
        aio.shutdown_grpc_aio()
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await service.unary_unary(b"x") == b"x"

for _ in range(2):
    asyncio.run(main())
    aio.shutdown_grpc_aio()
print("well")
aio.shutdown_grpc_aio()
"""
    assert output_of(code) == "well\n"
