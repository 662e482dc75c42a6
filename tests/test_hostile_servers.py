"""Servers that break rules: each call ends quickly with the right status, and nothing is left of the connection."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import wire
from oxgrpc import aio

#: Seconds after which a call that should long have ended has hung. None of the calls has a deadline of its own.
HANG_SECONDS = 20.0

Script = Callable[[wire.Peer], Awaitable[None]]


async def stay(peer: wire.Peer) -> None:
    """Reads on: the connection ends when the client ends it."""
    await peer.rest()


def answering(*octets: bytes, then: Script = stay) -> Script:
    """A server that waits for a request's end and answers with these octets, whatever the request."""

    async def script(peer: wire.Peer) -> None:
        await peer.send(wire.settings())
        while not (await peer.until(wire.DATA)).ends_stream:
            pass
        await peer.send(*octets)
        await then(peer)

    return script


async def leave(peer: wire.Peer) -> None:
    """The server is gone at once."""


async def crash(peer: wire.Peer) -> None:
    """The server's kernel resets the connection."""
    peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER


@asynccontextmanager
async def channel_to(script: Script, *options: tuple[str, Any]) -> AsyncIterator[aio.Channel]:
    async with (
        wire.peer_server(script) as port,
        aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        yield channel


async def unary(channel: aio.Channel) -> tuple[grpc.StatusCode, str]:
    call = channel.unary_unary("/test/Unary")(b"request")
    code = await asyncio.wait_for(call.code(), HANG_SECONDS)
    return code, await call.details()


async def stream(channel: aio.Channel) -> tuple[grpc.StatusCode, str]:
    """Reads a stream to its end."""
    call = channel.unary_stream("/test/Stream")(b"request")

    async def read() -> None:
        async for _ in call:
            pass

    try:
        await asyncio.wait_for(read(), HANG_SECONDS)
    except aio.AioRpcError as error:
        code, details = error.code(), error.details()
        assert code is await call.code()
        return code, details
    return await call.code(), await call.details()


CALLS = {"unary": unary, "stream": stream}

END = wire.END_HEADERS | wire.END_STREAM
HEAD = wire.headers(1, wire.RESPONSE_HEAD)
ONE = wire.data(1, wire.message(b"response"))


def trailers(*pairs: tuple[bytes, bytes]) -> bytes:
    return wire.headers(1, pairs, END)


def only_trailers(*pairs: tuple[bytes, bytes]) -> bytes:
    return wire.headers(1, [*wire.RESPONSE_HEAD, *pairs], END)


def http(status: bytes, *pairs: tuple[bytes, bytes]) -> bytes:
    """What a proxy answers that knows nothing of gRPC."""
    head = wire.headers(1, [(b":status", status), (b"content-type", b"text/html"), *pairs])
    return head + wire.data(1, b"<html>sorry</html>", wire.END_STREAM)


OK = trailers((b"grpc-status", b"0"))
Code = grpc.StatusCode
FAILED = Code.FAILED_PRECONDITION

#: What a server answers, the status, and what its text must name.
ANSWERS: dict[str, tuple[bytes, grpc.StatusCode, str]] = {
    "no_grpc_status": (HEAD + ONE + trailers((b"x", b"y")), Code.UNKNOWN, "without a grpc-status"),
    "no_trailers": (HEAD + ONE + wire.data(1, b"", wire.END_STREAM), Code.INTERNAL, "without trailers"),
    "no_trailers_behind_the_response": (
        HEAD + wire.data(1, wire.message(b"x"), wire.END_STREAM),
        Code.INTERNAL,
        "without trailers",
    ),
    "nothing_but_a_head": (wire.headers(1, wire.RESPONSE_HEAD, END), Code.UNKNOWN, "without a grpc-status"),
    "http_400": (http(b"400"), Code.INTERNAL, "400"),
    "http_401": (http(b"401"), Code.UNAUTHENTICATED, "401"),
    "http_403": (http(b"403"), Code.PERMISSION_DENIED, "403"),
    "http_404": (http(b"404"), Code.UNIMPLEMENTED, "404"),
    "http_418": (http(b"418"), Code.UNKNOWN, "418"),
    "http_429": (http(b"429"), Code.UNAVAILABLE, "429"),
    "http_500": (http(b"500"), Code.UNKNOWN, "500"),
    "http_502": (http(b"502"), Code.UNAVAILABLE, "502"),
    "http_503": (http(b"503"), Code.UNAVAILABLE, "503"),
    "http_504": (http(b"504"), Code.UNAVAILABLE, "504"),
    "http_503_without_content": (wire.headers(1, [(b":status", b"503")], END), Code.UNAVAILABLE, "503"),
    "http_503_that_goes_on": (
        wire.headers(1, [(b":status", b"503"), (b"content-type", b"text/html")]),
        Code.UNAVAILABLE,
        "503",
    ),
    "http_200_text": (http(b"200"), Code.UNKNOWN, "text/html"),
    "content_type_not_utf8": (
        wire.headers(1, [(b":status", b"200"), (b"content-type", b"\xff\xfe")]),
        Code.UNKNOWN,
        "content-type",
    ),
    "grpc_status_beside_http_503": (
        wire.headers(1, [(b":status", b"503"), (b"grpc-status", b"5")], END),
        Code.NOT_FOUND,
        "",
    ),
    "status_17": (only_trailers((b"grpc-status", b"17")), Code.UNKNOWN, ""),
    "status_minus_1": (only_trailers((b"grpc-status", b"-1")), Code.UNKNOWN, ""),
    "status_empty": (only_trailers((b"grpc-status", b"")), Code.UNKNOWN, ""),
    "status_not_utf8": (only_trailers((b"grpc-status", b"\xff")), Code.UNKNOWN, ""),
    "status_too_long": (only_trailers((b"grpc-status", b"9" * 1000)), Code.UNKNOWN, ""),
    "flag_of_7": (HEAD + wire.data(1, b"\x07\x00\x00\x00\x00"), Code.INTERNAL, "flag"),
    "length_of_2_gib": (
        HEAD + wire.data(1, struct.pack(">BI", 0, 2**31)),
        Code.RESOURCE_EXHAUSTED,
        "larger than max (2147483648 vs. 4194304)",
    ),
    "ends_within_a_message": (HEAD + wire.data(1, wire.message(b"xyz")[:-1]) + OK, Code.INTERNAL, "within a message"),
    "gzip_bomb": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"grpc-encoding", b"gzip")])
        + wire.data(1, wire.message(gzip.compress(bytes(30 << 20)), 1))
        + OK,
        Code.RESOURCE_EXHAUSTED,
        "more than 4194304",
    ),
    "not_gzip": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"grpc-encoding", b"gzip")])
        + wire.data(1, wire.message(b"not gzip", 1))
        + OK,
        Code.INTERNAL,
        "gzip",
    ),
    "compressed_without_an_encoding": (HEAD + wire.data(1, wire.message(b"x", 1)) + OK, Code.INTERNAL, "identity"),
    "unknown_encoding": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"grpc-encoding", b"zip\xff")]),
        Code.INTERNAL,
        "zip",
    ),
    "metadata_not_base64": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"key-bin", b"\xff")]),
        Code.INTERNAL,
        "key-bin",
    ),
    "trailers_not_base64": (HEAD + ONE + trailers((b"grpc-status", b"0"), (b"k-bin", b"!")), Code.INTERNAL, "k-bin"),
    "details_not_base64": (
        HEAD
        + ONE
        + trailers((b"grpc-status", b"5"), (b"grpc-message", b"not here"), (b"grpc-status-details-bin", b"!")),
        Code.NOT_FOUND,
        "not here",
    ),
    "a_failure_behind_ok": (HEAD + ONE + trailers((b"grpc-status", b"0"), (b"grpc-status", b"9")), FAILED, ""),
    "a_failure_before_ok": (HEAD + ONE + trailers((b"grpc-status", b"9"), (b"grpc-status", b"0")), FAILED, ""),
    "head_too_large": (
        wire.headers(1, [*wire.RESPONSE_HEAD, *((b"x-%d" % n, b"v" * 1000) for n in range(30))]),
        Code.RESOURCE_EXHAUSTED,
        "metadata larger than max",
    ),
    "trailers_too_large": (
        HEAD + ONE + trailers((b"grpc-status", b"0"), *((b"x-%d" % n, b"v" * 1000) for n in range(30))),
        Code.RESOURCE_EXHAUSTED,
        "metadata larger than max",
    ),
    "data_before_the_head": (ONE, Code.INTERNAL, "DATA before HEADERS"),
    "head_without_a_status": (wire.headers(1, [(b"content-type", b"application/grpc")]), Code.INTERNAL, ":status"),
    "head_with_a_path": (wire.headers(1, [*wire.RESPONSE_HEAD[:1], (b":path", b"/")]), Code.INTERNAL, "pseudo-field"),
    "head_with_a_bad_name": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"Upper", b"x")]),
        Code.INTERNAL,
        "forbidden character",
    ),
    "head_with_a_newline": (wire.headers(1, [*wire.RESPONSE_HEAD, (b"x", b"a\nb")]), Code.INTERNAL, "NUL, CR or LF"),
    "trailers_that_do_not_end": (HEAD + ONE + wire.headers(1, [(b"grpc-status", b"0")]), Code.INTERNAL, "trailers"),
    "content_length_that_differs": (
        wire.headers(1, [*wire.RESPONSE_HEAD, (b"content-length", b"5")]) + ONE,
        Code.INTERNAL,
        "content-length",
    ),
    "data_beyond_the_window": (
        HEAD + wire.data(1, struct.pack(">BI", 0, 60_000) + bytes(70_000)),
        Code.INTERNAL,
        "exceeds the stream's window",
    ),
}


async def test_details_that_are_dropped_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    octets = HEAD + ONE + trailers((b"grpc-status", b"5"), (b"grpc-status-details-bin", b"!"), (b"key", b"kept"))
    async with channel_to(answering(octets)) as channel:
        call = channel.unary_unary("/test/Unary")(b"request")
        assert await call.code() is Code.NOT_FOUND
        assert list(await call.trailing_metadata()) == [("key", "kept")]
    (record,) = (record for record in caplog.records if record.name == "oxgrpc.channel")
    assert "grpc-status-details-bin" in record.getMessage()
    assert record.levelname == "WARNING"


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(("octets", "code", "named"), ANSWERS.values(), ids=list(ANSWERS))
async def test_an_answer_that_is_wrong_ends_the_call(
    octets: bytes, code: grpc.StatusCode, named: str, kind: str
) -> None:
    async with channel_to(answering(octets)) as channel:
        seen, details = await CALLS[kind](channel)
        assert seen is code, details
        assert named in details


@pytest.mark.parametrize("octets", [HEAD + OK, only_trailers((b"grpc-status", b"0"))], ids=["trailers", "at_once"])
async def test_no_response_is_not_one(octets: bytes) -> None:
    async with channel_to(answering(octets)) as channel:
        assert (await unary(channel))[0] is Code.UNIMPLEMENTED
    async with channel_to(answering(octets)) as channel:
        assert await stream(channel) == (Code.OK, "")


@pytest.mark.parametrize("end", [OK, b""], ids=["that_end", "that_do_not_end"])
@pytest.mark.parametrize("count", [2, 1000])
async def test_several_responses_are_not_one(count: int, end: bytes) -> None:
    async with channel_to(answering(HEAD, wire.data(1, count * wire.message(b"x")), end)) as channel:
        code, details = await unary(channel)
        assert code is Code.UNIMPLEMENTED
        assert "several responses" in details


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_a_second_response_counts_however_late_it_comes(kind: str) -> None:
    async def in_pieces(peer: wire.Peer) -> None:
        for octet in wire.message(b"second"):
            await peer.pong()
            await peer.send(wire.data(1, bytes([octet])))
        await peer.send(OK)
        await stay(peer)

    async with channel_to(answering(HEAD + ONE, then=in_pieces)) as channel:
        if kind == "unary_unary":
            call = channel.unary_unary("/test/Unary")(b"request")
        else:
            call = channel.stream_unary("/test/Unary")()
            await call.write(b"request")
            await call.done_writing()
        with pytest.raises(aio.AioRpcError) as raised:
            await asyncio.wait_for(call, HANG_SECONDS)
        assert raised.value.code() is Code.UNIMPLEMENTED
        assert "several responses" in (raised.value.details() or "")


RESETS = {
    wire.NO_ERROR: Code.INTERNAL,
    wire.PROTOCOL_ERROR: Code.INTERNAL,
    wire.INTERNAL_ERROR: Code.INTERNAL,
    wire.FLOW_CONTROL_ERROR: Code.INTERNAL,
    wire.FRAME_SIZE_ERROR: Code.INTERNAL,
    wire.REFUSED_STREAM: Code.UNAVAILABLE,
    wire.CANCEL: Code.CANCELLED,
    wire.COMPRESSION_ERROR: Code.INTERNAL,
    wire.CONNECT_ERROR: Code.INTERNAL,
    wire.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    wire.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
    0xDEADBEEF: Code.INTERNAL,
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("before", [b"", HEAD, HEAD + ONE], ids=["at_once", "behind_the_head", "behind_a_message"])
@pytest.mark.parametrize(("number", "code"), RESETS.items())
async def test_a_reset_is_told_by_its_code(number: int, code: grpc.StatusCode, before: bytes, kind: str) -> None:
    async def again(peer: wire.Peer) -> None:
        # What is refused before it is answered is made again, once.
        await peer.until(wire.DATA, 3)
        await peer.send(wire.reset(3, number))
        await stay(peer)

    then = again if (number, before) == (wire.REFUSED_STREAM, b"") else stay
    async with channel_to(answering(before, wire.reset(1, number), then=then)) as channel:
        seen, details = await CALLS[kind](channel)
        assert seen is code
        assert str(number) in details


async def test_a_reset_behind_the_trailers_is_of_no_interest() -> None:
    async with channel_to(answering(HEAD, ONE, OK, wire.reset(1, wire.CANCEL))) as channel:
        assert await unary(channel) == (Code.OK, "")


MESSAGES = {
    b"plain": "plain",
    b"50%25 %C3%BC": "50% ü",
    b"%": "%",
    b"%4": "%4",
    b"%zz%41": "%zzA",
    b"%%41": "%A",
    b"a%0Ab": "a\nb",
    b"%00": "\x00",
    "ü".encode(): "ü",
}


@pytest.mark.parametrize(("sent", "seen"), MESSAGES.items())
async def test_odd_escapes_are_read_as_far_as_they_go(sent: bytes, seen: str) -> None:
    async with channel_to(answering(only_trailers((b"grpc-status", b"5"), (b"grpc-message", sent)))) as channel:
        assert await unary(channel) == (Code.NOT_FOUND, seen)


@pytest.mark.parametrize("sent", [b"\xff\xfe", b"%FF%FE", b"%ED%A0%80", b"%" * 5000])
async def test_a_message_that_is_not_utf8_is_text_all_the_same(sent: bytes) -> None:
    async with channel_to(answering(only_trailers((b"grpc-status", b"5"), (b"grpc-message", sent)))) as channel:
        code, details = await unary(channel)
        assert code is Code.NOT_FOUND
        assert details.encode()


async def test_metadata_that_is_not_utf8_is_text_all_the_same() -> None:
    head = wire.headers(1, [*wire.RESPONSE_HEAD, (b"first", b"\xff\xfe")])
    tail = trailers((b"grpc-status", b"0"), (b"last", b"\x80\x81"))
    async with channel_to(answering(head, ONE, tail)) as channel:
        call = channel.unary_unary("/test/Unary")(b"request")
        assert await call == b"response"
        assert (await call.initial_metadata())["first"] == "ÿþ"
        assert (await call.trailing_metadata())["last"] == "\x80\x81"


CUTS = {
    "before_the_head": b"",
    "within_a_frame_head": HEAD[:5],
    "within_a_frame": HEAD[:20],
    "behind_the_head": HEAD,
    "within_a_message": HEAD + wire.data(1, wire.message(bytes(1000))[:500]),
    "behind_a_message": HEAD + ONE,
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("then", [leave, crash], ids=["closed", "reset"])
@pytest.mark.parametrize("octets", CUTS.values(), ids=list(CUTS))
async def test_a_connection_that_is_cut_is_unavailable(octets: bytes, then: Script, kind: str) -> None:
    async with channel_to(answering(octets, then=then)) as channel:
        assert (await CALLS[kind](channel))[0] is Code.UNAVAILABLE


#: What breaks a rule of the connection: all its calls end, and the log says why.
BROKEN = {
    "settings_flood": (20_000 * wire.settings(), "flood"),
    "ping_flood": (20_000 * wire.frame(wire.PING, 0, 0, bytes(8)), "flood"),
    "empty_data_flood": (HEAD + 20_000 * wire.data(1, b""), "flood"),
    "oversized_frame": (wire.frame(wire.DATA, 0, 1, bytes(16385)), "SETTINGS_MAX_FRAME_SIZE"),
    "padding": (wire.frame(wire.DATA, wire.PADDED, 1, b"\x09x"), "padding"),
    "push": (wire.frame(wire.PUSH_PROMISE, wire.END_HEADERS, 1, b"\x00\x00\x00\x02"), "PUSH_PROMISE"),
    "enables_push": (wire.settings((wire.ENABLE_PUSH, 1)), "enables push"),
    "hpack": (wire.frame(wire.HEADERS, END, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), "RFC 7541"),
    "head_without_end": (
        wire.headers(1, wire.RESPONSE_HEAD, 0)
        + 100 * wire.frame(wire.CONTINUATION, 0, 1, wire.field(b"x", 16000 * b"y")),
        "without end",
    ),
    "window_overflow": (wire.window_update(0, 2**31 - 1), "lifts a window"),
    "idle_stream": (wire.headers(99, wire.RESPONSE_HEAD), "not open"),
    "second_goaway_goes_up": (wire.goaway(3, 0) + wire.goaway(5, 0), "raises the last stream id"),
}


@pytest.mark.parametrize(("octets", "rule"), BROKEN.values(), ids=list(BROKEN))
async def test_a_broken_rule_ends_the_connection(octets: bytes, rule: str, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[wire.Frame] = []

    async def listen(peer: wire.Peer) -> None:
        heard.extend(await peer.rest())

    async def script(peer: wire.Peer) -> None:
        await peer.send(wire.settings())
        while not (await peer.until(wire.DATA)).ends_stream:
            pass
        await peer.send_unless_closed(octets)
        await listen(peer)

    async with channel_to(script) as channel:
        first, second = await asyncio.gather(unary(channel), stream(channel))
        assert first[0] is Code.UNAVAILABLE
        assert second[0] is Code.UNAVAILABLE
        assert rule in first[1]
        assert [rule in record.getMessage() for record in caplog.records if record.name == "oxgrpc.transport"] == [True]


#: Servers that never speak HTTP/2.
STRANGERS = {
    "http1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.x"),
    "tls": (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
    "garbage": (bytes(range(200, 256)), "preface"),
    "ping_first": (wire.frame(wire.PING, 0, 0, bytes(8)), "preface"),
    "silence_and_gone": (b"", ""),
    "goaway_first": (wire.goaway(0, wire.ENHANCE_YOUR_CALM, b"no"), ""),
}


@pytest.mark.parametrize(("octets", "named"), STRANGERS.values(), ids=list(STRANGERS))
async def test_a_server_that_speaks_something_else_is_unavailable(octets: bytes, named: str) -> None:
    async def script(peer: wire.Peer) -> None:
        await peer.send(octets)
        if octets:
            await peer.rest()

    async with channel_to(script) as channel:
        code, details = await unary(channel)
        assert code is Code.UNAVAILABLE
        assert named in details


async def test_a_server_that_never_says_anything_is_unavailable() -> None:
    async with channel_to(stay, ("grpc.min_reconnect_backoff_ms", 200)) as channel:
        code, details = await unary(channel)
        assert code is Code.UNAVAILABLE
        assert "SETTINGS" in details


async def test_a_deadline_holds_whatever_the_server_does() -> None:
    async with channel_to(stay) as channel:
        call = channel.unary_unary("/test/Unary")(b"", timeout=0.05)
        assert await asyncio.wait_for(call.code(), HANG_SECONDS) is Code.DEADLINE_EXCEEDED


GOAWAYS = {
    "before_the_call": (wire.goaway(0, wire.NO_ERROR), Code.UNAVAILABLE),
    "before_the_call_in_anger": (wire.goaway(0, wire.ENHANCE_YOUR_CALM, b"too_many_pings"), Code.UNAVAILABLE),
    "and_the_answer": (wire.goaway(1, wire.NO_ERROR) + HEAD + ONE + OK, Code.OK),
    "within_the_answer": (HEAD + wire.goaway(1, wire.NO_ERROR) + ONE + OK, Code.OK),
    "with_debug_data_not_utf8": (wire.goaway(0, wire.INTERNAL_ERROR, b"\xff\xfe"), Code.UNAVAILABLE),
    "graceful": (wire.goaway(2**31 - 1, wire.NO_ERROR) + HEAD + wire.goaway(1, wire.NO_ERROR) + ONE + OK, Code.OK),
    "that_takes_back": (
        HEAD + wire.goaway(2**31 - 1, wire.NO_ERROR) + ONE + wire.goaway(0, wire.NO_ERROR),
        Code.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(("octets", "code"), GOAWAYS.values(), ids=list(GOAWAYS))
async def test_goaway_at_odd_times(octets: bytes, code: grpc.StatusCode, kind: str) -> None:
    async with channel_to(answering(octets)) as channel:
        assert (await CALLS[kind](channel))[0] is code


async def test_the_next_call_finds_a_server_that_is_well_again() -> None:
    scripts = iter([answering(wire.goaway(1, wire.NO_ERROR), then=leave), answering(HEAD + ONE + OK)])

    async def script(peer: wire.Peer) -> None:
        await next(scripts)(peer)

    async with channel_to(script) as channel:
        assert (await unary(channel))[0] is Code.UNAVAILABLE
        assert await unary(channel) == (Code.OK, "")


@pytest.mark.parametrize(
    ("octets", "then"),
    [(HEAD + ONE + OK + wire.goaway(1, wire.NO_ERROR), stay), (b"", leave), (b"", crash)],
    ids=["goaway", "closed", "reset"],
)
async def test_a_call_that_starts_while_a_connection_ends_finds_the_next(octets: bytes, then: Script) -> None:
    """The channel learns of the end from this call: it would have been told in a moment."""
    started: list[Any] = []
    connections = 0

    class Request(asyncio.Future[bytes]):
        def cancel(self, msg: Any = None) -> bool:
            if not started:
                started.append(channel.unary_unary("/test/Unary")(b""))
                assert channel.get_state() is grpc.ChannelConnectivity.CONNECTING
            return super().cancel(msg)

    async def requests() -> AsyncIterator[bytes]:
        yield await Request()

    async def script(peer: wire.Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answering(HEAD + ONE + OK)(peer)
            return
        await peer.send(wire.settings())
        await peer.until(wire.HEADERS)
        await peer.send(octets)
        await then(peer)

    async with channel_to(script) as channel:
        call = channel.stream_unary("/test/StreamUnary")(requests())
        await asyncio.wait_for(call.code(), HANG_SECONDS)
        assert await asyncio.wait_for(started[0], HANG_SECONDS) == b"response"
        assert connections == 2


async def test_an_answer_in_single_octets_is_understood() -> None:
    async def script(peer: wire.Peer) -> None:
        peer.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
        await peer.send(wire.settings())
        while not (await peer.until(wire.DATA)).ends_stream:
            pass
        for octet in HEAD + ONE + OK:
            await peer.send(bytes([octet]))
            await asyncio.sleep(0)
        await stay(peer)

    async with channel_to(script) as channel:
        assert await unary(channel) == (Code.OK, "")


async def test_an_honest_channel_notices_nothing() -> None:
    async with echo.serving() as service:
        for octets, _, _ in list(ANSWERS.values())[::6]:
            async with channel_to(answering(octets)) as channel:
                assert (await unary(channel))[0] is not Code.OK
            assert await service.unary_unary(b"honest") == b"honest"


def broken(message: Any) -> Any:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("codec", "text"),
    [("request_serializer", "Exception serializing request!"), ("response_deserializer", "Exception deserializing")],
)
async def test_a_clients_serializer_that_raises_is_an_internal_error(codec: str, text: str) -> None:
    async with echo.serving() as service:
        channel = service.channel
        for kind, method in zip(
            echo.DEFAULTS,
            (channel.unary_unary, channel.unary_stream, channel.stream_unary, channel.stream_stream),
            strict=True,
        ):
            call = method(echo.path(kind), **{codec: broken})(iter([b"1"]) if kind.startswith("Stream") else b"1")
            with pytest.raises(aio.AioRpcError):
                await (call.read() if kind.endswith("Stream") else call)
            assert await asyncio.wait_for(call.code(), HANG_SECONDS) is Code.INTERNAL
            assert text in await call.details()
