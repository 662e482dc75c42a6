"""The first step of a handler, which runs as soon as its call is there where asyncio can do that (Python 3.12).

Nothing that a handler does in it may differ from what it could do a turn of the loop later.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import echo
import wire


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
