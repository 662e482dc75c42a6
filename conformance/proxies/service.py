"""The server behind the proxy: a method of each kind, and one that says how many handlers are running.

    python -m conformance.proxies.service STACK

It prints its port and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from typing import Any

SERVICE = "conformance.Proxied"
#: grpcio's default limit on messages is that of both ends.
LARGEST_BYTES = 4 << 20


def load(stack: str) -> Any:
    """The package `grpc`, which is oxgrpc or the genuine one, with its `aio`."""
    package = "oxgrpc" if stack == "oxgrpc" else "grpc"
    importlib.import_module(f"{package}.aio")
    return importlib.import_module(package)


class Running:
    """Counts the handlers that have not ended."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *exception: object) -> None:
        self.count -= 1


def handlers(grpc: Any) -> dict[str, Any]:
    """Requests say what is wanted of the server, or how long they are is what it answers."""
    running = Running()

    async def upload(request: bytes, context: Any) -> bytes:
        with running:
            return b"%d" % len(request)

    async def download(request: bytes, context: Any) -> bytes:
        with running:
            return bytes(int(request))

    async def upload_stream(requests: AsyncIterator[bytes], context: Any) -> bytes:
        with running:
            return b" ".join([b"%d" % len(request) async for request in requests])

    async def download_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        with running:
            for size in request.split():
                yield bytes(int(size))

    async def mirror(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        with running:
            async for request in requests:
                yield request

    async def count(request: bytes, context: Any) -> bytes:
        return b"%d" % running.count

    return {
        "Upload": grpc.unary_unary_rpc_method_handler(upload),
        "Download": grpc.unary_unary_rpc_method_handler(download),
        "UploadStream": grpc.stream_unary_rpc_method_handler(upload_stream),
        "DownloadStream": grpc.unary_stream_rpc_method_handler(download_stream),
        "Mirror": grpc.stream_stream_rpc_method_handler(mirror),
        "Running": grpc.unary_unary_rpc_method_handler(count),
    }


async def main(stack: str) -> None:
    grpc = load(stack)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers(grpc)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
