"""round_robin: calls go to all addresses in turn, and nobody waits for one that is gone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

State = grpc.ChannelConnectivity

CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})

EAGER = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)]


async def serve(name: bytes, port: int = 0) -> tuple[aio.Server, int]:
    async def handler(request: bytes, context: Any) -> bytes:
        return name

    server = aio.server()
    echo.add_handlers(server, {"UnaryUnary": handler})
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@asynccontextmanager
async def three() -> AsyncIterator[tuple[list[aio.Server], list[int]]]:
    pairs = [await serve(b"%d" % number) for number in range(3)]
    servers = [server for server, _ in pairs]
    try:
        yield servers, [port for _, port in pairs]
    finally:
        await asyncio.gather(*(server.stop(None) for server in servers))


def channel_to(ports: list[int], *options: tuple[str, Any]) -> aio.Channel:
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    return aio.insecure_channel(target, options=[*EAGER, *(options or [("grpc.lb_policy_name", "round_robin")])])


async def all_called(channel: aio.Channel, names: set[bytes]) -> None:
    """Calls until each of these, and no other, has answered in turn."""
    method = channel.unary_unary(echo.path("UnaryUnary"))
    while {await method(b"") for _ in names} != names:
        await asyncio.sleep(0)


@pytest.mark.parametrize("option", [("grpc.lb_policy_name", "round_robin"), ("grpc.service_config", CONFIG)])
async def test_calls_go_to_all_in_turn(option: tuple[str, str]) -> None:
    async with three() as (_, ports), channel_to(ports, option) as channel:
        await all_called(channel, {b"0", b"1", b"2"})
        method = channel.unary_unary(echo.path("UnaryUnary"))
        counts = Counter([await method(b"") for _ in range(300)])
        assert set(counts.values()) == {100}


async def test_without_it_all_go_to_the_first() -> None:
    async with three() as (_, ports), channel_to(ports, ("grpc.lb_policy_name", "no_such_policy")) as channel:
        method = channel.unary_unary(echo.path("UnaryUnary"))
        assert {await method(b"") for _ in range(20)} == {b"0"}


async def test_a_server_that_stops_and_comes_back_costs_no_call() -> None:
    async with three() as (servers, ports), channel_to(ports) as channel:
        await all_called(channel, {b"0", b"1", b"2"})
        await servers[1].stop(5)
        await all_called(channel, {b"0", b"2"})
        assert channel.get_state() is State.READY
        servers[1], _ = await serve(b"1", ports[1])
        await all_called(channel, {b"0", b"1", b"2"})


async def test_it_fails_when_all_have_failed_and_recovers_by_itself() -> None:
    async with three() as (servers, ports), channel_to(ports) as channel:
        await all_called(channel, {b"0", b"1", b"2"})
        await asyncio.gather(*(server.stop(None) for server in servers))
        while channel.get_state() is not State.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(echo.path("UnaryUnary"))(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "connections to all backends failing" in (caught.value.details() or "")
        servers[0], _ = await serve(b"0", ports[0])
        # Nobody calls: it becomes ready on its own.
        while channel.get_state() is not State.READY:
            await channel.wait_for_state_change(channel.get_state())
        await all_called(channel, {b"0"})
