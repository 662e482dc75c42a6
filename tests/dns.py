"""A name server by hand: A and AAAA records that a test changes as it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NAME_ERROR = 0, 2, 3
RESPONSE, TRUNCATED = 0x8000, 0x0200


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for one name, by datagrams and over TCP."""

    def __init__(self, name: str, addresses: list[str]) -> None:
        self.name, self.addresses = name, addresses
        self.truncates = False
        #: What is answered instead of addresses.
        self.code = NO_ERROR
        #: Datagrams that are left unanswered.
        self.ignored = 0
        #: Questions that were answered, as (type, over TCP).
        self.asked: list[tuple[int, bool]] = []
        self.transport: asyncio.DatagramTransport
        self.port = 0

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's and uvloop's own classes are no subclasses of it.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.ignored:
            self.ignored -= 1
            return
        # Somebody else's answer comes first: it is to be passed over.
        forged = bytes([data[0] ^ 1]) + self.answer(data, is_tcp=False)[1:]
        self.asked.pop()
        self.transport.sendto(forged, addr)
        self.transport.sendto(self.answer(data, is_tcp=False), addr)

    def answer(self, question: bytes, is_tcp: bool) -> bytes:
        end = question.index(b"\0", 12) + 5
        kind = int.from_bytes(question[end - 4 : end - 2], "big")
        self.asked.append((kind, is_tcp))
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        assert ".".join(labels) == self.name
        addresses = [ipaddress.ip_address(address) for address in self.addresses]
        packed = [own.packed for own in addresses if own.version == (4 if kind == A else 6)]
        is_truncated = self.truncates and not is_tcp
        if is_truncated or self.code:
            packed = []
        flags = RESPONSE | 0x0180 | (TRUNCATED if is_truncated else 0) | self.code
        head = question[:2] + flags.to_bytes(2, "big") + b"\0\1" + len(packed).to_bytes(2, "big") + 4 * b"\0"
        # The name is that of the question, by a pointer (RFC 1035 §4.1.4).
        start = b"\xc0\x0c" + question[end - 4 : end] + 4 * b"\0"
        return head + question[12:end] + b"".join(start + len(own).to_bytes(2, "big") + own for own in packed)

    async def on_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            question = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            answer = self.answer(question, is_tcp=True)
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def name_server(name: str, addresses: list[str]) -> AsyncIterator[NameServer]:
    """A name server on a port of its own, for datagrams and TCP."""
    loop = asyncio.get_running_loop()
    server = NameServer(name, addresses)
    listener = await asyncio.start_server(server.on_tcp, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    datagrams.bind(("127.0.0.1", server.port))
    transport, _ = await loop.create_datagram_endpoint(lambda: server, sock=datagrams)
    try:
        yield server
    finally:
        transport.close()
        listener.close()
        await listener.wait_closed()
