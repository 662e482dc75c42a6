"""A server's types: handlers of all kinds, asynchronous and plain, and what they may do with their context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from typing_extensions import assert_type

import oxgrpc as grpc
from oxgrpc import aio


class Question:
    """A request."""


class Answer:
    """A response."""


def deserialized(request: bytes) -> Question:
    return Question()


def serialized(response: Answer) -> bytes:
    return b""


Context = aio.ServicerContext[Question, Answer]


async def one_of_one(request: Question, context: Context) -> Answer:
    assert_type(context.peer(), str)
    assert_type(context.time_remaining(), "float | None")
    for pair in context.invocation_metadata():
        assert_type(pair.key, str)
        key, value = pair
        assert_type(key, str)
        assert_type(value, "str | bytes")
    context.set_trailing_metadata((("k", "v"),))
    context.set_code("NOT_FOUND")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await context.abort(grpc.StatusCode.NOT_FOUND, "there is none", (("k", "v"),))


async def many_of_one(request: Question, context: Context) -> AsyncIterator[Answer]:
    yield Answer()


async def many_of_one_written(request: Question, context: Context) -> None:
    await context.send_initial_metadata(aio.Metadata(("k", "v")))
    await context.write(Answer())
    await context.write(b"x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def one_of_many(request_iterator: AsyncIterator[Question], context: Context) -> Answer:
    async for request in request_iterator:
        assert_type(request, Question)
    return Answer()


async def many_of_many(request_iterator: AsyncIterator[Question], context: Context) -> AsyncIterator[Answer]:
    async for _ in request_iterator:
        yield Answer()


async def many_of_many_read(request_iterator: AsyncIterator[Question], context: Context) -> None:
    while (request := await context.read()) is not aio.EOF:
        assert_type(request, Question)
        await context.write(Answer())


def plain(request: Question, context: grpc.ServicerContext) -> Answer:
    if context.is_active():
        context.set_code(grpc.StatusCode.OK)
    context.abort(grpc.StatusCode.NOT_FOUND, "there is none")


def plain_stream(request: Question, context: grpc.ServicerContext) -> Iterator[Answer]:
    yield Answer()


def plain_of_many(request_iterator: Iterator[Question], context: grpc.ServicerContext) -> Answer:
    for request in request_iterator:
        assert_type(request, Question)
    return Answer()


def plain_of_many_stream(request_iterator: Iterator[Question], context: grpc.ServicerContext) -> Iterator[Answer]:
    for _ in request_iterator:
        yield Answer()


async def octets(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


Handler = grpc.RpcMethodHandler[Question, Answer]
assert_type(grpc.unary_unary_rpc_method_handler(one_of_one, deserialized, serialized), Handler)
assert_type(grpc.unary_unary_rpc_method_handler(plain, deserialized, serialized), Handler)
assert_type(grpc.unary_stream_rpc_method_handler(many_of_one, deserialized, serialized), Handler)
assert_type(grpc.unary_stream_rpc_method_handler(many_of_one_written, deserialized, serialized), Handler)
assert_type(grpc.unary_stream_rpc_method_handler(plain_stream, deserialized, serialized), Handler)
assert_type(grpc.stream_unary_rpc_method_handler(one_of_many, deserialized, serialized), Handler)
assert_type(grpc.stream_unary_rpc_method_handler(plain_of_many, deserialized, serialized), Handler)
assert_type(grpc.stream_stream_rpc_method_handler(many_of_many, deserialized, serialized), Handler)
assert_type(grpc.stream_stream_rpc_method_handler(many_of_many_read, deserialized, serialized), Handler)
assert_type(grpc.stream_stream_rpc_method_handler(plain_of_many_stream, deserialized, serialized), Handler)
assert_type(grpc.unary_unary_rpc_method_handler(octets), grpc.RpcMethodHandler[bytes, bytes])

grpc.unary_unary_rpc_method_handler(many_of_one, deserialized, serialized)  # type: ignore[arg-type] # pyright: ignore
grpc.unary_stream_rpc_method_handler(one_of_one, deserialized, serialized)  # type: ignore[arg-type] # pyright: ignore
grpc.stream_unary_rpc_method_handler(one_of_one, deserialized, serialized)  # type: ignore[arg-type] # pyright: ignore
grpc.unary_unary_rpc_method_handler(one_of_one, deserialized, deserialized)  # type: ignore[arg-type] # pyright: ignore


class Everything(grpc.GenericRpcHandler):
    """Answers every call with what it asks."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        assert_type(handler_call_details.method, str)
        return grpc.unary_unary_rpc_method_handler(octets) if handler_call_details.invocation_metadata else None


async def main() -> None:
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(one_of_one, deserialized, serialized),
        "Many": grpc.unary_stream_rpc_method_handler(many_of_one, deserialized, serialized),
    }
    server = aio.server(
        ThreadPoolExecutor(1), [Everything()], options=[("grpc.so_reuseport", 0)], compression=grpc.Compression.Gzip
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", handlers),))
    server.add_registered_method_handlers("s", handlers)
    assert_type(server.add_insecure_port("localhost:0"), int)
    await server.start()
    assert_type(await server.wait_for_termination(1), bool)
    await server.stop()
    server.stop(None)  # type: ignore[unused-coroutine] # pyright: ignore[reportUnusedCoroutine]
