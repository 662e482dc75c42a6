"""Metadata: what either side sends, what the other sees, and what cannot be sent."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

PAIRS = (
    ("text", "value"),
    ("empty", ""),
    ("spaces", "in the middle"),
    ("punctuation", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"),
    ("data-bin", bytes(range(256))),
    ("empty-bin", b""),
    ("many", "1"),
    ("many", "2"),
    ("many-bin", b"\x00"),
    ("many-bin", b"\xff,\xff"),
    ("0-9_a.z", "each kind of character"),
    ("long", "x" * 4000),
)


def custom(metadata: Any) -> list[tuple[str, str | bytes]]:
    """What a client sent of its own."""
    return [(key, value) for key, value in metadata if key != "user-agent"]


class Recorder:
    """Handlers that note the metadata of their calls."""

    def __init__(self) -> None:
        self.metadata: Any = None

    async def unary(self, request: Any, context: Any) -> bytes:
        self.metadata = context.invocation_metadata()
        return b""

    async def stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        self.metadata = context.invocation_metadata()
        yield b""

    def serving(self) -> Any:
        return echo.serving(
            UnaryUnary=self.unary, UnaryStream=self.stream, StreamUnary=self.unary, StreamStream=self.stream
        )


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
@pytest.mark.parametrize(
    "as_type", [tuple, list, lambda pairs: aio.Metadata(*pairs)], ids=["tuple", "list", "Metadata"]
)
async def test_a_clients_metadata_arrives(kind: str, as_type: Any) -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        request = iter([b""]) if kind.startswith("stream") else b""
        call = getattr(service, kind)(request, metadata=as_type(PAIRS))
        await (call.read() if kind.endswith("stream") else call)
        assert custom(recorder.metadata) == list(PAIRS)
        call.cancel()


async def test_a_handler_sees_named_pairs() -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        await service.unary_unary(b"", metadata=(("key", "value"),))
        pair = recorder.metadata[-1]
        assert (pair.key, pair.value) == ("key", "value")
        assert isinstance(recorder.metadata, tuple)
        agents = [pair.value for pair in recorder.metadata if pair.key == "user-agent"]
        assert len(agents) == 1
        assert agents[0].startswith("grpc-python")


@pytest.mark.parametrize("metadata", [None, (), [], aio.Metadata()])
async def test_no_metadata(metadata: Any) -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        call = service.unary_unary(b"", metadata=metadata)
        await call
        assert custom(recorder.metadata) == []
        for received in (await call.initial_metadata(), await call.trailing_metadata()):
            assert isinstance(received, aio.Metadata)
            assert len(received) == 0


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_a_servers_metadata_arrives(kind: str) -> None:
    async def begin(context: Any) -> None:
        await context.send_initial_metadata(PAIRS)
        context.set_trailing_metadata(PAIRS[::-1])

    async def unary(request: Any, context: Any) -> bytes:
        await begin(context)
        return b"answer"

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        await begin(context)
        yield b"answer"

    async with echo.serving(UnaryUnary=unary, UnaryStream=stream, StreamUnary=unary, StreamStream=stream) as service:
        call = getattr(service, kind)(iter([b""]) if kind.startswith("stream") else b"")
        initial = await call.initial_metadata()
        assert initial == aio.Metadata(*PAIRS)
        assert await (call.read() if kind.endswith("stream") else call) == b"answer"
        assert await call.trailing_metadata() == aio.Metadata(*PAIRS[::-1])
        assert initial.get_all("many") == ["1", "2"]
        assert initial.get_all("many-bin") == [b"\x00", b"\xff,\xff"]


async def test_initial_metadata_comes_before_the_first_response() -> None:
    release = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("early", "yes"),))
        await release.wait()
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        assert (await call.initial_metadata())["early"] == "yes"
        assert not call.done()
        release.set()
        await call
        assert (await call.initial_metadata())["early"] == "yes"


async def test_initial_metadata_is_sent_once() -> None:
    outcomes: list[type[BaseException]] = []

    async def twice(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("first", "yes"),))
        try:
            await context.send_initial_metadata((("second", "yes"),))
        except aio.UsageError as error:
            outcomes.append(type(error))
        return b""

    async def after_a_response(request: bytes, context: Any) -> None:
        await context.write(b"")
        try:
            await context.send_initial_metadata((("late", "yes"),))
        except aio.UsageError as error:
            outcomes.append(type(error))

    async with echo.serving(UnaryUnary=twice, UnaryStream=after_a_response) as service:
        call = service.unary_unary(b"")
        await call
        assert await call.initial_metadata() == aio.Metadata(("first", "yes"))
        stream = service.unary_stream(b"")
        assert [message async for message in stream] == [b""]
        assert len(await stream.initial_metadata()) == 0
    assert outcomes == [aio.UsageError, aio.UsageError]


async def test_a_failed_call_has_its_metadata() -> None:
    async def handler(request: bytes, context: Any) -> None:
        context.set_trailing_metadata((("set", "before"), ("why-bin", b"\x00")))
        await context.abort(grpc.StatusCode.ABORTED, "no")

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.trailing_metadata() == aio.Metadata(("set", "before"), ("why-bin", b"\x00"))
        assert caught.value.initial_metadata() == aio.Metadata()
        assert await call.trailing_metadata() == caught.value.trailing_metadata()


async def test_a_handler_sees_what_it_has_set() -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        seen.append(tuple(context.trailing_metadata()))
        context.set_trailing_metadata((("first", "1"),))
        context.set_trailing_metadata((("second", "2"),))
        seen.append(tuple(context.trailing_metadata()))
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        await call
        assert seen == [(), (("second", "2"),)]
        assert await call.trailing_metadata() == aio.Metadata(("second", "2"))


INVALID: list[tuple[Any, type[Exception]]] = [
    ((("Capital", "x"),), ValueError),
    ((("sp ace", "x"),), ValueError),
    ((("", "x"),), ValueError),
    (((":path", "x"),), ValueError),
    ((("ümlaut", "x"),), ValueError),
    ((("new\nline", "x"),), ValueError),
    ((("key", "new\nline"),), ValueError),
    ((("key", "carriage\rreturn"),), ValueError),
    ((("key", "nul\0"),), ValueError),
    ((("key", "naïve"),), ValueError),
    ((("key", 1),), TypeError),
    ((("key", None),), TypeError),
    (((1, "x"),), TypeError),
    ((("key-bin", "text"),), TypeError),
    ((("key",),), TypeError),
    ((("key", "value", "more"),), TypeError),
    ((["key"],), TypeError),
    ((["key", "value", "more"],), TypeError),
    (("ab", "cd"), TypeError),
    (("key", "value"), TypeError),
    ({"key": "value"}, TypeError),
    (5, TypeError),
]


@pytest.mark.parametrize(("metadata", "error"), INVALID, ids=lambda value: repr(value)[:30])
async def test_what_cannot_be_sent_is_refused_where_it_is_given(metadata: Any, error: type[Exception]) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        with pytest.raises(error):
            await context.send_initial_metadata(metadata)
        with pytest.raises(error):
            context.set_trailing_metadata(metadata)
        with pytest.raises(error):
            await context.abort(grpc.StatusCode.ABORTED, "", metadata)
        return b"still fine"

    async with echo.serving(UnaryUnary=handler) as service:
        for refuse in (
            lambda: service.unary_unary(b"", metadata=metadata),
            lambda: service.stream_stream(metadata=metadata),
        ):
            with pytest.raises(error):
                refuse()
        assert await service.unary_unary(b"") == b"still fine"


async def test_bytes_are_taken_for_text() -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        await service.unary_unary(b"", metadata=((b"key", b"value"), ("grpc-own", "passes")))
        assert custom(recorder.metadata) == [("key", "value"), ("grpc-own", "passes")]


@pytest.mark.parametrize("as_pair", [list, iter, lambda pair: dict.fromkeys(pair)], ids=["list", "iterator", "dict"])
async def test_a_pair_is_anything_with_two_items(as_pair: Any) -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        await service.unary_unary(b"", metadata=[as_pair(("key", "value"))])
        assert custom(recorder.metadata) == [("key", "value")]


@pytest.mark.parametrize(
    "key",
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host", "te", "content-length"],
)
async def test_what_belongs_to_http_is_taken_and_not_sent(key: str) -> None:
    """A server resets a request with most of these (RFC 9113, section 8.2.2), and a client a response."""
    pairs = ((key, "x"), ("own", "y"))

    async def handler(request: bytes, context: Any) -> bytes:
        assert custom(context.invocation_metadata()) == [("own", "y")]
        await context.send_initial_metadata(pairs)
        context.set_trailing_metadata(pairs)
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"x", metadata=pairs)
        assert await call == b"x"
        assert await call.initial_metadata() == await call.trailing_metadata() == aio.Metadata(("own", "y"))
        with pytest.raises(ValueError, match="metadata"):
            service.unary_unary(b"", metadata=((key, "new\nline"),))


SOFT, HARD = "grpc.max_metadata_size", "grpc.absolute_max_metadata_size"


@pytest.mark.parametrize(
    ("options", "fits", "exceeds"),
    [
        ([], 16000, 17000),
        ([(HARD, 1000)], 500, 1000),
        ([(HARD, 1000), (SOFT, 2000)], 500, 1000),
        ([(SOFT, 2000), (HARD, 1000)], 500, 1000),
        ([(HARD, -1)], 16000, 17000),
        ([(SOFT, 1000)], 16000, 17000),
        ([(SOFT, 20000)], 24000, 26000),
        ([(SOFT, 1000), (HARD, 20000)], 19000, 21000),
    ],
    ids=str,
)
async def test_how_much_metadata_is_taken(options: list[tuple[str, int]], fits: int, exceeds: int) -> None:
    """What fits, grpcio takes too, though perhaps not always; what exceeds it never takes."""

    async def handler(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("much", int(request) * "x"),))
        return b""

    async with echo.serving(channel_options=options, UnaryUnary=handler) as service:
        await service.unary_unary(b"%d" % fits)
        with pytest.raises(aio.AioRpcError) as caught:
            await service.unary_unary(b"%d" % exceeds)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_channels_user_agent() -> None:
    recorder = Recorder()
    async with recorder.serving() as service:
        options = [("grpc.primary_user_agent", "before"), ("grpc.secondary_user_agent", "after")]
        async with aio.insecure_channel(service.target, options=options) as channel:
            await channel.unary_unary(echo.path("UnaryUnary"))(b"")
        words = dict(recorder.metadata)["user-agent"].split()
        assert (words[0], words[-1]) == ("before", "after")
        assert words[1].startswith("grpc-python")


def test_metadata_is_an_ordered_multimap() -> None:
    metadata = aio.Metadata(("a", "1"), ("b", "2"), ("a", "3"))
    assert len(metadata) == 3
    assert list(metadata) == [("a", "1"), ("a", "3"), ("b", "2")]
    assert metadata["a"] == "1"
    assert metadata.get_all("a") == ["1", "3"]
    assert metadata.get_all("z") == []
    assert metadata.get("a") == "1"
    assert metadata.get("z") is None
    assert metadata.get("z", "default") == "default"
    assert "a" in metadata
    assert "z" not in metadata
    assert list(metadata.keys()) == ["a", "b"]
    assert list(metadata.values()) == [["1", "3"], ["2"]]
    assert list(metadata.items()) == [("a", ["1", "3"]), ("b", ["2"])]
    assert dict(metadata) == {"a": "1", "b": "2"}
    with pytest.raises(KeyError):
        metadata["z"]


def test_metadata_is_changed() -> None:
    metadata = aio.Metadata()
    metadata.add("a", "1")
    metadata.add("a", "2")
    metadata["a"] = "first"
    assert metadata.get_all("a") == ["first", "2"]
    metadata["b"] = b"new"
    assert metadata["b"] == b"new"
    del metadata["a"]
    assert metadata.get_all("a") == ["2"]
    del metadata["a"]
    assert "a" not in metadata
    metadata.set_all("c", ["1", "2", "3"])
    assert len(metadata) == 4
    metadata.delete_all("c")
    assert list(metadata) == [("b", b"new")]
    with pytest.raises(KeyError):
        del metadata["a"]
    with pytest.raises(KeyError):
        metadata.delete_all("a")


def test_metadata_is_compared_added_and_made_of_pairs() -> None:
    metadata = aio.Metadata(("a", "1"), ("b", "2"))
    assert metadata == aio.Metadata(("a", "1"), ("b", "2"))
    assert metadata != aio.Metadata(("a", "1"))
    assert metadata == (("a", "1"), ("b", "2"))
    assert metadata != aio.Metadata(("b", "2"), ("a", "1"))
    assert metadata != (("b", "2"), ("a", "1"))
    assert metadata != "something else"
    assert metadata == aio.Metadata.from_tuple((("a", "1"), ("b", "2")))
    assert aio.Metadata.from_tuple(None) == aio.Metadata.from_tuple(()) == aio.Metadata()
    assert metadata + aio.Metadata(("a", "3")) == aio.Metadata(("a", "1"), ("b", "2"), ("a", "3"))
    assert metadata + (("c", "3"),) == aio.Metadata(("a", "1"), ("b", "2"), ("c", "3"))  # noqa: RUF005
    assert len(metadata) == 2
    with pytest.raises(TypeError):
        metadata + 1
    with pytest.raises(TypeError):
        hash(metadata)
    assert "('a', '1')" in repr(metadata)
    assert pickle.loads(pickle.dumps(metadata)) == metadata
