"""HTTP/2 by hand, for peers that break its rules: frames, header blocks, and the sockets that send them.

Nothing here checks what it sends. What it reads it understands only as far as oxgrpc goes: a peer announces a header
table of size 0, so that what comes back refers to the static table alone.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
    INADEQUATE_SECURITY,
    HTTP_1_1_REQUIRED,
) = range(14)

Pairs = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def debug(self) -> str:
        """The debug data of GOAWAY."""
        return self.payload[8:].decode()

    @property
    def fields(self) -> dict[bytes, bytes]:
        return dict(read_block(self.payload))

    @property
    def ends_stream(self) -> bool:
        return bool(self.flags & END_STREAM)


# Frames


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def headers(stream: int, pairs: Pairs, flags: int = END_HEADERS) -> bytes:
    """A header section; what does not fit into one frame is continued."""
    octets = block(pairs)
    first, *more = [octets[at : at + 16384] for at in range(0, len(octets), 16384)] or [b""]
    if not more:
        return frame(HEADERS, flags, stream, first)
    frames = [frame(HEADERS, flags & ~END_HEADERS, stream, first)]
    frames += [frame(CONTINUATION, 0, stream, piece) for piece in more[:-1]]
    return b"".join([*frames, frame(CONTINUATION, flags & END_HEADERS, stream, more[-1])])


def data(stream: int, content: bytes, flags: int = 0) -> bytes:
    """Content in frames of 16 KiB; the flags stand on the last."""
    pieces = [content[at : at + 16384] for at in range(0, len(content), 16384)] or [b""]
    frames = [frame(DATA, 0, stream, piece) for piece in pieces[:-1]]
    return b"".join([*frames, frame(DATA, flags, stream, pieces[-1])])


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + debug)


def message(content: bytes, compressed: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", compressed, len(content)) + content


def request_head(path: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


RESPONSE_HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]


# HPACK (RFC 7541)


def integer(value: int, bits: int, first: int = 0) -> bytes:
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out = [first | limit]
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def field(name: bytes, value: bytes, first: int = 0) -> bytes:
    """A literal with a literal name: by default not indexed, with `first=0x40` put into the table."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(pairs: Pairs) -> bytes:
    return b"".join(field(name, value) for name, value in pairs)


#: What oxgrpc refers to in the static table.
STATIC = {
    1: (b":authority", b""),
    3: (b":method", b"POST"),
    4: (b":path", b"/"),
    6: (b":scheme", b"http"),
    7: (b":scheme", b"https"),
    8: (b":status", b"200"),
    9: (b":status", b"204"),
    10: (b":status", b"206"),
    11: (b":status", b"304"),
    12: (b":status", b"400"),
    13: (b":status", b"404"),
    14: (b":status", b"500"),
    31: (b"content-type", b""),
    58: (b"user-agent", b""),
}

#: Bits of the Huffman codes of the symbols 32 to 126, 0 where the code is too long to matter (Appendix B).
BITS = (
    b"\x06\x0a\x0a\x0c\x0d\x06\x08\x0b\x0a\x0a\x08\x0b\x08\x06\x06\x06"
    b"\x05\x05\x05\x06\x06\x06\x06\x06\x06\x06\x07\x08\x0f\x06\x0c\x0a"
    b"\x0d\x06" + 22 * b"\x07" + b"\x08\x07\x08\x0d\x00\x0d\x0e\x06"
    b"\x0f\x05\x06\x05\x06\x05\x06\x06\x06\x05\x07\x07\x06\x06\x06\x05"
    b"\x06\x07\x06\x05\x05\x06\x07\x07\x07\x07\x07\x0f\x0b\x0e\x0d"
)


def _huffman() -> dict[tuple[int, int], int]:
    """Symbols by their codes' lengths and values: the code is canonical, so that lengths are all one needs to know."""
    lengths = sorted([(13, 0), *((bits, 32 + at) for at, bits in enumerate(BITS) if bits)])
    codes, code, before = {}, 0, lengths[0][0]
    for bits, symbol in lengths:
        code <<= bits - before
        codes[bits, code] = symbol
        code, before = code + 1, bits
    return codes


HUFFMAN = _huffman()


def _plain(coded: bytes) -> bytes:
    out, code, bits = bytearray(), 0, 0
    for octet in coded:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | octet >> shift & 1, bits + 1
            symbol = HUFFMAN.get((bits, code))
            if symbol is not None:
                out.append(symbol)
                code = bits = 0
    return bytes(out)


def read_block(octets: bytes) -> list[tuple[bytes, bytes]]:
    at = 0

    def number(bits: int) -> int:
        nonlocal at
        limit = (1 << bits) - 1
        value = octets[at] & limit
        at += 1
        if value < limit:
            return value
        shift = 0
        while True:
            octet = octets[at]
            at += 1
            value += (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    def text() -> bytes:
        nonlocal at
        coded = bool(octets[at] & 0x80)
        length = number(7)
        at += length
        return _plain(octets[at - length : at]) if coded else octets[at - length : at]

    pairs = []
    while at < len(octets):
        first = octets[at]
        if first & 0x80:
            pairs.append(STATIC[number(7)])
        elif first & 0xE0 == 0x20:
            assert number(5) == 0, "the table is larger than was asked for"
        else:
            index = number(6 if first & 0x40 else 4)
            pairs.append((STATIC[index][0] if index else text(), text()))
    return pairs


# Sockets


class Peer:
    """A connection whose other end is oxgrpc."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.address = "ipv4:{}:{}".format(*sock.getsockname()[:2])
        self._octets = bytearray()

    @classmethod
    async def connect(cls, port: int, receive_buffer_bytes: int | None = None, no_delay: bool = False) -> Peer:
        """Connects. With `no_delay` each send leaves at once, without waiting for what the server acknowledges."""
        sock = socket.socket()
        sock.setblocking(False)
        if no_delay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    async def send(self, *octets: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, b"".join(octets))

    async def send_unless_closed(self, *octets: bytes) -> bool:
        """Sends; false if the other end has had enough."""
        try:
            await self.send(*octets)
        except ConnectionError:
            return False
        return True

    async def greet(self, *pairs: tuple[int, int]) -> None:
        """A client's start."""
        await self.send(PREFACE, settings((HEADER_TABLE_SIZE, 0), *pairs))

    async def receive(self) -> Frame | None:
        """The next frame; `None` at the end, whichever way it came."""
        head = await self._take(9)
        if head is None:
            return None
        payload = await self._take(int.from_bytes(head[:3], "big"))
        if payload is None:
            return None
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def _take(self, count: int) -> bytes | None:
        while len(self._octets) < count:
            try:
                more = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            except ConnectionError:
                return None
            if not more:
                return None
            self._octets += more
        taken = bytes(self._octets[:count])
        del self._octets[:count]
        return taken

    async def skip(self, count: int) -> None:
        """Takes what is not a frame: a client's magic octets."""
        await self._take(count)

    async def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of a kind, on a stream; acknowledges SETTINGS on the way."""
        while (seen := await self.receive()) is not None:
            if seen.kind == SETTINGS and not seen.flags & ACK:
                await self.send_unless_closed(frame(SETTINGS, ACK, 0))
            if seen.kind == kind and (stream is None or seen.stream == stream):
                return seen
        raise AssertionError(f"the connection ended before a frame of type {kind}")

    async def rest(self) -> list[Frame]:
        """All that comes until the end."""
        frames = []
        while (seen := await self.receive()) is not None:
            frames.append(seen)
        return frames

    async def pong(self) -> None:
        """Waits until all that was sent has been taken in."""
        await self.send(frame(PING, 0, 0, b"are you?"))
        while not (await self.until(PING)).flags & ACK:
            pass


@asynccontextmanager
async def peer_server(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that plays a script to each client and closes when it ends. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def play(sock: socket.socket) -> None:
        with Peer(sock) as peer:
            await peer.skip(len(PREFACE))
            await script(peer)

    async def accept() -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            sock.setblocking(False)
            tasks.add(asyncio.create_task(play(sock)))

    tasks.add(asyncio.create_task(accept()))
    try:
        yield listener.getsockname()[1]
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
        # A client that has gone is no news; a script that is wrong is.
        wrong = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        wrong = [outcome for outcome in wrong if not isinstance(outcome, ConnectionError)]
        assert not wrong, wrong
