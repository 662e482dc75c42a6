"""The status that a call ends with: where it is set, what carries it, and how a client sees it."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from collections import namedtuple
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

#: What a status message may hold: it travels percent-encoded.
MESSAGES = [
    "",
    "plain",
    " leading and trailing ",
    "100% of %41",
    "two\nlines\tand a tab\r",
    "naïve 日本語 🦀",
    "\x00\x7f",
    "x" * 4000,
]


async def failure(awaitable: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
async def test_abort_carries_every_code(code: grpc.StatusCode) -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(code, "so it is")

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        error = await failure(call)
        assert error.code() is code
        assert error.details() == "so it is"
        assert await call.code() is code
        assert await call.details() == "so it is"
        assert call.done()
        assert call.cancelled() is (code is grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: ascii(message[:12]))
async def test_messages_arrive_as_they_were(message: str) -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, message)

    async with echo.serving(UnaryUnary=handler) as service:
        assert (await failure(service.unary_unary(b""))).details() == message


async def test_a_code_that_is_set_ends_a_handler_that_returns() -> None:
    async def unary(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("nothing here")
        return b"dropped"

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"kept"
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("the rest is gone")

    async with echo.serving(UnaryUnary=unary, UnaryStream=stream) as service:
        error = await failure(service.unary_unary(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nothing here")
        call = service.unary_stream(b"")
        assert await call.read() == b"kept"
        error = await failure(call.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "the rest is gone")


async def test_details_go_with_success_too() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.OK)
        context.set_details("went well")
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        assert await call == b"x"
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == "went well"


async def test_a_code_that_is_set_stays_when_the_handler_raises(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
        raise LookupError("no more")

    async with echo.serving(UnaryUnary=handler) as service:
        error = await failure(service.unary_unary(b""))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no more" in (error.details() or "")
    assert len(caplog.records) == 1


async def test_abort_takes_the_place_of_what_was_set() -> None:
    async def handler(request: bytes, context: Any) -> None:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("set")
        context.set_trailing_metadata((("set", "yes"),))
        details = request.decode()
        trailing = (("aborted", "yes"),) if details else ()
        await context.abort(grpc.StatusCode.ABORTED, details, trailing)

    async with echo.serving(UnaryUnary=handler) as service:
        error = await failure(service.unary_unary(b"aborted"))
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "aborted")
        assert error.trailing_metadata() == aio.Metadata(("aborted", "yes"))
        error = await failure(service.unary_unary(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "set")
        assert error.trailing_metadata() == aio.Metadata(("set", "yes"))


async def test_abort_with_ok_is_unknown() -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.OK, "that is no failure")

    async with echo.serving(UnaryUnary=handler) as service:
        assert (await failure(service.unary_unary(b""))).code() is grpc.StatusCode.UNKNOWN


async def test_abort_raises_in_the_handler_and_cannot_be_undone(caplog: pytest.LogCaptureFixture) -> None:
    raised: list[BaseException] = []

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(grpc.StatusCode.ABORTED, "once")
        except aio.AbortError as error:
            raised.append(error)
            assert context.done()
        if request == b"again":
            await context.abort(grpc.StatusCode.INTERNAL, "twice")
        return b"never sent"

    async with echo.serving(UnaryUnary=handler) as service:
        for request in (b"", b"again"):
            error = await failure(service.unary_unary(request))
            assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "once")
    assert [type(error) for error in raised] == [aio.AbortError, aio.AbortError]
    assert isinstance(raised[0], aio.BaseError)


async def test_abort_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "expected")

    async with echo.serving(UnaryUnary=handler) as service:
        await failure(service.unary_unary(b""))
    assert caplog.records == []


async def test_abort_with_status() -> None:
    class Status(namedtuple("Status", ("code", "details", "trailing_metadata")), grpc.Status):
        pass

    async def handler(request: bytes, context: Any) -> None:
        trailing = (("where-bin", b"\x00\xff"),)
        await context.abort_with_status(Status(grpc.StatusCode.OUT_OF_RANGE, "too far", trailing))

    async with echo.serving(UnaryUnary=handler) as service:
        error = await failure(service.unary_unary(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "too far")
        assert error.trailing_metadata() == aio.Metadata(("where-bin", b"\x00\xff"))


async def test_a_handler_that_raises_is_unknown_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise LookupError("nothing of that name")

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("nothing more")

    async with echo.serving(UnaryUnary=handler, UnaryStream=stream) as service:
        error = await failure(service.unary_unary(b""))
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert error.details() == "Unexpected <class 'LookupError'>: nothing of that name"
        call = service.unary_stream(b"")
        assert await call.read() == b"one"
        error = await failure(call.read())
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert error.details() == "Unexpected <class 'LookupError'>: nothing more"
    unary_record, stream_record = caplog.records
    assert unary_record.name.startswith("oxgrpc")
    assert unary_record.levelno == logging.ERROR
    assert echo.path("UnaryUnary") in unary_record.getMessage()
    assert echo.path("UnaryStream") in stream_record.getMessage()
    assert unary_record.exc_info is not None
    assert isinstance(unary_record.exc_info[1], LookupError)


async def test_an_error_of_another_call_travels_as_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that lets an AioRpcError pass has raised: its own client sees UNKNOWN, as with grpcio."""

    async def backend_handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "in the back")

    async with echo.serving(UnaryUnary=backend_handler) as backend:

        async def forward(request: bytes, context: Any) -> bytes:
            return await backend.unary_unary(request)

        async with echo.serving(UnaryUnary=forward) as service:
            error = await failure(service.unary_unary(b""))
            assert error.code() is grpc.StatusCode.UNKNOWN
            assert "in the back" in (error.details() or "")


async def test_an_error_tells_all_there_is() -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.send_initial_metadata((("begun", "yes"),))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now", (("try", "later"),))

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        error = await failure(call)
    assert isinstance(error, grpc.RpcError)
    assert error.initial_metadata() == aio.Metadata(("begun", "yes"))
    assert error.trailing_metadata() == aio.Metadata(("try", "later"))
    assert "not now" in (error.debug_error_string() or "")
    assert error.debug_error_string() == await call.debug_error_string()
    for text in (str(error), repr(error)):
        assert "AioRpcError" in text
        assert "StatusCode.FAILED_PRECONDITION" in text
        assert "not now" in text
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is aio.AioRpcError
        assert other.code() is error.code()
        assert other.details() == error.details()
        assert other.initial_metadata() == error.initial_metadata()
        assert other.trailing_metadata() == error.trailing_metadata()
        assert other.debug_error_string() == error.debug_error_string()


async def test_an_error_can_be_made_by_hand() -> None:
    error = aio.AioRpcError(grpc.StatusCode.NOT_FOUND, aio.Metadata(), aio.Metadata(), details="mine")
    assert (error.code(), error.details(), error.debug_error_string()) == (grpc.StatusCode.NOT_FOUND, "mine", None)


async def test_a_failed_call_can_be_awaited_again() -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "still")

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        errors = await asyncio.gather(call, asyncio.ensure_future(failure(call)), return_exceptions=True)
        errors.append(await failure(call))
        assert {error.details() for error in errors if isinstance(error, aio.AioRpcError)} == {"still"}
        assert len(errors) == 3


async def test_a_method_that_is_not_there() -> None:
    async with echo.serving() as service:
        for call in (
            service.channel.unary_unary("/test.Echo/Nothing")(b""),
            service.channel.unary_unary("/test.Nobody/UnaryUnary")(b""),
            service.channel.stream_unary("/test.Echo/Nothing")(iter([b"", b""])),
            service.channel.unary_stream("/test.Echo/Nothing")(b"").read(),
        ):
            error = await failure(call)
            assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


class Broken(Exception):
    """What serializers of these tests raise."""


def broken(message: Any) -> Any:
    raise Broken("as it does")


async def test_a_request_that_cannot_be_serialized() -> None:
    async with echo.serving() as service:
        method = service.channel.unary_unary(echo.path("UnaryUnary"), request_serializer=broken)
        error = await failure(method(b""))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INTERNAL,
            "Exception serializing request!",
        )
        call = service.channel.stream_stream(echo.path("StreamStream"), request_serializer=broken)()
        error = await failure(call.write(b""))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert isinstance(error.__cause__, Broken)
        assert await call.code() is grpc.StatusCode.INTERNAL


async def test_a_response_that_cannot_be_deserialized() -> None:
    async with echo.serving() as service:
        for call in (
            service.channel.unary_unary(echo.path("UnaryUnary"), response_deserializer=broken)(b""),
            service.channel.unary_stream(echo.path("UnaryStream"), response_deserializer=broken)(b"3"),
        ):
            error = await failure(call.read() if isinstance(call, aio.UnaryStreamCall) else call)
            assert (error.code(), error.details()) == (
                grpc.StatusCode.INTERNAL,
                "Exception deserializing response!",
            )
            assert isinstance(error.__cause__, Broken)
            assert await call.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("deserializer", [True, False])
async def test_a_server_whose_serializers_raise(deserializer: bool, caplog: pytest.LogCaptureFixture) -> None:
    functions = {"request_deserializer" if deserializer else "response_serializer": broken}
    server = aio.server()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(echo.echo, **functions),
        "Stream": grpc.stream_stream_rpc_method_handler(echo.mirror, **functions),
    }
    server.add_registered_method_handlers("test.Broken", handlers)
    async with echo.serving(server) as service:
        details = "Exception deserializing request!" if deserializer else "Failed to serialize response!"
        error = await failure(service.channel.unary_unary("/test.Broken/Unary")(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, details)
        error = await failure(service.channel.stream_stream("/test.Broken/Stream")(iter([b""])).read())
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, details)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Broken)


async def test_a_response_of_the_wrong_type(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> Any:
        return "text"

    async with echo.serving(UnaryUnary=handler) as service:
        assert (await failure(service.unary_unary(b""))).code() is grpc.StatusCode.INTERNAL
    assert len(caplog.records) == 1


async def test_a_request_of_the_wrong_type_is_the_callers_mistake() -> None:
    async with echo.serving() as service:
        with pytest.raises(TypeError):
            service.unary_unary("text")
        with pytest.raises(TypeError):
            service.unary_stream(42)
        assert await service.unary_unary(b"x") == b"x"
