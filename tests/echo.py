"""A service for tests: servers whose handlers are functions of the test, and channels to them.

Messages are bytes. `serving(UnaryUnary=handler)` gives a channel to a server with one method of each kind.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import oxgrpc as grpc
from oxgrpc import aio

SERVICE = "test.Echo"

_HANDLERS = {
    "UnaryUnary": grpc.unary_unary_rpc_method_handler,
    "UnaryStream": grpc.unary_stream_rpc_method_handler,
    "StreamUnary": grpc.stream_unary_rpc_method_handler,
    "StreamStream": grpc.stream_stream_rpc_method_handler,
}


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


#: Whether this machine has IPv6: containers often have none.
HAS_IPV6 = _has_ipv6()


def path(kind: str) -> str:
    """The path of the method of a kind."""
    return f"/{SERVICE}/{kind}"


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def mirror(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


#: A handler of each kind that does what its kind is for.
DEFAULTS: dict[str, Callable[..., Any]] = {
    "UnaryUnary": echo,
    "UnaryStream": count,
    "StreamUnary": join,
    "StreamStream": mirror,
}


@dataclass
class Service:
    """A running server and a channel to it, with the four methods ready to be called."""

    server: aio.Server
    channel: aio.Channel
    port: int

    def __post_init__(self) -> None:
        self.unary_unary = self.channel.unary_unary(path("UnaryUnary"))
        self.unary_stream = self.channel.unary_stream(path("UnaryStream"))
        self.stream_unary = self.channel.stream_unary(path("StreamUnary"))
        self.stream_stream = self.channel.stream_stream(path("StreamStream"))

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


def add_handlers(server: aio.Server, handlers: dict[str, Callable[..., Any]]) -> None:
    """Registers a handler for each kind that is named."""
    methods = {kind: _HANDLERS[kind](handler) for kind, handler in handlers.items()}
    server.add_registered_method_handlers(SERVICE, methods)


@asynccontextmanager
async def serving(
    server: aio.Server | None = None,
    channel_options: list[tuple[str, Any]] | None = None,
    channel_compression: grpc.Compression | None = None,
    server_credentials: grpc.ServerCredentials | None = None,
    channel_credentials: grpc.ChannelCredentials | None = None,
    **handlers: Callable[..., Any],
) -> AsyncIterator[Service]:
    """Serves the handlers that are named, and the default ones for the other kinds, until the block ends."""
    server = server or aio.server()
    add_handlers(server, {**DEFAULTS, **handlers})
    if server_credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials)
    await server.start()
    target, options = f"127.0.0.1:{port}", {"options": channel_options, "compression": channel_compression}
    if channel_credentials is None:
        channel = aio.insecure_channel(target, **options)
    else:
        channel = aio.secure_channel(target, channel_credentials, **options)
    try:
        async with channel:
            yield Service(server, channel, port)
    finally:
        await server.stop(None)
