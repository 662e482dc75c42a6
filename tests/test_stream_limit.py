"""A server's limit of concurrent streams: calls wait in line, and further connections are made (gRFC A105)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio
from wire import Peer


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_more_calls_than_a_connection_takes_go_to_further_ones(policy: str) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    full, release = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        peer = context.peer()
        running[peer] += 1
        most[peer] = max(most[peer], running[peer])
        if running.total() == 30:
            full.set()
        await release.wait()
        running[peer] -= 1
        return request

    server = aio.server(options=[("grpc.max_concurrent_streams", 3)])
    options = [("grpc.lb_policy_name", policy)]
    async with echo.serving(server, channel_options=options, UnaryUnary=handler) as service:
        requests = [b"%d" % number for number in range(50)]
        calls = [service.unary_unary(request) for request in requests]
        await full.wait()
        # Ten connections with three calls each, and the others wait in line.
        assert (len(most), set(running.values())) == (10, {3})
        release.set()
        assert await asyncio.gather(*calls) == requests
        assert set(most.values()) <= {1, 2, 3}


async def test_a_limit_of_one_connection_can_be_asked_for() -> None:
    peers: set[str] = set()

    async def handler(request: bytes, context: Any) -> bytes:
        peers.add(context.peer())
        await asyncio.sleep(0)
        return request

    server = aio.server(options=[("grpc.max_concurrent_streams", 3)])
    options = [("oxgrpc.max_connections_per_address", 1)]
    async with echo.serving(server, channel_options=options, UnaryUnary=handler) as service:
        requests = [b"%d" % number for number in range(50)]
        assert await asyncio.gather(*map(service.unary_unary, requests)) == requests
    assert len(peers) == 1


async def test_a_further_connection_that_fails_does_no_harm() -> None:
    """The server lets nobody else in: the calls wait in line."""

    async def script(peer: Peer) -> None:
        if connected:
            return
        connected.append(peer)
        await peer.send(wire.settings((wire.HEADER_TABLE_SIZE, 0), (wire.MAX_CONCURRENT_STREAMS, 1)))
        while True:
            stream = (await peer.until(wire.HEADERS)).stream
            await asyncio.sleep(0.01)
            answer = wire.headers(stream, wire.RESPONSE_HEAD) + wire.data(stream, wire.message(b"ok"))
            trailers = wire.headers(stream, [(b"grpc-status", b"0")], wire.END_HEADERS | wire.END_STREAM)
            await peer.send(answer, trailers)

    connected: list[Peer] = []
    async with wire.peer_server(script) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary("/a/b")
        assert await asyncio.gather(*(method(b"") for _ in range(5))) == 5 * [b"ok"]
        assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_a_limit_that_is_raised_lets_waiting_calls_go() -> None:
    async def script(peer: Peer) -> None:
        if connected:
            await peer.rest()
        connected.append(peer)
        await peer.send(wire.settings((wire.HEADER_TABLE_SIZE, 0), (wire.MAX_CONCURRENT_STREAMS, 0)))
        await raised.wait()
        await peer.send(wire.settings((wire.MAX_CONCURRENT_STREAMS, 10)))
        stream = (await peer.until(wire.HEADERS)).stream
        await peer.send(wire.headers(stream, [*wire.RESPONSE_HEAD, (b"grpc-status", b"5")], 5))
        await peer.rest()

    connected: list[Peer] = []
    raised = asyncio.Event()
    async with wire.peer_server(script) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        call = channel.unary_unary("/a/b")(b"")
        await asyncio.sleep(0.01)
        assert not call.done()
        raised.set()
        assert await call.code() is grpc.StatusCode.NOT_FOUND
