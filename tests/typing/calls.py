"""A client's types: what a channel's methods take, what calls give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from typing_extensions import assert_type

import oxgrpc as grpc
from oxgrpc import aio


class Question:
    """A request."""


class Answer:
    """A response."""

    text = ""


def serialized(request: Question) -> bytes:
    return b""


def deserialized(response: bytes) -> Answer:
    return Answer()


async def questions() -> AsyncIterator[Question]:
    yield Question()


async def one_of_one(channel: aio.Channel) -> None:
    method = channel.unary_unary("/s/m", serialized, deserialized)
    assert_type(method, aio.UnaryUnaryMultiCallable[Question, Answer])
    call = method(Question(), timeout=1.5, metadata=(("k", "v"), ("k-bin", b"v")), wait_for_ready=True)
    assert_type(call, aio.UnaryUnaryCall[Question, Answer])
    assert_type(await call, Answer)
    assert_type(await asyncio.create_task(call), Answer)
    assert_type(await asyncio.wait_for(call, 1), Answer)
    assert_type(await call.code(), grpc.StatusCode)
    assert_type(await call.details(), str)
    assert_type(await call.initial_metadata(), aio.Metadata)
    assert_type(call.time_remaining(), "float | None")
    assert_type(call.cancel(), bool)
    first, second = await asyncio.gather(method(Question()), method(Question()))
    assert_type(first, Answer)
    assert_type(second, Answer)
    method(Answer())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    method(Question(), 1.5)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    method(Question(), metadata={"k": "v"})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    method(Question(), compression="gzip")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    channel.unary_unary("/s/m", serialized, deserialized="x")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    channel.unary_unary("/s/m", serialized, b"x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def many_of_one(channel: aio.Channel) -> None:
    call = channel.unary_stream("/s/m", serialized, deserialized)(Question())
    assert_type(call, aio.UnaryStreamCall[Question, Answer])
    async for answer in call:
        assert_type(answer, Answer)
    assert_type(await anext(call), Answer)
    while (read := await call.read()) is not aio.EOF:
        assert_type(read, Answer)
    unknown = await call.read()
    unknown.text  # type: ignore[union-attr] # pyright: ignore # noqa: B018
    if unknown:
        assert_type(unknown.text, str)
    await call  # type: ignore[misc] # pyright: ignore[reportGeneralTypeIssues]
    list(call)  # type: ignore[call-overload] # pyright: ignore


async def one_of_many(channel: aio.Channel) -> None:
    method = channel.stream_unary("/s/m", serialized, deserialized)
    assert_type(await method(questions()), Answer)
    assert_type(await method([Question()]), Answer)
    assert_type(await method(iter([Question()]), timeout=1), Answer)
    call = method()
    assert_type(call, aio.StreamUnaryCall[Question, Answer])
    await call.write(Question())
    await call.done_writing()
    assert_type(await call, Answer)
    await call.write(b"x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    method(Question())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    method([b"x"])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]


async def many_of_many(channel: aio.Channel) -> None:
    call = channel.stream_stream("/s/m", serialized, deserialized)(questions())
    assert_type(call, aio.StreamStreamCall[Question, Answer])
    async for answer in call:
        assert_type(answer, Answer)
    await call.write(Question())
    response = await call.read()
    if response == aio.EOF:
        return
    assert_type(response, Answer)
    await call.write(Answer())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def without_serializers() -> None:
    async with aio.insecure_channel("localhost:1", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary("/s/m")(b"x")
        assert_type(await call, bytes)
        assert_type(await channel.unary_unary("/s/m", serialized)(Question()), bytes)
        assert_type(await channel.unary_unary("/s/m", None, deserialized)(b"x"), Answer)
        assert_type(await channel.stream_unary("/s/m")([b"x"]), bytes)
        async for octets in channel.unary_stream("/s/m")(b"x"):
            assert_type(octets, bytes)
        channel.unary_unary("/s/m")("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    aio.insecure_channel(options={"k": 1}, target="x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def failures(channel: aio.Channel) -> None:
    try:
        await channel.unary_unary("/s/m")(b"")
    except aio.AioRpcError as error:
        assert_type(error.code(), grpc.StatusCode)
        assert_type(error.details(), "str | None")
        assert_type(error.trailing_metadata(), "aio.Metadata | None")
    state = channel.get_state(try_to_connect=True)
    assert_type(state, grpc.ChannelConnectivity)
    await channel.wait_for_state_change(state)
    await channel.close(grace=1)
