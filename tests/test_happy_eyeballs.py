"""pick_first: the first address that answers, and an address that says nothing holds nobody up (gRFC A61)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio
from wire import Peer

State = grpc.ChannelConnectivity

#: Longer than a test may take: who waits for an attempt's end fails.
PATIENT = ("grpc.min_reconnect_backoff_ms", 120_000)

QUICK = ("grpc.happy_eyeballs_connection_attempt_delay_ms", 100)


@contextmanager
def black_hole() -> Iterator[str]:
    """An address where attempts to connect are not answered: the line of a listener that accepts nobody is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(client := socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            for client in waiting:
                client.close()


async def test_an_address_that_does_not_answer_holds_nobody_up() -> None:
    with black_hole() as first:
        async with echo.serving() as service:
            target = f"ipv4:{first},{service.target}"
            async with aio.insecure_channel(target, options=[PATIENT, QUICK]) as channel:
                assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"


async def test_a_server_that_accepts_and_says_nothing_holds_nobody_up() -> None:
    """What counts as connected is its SETTINGS; and who comes second is let go."""

    async def silent(peer: Peer) -> None:
        await peer.rest()
        gone.set()

    gone = asyncio.Event()
    async with wire.peer_server(silent) as port, echo.serving() as service:
        target = f"ipv4:127.0.0.1:{port},{service.target}"
        async with aio.insecure_channel(target, options=[PATIENT, QUICK]) as channel:
            assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"
            await gone.wait()


async def test_a_connection_that_breaks_before_it_stands_makes_way_for_the_next_address() -> None:
    async def close(peer: Peer) -> None:
        pass

    async with wire.peer_server(close) as port, echo.serving() as service:
        target = f"ipv4:127.0.0.1:{port},{service.target}"
        async with aio.insecure_channel(target, options=[PATIENT]) as channel:
            assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"
