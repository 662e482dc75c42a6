"""The server whose memory `test_memory_bounds.py` watches. It prints its port and serves until its input ends.

Its arguments are pairs of a channel argument's name and its number.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import oxgrpc as grpc
from oxgrpc import aio

BLOB = bytes(64 << 10)


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def length(request: bytes, context: Any) -> bytes:
    return b"%d" % len(request)


async def blob(request: bytes, context: Any) -> bytes:
    return bytes(len(BLOB))


gate = asyncio.Event()


async def late_blob(request: bytes, context: Any) -> bytes:
    await gate.wait()
    return bytes(len(BLOB))


async def late_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    await gate.wait()
    while True:
        yield bytes(len(BLOB))


async def open_gate(request: bytes, context: Any) -> bytes:
    gate.set()
    return request


async def leave(request: bytes, context: Any) -> bytes:
    raise SystemExit(int(request))


async def yields(request: bytes, context: Any) -> AsyncIterator[bytes]:
    while True:
        yield bytes(len(BLOB))


async def writes(request: bytes, context: Any) -> None:
    while True:
        await context.write(bytes(len(BLOB)))


async def mirror(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def ignore(requests: AsyncIterator[bytes], context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Length": grpc.unary_unary_rpc_method_handler(length),
    "Blob": grpc.unary_unary_rpc_method_handler(blob),
    "LateBlob": grpc.unary_unary_rpc_method_handler(late_blob),
    "LateStream": grpc.unary_stream_rpc_method_handler(late_stream),
    "OpenGate": grpc.unary_unary_rpc_method_handler(open_gate),
    "Exit": grpc.unary_unary_rpc_method_handler(leave),
    "Yields": grpc.unary_stream_rpc_method_handler(yields),
    "Writes": grpc.unary_stream_rpc_method_handler(writes),
    "Mirror": grpc.stream_stream_rpc_method_handler(mirror),
    "Ignore": grpc.stream_unary_rpc_method_handler(ignore),
}


class Nobody(grpc.GenericRpcHandler):
    """Is asked about what is not registered, and knows nothing."""

    def service(self, handler_call_details: Any) -> None:
        return None


async def main() -> None:
    options = [(name, int(number)) for name, number in zip(sys.argv[1::2], sys.argv[2::2], strict=True)]
    server = aio.server(options=options)
    server.add_registered_method_handlers("test.Memory", METHODS)
    server.add_generic_rpc_handlers([Nobody()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
