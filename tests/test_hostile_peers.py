"""Clients that break rules: the connection ends with the right GOAWAY, the log says which rule and by whom, and no
other connection notices."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

UNARY = echo.path("UnaryUnary").encode()
STREAM = echo.path("StreamStream").encode()

#: What a well-behaved client begins with.
HELLO = wire.PREFACE + wire.settings((wire.HEADER_TABLE_SIZE, 0))

#: A call that goes on: its client has not ended its side.
CALL = wire.headers(1, wire.request_head(STREAM))


class Honest:
    """Another client of the same server: a stream that stays open, and a call now and then."""

    def __init__(self, service: echo.Service) -> None:
        self.service = service
        self.stream = service.stream_stream()

    async def check(self) -> None:
        assert await self.service.unary_unary(b"honest") == b"honest"
        await self.stream.write(b"still here")
        assert await self.stream.read() == b"still here"


@asynccontextmanager
async def honest_service(**options: Any) -> AsyncIterator[echo.Service]:
    """A service whose other client makes a call before, checks that nothing has become of it, and ends its stream."""
    async with echo.serving(**options) as service:
        honest = Honest(service)
        service.honest = honest  # type: ignore[attr-defined]
        await honest.check()
        yield service
        await honest.check()
        await honest.stream.done_writing()
        assert await honest.stream.read() is aio.EOF


def rules(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "oxgrpc.transport"]


def complaints(caplog: pytest.LogCaptureFixture) -> list[tuple[str, type[BaseException] | None]]:
    """What the server's log says, each record with the exception that it shows. Takes it out: records keep frames."""
    seen = [(r.getMessage(), r.exc_info and r.exc_info[0]) for r in caplog.records if r.name == "oxgrpc.server"]
    caplog.clear()
    return seen


@dataclass(frozen=True)
class Act:
    """What a peer sends, the code of the GOAWAY that it gets, and a part of the rule in the log."""

    octets: bytes
    code: int
    rule: str


def repeated(octets: bytes, times: int) -> bytes:
    return octets * times


#: Header blocks of 8 KiB each that never end.
ENDLESS = wire.frame(wire.HEADERS, 0, 1, wire.block(wire.request_head(UNARY))) + repeated(
    wire.frame(wire.CONTINUATION, 0, 1, wire.field(b"x", b"y" * 8000)), 100
)

STORM = b"".join(wire.headers(n, wire.request_head(UNARY)) + wire.reset(n, wire.CANCEL) for n in range(1, 25_001, 2))


def call(stream: int, *fields: tuple[bytes, bytes]) -> bytes:
    return wire.headers(stream, wire.request_head(STREAM, *fields))


def storm(octets: Callable[[int], bytes]) -> Act:
    """More calls that end before their time than an honest client has, even in the 15 s that a slow machine takes."""
    pieces = octets(0x7A7A7A7A).split(b"zzzz")
    calls = b"".join(struct.pack(">I", stream).join(pieces) for stream in range(1, 80_001, 2))
    return Act(HELLO + calls, wire.ENHANCE_YOUR_CALM, "a storm of calls that end before their time")


ACTS = {
    "http1_get": Act(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", wire.PROTOCOL_ERROR, "the peer speaks HTTP/1.x"),
    "http1_post": Act(b"POST /x HTTP/1.1\r\nHost: test\r\n\r\n", wire.PROTOCOL_ERROR, "the peer speaks HTTP/1.x"),
    "tls": Act(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + 32 * b"\xaa", wire.PROTOCOL_ERROR, "speaks TLS"),
    "zeros": Act(bytes(100), wire.PROTOCOL_ERROR, "preface"),
    "noise": Act(bytes(range(255, 0, -1)), wire.PROTOCOL_ERROR, "preface"),
    "nearly_the_preface": Act(wire.PREFACE[:-1] + b"X", wire.PROTOCOL_ERROR, "preface"),
    "ping_before_settings": Act(
        wire.PREFACE + wire.frame(wire.PING, 0, 0, bytes(8)), wire.PROTOCOL_ERROR, "the first frame is not SETTINGS"
    ),
    "ack_before_settings": Act(
        wire.PREFACE + wire.frame(wire.SETTINGS, wire.ACK, 0), wire.PROTOCOL_ERROR, "the first frame is not SETTINGS"
    ),
    "oversized_frame": Act(
        HELLO + wire.frame(wire.DATA, 0, 1, bytes(16385)), wire.FRAME_SIZE_ERROR, "SETTINGS_MAX_FRAME_SIZE"
    ),
    "header_block_without_end": Act(HELLO + ENDLESS, wire.ENHANCE_YOUR_CALM, "a header section without end"),
    "data_padding": Act(
        HELLO + CALL + wire.frame(wire.DATA, wire.PADDED, 1, b"\x05abc"), wire.PROTOCOL_ERROR, "padding"
    ),
    "header_padding": Act(
        HELLO + wire.frame(wire.HEADERS, wire.PADDED | wire.END_HEADERS, 1, b"\xffx"), wire.PROTOCOL_ERROR, "padding"
    ),
    "stream_id_goes_back": Act(
        HELLO + wire.headers(5, wire.request_head(STREAM)) + wire.headers(3, wire.request_head(STREAM)),
        wire.PROTOCOL_ERROR,
        "a stream id goes back",
    ),
    "even_stream_id": Act(HELLO + wire.headers(2, wire.request_head(UNARY)), wire.PROTOCOL_ERROR, "even id"),
    "headers_on_stream_0": Act(HELLO + wire.headers(0, wire.request_head(UNARY)), wire.PROTOCOL_ERROR, "stream 0"),
    "data_on_stream_0": Act(HELLO + wire.data(0, b"x"), wire.PROTOCOL_ERROR, "stream 0"),
    "data_on_an_idle_stream": Act(HELLO + wire.data(1, b"x"), wire.PROTOCOL_ERROR, "not open"),
    "reset_of_an_idle_stream": Act(HELLO + wire.reset(1, wire.CANCEL), wire.PROTOCOL_ERROR, "idle stream"),
    "window_update_of_an_idle_stream": Act(HELLO + wire.window_update(7, 1), wire.PROTOCOL_ERROR, "idle stream"),
    "window_update_of_nothing": Act(HELLO + wire.window_update(0, 0), wire.PROTOCOL_ERROR, "WINDOW_UPDATE"),
    "connection_window_overflow": Act(
        HELLO + wire.window_update(0, 2**31 - 1), wire.FLOW_CONTROL_ERROR, "lifts a window over 2^31-1"
    ),
    "settings_of_5_octets": Act(HELLO + wire.frame(wire.SETTINGS, 0, 0, bytes(5)), wire.FRAME_SIZE_ERROR, "SETTINGS"),
    "settings_on_a_stream": Act(HELLO + wire.frame(wire.SETTINGS, 0, 1), wire.PROTOCOL_ERROR, "SETTINGS"),
    "settings_ack_with_content": Act(
        HELLO + wire.frame(wire.SETTINGS, wire.ACK, 0, bytes(6)), wire.FRAME_SIZE_ERROR, "SETTINGS"
    ),
    "acks_that_were_not_asked_for": Act(
        HELLO + repeated(wire.frame(wire.SETTINGS, wire.ACK, 0), 2), wire.PROTOCOL_ERROR, "acknowledged"
    ),
    "initial_window_too_large": Act(
        HELLO + wire.settings((wire.INITIAL_WINDOW_SIZE, 2**31)),
        wire.FLOW_CONTROL_ERROR,
        "SETTINGS_INITIAL_WINDOW_SIZE",
    ),
    "initial_window_lifts_an_open_one": Act(
        HELLO + CALL + wire.window_update(1, 2**31 - 1 - 65535) + wire.settings((wire.INITIAL_WINDOW_SIZE, 65536)),
        wire.FLOW_CONTROL_ERROR,
        "SETTINGS_INITIAL_WINDOW_SIZE lifts a window",
    ),
    "max_frame_size_too_small": Act(
        HELLO + wire.settings((wire.MAX_FRAME_SIZE, 16383)), wire.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE"
    ),
    "push_neither_on_nor_off": Act(
        HELLO + wire.settings((wire.ENABLE_PUSH, 2)), wire.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH"
    ),
    "ping_of_7_octets": Act(HELLO + wire.frame(wire.PING, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR, "PING"),
    "ping_on_a_stream": Act(HELLO + wire.frame(wire.PING, 0, 1, bytes(8)), wire.PROTOCOL_ERROR, "PING"),
    "goaway_on_a_stream": Act(HELLO + wire.frame(wire.GOAWAY, 0, 1, bytes(8)), wire.PROTOCOL_ERROR, "GOAWAY"),
    "goaway_of_7_octets": Act(HELLO + wire.frame(wire.GOAWAY, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR, "GOAWAY"),
    "reset_of_3_octets": Act(
        HELLO + CALL + wire.frame(wire.RST_STREAM, 0, 1, bytes(3)), wire.FRAME_SIZE_ERROR, "RST_STREAM"
    ),
    "push_promise_to_a_server": Act(
        HELLO + CALL + wire.frame(wire.PUSH_PROMISE, wire.END_HEADERS, 1, bytes(4)), wire.PROTOCOL_ERROR, "PUSH_PROMISE"
    ),
    "continuation_alone": Act(
        HELLO + wire.frame(wire.CONTINUATION, wire.END_HEADERS, 1), wire.PROTOCOL_ERROR, "CONTINUATION"
    ),
    "headers_interrupted": Act(
        HELLO + wire.headers(1, wire.request_head(UNARY), 0) + wire.frame(wire.PING, 0, 0, bytes(8)),
        wire.PROTOCOL_ERROR,
        "interrupted by another frame",
    ),
    "hpack_index_0": Act(
        HELLO + wire.frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x80"), wire.COMPRESSION_ERROR, "index 0"
    ),
    "hpack_index_beyond_the_table": Act(
        HELLO + wire.frame(wire.HEADERS, wire.END_HEADERS, 1, wire.integer(200, 7, 0x80)),
        wire.COMPRESSION_ERROR,
        "beyond the dynamic table",
    ),
    "hpack_string_cut_short": Act(
        HELLO + wire.frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x00\x7f\x00"), wire.COMPRESSION_ERROR, "RFC 7541"
    ),
    "hpack_table_too_large": Act(
        HELLO + wire.frame(wire.HEADERS, wire.END_HEADERS, 1, wire.integer(1 << 20, 5, 0x20)),
        wire.COMPRESSION_ERROR,
        "SETTINGS_HEADER_TABLE_SIZE",
    ),
    "hpack_integer_without_end": Act(
        HELLO + wire.frame(wire.HEADERS, wire.END_HEADERS, 1, b"\xff" * 20), wire.COMPRESSION_ERROR, "RFC 7541"
    ),
    "ping_flood": Act(HELLO + repeated(wire.frame(wire.PING, 0, 0, bytes(8)), 20_000), wire.ENHANCE_YOUR_CALM, "flood"),
    "settings_flood": Act(HELLO + repeated(wire.settings(), 20_000), wire.ENHANCE_YOUR_CALM, "flood"),
    "priority_flood": Act(
        HELLO + repeated(wire.frame(wire.PRIORITY, 0, 1, bytes(4) + b"\x10"), 20_000), wire.ENHANCE_YOUR_CALM, "flood"
    ),
    "empty_data_flood": Act(HELLO + CALL + repeated(wire.data(1, b""), 20_000), wire.ENHANCE_YOUR_CALM, "flood"),
    "empty_continuation_flood": Act(
        HELLO + wire.headers(1, wire.request_head(UNARY), 0) + repeated(wire.frame(wire.CONTINUATION, 0, 1), 20_000),
        wire.ENHANCE_YOUR_CALM,
        "flood",
    ),
    "reset_storm": Act(HELLO + STORM, wire.ENHANCE_YOUR_CALM, "a storm of resets"),
    "provoked_resets": Act(
        HELLO + b"".join(wire.headers(n, []) for n in range(1, 40_001, 2)), wire.ENHANCE_YOUR_CALM, "a storm of resets"
    ),
    "bad_flags": storm(lambda n: call(n) + wire.data(n, b"\x07\0\0\0\1x")),
    "prefixes_of_2_gib": storm(lambda n: call(n) + wire.data(n, b"\0\x80\0\0\0")),
    "cut_messages": storm(lambda n: call(n) + wire.data(n, b"\0\0\0\0\2x", wire.END_STREAM)),
    "messages_that_are_no_gzip": storm(
        lambda n: call(n, (b"grpc-encoding", b"gzip")) + wire.data(n, wire.message(b"x", compressed=1))
    ),
    "deadlines_that_have_passed": storm(lambda n: call(n, (b"grpc-timeout", b"1n"))),
    "deadlines_that_pass_at_once": storm(lambda n: call(n, (b"grpc-timeout", b"10u"))),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
async def test_a_broken_rule_ends_the_connection_and_no_other(act: Act, caplog: pytest.LogCaptureFixture) -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            # Nothing may be read meanwhile: a server that has heard enough says so all the same.
            await peer.send_unless_closed(act.octets)
            await service.honest.check()  # type: ignore[attr-defined]
            goaway = await peer.until(wire.GOAWAY)
            assert goaway.code == act.code
            assert act.rule in goaway.debug
            assert await peer.rest() == [], "something follows the GOAWAY"
            [record] = rules(caplog)
            assert peer.address in record
            assert act.rule in record
            await service.honest.check()  # type: ignore[attr-defined]


ENDS = {
    "within_the_preface": (wire.PREFACE[:10], "within the preface"),
    "after_the_preface": (wire.PREFACE, None),
    "within_a_frame": (HELLO + wire.data(1, b"x" * 100)[:50], "within a frame"),
    "within_a_frame_head": (HELLO + b"\x00\x00", "within a frame"),
    "within_a_header_section": (HELLO + wire.headers(1, wire.request_head(UNARY), 0), "within a header section"),
    "within_a_call": (HELLO + CALL, None),
    "at_once": (b"", None),
}


@pytest.mark.parametrize(("octets", "rule"), ENDS.values(), ids=list(ENDS))
async def test_a_connection_that_is_cut_says_where(
    octets: bytes, rule: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.send(octets)
            peer.socket.shutdown(1)
            await peer.rest()
            assert [peer.address in record and rule in record for record in rules(caplog)] == ([True] if rule else [])


async def test_a_connection_that_is_reset_is_no_cause_for_alarm(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def wait(requests: Any, context: Any) -> None:
        try:
            await context.read()
        finally:
            ended.set()

    async with honest_service(StreamUnary=wait) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.send(HELLO, wire.headers(1, wire.request_head(echo.path("StreamUnary").encode())))
            await peer.pong()
            peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: closing sends RST
        await ended.wait()
        assert rules(caplog) == []


#: What a peer sends behind a call on stream 1 that is open, and the code of its reset: only the stream goes.
STREAM_ACTS = {
    "data_beyond_the_window": (wire.data(1, bytes(70_000)), wire.FLOW_CONTROL_ERROR),
    "window_overflow": (wire.window_update(1, 2**31 - 1), wire.FLOW_CONTROL_ERROR),
    "window_update_of_nothing": (wire.window_update(1, 0), wire.PROTOCOL_ERROR),
    "priority_of_4_octets": (wire.frame(wire.PRIORITY, 0, 1, bytes(4)), wire.FRAME_SIZE_ERROR),
    "priority_on_itself": (wire.frame(wire.PRIORITY, 0, 1, b"\x00\x00\x00\x01\x10"), wire.PROTOCOL_ERROR),
    "trailers_without_end": (wire.headers(1, [(b"x", b"y")]), wire.PROTOCOL_ERROR),
    "trailers_with_a_pseudo_field": (
        wire.headers(1, [(b":path", b"/")], wire.END_HEADERS | wire.END_STREAM),
        wire.PROTOCOL_ERROR,
    ),
    "data_after_the_end": (wire.data(1, b"", wire.END_STREAM) + wire.data(1, b"x"), wire.STREAM_CLOSED),
}


@pytest.mark.parametrize(("octets", "code"), STREAM_ACTS.values(), ids=list(STREAM_ACTS))
async def test_a_rule_broken_on_a_stream_ends_the_stream(octets: bytes, code: int) -> None:
    ended = asyncio.Event()

    async def wait(requests: Any, context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with honest_service(StreamUnary=wait) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(echo.path("StreamUnary").encode())))
            await peer.pong()
            await peer.send(octets)
            assert (await peer.until(wire.RST_STREAM, 1)).code == code
            await ended.wait()
            await peer.pong()


MALFORMED = {
    "no_path": [(b":method", b"POST"), (b":scheme", b"http")],
    "empty_path": wire.request_head(b""),
    "upper_case_name": wire.request_head(UNARY, (b"Name", b"x")),
    "name_not_ascii": wire.request_head(UNARY, (b"na\xffme", b"x")),
    "empty_name": wire.request_head(UNARY, (b"", b"x")),
    "newline_in_a_value": wire.request_head(UNARY, (b"name", b"a\r\nb: c")),
    "nul_in_a_value": wire.request_head(UNARY, (b"name", b"\x00")),
    "status_in_a_request": [(b":status", b"200"), *wire.request_head(UNARY)],
    "two_paths": [(b":path", b"/x"), *wire.request_head(UNARY)],
    "pseudo_field_last": [*wire.request_head(UNARY)[1:], (b":method", b"POST")],
    "connection_header": wire.request_head(UNARY, (b"connection", b"close")),
    "te_gzip": wire.request_head(UNARY, (b"te", b"gzip")),
    "content_length_not_a_number": wire.request_head(UNARY, (b"content-length", b"-1")),
    "content_length_given_twice": wire.request_head(UNARY, (b"content-length", b"1"), (b"content-length", b"2")),
}


@pytest.mark.parametrize("pairs", MALFORMED.values(), ids=list(MALFORMED))
async def test_a_malformed_request_is_reset_and_the_connection_goes_on(pairs: Any) -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, pairs))
            assert (await peer.until(wire.RST_STREAM, 1)).code == wire.PROTOCOL_ERROR
            await peer.send(wire.headers(3, wire.request_head(UNARY)))
            await peer.send(wire.data(3, wire.message(b"next"), wire.END_STREAM))
            assert (await peer.until(wire.DATA, 3)).payload == wire.message(b"next")


async def test_content_longer_than_announced_is_reset() -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(UNARY, (b"content-length", b"5"))))
            await peer.send(wire.data(1, wire.message(b"longer")))
            assert (await peer.until(wire.RST_STREAM, 1)).code == wire.PROTOCOL_ERROR


GOOD = wire.message(b"hello")
HUGE = struct.pack(">BI", 0, 2**31)

#: A request's header section and content, the status, and what its text must name.
REFUSED: dict[str, tuple[Any, bytes, grpc.StatusCode, list[str]]] = {
    "unknown_method": (wire.request_head(b"/no/Such"), GOOD, grpc.StatusCode.UNIMPLEMENTED, ["Method not found"]),
    "path_not_utf8": (wire.request_head(b"/\xff\xfe/\x80"), GOOD, grpc.StatusCode.UNIMPLEMENTED, ["Method not found"]),
    "path_without_a_slash": (wire.request_head(b"*"), GOOD, grpc.StatusCode.UNIMPLEMENTED, ["Method not found"]),
    "header_list_too_large": (
        wire.request_head(UNARY, *[(b"name-%d" % n, b"v" * 1000) for n in range(30)]),
        GOOD,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ["metadata larger than max"],
    ),
    "bad_timeout": (
        wire.request_head(UNARY, (b"grpc-timeout", b"soon")),
        GOOD,
        grpc.StatusCode.INTERNAL,
        ["grpc-timeout"],
    ),
    "timeout_not_utf8": (
        wire.request_head(UNARY, (b"grpc-timeout", b"\xff\xff")),
        GOOD,
        grpc.StatusCode.INTERNAL,
        ["grpc-timeout"],
    ),
    "no_time_left": (
        wire.request_head(UNARY, (b"grpc-timeout", b"0n")),
        GOOD,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        ["Deadline Exceeded"],
    ),
    "white_space_in_front": (wire.request_head(UNARY, (b"key", b" v")), GOOD, grpc.StatusCode.INTERNAL, ["'key'"]),
    "white_space_behind": (wire.request_head(UNARY, (b"key", b"v\t")), GOOD, grpc.StatusCode.INTERNAL, ["'key'"]),
    "unknown_encoding": (
        wire.request_head(UNARY, (b"grpc-encoding", b"zip\xff")),
        GOOD,
        grpc.StatusCode.UNIMPLEMENTED,
        ["zip"],
    ),
    "metadata_not_base64": (
        wire.request_head(UNARY, (b"key-bin", b"\xff!")),
        GOOD,
        grpc.StatusCode.INTERNAL,
        ["key-bin", "base64"],
    ),
    "message_too_large": (
        wire.request_head(UNARY),
        struct.pack(">BI", 0, 5_000_000),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ["5000000", "4194304"],
    ),
    "length_of_2_gib": (wire.request_head(UNARY), HUGE, grpc.StatusCode.RESOURCE_EXHAUSTED, ["2147483648", "4194304"]),
    "flag_of_2": (wire.request_head(UNARY), b"\x02\x00\x00\x00\x01x", grpc.StatusCode.INTERNAL, ["flag"]),
    "no_message": (wire.request_head(UNARY), b"", grpc.StatusCode.UNIMPLEMENTED, ["exactly one request"]),
    "half_a_prefix": (wire.request_head(UNARY), b"\x00\x00", grpc.StatusCode.INTERNAL, ["ended within a message"]),
    "half_a_message": (wire.request_head(UNARY), GOOD[:-1], grpc.StatusCode.INTERNAL, ["ended within a message"]),
    "compressed_without_an_encoding": (
        wire.request_head(UNARY),
        wire.message(gzip.compress(b"x"), 1),
        grpc.StatusCode.INTERNAL,
        ["identity"],
    ),
    "not_gzip": (
        wire.request_head(UNARY, (b"grpc-encoding", b"gzip")),
        wire.message(b"not gzip", 1),
        grpc.StatusCode.INTERNAL,
        ["gzip"],
    ),
    "gzip_bomb": (
        wire.request_head(UNARY, (b"grpc-encoding", b"gzip")),
        wire.message(gzip.compress(bytes(30 << 20)), 1),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ["more than 4194304", "4194304"],
    ),
}


def status_of(trailers: wire.Frame) -> tuple[grpc.StatusCode, str]:
    fields = trailers.fields
    number = int(fields[b"grpc-status"])
    [code] = [code for code in grpc.StatusCode if code.value[0] == number]
    return code, fields.get(b"grpc-message", b"").decode("ascii")


@pytest.mark.parametrize("kind", ["UnaryUnary", "StreamStream"])
@pytest.mark.parametrize(("pairs", "content", "code", "named"), REFUSED.values(), ids=list(REFUSED))
async def test_a_call_that_is_wrong_gets_a_status(
    pairs: Any, content: bytes, code: grpc.StatusCode, named: list[str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "StreamStream":
        pairs = [(name, STREAM if value == UNARY else value) for name, value in pairs]
        if not content:
            code, named = grpc.StatusCode.OK, []
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, pairs), wire.data(1, content, wire.END_STREAM))
            trailers = await peer.until(wire.HEADERS, 1)
            while not trailers.ends_stream:
                trailers = await peer.until(wire.HEADERS, 1)
            seen, text = status_of(trailers)
            assert seen is code, text
            for name in named:
                assert name in text
            await peer.pong()
    assert complaints(caplog) == [], "a peer's fault is no failure of the handler"


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([(b":method", b"GET"), *wire.request_head(UNARY)[1:]], b"405"),
        ([*wire.request_head(UNARY)[:-1], (b"content-type", b"text/html")], b"415"),
        (wire.request_head(UNARY)[:-1], b"415"),
        ([*wire.request_head(UNARY)[:-1], (b"content-type", b"application/grpc\xff")], b"415"),
    ],
)
async def test_what_is_no_grpc_request_gets_an_http_status(pairs: Any, status: bytes) -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, pairs, wire.END_HEADERS | wire.END_STREAM))
            answer = await peer.until(wire.HEADERS, 1)
            assert answer.ends_stream
            assert answer.fields[b":status"] == status


async def test_headers_that_are_not_utf8_reach_the_handler_as_text() -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        seen.extend(context.invocation_metadata())
        return request

    async with honest_service(UnaryUnary=handler) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            odd = [(b"user-agent", b"\xc3(\xff"), (b"text", b"\xff\xfe"), (b"euro", "€".encode())]
            await peer.send(wire.headers(1, wire.request_head(UNARY, *odd)), wire.data(1, GOOD, wire.END_STREAM))
            assert not (await peer.until(wire.HEADERS, 1)).ends_stream
            assert status_of(await peer.until(wire.HEADERS, 1)) == (grpc.StatusCode.OK, "")
    assert ("user-agent", "Ã(ÿ") in seen
    assert ("text", "ÿþ") in seen
    assert ("euro", "€") in seen


@pytest.mark.parametrize(
    ("path", "times"),
    [(b"/\xff\xfe/\x80", 0), (b"//", 1), (b"/" + b"x" * 8000, 1), ("/ü".encode(), 1), (b"nothing", 1)],
)
async def test_a_generic_handler_is_asked_about_paths_that_are_text(path: bytes, times: int) -> None:
    asked: list[str] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> None:
            asked.append(handler_call_details.method)

    server = aio.server()
    server.add_generic_rpc_handlers([Handler()])
    async with honest_service(server=server) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(path)), wire.data(1, GOOD, wire.END_STREAM))
            assert status_of(await peer.until(wire.HEADERS, 1))[0] is grpc.StatusCode.UNIMPLEMENTED
    assert asked == times * [path.decode(errors="replace")]


async def test_a_generic_handler_that_raises_costs_its_call_only(caplog: pytest.LogCaptureFixture) -> None:
    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> None:
            raise ValueError("no idea")

    server = aio.server()
    server.add_generic_rpc_handlers([Handler()])
    async with honest_service(server=server) as service:
        with pytest.raises(aio.AioRpcError) as raised:
            await service.channel.unary_unary("/who/Knows")(b"", timeout=10)
        assert raised.value.code() is grpc.StatusCode.UNKNOWN
        del raised
    assert complaints(caplog) == [("Cannot find out who handles a call", ValueError)]


async def test_a_deadline_is_kept_for_a_client_that_never_sends_its_request() -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(UNARY, (b"grpc-timeout", b"1m"))))
            trailers = await peer.until(wire.HEADERS, 1)
            assert status_of(trailers)[0] is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_frames_of_unknown_types_are_ignored() -> None:
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(*(wire.frame(kind, 0xFF, kind, b"x" * kind) for kind in range(10, 256)))
            await peer.pong()


async def test_a_dribble_is_understood() -> None:
    octets = HELLO + wire.headers(1, wire.request_head(UNARY)) + wire.data(1, GOOD, wire.END_STREAM)
    async with honest_service() as service:
        with await wire.Peer.connect(service.port) as peer:
            peer.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
            for octet in octets:
                await peer.send(bytes([octet]))
                await asyncio.sleep(0)
            assert (await peer.until(wire.DATA, 1)).payload == GOOD


# Handlers and serializers that raise.


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be shown")


FAILURES: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("broken"),
    "surrogates": lambda: ValueError("\udcff broken"),
    "control_characters": lambda: ValueError("line\r\nbroken\x00"),
    "long": lambda: ValueError("broken" * 10_000),
    "stop_iteration": lambda: StopIteration(("a", "tuple")),
    "stop_async_iteration": lambda: StopAsyncIteration(),
    "unprintable": Unprintable,
    "generator_exit": lambda: GeneratorExit(),
    "cancelled": lambda: asyncio.CancelledError(),
    "base_exception": lambda: BaseException("broken"),
}


def raising(kind: str, error: Callable[[], BaseException], after: bool) -> Callable[..., Any]:
    """A handler that raises, before or after its first response."""

    async def unary(request: Any, context: Any) -> bytes:
        if after:
            await context.send_initial_metadata([("key", "value")])
        raise error()

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        if after:
            yield b"one"
        raise error()
        yield b""

    return stream if kind.endswith("Stream") else unary


async def outcome(service: echo.Service, kind: str) -> tuple[grpc.StatusCode, str]:
    """How a call of a method ends."""
    requests = iter([b"1"]) if kind.startswith("Stream") else b"1"
    call = {
        "UnaryUnary": service.unary_unary,
        "UnaryStream": service.unary_stream,
        "StreamUnary": service.stream_unary,
        "StreamStream": service.stream_stream,
    }[kind](requests, timeout=30)
    try:
        if kind.endswith("Stream"):
            async for _ in call:
                pass
        else:
            await call
    except (aio.AioRpcError, asyncio.CancelledError):
        pass
    return await call.code(), await call.details()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["at_once", "later"])
@pytest.mark.parametrize("kind", list(echo.DEFAULTS))
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_handler_that_raises_ends_its_call(
    failure: str, kind: str, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo.serving(**{kind: raising(kind, FAILURES[failure], after)}) as service:
        code, text = await outcome(service, kind)
        other = next(other for other in echo.DEFAULTS if other != kind)
        assert await outcome(service, other) == (grpc.StatusCode.OK, "")
    if failure == "cancelled":
        assert code is grpc.StatusCode.CANCELLED
        assert complaints(caplog) == []
    else:
        assert code is grpc.StatusCode.UNKNOWN
        assert text.startswith("Unexpected")
        [(record, error)] = complaints(caplog)
        assert echo.path(kind) in record
        assert error is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", list(echo.DEFAULTS))
@pytest.mark.parametrize("failure", ["exception", "stop_iteration", "unprintable", "base_exception"])
async def test_a_plain_function_that_raises_ends_its_call(
    failure: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def unary(request: Any, context: Any) -> bytes:
        raise FAILURES[failure]()

    def stream(request: Any, context: Any) -> Iterator[bytes]:
        yield b"one"
        raise FAILURES[failure]()

    with ThreadPoolExecutor(1) as pool:
        handler = stream if kind.endswith("Stream") else unary
        async with echo.serving(server=aio.server(pool), **{kind: handler}) as service:
            code, _ = await outcome(service, kind)
            assert code is grpc.StatusCode.UNKNOWN
    assert len(complaints(caplog)) == 1


class Broken(Exception):
    """What a serializer raises."""


def broken(message: Any) -> Any:
    raise Broken


CODECS = {
    "deserializer_raises": (broken, None, "Exception deserializing request!", Broken),
    "serializer_raises": (None, broken, "Failed to serialize response!", Broken),
    "serializer_gives_text": (None, lambda message: "text", "Failed to serialize response!", TypeError),
    "serializer_gives_nothing": (None, lambda message: None, "Failed to serialize response!", TypeError),
}


@pytest.mark.parametrize("kind", list(echo.DEFAULTS))
@pytest.mark.parametrize(("deserializer", "serializer", "text", "error"), CODECS.values(), ids=list(CODECS))
async def test_a_serializer_that_raises_is_an_internal_error(
    deserializer: Any, serializer: Any, text: str, error: type[Exception], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = aio.server()
    codecs = {"request_deserializer": deserializer, "response_serializer": serializer}
    handler = echo._HANDLERS[kind](echo.DEFAULTS[kind], **codecs)
    server.add_registered_method_handlers("test.Codec", {"Method": handler})
    async with honest_service(server=server) as service:
        requests = iter([b"1"]) if kind.startswith("Stream") else b"1"
        methods = [service.channel.unary_unary, service.channel.unary_stream]
        methods += [service.channel.stream_unary, service.channel.stream_stream]
        method = dict(zip(echo.DEFAULTS, methods, strict=True))[kind]("/test.Codec/Method")
        call = method(requests, timeout=30)
        if kind.endswith("Stream"):
            with pytest.raises(aio.AioRpcError):
                await call.read()
        assert await call.code() is grpc.StatusCode.INTERNAL
        assert await call.details() == text
    assert complaints(caplog) == [
        (f"Unexpected [{error.__name__}] raised by servicer method [/test.Codec/Method]", error)
    ]


async def test_a_response_that_cannot_be_serialized_is_told_to_who_writes_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def handler(request: bytes, context: Any) -> None:
        for response in (b"fine", object(), b"too late"):
            try:
                await context.write(response)
            except Exception as error:
                seen.append(type(error).__name__)

    async with honest_service(UnaryStream=handler) as service:
        call = service.unary_stream(b"")
        assert await call.read() == b"fine"
        with pytest.raises(aio.AioRpcError):
            await call.read()
        assert await call.code() is grpc.StatusCode.INTERNAL
    assert seen == ["TypeError", "UsageError"]


async def test_messages_over_the_limits_are_named_with_their_sizes() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    limits = [("grpc.max_receive_message_length", 1000), ("grpc.max_send_message_length", 2000)]
    async with honest_service(server=aio.server(options=limits), UnaryUnary=handler_or_echo(handler)) as service:
        for request, details in (
            (bytes(1001), "SERVER: Received message larger than max (1001 vs. 1000)"),
            (b"2001", "SERVER: Sent message larger than max (2001 vs. 2000)"),
        ):
            call = service.unary_unary(request)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call.details() == details
        assert await service.unary_unary(b"2000") == bytes(2000)


def handler_or_echo(handler: Callable[[bytes, Any], Any]) -> Callable[[bytes, Any], Any]:
    async def either(request: bytes, context: Any) -> bytes:
        return await (handler if request.isdigit() else echo.echo)(request, context)

    return either


async def test_a_client_names_the_sizes_too() -> None:
    limits = [("grpc.max_receive_message_length", 1000), ("grpc.max_send_message_length", 2000)]
    async with echo.serving(channel_options=limits) as service:
        for request, details in (
            (bytes(1001), "CLIENT: Received message larger than max (1001 vs. 1000)"),
            (bytes(2001), "CLIENT: Sent message larger than max (2001 vs. 2000)"),
        ):
            call = service.unary_unary(request)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call.details() == details


async def test_a_handler_that_swallows_its_cancellation_ends_all_the_same() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
        return b"too late"

    async with honest_service(StreamUnary=handler) as service:
        with await wire.Peer.connect(service.port) as peer:
            await peer.greet()
            await peer.send(wire.headers(1, wire.request_head(echo.path("StreamUnary").encode())))
            await asked.wait()
            await peer.send(wire.reset(1, wire.CANCEL))
            await ended.wait()
            await peer.pong()


async def test_a_task_that_somebody_cancels_sends_a_status() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        return b"never"

    async with echo.serving(UnaryUnary=handler) as service:
        assert await outcome(service, "UnaryUnary") == (grpc.StatusCode.CANCELLED, "The handler was cancelled")


async def test_a_handler_that_returns_nothing_where_a_stream_is_due_ends_its_call() -> None:
    async def handler(request: bytes, context: Any) -> None:
        return None

    async with echo.serving(UnaryStream=handler) as service:
        assert await outcome(service, "UnaryStream") == (grpc.StatusCode.OK, "")
