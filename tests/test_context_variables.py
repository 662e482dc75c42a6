"""Context variables: what a handler sets is its own, and what it sees is from when its server was started."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

import echo
import wire

#: More than a server holds for a client before it begins no further handlers.
MUCH = 16 << 20

OWNER = ContextVar("OWNER", default="nobody")

WIDE = wire.settings((wire.INITIAL_WINDOW_SIZE, 2**31 - 1)) + wire.window_update(0, 2**31 - 1 - 65535)


def call(stream: int, kind: str) -> bytes:
    head = wire.headers(stream, wire.request_head(echo.path(kind).encode()))
    return head + wire.data(stream, wire.message(b""), wire.END_STREAM)


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop)


@pytest.mark.parametrize("factory", [None, make_task], ids=["asyncio's tasks", "the program's tasks"])
async def test_a_handler_does_not_see_what_another_has_set(factory: Any) -> None:
    seen = []
    written = asyncio.Event()

    async def first(request: bytes, context: Any) -> None:
        OWNER.set("the first call")
        # The loop is asked about the connection here: what it calls later is called in the context of this handler.
        await context.write(bytes(MUCH))
        written.set()

    async def second(request: bytes, context: Any) -> bytes:
        seen.append(OWNER.get())
        OWNER.set("the second call")
        return request

    OWNER.set("the server")
    async with echo.serving(UnaryStream=first, UnaryUnary=second) as service:
        OWNER.set("the test")
        asyncio.get_running_loop().set_task_factory(factory)
        with await wire.Peer.connect(service.port, receive_buffer_bytes=4096) as peer:
            await peer.greet()
            await peer.pong()
            await peer.send(WIDE, call(1, "UnaryStream"))
            await peer.until(wire.HEADERS, 1)
            # These begin when the client has taken enough.
            await peer.send(*(call(stream, "UnaryUnary") for stream in (3, 5, 7)))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not seen
            assert not written.is_set()
            await peer.until(wire.HEADERS, 7)
        asyncio.get_running_loop().set_task_factory(None)
    assert seen == 3 * ["the server"]
