"""A server of a few lines on asyncio streams: files over HTTP, and WebSocket connections (RFC 6455, section 4.2.2)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@asynccontextmanager
async def serving(files: Mapping[str, bytes], port: int = 0) -> AsyncIterator[int]:
    """Serves files by their paths, and WebSocket connections at ``/feed``; yields the port."""
    open_connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections[task] = writer
        try:
            request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            path = request.split()[1]
            if path == "/feed":
                [key] = [line.split(": ", 1)[1] for line in lines if line.lower().startswith("sec-websocket-key")]
                accept = base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET).digest())
                assert headers["upgrade"] == "websocket"
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                await reader.read()
            else:
                body = files.get(path)
                status = b"404 Not Found" if body is None else b"200 OK"
                body = body or b""
                length = str(len(body)).encode()
                writer.write(
                    b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n" + body
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            del open_connections[task]

    server = await asyncio.start_server(serve, "127.0.0.1", port, reuse_port=True)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_connections.values():
            writer.transport.abort()
        if open_connections:
            await asyncio.wait(tuple(open_connections))
