"""Name resolution: at a name server that the target names, and again when connections are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import dns
import echo
import oxgrpc as grpc
from oxgrpc import aio

State = grpc.ChannelConnectivity

#: Looks names up again at once, and reconnects at once.
EAGER = [
    ("grpc.dns_min_time_between_resolutions_ms", 50),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
]


class Backends:
    """Servers on addresses of their own, 127.0.1.n, on one port."""

    def __init__(self) -> None:
        self.port = 0
        self.servers: dict[str, aio.Server] = {}

    async def start(self, address: str) -> None:
        async def name(request: bytes, context: Any) -> bytes:
            await asyncio.sleep(0)
            return address.encode()

        server = aio.server(options=[("grpc.so_reuseport", 0)])
        echo.add_handlers(server, {"UnaryUnary": name})
        self.port = server.add_insecure_port(f"{address}:{self.port}")
        await server.start()
        self.servers[address] = server

    async def restart(self, address: str) -> None:
        await self.stop(address, 5)
        await self.start(address)

    async def stop(self, address: str, grace: float | None = None) -> None:
        await self.servers.pop(address).stop(grace)


@asynccontextmanager
async def backends(*addresses: str) -> AsyncIterator[Backends]:
    running = Backends()
    try:
        for address in addresses:
            await running.start(address)
        yield running
    finally:
        await asyncio.gather(*(running.stop(address) for address in list(running.servers)))


def channel_to(server: dns.NameServer, port: int, *options: tuple[str, Any]) -> aio.Channel:
    target = f"dns://{server.authority}/{server.name}:{port}"
    return aio.insecure_channel(target, options=[*EAGER, *options])


def method(channel: aio.Channel) -> Any:
    return channel.unary_unary(echo.path("UnaryUnary"))


@pytest.mark.parametrize("truncates", [False, True], ids=["datagrams", "tcp"])
async def test_the_name_server_of_the_target_is_asked(truncates: bool) -> None:
    async with backends("127.0.1.1") as running, dns.name_server("service.test", ["127.0.1.1"]) as server:
        server.truncates = truncates
        async with channel_to(server, running.port) as channel:
            assert await method(channel)(b"") == b"127.0.1.1"
        expected = {(dns.A, False), (dns.AAAA, False)}
        assert set(server.asked) == expected | ({(dns.A, True), (dns.AAAA, True)} if truncates else set())


async def test_a_datagram_that_is_lost_is_sent_again() -> None:
    async with backends("127.0.1.1") as running, dns.name_server("service.test", ["127.0.1.1"]) as server:
        server.ignored = 2
        async with channel_to(server, running.port) as channel:
            assert await method(channel)(b"", timeout=20) == b"127.0.1.1"


@pytest.mark.parametrize(
    ("code", "words"), [(dns.NAME_ERROR, "no such name"), (dns.SERVER_FAILURE, "has failed"), (0, "no address")]
)
async def test_a_name_without_addresses_is_unavailable(code: int, words: str) -> None:
    async with dns.name_server("service.test", []) as server:
        server.code = code
        async with channel_to(server, 1) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await method(channel)(b"")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            details = caught.value.details() or ""
            assert "service.test" in details
            assert words in details


async def test_a_name_that_comes_to_be_is_found() -> None:
    async with (
        backends("127.0.1.1") as running,
        dns.name_server("service.test", []) as server,
        channel_to(server, running.port) as channel,
    ):
        call = method(channel)(b"", wait_for_ready=True)
        while channel.get_state() is not State.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        server.addresses = ["127.0.1.1"]
        assert await call == b"127.0.1.1"


async def test_a_channel_is_closed_while_it_looks_its_name_up() -> None:
    async with dns.name_server("service.test", []) as server:
        server.ignored = 1000
        channel = channel_to(server, 1)
        call = method(channel)(b"")
        await asyncio.sleep(0.01)
        await channel.close()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
@pytest.mark.parametrize("end", ["shutdown", "loss"])
async def test_a_server_that_moves_is_found(policy: str, end: str) -> None:
    async with (
        backends("127.0.1.1", "127.0.1.2") as running,
        dns.name_server("service.test", ["127.0.1.1"]) as server,
        channel_to(server, running.port, ("grpc.lb_policy_name", policy)) as channel,
    ):
        assert await method(channel)(b"") == b"127.0.1.1"
        server.addresses = ["127.0.1.2"]
        await running.stop("127.0.1.1", 5 if end == "shutdown" else None)
        with contextlib.suppress(aio.AioRpcError):
            # What finds the channel before it knows of the new address may fail.
            await method(channel)(b"")
        assert await method(channel)(b"", wait_for_ready=True) == b"127.0.1.2"


async def test_names_are_not_looked_up_more_often_than_is_said() -> None:
    async with dns.name_server("service.test", ["127.0.1.1"]) as server:
        interval = ("grpc.dns_min_time_between_resolutions_ms", 60_000)
        async with channel_to(server, 1, interval) as channel:
            for _ in range(5):
                with pytest.raises(aio.AioRpcError):
                    await method(channel)(b"")
                await asyncio.sleep(0.05)
        assert Counter(server.asked) == {(dns.A, False): 1, (dns.AAAA, False): 1}


async def test_backends_come_and_go_under_load() -> None:
    """3, then 5, then 2 backends: no call fails, and each backend gets its share."""
    three, five, two = [[f"127.0.1.{n}" for n in numbers] for numbers in ((1, 2, 3), (1, 2, 3, 4, 5), (2, 4))]
    async with (
        backends(*five) as running,
        dns.name_server("service.test", three) as server,
        channel_to(server, running.port, ("grpc.lb_policy_name", "round_robin")) as channel,
    ):
        stop = asyncio.Event()
        counts: Counter[bytes] = Counter()
        call = method(channel)

        async def load() -> None:
            while not stop.is_set():
                counts[await call(b"")] += 1

        async def spread_over(addresses: list[str]) -> None:
            """Waits until exactly these are called, and looks at their shares."""
            expected = {address.encode() for address in addresses}
            while True:
                counts.clear()
                while counts.total() < 2000:
                    await asyncio.sleep(0.01)
                shares = [counts[address] / counts.total() * len(expected) for address in expected]
                if set(counts) == expected and all(0.85 < share < 1.15 for share in shares):
                    return

        tasks = [asyncio.create_task(load()) for _ in range(20)]
        try:
            await spread_over(three)
            # A server that sends its clients away makes them look the name up again.
            server.addresses = five
            await running.restart("127.0.1.1")
            await spread_over(five)
            server.addresses = two
            for address in ("127.0.1.1", "127.0.1.3", "127.0.1.5"):
                await running.stop(address, 5)
            await spread_over(two)
        finally:
            stop.set()
            # A call that has failed is raised here.
            await asyncio.gather(*tasks)
