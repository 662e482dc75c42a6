"""How long a server keeps a connection, how often its clients may ask whether it lives, and how it asks itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

#: Longer than any test takes, as milliseconds.
NEVER_MS = 2**31 - 1


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[echo.Service]:
    """A server with `grpc.…` options, whose dots are double underscores here."""
    pairs = [(f"grpc.{name.replace('__', '.')}", value) for name, value in options.items()]
    async with echo.serving(aio.server(options=pairs)) as service:
        yield service


async def farewell(peer: wire.Peer) -> list[wire.Frame]:
    """Answers the PING of a graceful end, and takes all that comes."""
    first = await peer.until(wire.GOAWAY)
    asked = await peer.until(wire.PING)
    await peer.send(wire.frame(wire.PING, wire.ACK, 0, asked.payload))
    return [first, *[frame for frame in await peer.rest() if frame.kind == wire.GOAWAY]]


async def test_a_connection_without_calls_is_let_go() -> None:
    async with serving(max_connection_idle_ms=30) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            announced, final = await farewell(peer)
            assert (announced.code, final.code) == (wire.NO_ERROR, wire.NO_ERROR)
            assert announced.payload[:4] == b"\x7f\xff\xff\xff"


async def test_a_connection_with_a_call_is_not_idle() -> None:
    async with serving(max_connection_idle_ms=30) as service:
        call = service.stream_stream()
        for _ in range(10):
            await call.write(b"x")
            assert await call.read() == b"x"
            # No event says that a time has passed in which nothing happened.
            await asyncio.sleep(0.01)
        await call.done_writing()
        assert await call.read() is aio.EOF
        await service.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        # The channel takes another connection for the next call.
        assert await service.unary_unary(b"x") == b"x"


async def test_no_call_is_lost_to_old_age() -> None:
    connections = set()

    async def handler(request: bytes, context: Any) -> bytes:
        connections.add(context.peer())
        return request

    server = aio.server(options=[("grpc.max_connection_age_ms", 20)])
    async with echo.serving(server, UnaryUnary=handler) as service:
        calls = 0
        while len(connections) < 4:
            assert await service.unary_unary(b"%d" % calls) == b"%d" % calls
            calls += 1


async def test_calls_of_an_old_connection_are_ended_after_the_grace() -> None:
    async with serving(max_connection_age_ms=20, max_connection_age_grace_ms=20) as service:
        call = service.stream_stream()
        await call.write(b"x")
        assert await call.read() == b"x"
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_of_an_old_connection_go_on_without_a_limit_of_grace() -> None:
    async with serving(max_connection_age_ms=20) as service:
        call = service.stream_stream()
        await call.write(b"x")
        assert await call.read() == b"x"
        await service.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        await call.write(b"still there")
        assert await call.read() == b"still there"
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_does_not_begin_is_not_waited_for() -> None:
    async with serving(server_handshake_timeout_ms=30) as service:
        with await wire.Peer.connect(service.port) as peer:
            frames = await peer.rest()
            assert {frame.kind for frame in frames} <= {wire.SETTINGS, wire.WINDOW_UPDATE}
        assert await service.unary_unary(b"x") == b"x"


async def test_too_many_pings_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            for _ in range(3):
                await peer.pong()
            await peer.send(wire.frame(wire.PING, 0, 0, b"are you?"))
            told = await peer.until(wire.GOAWAY)
            assert (told.code, told.debug) == (wire.ENHANCE_YOUR_CALM, "too_many_pings")
            assert await peer.rest() == []
    assert "too_many_pings" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"http2__max_ping_strikes": 0},
        {"http2__max_ping_strikes": 1000},
        {"http2__min_ping_interval_without_data_ms": 0, "keepalive_permit_without_calls": 1},
        {"http2__min_recv_ping_interval_without_data_ms": 0, "keepalive_permit_without_calls": 1},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_pings_may_be_allowed(options: dict[str, int]) -> None:
    async with serving(**options) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            for _ in range(50):
                await peer.pong()


async def test_pings_beside_responses_are_not_too_many() -> None:
    async with serving() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(echo.path("StreamStream").encode())))
            for _ in range(20):
                await peer.send(wire.data(1, wire.message(b"x")))
                await peer.until(wire.DATA, 1)
                await peer.pong()
                await peer.pong()


async def test_a_client_that_does_not_answer_is_lost() -> None:
    ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        except BaseException as error:
            ended.set_result(error)
            raise

    options = [("grpc.keepalive_time_ms", 20), ("grpc.keepalive_timeout_ms", 20)]
    async with echo.serving(aio.server(options=options), UnaryUnary=handler) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            head = wire.request_head(echo.path("UnaryUnary").encode())
            await peer.send(wire.headers(1, head), wire.data(1, wire.message(b""), wire.END_STREAM))
            await peer.until(wire.PING)
            assert isinstance(await ended, asyncio.CancelledError)
            assert await peer.rest() == []


async def test_a_client_that_answers_is_kept() -> None:
    async with serving(keepalive_time_ms=10, keepalive_timeout_ms=5000, keepalive_permit_without_calls=1) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            for _ in range(2):
                asked = await peer.until(wire.PING)
                assert not asked.flags & wire.ACK
                await peer.send(wire.frame(wire.PING, wire.ACK, 0, asked.payload))
            await peer.pong()


async def test_times_without_end() -> None:
    names = ("keepalive_time_ms", "max_connection_idle_ms", "max_connection_age_ms", "max_connection_age_grace_ms")
    async with serving(**dict.fromkeys(names, NEVER_MS)) as service:
        assert await service.unary_unary(b"x") == b"x"


async def test_a_limit_of_streams_is_announced() -> None:
    async with serving(max_concurrent_streams=7) as service:
        with await wire.Peer.connect(service.port) as peer:
            settings = await peer.receive()
            assert settings is not None
            assert wire.MAX_CONCURRENT_STREAMS.to_bytes(2, "big") + (7).to_bytes(4, "big") in settings.payload
            peer.socket.shutdown(socket.SHUT_WR)
            await peer.rest()
