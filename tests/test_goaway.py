"""A server that goes away: calls that it has taken go on, others find another connection (RFC 9113 §6.8)."""

from __future__ import annotations

import asyncio
from typing import Any

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio
from wire import Peer

State = grpc.ChannelConnectivity


async def answer(peer: Peer, stream: int, content: bytes) -> None:
    trailers = wire.headers(stream, [(b"grpc-status", b"0")], wire.END_HEADERS | wire.END_STREAM)
    await peer.send(wire.headers(stream, wire.RESPONSE_HEAD) + wire.data(stream, wire.message(content)), trailers)


async def test_calls_under_way_go_on_and_new_ones_go_elsewhere() -> None:
    async def script(peer: Peer) -> None:
        connections.append(peer)
        await peer.send(wire.settings((wire.HEADER_TABLE_SIZE, 0)))
        stream = (await peer.until(wire.HEADERS)).stream
        if len(connections) == 1:
            await peer.send(wire.goaway(stream, wire.NO_ERROR))
            await release.wait()
        await answer(peer, stream, b"%d" % len(connections))
        await peer.rest()

    connections: list[Peer] = []
    release = asyncio.Event()
    async with wire.peer_server(script) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary("/a/b")
        first = method(b"")
        await channel.channel_ready()
        while channel.get_state() is State.READY:
            await channel.wait_for_state_change(State.READY)
        # As grpcio's: idle until it is wanted again.
        assert channel.get_state() is State.IDLE
        assert await method(b"") == b"2"
        assert not first.done()
        release.set()
        assert await first == b"2"


async def test_a_graceful_stop_under_load_costs_no_call() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.001)
        return request

    async def load() -> int:
        count = 0
        while not stop.is_set():
            assert await method(b"x", wait_for_ready=True) == b"x"
            count += 1
        return count

    stop = asyncio.Event()
    eager = [("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 20)]
    async with (
        echo.serving(UnaryUnary=handler) as service,
        aio.insecure_channel(service.target, options=eager) as channel,
    ):
        method = channel.unary_unary(echo.path("UnaryUnary"))
        tasks = [asyncio.create_task(load()) for _ in range(10)]
        await asyncio.sleep(0.05)
        await service.server.stop(5)
        again = aio.server()
        echo.add_handlers(again, {"UnaryUnary": handler})
        again.add_insecure_port(service.target)
        await again.start()
        await asyncio.sleep(0.1)
        stop.set()
        assert all(count > 1 for count in await asyncio.gather(*tasks))
        await again.stop(None)
