"""A channel that nobody uses for long gives up its connections (`grpc.client_idle_timeout_ms`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import echo
import oxgrpc as grpc

State = grpc.ChannelConnectivity


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_a_channel_without_calls_goes_idle_and_connects_again(policy: str) -> None:
    options = [("grpc.client_idle_timeout_ms", 1000), ("grpc.lb_policy_name", policy)]
    async with echo.serving(channel_options=options) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert service.channel.get_state() is State.READY
        await service.channel.wait_for_state_change(State.READY)
        assert service.channel.get_state() is State.IDLE
        assert await service.unary_unary(b"y") == b"y"


async def test_a_call_under_way_keeps_the_channel_from_being_idle() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    release = asyncio.Event()
    async with echo.serving(channel_options=[("grpc.client_idle_timeout_ms", 1000)], UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        await service.channel.channel_ready()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(service.channel.wait_for_state_change(State.READY), 1.8)
        release.set()
        assert await call == b"x"
