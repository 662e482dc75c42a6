"""A relay that terminates flow control as an HTTP/2 proxy does, with the protocol's default windows.

Each end may send 65,535 octets on a stream and 65,535 on the connection, and more only when the relay has passed on
what came. Otherwise frames are passed on as they are: the relay asks both ends to compress headers without a table, so
that one header section may overtake another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import wire

WINDOW = 65_535


@dataclass
class _Stream:
    """What one end sends on a stream."""

    #: Frames that wait in the relay: type, flags and payload.
    frames: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    #: What the receiving end allows.
    window: int = WINDOW


class _Direction:
    """What goes from one end to the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.back: _Direction
        self.streams: dict[int, _Stream] = {}
        #: What the receiving end allows on the connection.
        self.window = WINDOW
        #: Octets that the sending end has sent and that have not been passed on.
        self.held = 0

    def stream(self, number: int) -> _Stream:
        return self.streams.setdefault(number, _Stream())

    async def run(self) -> None:
        while True:
            head = await self.reader.readexactly(9)
            kind, flags, number = head[3], head[4], int.from_bytes(head[5:9], "big")
            self.take(kind, flags, number, await self.reader.readexactly(int.from_bytes(head[:3], "big")))
            await self.writer.drain()

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Takes a frame from the sending end."""
        if kind == wire.WINDOW_UPDATE:
            self.back.open(number, int.from_bytes(payload, "big"))
        elif kind == wire.SETTINGS and not flags & wire.ACK:
            self.writer.write(wire.frame(kind, flags, 0, payload + bytes([0, wire.HEADER_TABLE_SIZE, 0, 0, 0, 0])))
        elif number == 0:
            self.writer.write(wire.frame(kind, flags, 0, payload))
        else:
            if kind == wire.DATA:
                self.held += len(payload)
                assert self.held <= WINDOW, "more came than the connection's window allows"
            elif kind == wire.RST_STREAM:
                # The other end's octets are of no use any more.
                self.back.drop(number)
            self.stream(number).frames.append((kind, flags, payload))
            self.pass_on(number)

    def open(self, number: int, octets: int) -> None:
        """The receiving end allows more."""
        if number:
            self.stream(number).window += octets
            self.pass_on(number)
        else:
            self.window += octets
            for each in list(self.streams):
                self.pass_on(each)

    def pass_on(self, number: int) -> None:
        """Sends of a stream's frames what the windows allow."""
        stream = self.stream(number)
        while stream.frames:
            kind, flags, payload = stream.frames[0]
            if kind != wire.DATA:
                self.writer.write(wire.frame(kind, flags, number, payload))
                stream.frames.popleft()
                continue
            room = min(stream.window, self.window)
            if payload and not room:
                return
            now, later = payload[:room], payload[room:]
            self.writer.write(wire.frame(kind, 0 if later else flags, number, now))
            stream.window -= len(now)
            self.window -= len(now)
            self.give_back(number, len(now))
            if later:
                stream.frames[0] = (kind, flags, later)
            else:
                stream.frames.popleft()

    def give_back(self, number: int, octets: int) -> None:
        """Lets the sending end send as much again."""
        self.held -= octets
        if octets:
            self.back.writer.write(wire.window_update(0, octets) + wire.window_update(number, octets))

    def drop(self, number: int) -> None:
        frames = self.stream(number).frames
        self.give_back(number, sum(len(payload) for kind, _, payload in frames if kind == wire.DATA))
        frames.clear()


@asynccontextmanager
async def relaying(port: int) -> AsyncIterator[int]:
    """Relays connections to a port of this machine; gives the relay's port."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(connect(reader, writer)))

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        there, back = _Direction(reader, other_writer), _Direction(other_reader, writer)
        there.back, back.back = back, there
        runs = [asyncio.create_task(direction.run()) for direction in (there, back)]
        try:
            other_writer.write(await reader.readexactly(len(wire.PREFACE)))
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await asyncio.gather(*runs)
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            for each in (writer, other_writer):
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        outcomes = await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
        wrong = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert not wrong, wrong
