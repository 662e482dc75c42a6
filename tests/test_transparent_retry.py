"""Transparent retries: a call that the server's program has certainly not seen is made again, whatever the config."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import oxgrpc as grpc
import wire
from oxgrpc import aio

Code = grpc.StatusCode
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
REQUESTS = [b"first", b"second", b"third"]
END = wire.END_HEADERS | wire.END_STREAM
OPTIONS = {"as_it_is": [], "retries_switched_off": [("grpc.enable_retries", 0)]}


class Server:
    """A server that plays one script to each connection in its turn, and what the requests were."""

    def __init__(self, *scripts: Callable[[Server, wire.Peer], Awaitable[None]]) -> None:
        self.scripts = iter(scripts)
        self.requests: list[tuple[int, bytes]] = []

    async def script(self, peer: wire.Peer) -> None:
        await peer.send(wire.settings((wire.HEADER_TABLE_SIZE, 0)))
        await next(self.scripts)(self, peer)
        await peer.rest()

    async def request(self, peer: wire.Peer) -> int:
        """The next request, all of it. Gives its stream."""
        head = await peer.until(wire.HEADERS)
        assert b"grpc-previous-rpc-attempts" not in head.fields
        content = b""
        while not (frame := await peer.until(wire.DATA, head.stream)).ends_stream:
            content += frame.payload
        self.requests.append((head.stream, content + frame.payload))
        return head.stream


async def answer(peer: wire.Peer, stream: int) -> None:
    await peer.send(
        wire.headers(stream, wire.RESPONSE_HEAD),
        wire.data(stream, wire.message(b"response")),
        wire.headers(stream, [(b"grpc-status", b"0")], END),
    )


@asynccontextmanager
async def channel_to(server: Server, *options: tuple[str, Any]) -> AsyncIterator[aio.Channel]:
    async with (
        wire.peer_server(server.script) as port,
        aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        yield channel


def start(channel: aio.Channel, kind: str) -> Any:
    method = getattr(channel, kind)("/test/Method")
    return method(REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS))


async def responses(kind: str, call: Any) -> list[bytes]:
    return [await call] if kind.endswith("unary") else [response async for response in call]


def sent(kind: str) -> bytes:
    return b"".join(map(wire.message, REQUESTS[:1] if kind.startswith("unary") else REQUESTS))


async def refuse_then_answer(server: Server, peer: wire.Peer) -> None:
    await peer.send(wire.reset(await server.request(peer), wire.REFUSED_STREAM))
    await answer(peer, await server.request(peer))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_is_refused_is_made_again(kind: str, options: list[tuple[str, Any]]) -> None:
    server = Server(refuse_then_answer)
    done: asyncio.Queue[Any] = asyncio.Queue()
    async with channel_to(server, *options) as channel:
        call = start(channel, kind)
        call.add_done_callback(done.put_nowait)
        assert await responses(kind, call) == [b"response"]
        assert await call.code() is Code.OK
        assert await done.get() is call
    assert server.requests == [(1, sent(kind)), (3, sent(kind))]


async def test_a_large_request_is_sent_again() -> None:
    async def refuse(server: Server, peer: wire.Peer) -> None:
        await peer.send(wire.window_update(0, 100_000))
        await refuse_then_answer(server, peer)

    request = bytes(60_000)
    server = Server(refuse)
    async with channel_to(server, ("grpc.per_rpc_retry_buffer_size", 10)) as channel:
        assert await channel.unary_unary("/test/Method")(request) == b"response"
    assert server.requests == [(1, wire.message(request)), (3, wire.message(request))]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_is_refused_twice_has_failed(kind: str) -> None:
    async def refuse(server: Server, peer: wire.Peer) -> None:
        for _ in range(2):
            await peer.send(wire.reset(await server.request(peer), wire.REFUSED_STREAM))

    server = Server(refuse)
    async with channel_to(server) as channel:
        assert await start(channel, kind).code() is Code.UNAVAILABLE
    assert server.requests == [(1, sent(kind)), (3, sent(kind))]


async def test_a_policy_goes_on_where_transparent_retries_end() -> None:
    async def refuse(server: Server, peer: wire.Peer) -> None:
        for _ in range(2):
            await peer.send(wire.reset(await server.request(peer), wire.REFUSED_STREAM))
        head = await peer.until(wire.HEADERS)
        # The second refusal is the first attempt that counts.
        assert head.fields[b"grpc-previous-rpc-attempts"] == b"1"
        await answer(peer, head.stream)

    policy = {
        "maxAttempts": 2,
        "initialBackoff": "0.001s",
        "maxBackoff": "1s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with channel_to(Server(refuse), ("grpc.service_config", config)) as channel:
        assert await channel.unary_unary("/test/Method")(b"") == b"response"


async def test_a_call_that_is_answered_is_not_made_again() -> None:
    async def refuse(server: Server, peer: wire.Peer) -> None:
        stream = await server.request(peer)
        await peer.send(wire.headers(stream, wire.RESPONSE_HEAD), wire.reset(stream, wire.REFUSED_STREAM))

    server = Server(refuse)
    async with channel_to(server) as channel:
        assert await channel.unary_unary("/test/Method")(b"").code() is Code.UNAVAILABLE
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [wire.CANCEL, wire.INTERNAL_ERROR, wire.ENHANCE_YOUR_CALM])
async def test_a_call_that_the_server_may_have_seen_is_not_made_again(code: int) -> None:
    async def reset(server: Server, peer: wire.Peer) -> None:
        await peer.send(wire.reset(await server.request(peer), code))

    server = Server(reset)
    async with channel_to(server) as channel:
        assert await channel.unary_unary("/test/Method")(b"").code() is not Code.OK
    assert len(server.requests) == 1


async def go_away(server: Server, peer: wire.Peer) -> None:
    await server.request(peer)
    await peer.send(wire.goaway(0, wire.NO_ERROR))


async def serve(server: Server, peer: wire.Peer) -> None:
    await answer(peer, await server.request(peer))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_above_a_goaway_is_made_on_the_next_connection(kind: str, options: list[tuple[str, Any]]) -> None:
    server = Server(go_away, serve)
    async with channel_to(server, *options) as channel:
        call = start(channel, kind)
        assert await responses(kind, call) == [b"response"]
        assert await call.code() is Code.OK
    assert server.requests == [(1, sent(kind)), (1, sent(kind))]


async def test_a_goaway_in_the_middle_parts_the_calls() -> None:
    async def part(server: Server, peer: wire.Peer) -> None:
        streams = [await server.request(peer) for _ in range(4)]
        await peer.send(wire.goaway(streams[1], wire.NO_ERROR))
        for stream in streams[:2]:
            await answer(peer, stream)

    async def serve_two(server: Server, peer: wire.Peer) -> None:
        for _ in range(2):
            await serve(server, peer)

    server = Server(part, serve_two)
    async with channel_to(server) as channel:
        method = channel.unary_unary("/test/Method")
        await channel.channel_ready()
        calls = [method(b"%d" % number) for number in range(4)]
        assert await asyncio.gather(*calls) == [b"response"] * 4
    requests = [content for _, content in server.requests]
    assert requests == [wire.message(b"%d" % number) for number in (0, 1, 2, 3, 2, 3)]


async def test_a_call_that_is_being_written_goes_on_above_a_goaway() -> None:
    again = asyncio.Event()

    async def leave(server: Server, peer: wire.Peer) -> None:
        head = await peer.until(wire.HEADERS)
        await peer.until(wire.DATA, head.stream)
        await peer.send(wire.goaway(0, wire.NO_ERROR))

    async def read(server: Server, peer: wire.Peer) -> None:
        head = await peer.until(wire.HEADERS)
        await peer.until(wire.DATA, head.stream)
        again.set()
        content = b""
        while not (frame := await peer.until(wire.DATA, head.stream)).ends_stream:
            content += frame.payload
        assert content == wire.message(b"second")
        await answer(peer, head.stream)

    async with channel_to(Server(leave, read)) as channel:
        call = channel.stream_stream("/test/Method")()
        await call.write(b"first")
        await again.wait()
        await call.write(b"second")
        await call.done_writing()
        assert await call.read() == b"response"
        assert await call.read() is aio.EOF


async def test_a_call_that_never_left_is_made_on_the_next_connection() -> None:
    crowded = asyncio.Event()

    async def crash(server: Server, peer: wire.Peer) -> None:
        # The windows are wide, but nobody reads: the kernel's buffers fill, and what comes then stays with the client.
        await peer.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 2**31 - 1)), wire.window_update(0, 2**30))
        head = await peer.until(wire.HEADERS)
        await peer.send(wire.headers(head.stream, wire.RESPONSE_HEAD))
        await crowded.wait()
        peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: the kernel resets the connection
        peer.socket.close()
        raise ConnectionResetError

    server = Server(crash, serve)
    async with channel_to(server) as channel:
        stream = channel.stream_stream("/test/Method")()
        await stream.initial_metadata()
        writing = asyncio.create_task(stream.write(bytes(32 << 20)))
        await asyncio.sleep(0)
        call = channel.unary_unary("/test/Method")(b"never left")
        # A turn of the loop, in which as much is written as the kernel takes.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        crowded.set()
        assert await call == b"response"
        with pytest.raises(aio.AioRpcError):
            await writing
        assert await stream.code() is Code.UNAVAILABLE
    assert server.requests == [(1, wire.message(b"never left"))]


async def test_the_deadline_counts_on_the_next_connection_too() -> None:
    async def wait(server: Server, peer: wire.Peer) -> None:
        head = await peer.until(wire.HEADERS)
        assert b"grpc-timeout" in head.fields

    async with channel_to(Server(go_away, wait)) as channel:
        call = channel.unary_unary("/test/Method")(b"", timeout=0.3)
        assert await call.code() is Code.DEADLINE_EXCEEDED
