"""Every way in which a call can end, at every moment, for every kind: what both sides saw. ``endings.py STACK LOOP``.

Prints a line of JSON for each cell of the table: its name, and what was observed. STACK is oxgrpc or grpcio, and is at
both ends, except where a peer misbehaves: that one is played frame by frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))

import wire

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")

#: Where a call stands when it ends. An only response comes with the status: after it the call is over.
MOMENTS = ("before headers", "between messages", "after the last message")

ENDINGS = (
    "client cancels",
    "handler is cancelled",
    "deadline passes",
    "peer resets",
    "connection is lost",
    "server stops",
    "client's loop is closed",
)

SERVICE = "endings.Service"
DEADLINE_SECONDS = 1.0
#: After which nothing more is expected to happen.
PATIENCE_SECONDS = 3.0


class Handlers:
    """The server's side: goes to the moment, says so, and waits for what happens to it."""

    def __init__(self, grpc: Any, moment: str) -> None:
        self.grpc = grpc
        self.moment = moment
        self.there = asyncio.Event()
        self.over = asyncio.Event()
        self.task: Any = None
        self.context: Any = None
        self.saw = "nothing"

    def service(self) -> Any:
        grpc = self.grpc
        handlers = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def wait(self) -> None:
        self.there.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.saw = type(error).__name__
            raise
        finally:
            self.over.set()

    async def begin(self, requests: Any, context: Any) -> None:
        self.task, self.context = asyncio.current_task(), context
        if self.moment == "before headers":
            await self.wait()
        if not isinstance(requests, bytes):
            await context.read()
        if self.moment == "between messages":
            await context.send_initial_metadata((("x-begun", "yes"),))

    async def unary(self, requests: Any, context: Any) -> bytes:
        await self.begin(requests, context)
        if self.moment == "between messages":
            await self.wait()
        if not isinstance(requests, bytes):
            while await context.read() is not self.grpc.aio.EOF:
                pass
        self.saw = "returned"
        self.there.set()
        self.over.set()
        return b"response"

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        await self.begin(requests, context)
        yield b"first"
        if self.moment == "between messages":
            await self.wait()
        yield b"last"
        await self.wait()

    async def told(self) -> dict[str, Any]:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.over.wait(), PATIENCE_SECONDS)
        for _ in range(100):
            if self.context.done():
                break
            await asyncio.sleep(0.01)
        return {"saw": self.saw, "done": self.context.done(), "cancelled": self.context.cancelled()}


class Client:
    """The client's side of one call."""

    def __init__(self, grpc: Any, kind: str, moment: str) -> None:
        self.grpc = grpc
        self.kind = kind
        self.moment = moment
        self.call: Any = None

    def start(self, channel: Any, timeout: float | None = None) -> None:
        path = f"/{SERVICE}/{self.kind}"
        makers = {
            "UnaryUnary": channel.unary_unary,
            "UnaryStream": channel.unary_stream,
            "StreamUnary": channel.stream_unary,
            "StreamStream": channel.stream_stream,
        }
        method = makers[self.kind](path)
        self.call = method(b"request", timeout=timeout) if self.kind.startswith("Unary") else method(timeout=timeout)

    async def go_to_moment(self) -> None:
        """Takes part in the call up to its moment."""
        if self.kind.startswith("Stream"):
            await self.call.write(b"request")
        if self.moment == "after the last message" and self.kind == "StreamUnary":
            await self.call.done_writing()
        if self.moment == "before headers":
            return
        if self.kind.endswith("Stream"):
            await self.call.read()
            if self.moment == "after the last message":
                await self.call.read()
        elif self.moment == "after the last message":
            await self.call

    async def told(self) -> dict[str, Any]:
        call = self.call
        try:
            waiting = call.read() if self.kind.endswith("Stream") else call
            got = await asyncio.wait_for(asyncio.ensure_future(waited(waiting)), PATIENCE_SECONDS)
            raised = "EOF" if got is self.grpc.aio.EOF else "response"
        except asyncio.TimeoutError:
            return {"raised": "waits for ever"}
        except asyncio.CancelledError:
            raised = "CancelledError"
        except self.grpc.aio.AioRpcError as error:
            raised = f"AioRpcError {error.code().name}"
        code = await asyncio.wait_for(call.code(), PATIENCE_SECONDS)
        return {"raised": raised, "code": code.name, "done": call.done(), "cancelled": call.cancelled()}


async def waited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class Relay:
    """What stands between the two ends, and can be cut: both connections are reset."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.tasks.append(asyncio.create_task(self.accept()))

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            one, _ = await loop.sock_accept(self.listener)
            other = socket.socket()
            for each in (one, other):
                each.setblocking(False)
                self.sockets.append(each)
            await loop.sock_connect(other, ("127.0.0.1", self.port))
            self.tasks += [asyncio.create_task(self.carry(one, other)), asyncio.create_task(self.carry(other, one))]

    async def carry(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while octets := await loop.sock_recv(source, 1 << 16):
                await loop.sock_sendall(sink, octets)

    async def cut(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.listener.close()
        while self.sockets:
            each = self.sockets.pop()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


@contextlib.asynccontextmanager
async def serving(grpc: Any, moment: str) -> AsyncIterator[tuple[Handlers, Any, int]]:
    handlers = Handlers(grpc, moment)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers.service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield handlers, server, port
    finally:
        await server.stop(None)


async def two_ends(grpc: Any, ending: str, moment: str, kind: str) -> dict[str, Any]:
    """An ending that needs nobody who misbehaves."""
    async with serving(grpc, moment) as (handlers, server, port):
        relay = Relay(port)
        async with grpc.aio.insecure_channel(relay.target) as channel:
            client = Client(grpc, kind, moment)
            client.start(channel, DEADLINE_SECONDS if ending == "deadline passes" else None)
            await client.go_to_moment()
            await asyncio.wait_for(handlers.there.wait(), PATIENCE_SECONDS)
            match ending:
                case "client cancels":
                    client.call.cancel()
                case "handler is cancelled":
                    handlers.task.cancel()
                case "connection is lost":
                    await relay.cut()
                case "server stops":
                    await server.stop(None)
                case "deadline passes":
                    pass
            told = {"client": await client.told(), "server": await handlers.told()}
            if told["client"]["raised"] == "waits for ever":
                client.call.cancel()
        await relay.cut()
        return told


async def peer_resets(grpc: Any, moment: str, kind: str) -> dict[str, Any]:
    """A server that resets the call, as the client sees it; and a client that does, as the server sees it."""
    return {"client": await reset_by_server(grpc, moment, kind), "server": await reset_by_client(grpc, moment, kind)}


async def reset_by_server(grpc: Any, moment: str, kind: str) -> dict[str, Any]:
    there = asyncio.Event()
    is_unary = kind.endswith("Unary")

    async def server(peer: wire.Peer) -> None:
        await peer.send(wire.settings())
        stream = (await peer.until(wire.HEADERS)).stream
        if moment != "before headers":
            await peer.until(wire.DATA, stream)
            await peer.send(wire.headers(stream, wire.RESPONSE_HEAD))
            if not is_unary:
                await peer.send(wire.data(stream, wire.message(b"first")))
        if moment == "after the last message":
            await peer.send(wire.data(stream, wire.message(b"last")))
            if is_unary:
                trailers = [(b"grpc-status", b"0")]
                await peer.send(wire.headers(stream, trailers, wire.END_HEADERS | wire.END_STREAM))
        await there.wait()
        await peer.send(wire.reset(stream, wire.INTERNAL_ERROR))
        await peer.rest()

    async with (
        wire.peer_server(server) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        client = Client(grpc, kind, moment)
        client.start(channel)
        await client.go_to_moment()
        there.set()
        return await client.told()


async def reset_by_client(grpc: Any, moment: str, kind: str) -> dict[str, Any]:
    async with serving(grpc, moment) as (handlers, _, port):
        with await wire.Peer.connect(port) as peer:
            await peer.greet()
            streams = kind.startswith("Stream")
            ends = moment == "after the last message" or not streams
            head = wire.request_head(f"/{SERVICE}/{kind}".encode())
            flags = wire.END_STREAM if ends else 0
            await peer.send(wire.headers(1, head), wire.data(1, wire.message(b"request"), flags))
            await asyncio.wait_for(handlers.there.wait(), PATIENCE_SECONDS)
            await peer.send(wire.reset(1, wire.CANCEL))
            return await handlers.told()


async def loop_is_closed(grpc: Any, loop: str, moment: str, kind: str) -> dict[str, Any]:
    """The client's loop goes in the middle of the call, and the program forgets both."""
    async with serving(grpc, moment) as (handlers, _, port):
        outer = asyncio.get_running_loop()

        def run() -> dict[str, Any]:
            client = Client(grpc, kind, moment)

            async def main() -> None:
                channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
                client.start(channel)
                await client.go_to_moment()
                future = asyncio.run_coroutine_threadsafe(handlers.there.wait(), outer)
                await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE_SECONDS)

            own = new_loop(loop)
            try:
                own.run_until_complete(main())
            finally:
                own.close()
            return {"raised": "nobody waits"}

        client = await outer.run_in_executor(None, run)
        gc.collect()
        return {"client": client, "server": await handlers.told()}


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        return importlib.import_module("uvloop").new_event_loop()  # type: ignore[no-any-return]
    return asyncio.new_event_loop()


async def cell(grpc: Any, loop: str, ending: str, moment: str, kind: str) -> dict[str, Any]:
    if ending == "peer resets":
        return await peer_resets(grpc, moment, kind)
    if ending == "client's loop is closed":
        return await loop_is_closed(grpc, loop, moment, kind)
    return await two_ends(grpc, ending, moment, kind)


async def table(grpc: Any, loop: str) -> None:
    turns = asyncio.Semaphore(12)

    async def one(ending: str, moment: str, kind: str) -> None:
        async with turns:
            told = await asyncio.wait_for(cell(grpc, loop, ending, moment, kind), 60)
        print(json.dumps([f"{ending}, {moment}, {kind}", told]), flush=True)

    cells = [(ending, moment, kind) for ending in ENDINGS for moment in MOMENTS for kind in KINDS]
    await asyncio.gather(*(one(*each) for each in cells))


def main() -> None:
    stack, loop = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None
    grpc = importlib.import_module("oxgrpc" if stack == "oxgrpc" else "grpc")
    importlib.import_module(f"{grpc.__name__}.aio")
    own = new_loop(loop)
    try:
        own.run_until_complete(table(grpc, loop))
    finally:
        own.close()


if __name__ == "__main__":
    main()
