"""Limits bound the handlers that run, whatever ended their calls: one that takes long to clean up still counts."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import echo
import wire
from oxgrpc import aio

LIMIT = 20
CALLS = 300

#: The tests ask by PING whether all that was sent has been taken in.
PINGS = ("grpc.http2.max_ping_strikes", 0)

SERVERS: dict[str, Callable[[], aio.Server]] = {
    "maximum_concurrent_rpcs": lambda: aio.server(options=[PINGS], maximum_concurrent_rpcs=LIMIT),
    "max_concurrent_streams": lambda: aio.server(options=[PINGS, ("grpc.max_concurrent_streams", LIMIT)]),
}

#: What ends a call; a deadline is part of its header section.
ENDINGS: dict[str, Callable[[int], bytes]] = {
    "reset": lambda stream: wire.reset(stream, wire.CANCEL),
    "bad_flag": lambda stream: wire.data(stream, struct.pack(">BI", 7, 1) + b"x"),
    "prefix_of_2_gib": lambda stream: wire.data(stream, struct.pack(">BI", 0, 1 << 31)),
    "cut_message": lambda stream: wire.data(stream, struct.pack(">BI", 0, 9) + b"x", wire.END_STREAM),
    "deadline": lambda stream: b"",
}


class Handlers:
    """Handlers that clean up until they are released, although they are cancelled."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0
        self.entered = asyncio.Semaphore(0)
        self.released = asyncio.Event()
        self.idle = asyncio.Event()

    async def handle(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self.entered.release()
        try:
            return b"".join([request async for request in requests])
        finally:
            await self.released.wait()
            self.running -= 1
            if not self.running:
                self.idle.set()


def head(stream: int, ending: str, timeout: bytes) -> bytes:
    more = [(b"grpc-timeout", timeout)] if ending == "deadline" else []
    return wire.headers(stream, wire.request_head(echo.path("StreamUnary").encode(), *more))


async def end(peer: wire.Peer, stream: int, ending: str) -> None:
    await peer.send(ENDINGS[ending](stream))
    if ending == "deadline":
        await peer.until(wire.HEADERS, stream)
    else:
        await peer.pong()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("limit", SERVERS)
async def test_no_more_handlers_run_than_may_whatever_ends_their_calls(limit: str, ending: str) -> None:
    handlers = Handlers()
    async with echo.serving(SERVERS[limit](), StreamUnary=handlers.handle) as service:
        with await wire.Peer.connect(service.port, no_delay=True) as peer:
            await peer.greet()
            streams = range(1, 2 * CALLS, 2)
            for stream in streams[:LIMIT]:
                await peer.send(head(stream, ending, b"300m"))
            for _ in range(LIMIT):
                await handlers.entered.acquire()
            for stream in streams[:LIMIT]:
                await end(peer, stream, ending)
            for stream in streams[LIMIT:]:
                await peer.send(head(stream, ending, b"1m"))
                if ending != "deadline":
                    await peer.pong()
                await end(peer, stream, ending)
            assert (handlers.begun, handlers.running, handlers.most) == (LIMIT, LIMIT, LIMIT)
            handlers.released.set()
            await handlers.idle.wait()
            # There is room again, on this connection, too.
            await peer.send(
                wire.headers(2 * CALLS + 1, wire.request_head(echo.path("UnaryUnary").encode())),
                wire.data(2 * CALLS + 1, wire.message(b"x"), wire.END_STREAM),
            )
            assert (await peer.until(wire.DATA)).payload == wire.message(b"x")


async def test_a_call_waits_for_a_handler_that_cleans_up() -> None:
    handlers = Handlers()
    async with echo.serving(
        aio.server(options=[("grpc.max_concurrent_streams", 1)]),
        channel_options=[("oxgrpc.max_connections_per_address", 1)],
        StreamUnary=handlers.handle,
    ) as service:
        call = service.stream_unary()
        await handlers.entered.acquire()
        call.cancel()
        waiting = service.unary_unary(b"x")
        done, _ = await asyncio.wait({asyncio.ensure_future(waiting.code())}, timeout=0.05)
        assert not done
        assert handlers.running == 1
        handlers.released.set()
        assert await waiting == b"x"
