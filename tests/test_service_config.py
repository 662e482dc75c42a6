"""The service config: what it says holds for the methods it names; one that is wrong is refused with its mistakes."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

Code = grpc.StatusCode
SERVICE = {"service": echo.SERVICE}


def options(*methods: dict[str, Any], **more: Any) -> list[tuple[str, Any]]:
    return [("grpc.service_config", json.dumps({"methodConfig": methods, **more}))]


async def wait(request: Any, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{", "JSON parsing failed"),
        ("[]", "field: error:is not an object"),
        ('{"methodConfig": [{"timeout": "1"}]}', "field:methodConfig[0].timeout error:Not a duration (no s suffix)"),
        ('{"loadBalancingPolicy": "magic"}', 'field:loadBalancingPolicy error:unknown LB policy "magic"'),
    ],
)
async def test_a_config_that_is_wrong_is_refused(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=r"grpc\.service_config") as refused:
        aio.insecure_channel("localhost:1", options=[("grpc.service_config", text)])
    assert mistake in str(refused.value)


async def test_a_config_is_a_text() -> None:
    async with echo.serving(channel_options=[("grpc.service_config", b"{}")]) as service:
        assert await service.unary_unary(b"x") == b"x"
    with pytest.raises(TypeError, match=r"grpc\.service_config takes a str, not {}"):
        aio.insecure_channel("localhost:1", options=[("grpc.service_config", {})])


async def test_a_method_has_its_own_timeout_its_services_or_that_of_all() -> None:
    config = options(
        {"name": [{**SERVICE, "method": "UnaryUnary"}], "timeout": "0.05s"},
        {"name": [SERVICE], "timeout": "100s"},
        {"name": [{}], "timeout": "200s"},
    )
    async with echo.serving(channel_options=config, UnaryUnary=wait) as service:
        with pytest.raises(aio.AioRpcError) as ended:
            await service.unary_unary(b"")
        assert ended.value.code() is Code.DEADLINE_EXCEEDED
        for call, seconds in (
            (service.unary_stream(b"1"), 100),
            (service.channel.unary_unary("/other.Service/Method")(b""), 200),
        ):
            remaining = call.time_remaining()
            assert remaining is not None
            assert seconds - 50 < remaining <= seconds
            call.cancel()


@pytest.mark.parametrize(("own", "seconds"), [(None, 100), (50, 50), (150, 100)])
async def test_the_shorter_of_two_timeouts_counts(own: float | None, seconds: float) -> None:
    config = options({"name": [{}], "timeout": "100s"})
    async with echo.serving(channel_options=config) as service:
        call = service.unary_unary(b"x", timeout=own)
        remaining = call.time_remaining()
        assert remaining is not None
        assert seconds - 40 < remaining <= seconds
        assert await call == b"x"


async def test_the_smaller_of_two_limits_counts() -> None:
    config = options(
        {"name": [{**SERVICE, "method": "UnaryUnary"}], "maxRequestMessageBytes": 10, "maxResponseMessageBytes": 100},
        {"name": [{**SERVICE, "method": "UnaryStream"}], "maxRequestMessageBytes": 10, "maxResponseMessageBytes": 2},
    )
    channel = [("grpc.max_send_message_length", 50), ("grpc.max_receive_message_length", 7)]
    async with echo.serving(channel_options=[*config, *channel]) as service:

        async def details(call: Any) -> str:
            assert await call.code() is Code.RESOURCE_EXHAUSTED
            return str(await call.details())

        assert await service.unary_unary(b"1234567") == b"1234567"
        assert "Sent message larger than max (11 vs. 10)" in await details(service.unary_unary(b"x" * 11))
        assert "Received message larger than max (8 vs. 7)" in await details(service.unary_unary(b"x" * 8))
        stream = service.unary_stream(b"101")
        assert [await stream.read() for _ in range(100)] == [b"%d" % number for number in range(100)]
        assert "Received message larger than max (3 vs. 2)" in await details(stream)
        # A method without an entry has the channel's limits.
        assert "Sent message larger than max (51 vs. 50)" in await details(service.stream_unary(iter([b"x" * 51])))


@pytest.mark.parametrize(
    ("configured", "said", "waits"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_a_method_waits_for_ready_unless_the_call_says_otherwise(
    configured: bool, said: bool | None, waits: bool
) -> None:
    config = options({"name": [{}], "waitForReady": configured})
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with aio.insecure_channel(target, options=config) as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"", wait_for_ready=said, timeout=0.2)
            expected = Code.DEADLINE_EXCEEDED if waits else Code.UNAVAILABLE
            assert await call.code() is expected


@pytest.mark.parametrize(
    "balancing", [{"loadBalancingPolicy": "round_robin"}, {"loadBalancingConfig": [{"magic": {}}, {"round_robin": {}}]}]
)
async def test_a_config_says_how_calls_are_spread(balancing: dict[str, Any]) -> None:
    served: set[str] = set()

    def serve(name: str) -> Any:
        async def handler(request: bytes, context: Any) -> bytes:
            served.add(name)
            return request

        return echo.serving(UnaryUnary=handler)

    # The service config stands above the channel option.
    first = ("grpc.lb_policy_name", "pick_first")
    async with serve("one") as one, serve("two") as two:
        target = f"ipv4:{one.target},{two.target}"
        async with aio.insecure_channel(target, options=[*options(**balancing), first]) as channel:
            method = channel.unary_unary(echo.path("UnaryUnary"))
            while served != {"one", "two"}:
                assert await method(b"x", wait_for_ready=True) == b"x"
