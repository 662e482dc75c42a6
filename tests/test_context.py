"""The context of a call, as its handler uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio


async def failure(awaitable: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


async def test_what_a_context_tells() -> None:
    told: dict[str, Any] = {}

    async def handler(request: bytes, context: Any) -> bytes:
        told.update(
            context=context,
            peer=context.peer(),
            peer_identities=context.peer_identities(),
            peer_identity_key=context.peer_identity_key(),
            auth_context=context.auth_context(),
            time_remaining=context.time_remaining(),
            code=context.code(),
            details=context.details(),
            trailing_metadata=tuple(context.trailing_metadata()),
            done=context.done(),
            cancelled=context.cancelled(),
        )
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        await service.unary_unary(b"")
    context = told.pop("context")
    assert isinstance(context, aio.ServicerContext)
    host, _, port = told.pop("peer").rpartition(":")
    assert host == "ipv4:127.0.0.1"
    assert int(port) != service.port
    assert all(isinstance(value, bytes) for values in told.pop("auth_context").values() for value in values)
    assert told == {
        "peer_identities": None,
        "peer_identity_key": None,
        "time_remaining": None,
        "code": None,
        "details": "",
        "trailing_metadata": (),
        "done": False,
        "cancelled": False,
    }
    assert context.done()
    assert not context.cancelled()


async def test_what_was_set_is_told() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("first")
        context.set_details("second")
        assert context.code() is grpc.StatusCode.DATA_LOSS
        assert context.details() == "second"
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        error = await failure(service.unary_unary(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "second")


async def test_trailing_metadata_are_pairs() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("kept", "yes"),))
        for no_metadata in (None, 5):
            with pytest.raises(TypeError):
                context.set_trailing_metadata(no_metadata)
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        assert list(await service.unary_unary(b"").trailing_metadata()) == [("kept", "yes")]


async def test_details_are_text(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_details(b"octets are taken")
        assert context.details() == "octets are taken"
        with pytest.raises(TypeError):
            context.set_details(5)
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        await call
        assert await call.details() == "octets are taken"


async def test_abort_with_ok_is_no_success() -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.OK, "fine")

    async with echo.serving(UnaryUnary=handler) as service:
        error = await failure(service.unary_unary(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "fine")


@pytest.mark.parametrize("trailing", [None, [("key", "value")], aio.Metadata(("key", "value"))])
async def test_abort_takes_metadata_of_any_make(trailing: Any) -> None:
    class Status(grpc.Status):
        code = grpc.StatusCode.ABORTED
        details = "with a status"
        trailing_metadata = trailing

    async def handler(request: bytes, context: Any) -> None:
        if request:
            await context.abort(grpc.StatusCode.ABORTED, "with arguments", trailing)
        await context.abort_with_status(Status())

    expected = aio.Metadata(("key", "value")) if trailing else aio.Metadata()
    async with echo.serving(UnaryUnary=handler) as service:
        for request, details in ((b"", "with a status"), (b"x", "with arguments")):
            error = await failure(service.unary_unary(request))
            assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, details)
            assert error.trailing_metadata() == expected


async def test_trailing_metadata_of_a_generator() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((f"key-{number}", "value") for number in range(2))
        assert context.trailing_metadata() == (("key-0", "value"), ("key-1", "value"))
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        assert await call.trailing_metadata() == aio.Metadata(("key-0", "value"), ("key-1", "value"))


async def test_read_and_write_by_hand() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> None:
        assert await context.read() == b"first"
        await context.write(b"got first")
        assert await context.read() == b"second"
        assert await context.read() is aio.EOF
        assert await context.read() is aio.EOF
        await context.write(b"got all")

    async with echo.serving(StreamStream=handler) as service:
        call = service.stream_stream(iter([b"first", b"second"]))
        assert [message async for message in call] == [b"got first", b"got all"]


async def test_a_client_stream_read_by_hand() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        parts = []
        while (request := await context.read()) is not aio.EOF:
            parts.append(request)
        return b"".join(parts)

    async with echo.serving(StreamUnary=handler) as service:
        assert await service.stream_unary(iter([b"a", b"b", b"c"])) == b"abc"


async def test_a_server_stream_written_by_hand() -> None:
    async def handler(request: bytes, context: Any) -> None:
        for number in range(int(request)):
            await context.write(b"%d" % number)
        context.set_trailing_metadata((("written", request),))

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"100")
        assert [int(message) async for message in call] == list(range(100))
        assert await call.trailing_metadata() == aio.Metadata(("written", "100"))


async def test_requests_are_read_by_another_task_than_the_handlers() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def fetch() -> None:
            async for request in requests:
                await queue.put(request)
            await queue.put(None)

        fetching = asyncio.create_task(fetch())
        while (request := await queue.get()) is not None:
            await context.write(request)
        await fetching

    async with echo.serving(StreamStream=handler) as service:
        messages = [b"%d" % number for number in range(50)]
        assert [message async for message in service.stream_stream(iter(messages))] == messages


async def test_done_callbacks() -> None:
    called: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda context: called.put_nowait(("first", context.done(), context.cancelled())))
        context.add_done_callback(lambda context: called.put_nowait(("second", context.done(), context.cancelled())))
        assert called.empty()
        contexts.append(context)
        return request

    contexts: list[Any] = []
    async with echo.serving(UnaryUnary=handler) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert await called.get() == ("first", True, False)
        assert await called.get() == ("second", True, False)
        contexts[0].add_done_callback(lambda context: called.put_nowait(context))
        assert called.get_nowait() is contexts[0]


async def test_a_done_callback_that_raises_is_the_loops_to_report() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    reported: asyncio.Future[Any] = loop.create_future()
    loop.set_exception_handler(lambda _, context: reported.set_result(context["exception"]))
    second = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        def fail(context: Any) -> None:
            raise LookupError("in a callback")

        context.add_done_callback(fail)
        context.add_done_callback(lambda _: second.set())
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert isinstance(await reported, LookupError)
        await second.wait()
        assert await service.stream_unary(iter([b"still ", b"serving"])) == b"still serving"
    loop.set_exception_handler(before)


@pytest.mark.parametrize("use", ["read", "write", "send_initial_metadata", "abort"])
async def test_what_a_context_says_after_its_call(use: str) -> None:
    contexts: list[Any] = []

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        contexts.append(context)
        yield b""

    async with echo.serving(StreamStream=handler) as service:
        assert [message async for message in service.stream_stream(iter([b"unread"]))] == [b""]
        context = contexts[0]
        arguments: dict[str, tuple[Any, ...]] = {
            "read": (),
            "write": (b"",),
            "send_initial_metadata": ((),),
            "abort": (grpc.StatusCode.ABORTED,),
        }
        with pytest.raises(aio.UsageError, match="finished"):
            await getattr(context, use)(*arguments[use])


async def test_requests_that_were_not_read_are_no_end_of_requests() -> None:
    """A task that the handler left behind is not told that the client has sent all."""
    iterators: list[AsyncIterator[bytes]] = []

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        iterators.append(requests)
        return b""

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary()
        await call.write(b"unread")
        assert await call == b""
        with pytest.raises(aio.UsageError, match="finished"):
            await iterators[0].__anext__()


async def test_writing_to_a_client_that_has_gone_ends_the_handler() -> None:
    ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def handler(request: bytes, context: Any) -> None:
        try:
            while True:
                await context.write(bytes(1 << 16))
        except BaseException as error:
            ended.set_result(error)
            raise

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"")
        await call.read()
        call.cancel()
        assert isinstance(await ended, asyncio.CancelledError)


async def test_a_unary_handler_cannot_be_kept_from_ending_by_its_own_tasks() -> None:
    """A task that the handler started and left may go on using the context: it is told."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(request: bytes, context: Any) -> bytes:
        async def later() -> None:
            while not context.done():
                await asyncio.sleep(0)
            try:
                await context.send_initial_metadata(())
            except aio.UsageError as error:
                told.set_result(error)

        tasks.append(asyncio.create_task(later()))
        return request

    tasks: list[asyncio.Task[None]] = []
    async with echo.serving(UnaryUnary=handler) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert isinstance(await told, aio.UsageError)


async def test_a_handler_runs_in_a_task_of_its_own() -> None:
    tasks: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        mine = asyncio.current_task()
        tasks.append(mine)
        await asyncio.sleep(0)
        assert asyncio.current_task() is mine
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        await asyncio.gather(*(service.unary_unary(b"") for _ in range(3)))
    assert len(set(tasks)) == 3
    assert all(isinstance(task, asyncio.Task) for task in tasks)
    assert asyncio.current_task() not in tasks


async def test_the_abstract_context_can_be_subclassed() -> None:
    """What tests of handlers do."""
    assert aio.ServicerContext.__abstractmethods__ >= {"read", "write", "abort", "set_code", "peer"}
    with pytest.raises(TypeError):
        aio.ServicerContext()  # type: ignore[abstract]

    class Context(aio.ServicerContext[bytes, bytes]):
        pass

    for name in aio.ServicerContext.__abstractmethods__:
        setattr(Context, name, lambda *_: None)
    Context.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    assert isinstance(Context(), aio.ServicerContext)
