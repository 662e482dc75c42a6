"""Cancellation: however a client gives a call up, its server's handler is told, and nobody waits for the other."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio

LOCALLY = "Locally cancelled by application!"


class Handling:
    """Handlers that wait for ever, and what becomes of them."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.raised: BaseException | None = None
        #: What the context said in its done callback.
        self.context_was_cancelled: bool | None = None
        self.calls = 0

    async def wait(self, context: Any) -> None:
        self.calls += 1
        context.add_done_callback(self.done)
        self.started.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.ended.set()

    def done(self, context: Any) -> None:
        self.context_was_cancelled = context.cancelled()

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        await self.wait(context)
        return b""

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number
        await self.wait(context)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await self.wait(context)
        return b""

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await self.wait(context)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "UnaryUnary": self.unary_unary,
            "UnaryStream": self.unary_stream,
            "StreamUnary": self.stream_unary,
            "StreamStream": self.stream_stream,
        }

    async def was_cancelled(self) -> None:
        """Waits until the handler has ended, which must be because it was cancelled."""
        await self.ended.wait()
        assert isinstance(self.raised, asyncio.CancelledError)
        while self.context_was_cancelled is None:
            await asyncio.sleep(0)
        assert self.context_was_cancelled


async def check_cancelled_locally(call: Any) -> None:
    assert call.done()
    assert call.cancelled()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await call.details() == LOCALLY
    assert len(await call.trailing_metadata()) == 0
    assert not call.cancel()


async def test_cancelling_a_unary_call() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")
        await handling.started.wait()
        assert not call.done()
        assert not call.cancelled()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await check_cancelled_locally(call)
        await handling.was_cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_cancelling_a_client_stream() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.stream_unary()
        await call.write(b"")
        await handling.started.wait()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"")
        await check_cancelled_locally(call)
        await handling.was_cancelled()


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_cancelling_a_stream_of_responses(kind: str) -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_stream(b"1") if kind == "unary_stream" else service.stream_stream()
        await call.read()
        await handling.started.wait()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await check_cancelled_locally(call)
        await handling.was_cancelled()


async def test_whoever_awaits_a_call_is_told_when_somebody_else_cancels_it() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_stream(b"2")
        seen = []

        async def iterate() -> None:
            async for message in call:
                seen.append(message)

        iterating = asyncio.create_task(iterate())
        await handling.started.wait()
        while len(seen) < 2:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await iterating
        assert seen == [b"0", b"1"]
        await handling.was_cancelled()


async def test_responses_that_came_before_the_cancellation_are_dropped() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"100")
        assert await call.read() == b"0"
        # The server is done, but the client is not: there is something to cancel.
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await check_cancelled_locally(call)


async def test_cancelling_the_task_that_awaits_a_call() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")

        async def wait() -> bytes:
            return await call

        task = asyncio.create_task(wait())
        await handling.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handling.was_cancelled()
        await check_cancelled_locally(call)


async def test_cancelling_the_task_that_a_call_is() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")
        task = asyncio.create_task(call)
        await handling.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handling.was_cancelled()
        await check_cancelled_locally(call)


async def test_cancelling_the_task_that_reads() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_stream(b"0")
        task = asyncio.create_task(call.read())
        await handling.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handling.was_cancelled()
        await check_cancelled_locally(call)


async def test_cancelling_the_task_that_writes() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.stream_unary()
        # The handler reads nothing, so that this cannot be within the windows.
        task = asyncio.create_task(call.write(bytes(3 << 20)))
        await handling.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handling.was_cancelled()
        await check_cancelled_locally(call)


@pytest.mark.parametrize("question", ["initial_metadata", "trailing_metadata", "code", "details"])
async def test_cancelling_the_task_that_only_asks_leaves_the_call_alone(question: str) -> None:
    release = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        task = asyncio.create_task(getattr(call, question)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await call == b"x"
        assert await call.code() is grpc.StatusCode.OK


async def test_wait_for_that_times_out_cancels_the_call() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")
        await handling.started.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.01)
        await handling.was_cancelled()
        await check_cancelled_locally(call)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is Python 3.11's")
async def test_asyncio_timeout_cancels_the_stream_in_it() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_stream(b"3")
        seen = []

        async def iterate() -> None:
            async with asyncio.timeout(None) as scope:
                async for message in call:
                    seen.append(message)
                    if len(seen) == 3:
                        scope.reschedule(asyncio.get_running_loop().time())

        with pytest.raises(TimeoutError):
            await iterate()
        assert seen == [b"0", b"1", b"2"]
        await handling.was_cancelled()
        await check_cancelled_locally(call)


async def test_shield_lets_the_call_go_on() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = asyncio.ensure_future(service.unary_unary(b""))
        await handling.started.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.01)
        assert not call.done()
        assert not handling.ended.is_set()
        call.cancel()
        await handling.was_cancelled()


async def test_leaving_async_for_early_cancels_a_call_that_nobody_keeps() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        async for message in service.unary_stream(b"2"):
            assert message == b"0"
            break
        gc.collect()
        await handling.was_cancelled()


async def test_leaving_async_for_early_keeps_a_call_that_somebody_keeps() -> None:
    async with echo.serving() as service:
        call = service.unary_stream(b"3")
        async for message in call:
            assert message == b"0"
            break
        gc.collect()
        assert [message async for message in call] == [b"1", b"2"]
        assert await call.code() is grpc.StatusCode.OK


async def test_an_exception_in_async_for_cancels_a_call_that_nobody_keeps() -> None:
    handling = Handling()

    async def fail(service: echo.Service) -> None:
        async for _ in service.unary_stream(b"1"):
            raise LookupError("in the loop")

    async with echo.serving(**handling.handlers()) as service:
        with pytest.raises(LookupError):
            await fail(service)
        gc.collect()
        await handling.was_cancelled()


async def test_a_unary_call_that_nobody_keeps_comes_to_its_end() -> None:
    answered = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda context: context.cancelled() or answered.set())
        await asyncio.sleep(0)
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        service.unary_unary(b"")
        gc.collect()
        await answered.wait()


async def test_a_call_is_cancelled_before_it_is_connected() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")
        stream = service.stream_stream()
        assert call.cancel()
        assert stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(asyncio.CancelledError):
            await stream.read()
        await check_cancelled_locally(call)
        await check_cancelled_locally(stream)
        # The next call connects; the cancelled ones were never sent.
        kept = service.unary_unary(b"")
        await handling.started.wait()
        assert handling.calls == 1
        kept.cancel()
        await handling.was_cancelled()


async def test_a_call_is_cancelled_while_it_waits_for_a_server() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with aio.insecure_channel(f"127.0.0.1:{nobody.getsockname()[1]}") as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"", wait_for_ready=True)
            await channel.wait_for_state_change(grpc.ChannelConnectivity.CONNECTING)
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await check_cancelled_locally(call)


async def test_cancelling_a_call_that_has_ended_does_nothing() -> None:
    async with echo.serving() as service:
        call = service.unary_unary(b"x")
        assert await call == b"x"
        assert not call.cancel()
        assert not call.cancelled()
        assert await call.code() is grpc.StatusCode.OK
        assert await call == b"x"


@pytest.mark.parametrize("kind", ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"])
async def test_closing_the_channel_cancels_its_calls(kind: str) -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        calls: dict[str, Callable[[], Any]] = {
            "UnaryUnary": lambda: service.unary_unary(b""),
            "UnaryStream": lambda: service.unary_stream(b"0"),
            "StreamUnary": service.stream_unary,
            "StreamStream": service.stream_stream,
        }
        call = calls[kind]()
        await handling.started.wait()
        waiting: Awaitable[Any] = call if kind.endswith("Unary") else call.read()
        task = asyncio.ensure_future(waiting)
        if kind == "StreamStream":
            assert await task == b"first"
            task = asyncio.ensure_future(call.read())
        await asyncio.sleep(0)
        await service.channel.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        await check_cancelled_locally(call)
        await handling.was_cancelled()


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_request_iterator_that_raises_cancels_the_call(kind: str) -> None:
    handling = Handling()

    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await handling.started.wait()
        raise LookupError("no second request")

    async with echo.serving(**handling.handlers()) as service:
        call = getattr(service, kind)(requests())
        with pytest.raises(asyncio.CancelledError):
            await (call if kind == "stream_unary" else asyncio.gather(call.read(), call.read()))
        assert await call.code() is grpc.StatusCode.CANCELLED
        await handling.was_cancelled()


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_request_iterator_is_closed_when_its_call_is_cancelled(kind: str) -> None:
    handling = Handling()
    closed = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with echo.serving(**handling.handlers()) as service:
        call = getattr(service, kind)(requests())
        await handling.started.wait()
        call.cancel()
        await closed.wait()
        await handling.was_cancelled()


async def test_a_request_that_an_iterator_gives_when_it_is_cancelled_is_sent() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async def requests() -> AsyncIterator[bytes]:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield b"kept"

    server = aio.server(options=[("grpc.max_concurrent_streams", 1)])
    async with echo.serving(server, UnaryUnary=hold) as service:
        release.set()
        assert await service.unary_unary(b"x") == b"x"
        release.clear()
        first = service.unary_unary(b"first")
        before = asyncio.all_tasks()
        second = service.stream_unary(requests())
        await asked.wait()
        # The task that carries the requests, while the call waits in line.
        for task in asyncio.all_tasks() - before:
            if "RequestTask" in repr(task):
                task.cancel()
        await asyncio.sleep(0)
        release.set()
        assert await first == b"first"
        assert await second == b"kept"


async def test_a_generator_handler_runs_its_finally_blocks() -> None:
    closed = asyncio.Event()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                # It is stopped by back-pressure, in its yield.
                yield bytes(1 << 16)
        finally:
            await asyncio.sleep(0)
            closed.set()

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"")
        await call.read()
        call.cancel()
        await closed.wait()


async def test_a_handler_that_swallows_the_cancellation_cannot_answer_any_more() -> None:
    swallowed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    started = asyncio.Event()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set_result((context.cancelled(), context.done()))
        yield b"too late"

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"")
        await started.wait()
        call.cancel()
        assert await swallowed == (True, True)
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        assert [message async for message in service.stream_stream(iter([b"still", b"serving"]))] == [
            b"still",
            b"serving",
        ]


async def test_a_handler_that_cancels_itself_ends_the_call() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise asyncio.CancelledError

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        # Not cancelled by this side: that is an error like any other.
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()


async def test_a_server_that_answers_cancelled_is_an_error_and_no_cancellation() -> None:
    async def handler(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.CANCELLED, "by the server")

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.details() == "by the server"
        assert call.cancelled()


async def test_cancellation_travels_through_a_server_to_the_next() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as backend:

        async def forward(request: bytes, context: Any) -> bytes:
            return await backend.unary_unary(request)

        async with echo.serving(UnaryUnary=forward) as service:
            call = service.unary_unary(b"")
            await handling.started.wait()
            call.cancel()
            await handling.was_cancelled()


async def test_done_callbacks_are_called_when_a_call_is_cancelled() -> None:
    handling = Handling()
    async with echo.serving(**handling.handlers()) as service:
        call = service.unary_unary(b"")
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call.add_done_callback(told.set_result)
        await handling.started.wait()
        call.cancel()
        assert await told is call
        late: list[Any] = []
        call.add_done_callback(late.append)
        assert late == [call]
        await handling.was_cancelled()


async def test_cancelling_a_call_that_has_just_ended_spares_those_started_since() -> None:
    """What runs between the ends of one batch starts calls, and cancels one whose end it cannot know of."""
    ended: list[Any] = []
    started: list[Any] = []

    class Request(asyncio.Future[bytes]):
        def cancel(self, msg: Any = None) -> bool:
            if not started:
                started.extend(service.unary_unary(request) for request in REQUESTS)
                for call in ended:
                    call.cancel()
            return super().cancel(msg)

    async def requests() -> AsyncIterator[bytes]:
        yield await Request()

    async def early(requests: Any, context: Any) -> bytes:
        return b"early"

    REQUESTS = [b"1", b"2", b"3"]
    async with echo.serving(StreamUnary=early) as service:
        await service.unary_unary(b"")
        call = service.stream_unary(requests())
        ended.append(service.unary_unary(b""))
        assert await call == b"early"
        await asyncio.gather(*ended, return_exceptions=True)
        assert await asyncio.wait_for(asyncio.gather(*started), 5) == REQUESTS


async def test_many_calls_cancelled_at_once_leave_the_connection_in_order() -> None:
    started = 0
    all_started = asyncio.Event()
    ended: list[BaseException] = []

    async def handler(request: bytes, context: Any) -> bytes:
        nonlocal started
        if request == b"answer":
            return request
        started += 1
        if started == 90:
            all_started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        tasks = [asyncio.create_task(service.unary_unary(b"")) for _ in range(90)]
        await all_started.wait()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        assert await service.unary_unary(b"answer") == b"answer"
        assert len(ended) == 90
