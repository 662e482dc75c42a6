"""Peers that never come to the point: what a handshake may be fed is bounded, and the other end goes on."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress

import pytest

import echo
import wire
from certificates import authority, localhost
from oxgrpc import StatusCode, aio, ssl_channel_credentials, ssl_server_credentials

#: More than a handshake may be.
ENOUGH = 256 << 10


def record(kind: int, content: bytes) -> bytes:
    """A TLS record (RFC 8446 §5.1)."""
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


ALERT, HANDSHAKE, DATA, CHANGE = 21, 22, 23, 20
HELLO = {"server": b"\1", "client": b"\2"}


def floods(hello: bytes) -> dict[str, bytes]:
    """Each is much, and none is a handshake."""

    def flood(first: bytes, again: bytes) -> bytes:
        return first + again * (ENOUGH // len(again) + 1)

    return {
        "a hello in single octets": flood(record(HANDSHAKE, hello + b"\0\xff\xff"), record(HANDSHAKE, b"x")),
        "a hello that is longer than any": flood(
            record(HANDSHAKE, hello + b"\xff\xff\xff"), record(HANDSHAKE, b"x" * 99)
        ),
        "empty hellos": flood(b"", record(HANDSHAKE, hello + b"\0\0\0")),
        "empty records": flood(b"", record(HANDSHAKE, b"")),
        "empty data": flood(b"", record(DATA, b"")),
        "data": flood(b"", record(DATA, b"x" * 16000)),
        "changes of the cipher": flood(b"", record(CHANGE, b"\1")),
        "warnings": flood(b"", record(ALERT, b"\1\x5a")),
        "records that are too long": flood(b"", bytes([HANDSHAKE, 3, 3, 0xFF, 0xFF]) + b"x" * 0xFFFF),
    }


async def ends(sock: socket.socket) -> bool:
    """Whether the other end closes, whatever it says before."""
    with suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            pass
    return True


@pytest.mark.parametrize("name", floods(b""))
async def test_a_server(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    async with echo.serving(
        server_credentials=ssl_server_credentials([localhost().pair]),
        channel_credentials=ssl_channel_credentials(authority().pem),
    ) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.send_unless_closed(floods(HELLO["server"])[name])
            assert await asyncio.wait_for(ends(peer.socket), 20)
        assert await service.unary_unary(b"x") == b"x"
    assert "TLS handshake failed" in caplog.text


@pytest.mark.parametrize("name", floods(b""))
async def test_a_client(name: str) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        with suppress(ConnectionError):
            writer.write(floods(HELLO["client"])[name])
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with aio.secure_channel(f"localhost:{port}", ssl_channel_credentials(authority().pem)) as channel:
            call = channel.unary_unary("/a/B")(b"")
            assert await asyncio.wait_for(call.code(), 15) is StatusCode.UNAVAILABLE
            assert "TLS handshake failed" in await call.details()
