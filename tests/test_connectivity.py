"""The states that a watcher sees, on oxgrpc as on genuine grpcio (measured with 1.85.1)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

State = grpc.ChannelConnectivity

EAGER = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]


@asynccontextmanager
async def watched(channel: aio.Channel) -> AsyncIterator[list[State]]:
    """The states that the channel goes through."""

    async def watch() -> None:
        while True:
            await channel.wait_for_state_change(states[-1])
            states.append(channel.get_state())

    states = [channel.get_state()]
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield states
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def reaches(channel: aio.Channel, state: State) -> None:
    while (current := channel.get_state()) is not state:
        await channel.wait_for_state_change(current)


async def serve(target: str) -> aio.Server:
    server = aio.server()
    echo.add_handlers(server, echo.DEFAULTS)
    server.add_insecure_port(target)
    await server.start()
    return server


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_a_failing_channel_stays_failing_until_it_is_connected(policy: str) -> None:
    """It tries again by itself; no call is needed for it (gRFC A62)."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        channel = aio.insecure_channel(target, options=[*EAGER, ("grpc.lb_policy_name", policy)])
        async with watched(channel) as states:
            channel.get_state(try_to_connect=True)
            await reaches(channel, State.TRANSIENT_FAILURE)
            # Several attempts later it is no other.
            await asyncio.sleep(0.35)
            assert states[-1] is State.TRANSIENT_FAILURE
            nobody.close()
            server = await serve(target)
            await reaches(channel, State.READY)
            await asyncio.sleep(0)
            assert states in (
                [State.IDLE, State.CONNECTING, State.TRANSIENT_FAILURE, State.READY],
                [State.IDLE, State.TRANSIENT_FAILURE, State.READY],
            )
        await channel.close()
        await server.stop(None)


async def test_a_channel_whose_server_stops_is_idle() -> None:
    async with echo.serving() as service, watched(service.channel) as states:
        assert await service.unary_unary(b"x") == b"x"
        await service.server.stop(None)
        await reaches(service.channel, State.IDLE)
        # It does not connect until it is wanted.
        await asyncio.sleep(0.05)
        assert states[-2:] == [State.READY, State.IDLE]


async def test_each_loop_has_its_own_state() -> None:
    async with echo.serving() as service:
        await service.channel.channel_ready()

        async def elsewhere() -> State:
            return service.channel.get_state()

        assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) is State.IDLE
        assert service.channel.get_state() is State.READY
