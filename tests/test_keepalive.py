"""Keepalive: a server that is gone without a word is found out, one that complains is pinged less."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio
from wire import Frame, Peer

State = grpc.ChannelConnectivity


def channel_to(port: int, **options: int) -> aio.Channel:
    return aio.insecure_channel(f"127.0.0.1:{port}", options=[(f"grpc.{key}", value) for key, value in options.items()])


async def next_ping(peer: Peer) -> Frame:
    while True:
        ping = await peer.until(wire.PING)
        if not ping.flags & wire.ACK:
            return ping


async def test_a_server_that_falls_silent_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(wire.settings())
        await next_ping(peer)
        pinged.set()
        await peer.rest()

    pinged = asyncio.Event()
    async with (
        wire.peer_server(script) as port,
        channel_to(port, keepalive_time_ms=50, keepalive_timeout_ms=50) as channel,
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/a/b")(b"")
        assert pinged.is_set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "ping timeout" in (caught.value.details() or "")
        assert channel.get_state() is State.IDLE


async def test_a_server_that_answers_is_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(wire.settings((wire.HEADER_TABLE_SIZE, 0)))
        request = await peer.until(wire.HEADERS)
        ping = await next_ping(peer)
        await peer.send(wire.frame(wire.PING, wire.ACK, 0, ping.payload))
        # The second comes a second after the first: the timeout has passed, and the connection stands.
        await next_ping(peer)
        answer = wire.headers(request.stream, wire.RESPONSE_HEAD) + wire.data(request.stream, wire.message(b"late"))
        trailers = wire.headers(request.stream, [(b"grpc-status", b"0")], wire.END_HEADERS | wire.END_STREAM)
        await peer.send(answer, trailers)
        await peer.rest()

    async with (
        wire.peer_server(script) as port,
        channel_to(port, keepalive_time_ms=50, keepalive_timeout_ms=300) as channel,
    ):
        assert await channel.unary_unary("/a/b")(b"") == b"late"


@pytest.mark.parametrize("permitted", [False, True])
async def test_a_channel_without_calls_is_quiet_unless_it_may_ping(permitted: bool) -> None:
    frames: list[Frame] = []

    async def script(peer: Peer) -> None:
        await peer.send(wire.settings())
        await next_ping(peer)
        frames.append(Frame(wire.PING, 0, 0, b""))
        seen.set()

    seen = asyncio.Event()
    async with wire.peer_server(script) as port:
        options = {"keepalive_time_ms": 20, "keepalive_permit_without_calls": int(permitted)}
        async with channel_to(port, **options) as channel:
            await channel.channel_ready()
            if permitted:
                await seen.wait()
            else:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(seen.wait(), 0.3)
    assert bool(frames) is permitted


async def test_a_server_that_complains_is_pinged_half_as_often() -> None:
    """After `too_many_pings` the next connection waits twice as long (gRFC A8)."""
    waits: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.send(wire.settings())
        await peer.until(wire.HEADERS)
        begin = asyncio.get_running_loop().time()
        await next_ping(peer)
        waits.append(asyncio.get_running_loop().time() - begin)
        await peer.send(wire.goaway(0, wire.ENHANCE_YOUR_CALM, b"too_many_pings"))

    async with (
        wire.peer_server(script) as port,
        channel_to(port, keepalive_time_ms=100) as channel,
    ):
        # A call that is refused is made again, once.
        for _ in range(2):
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary("/a/b")(b"")
            assert "too_many_pings" in (caught.value.details() or "")
    # Never too early; how late is the machine's affair.
    assert all(wait >= least for wait, least in zip(waits, [0.09, 0.19, 0.39, 0.79], strict=True)), waits


async def test_a_loop_that_was_busy_does_not_lose_its_connection() -> None:
    """The answer has come while the program kept the loop from running."""

    async def handler(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    def block() -> None:
        import time

        time.sleep(0.5)

    release = asyncio.Event()
    options = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 100)]
    async with echo.serving(channel_options=options, UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        await call.wait_for_connection()
        for _ in range(3):
            await asyncio.sleep(0.06)
            block()
        release.set()
        assert await call == b"x"
