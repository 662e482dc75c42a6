"""oxgrpc as a citizen of asyncio: tasks, groups, context variables, loops that end, debug mode."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

import pytest

import echo
import oxgrpc as grpc
import program
from conftest import LOOPS
from oxgrpc import aio

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def refuse(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "not here")
    return b""


async def test_gather_gives_results_and_errors() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"bad":
            await context.abort(grpc.StatusCode.NOT_FOUND, "bad")
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        results = await asyncio.gather(*map(service.unary_unary, (b"a", b"bad", b"b")), return_exceptions=True)
        assert results[::2] == [b"a", b"b"]
        assert isinstance(results[1], aio.AioRpcError)
        with pytest.raises(aio.AioRpcError):
            await asyncio.gather(*map(service.unary_unary, (b"a", b"bad", b"b")))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is Python 3.11's")
async def test_a_task_group_cancels_the_calls_of_its_other_tasks() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(requests: Any, context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with echo.serving(UnaryUnary=refuse, StreamUnary=wait) as service:

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(service.stream_unary())
                await started.wait()
                group.create_task(service.unary_unary(b""))

        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
            await run()
        assert [type(error) for error in caught.value.exceptions] == [aio.AioRpcError]
        await cancelled.wait()


async def test_as_completed_and_wait() -> None:
    async with echo.serving() as service:
        requests = [b"%d" % number for number in range(10)]
        done = [await next_done for next_done in asyncio.as_completed([*map(service.unary_unary, requests)])]
        assert sorted(done) == requests
        tasks = [asyncio.ensure_future(service.unary_unary(request)) for request in requests]
        finished, left = await asyncio.wait(tasks)
        assert not left
        assert sorted(task.result() for task in finished) == requests


async def test_a_call_is_a_coroutine_and_awaitable() -> None:
    async with echo.serving() as service:
        call = service.unary_unary(b"x")
        assert isinstance(call, Awaitable)
        assert isinstance(call, Coroutine)
        assert inspect.isawaitable(call)
        task = asyncio.get_running_loop().create_task(call)
        assert isinstance(task, asyncio.Task)
        assert await task == b"x"
        for question in (call.code(), call.details(), call.initial_metadata(), call.trailing_metadata()):
            assert inspect.isawaitable(question)
            assert await asyncio.wait_for(question, 50) is not None


async def test_several_tasks_await_one_call() -> None:
    release = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async def wait(call: Any) -> bytes:
        return await call  # type: ignore[no-any-return]

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        tasks = [asyncio.create_task(wait(call)) for _ in range(5)]
        await asyncio.sleep(0)
        release.set()
        assert await asyncio.gather(*tasks) == [b"x"] * 5


async def test_context_variables_reach_serializers_and_request_iterators() -> None:
    seen: list[str] = []

    def note(message: bytes) -> bytes:
        seen.append(variable.get())
        return message

    async def requests() -> AsyncIterator[bytes]:
        seen.append(variable.get())
        yield b"x"

    async with echo.serving() as service:
        variable.set("the caller's")
        assert await service.channel.unary_unary(echo.path("UnaryUnary"), note, note)(b"x") == b"x"
        assert await service.stream_unary(requests()) == b"x"
        assert seen == ["the caller's"] * 3


async def test_handlers_do_not_share_their_context_variables() -> None:
    seen: list[str] = []
    both = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

    async def handler(request: bytes, context: Any) -> bytes:
        seen.append(variable.get())
        variable.set(request.decode())
        if both is not None:
            await both.wait()
        return variable.get().encode()

    async with echo.serving(UnaryUnary=handler) as service:
        variable.set("the client's")
        assert await asyncio.gather(service.unary_unary(b"a"), service.unary_unary(b"b")) == [b"a", b"b"]
        assert variable.get() == "the client's"
    assert set(seen) == {"unset"}


async def test_context_variables_of_plain_handlers() -> None:
    def handler(request: bytes, context: Any) -> bytes:
        before = variable.get()
        variable.set("changed")
        return before.encode()

    async with echo.serving(UnaryUnary=handler) as service:
        for _ in range(3):
            assert await service.unary_unary(b"") == b"unset"


async def test_calls_in_callbacks_of_the_loop() -> None:
    """Where no task is current."""
    async with echo.serving() as service:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[bytes] = loop.create_future()

        def begin() -> None:
            call = service.unary_unary(b"x")
            call.add_done_callback(finish)

        def finish(call: Any) -> None:
            asyncio.ensure_future(call).add_done_callback(lambda task: result.set_result(task.result()))

        loop.call_soon(begin)
        assert await result == b"x"


async def test_a_callback_of_a_call_may_make_the_next() -> None:
    async with echo.serving() as service:
        finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        left = 100

        def again(_: Any) -> None:
            nonlocal left
            left -= 1
            if left:
                service.unary_unary(b"").add_done_callback(again)
            else:
                finished.set_result(left)

        service.unary_unary(b"").add_done_callback(again)
        assert await finished == 0


@pytest.mark.parametrize("end", ["answered", "refused", "cancelled"])
async def test_done_callbacks_come_before_who_awaits(end: str) -> None:
    order: list[str] = []

    async with echo.serving(StreamUnary=refuse) as service:
        call: Any = service.stream_unary(iter([b""])) if end == "refused" else service.unary_unary(b"")

        async def ask() -> None:
            await call.code()
            order.append("asked")

        async def wait() -> None:
            with contextlib.suppress(aio.AioRpcError, asyncio.CancelledError):
                await call
            order.append("awaited")

        waiting = [asyncio.create_task(ask()), asyncio.create_task(wait())]
        await asyncio.sleep(0)
        call.add_done_callback(lambda _: order.append("called back"))
        if end == "cancelled":
            call.cancel()
        await asyncio.gather(*waiting)
        assert order == ["called back", "asked", "awaited"]


async def test_an_exceptions_traceback_shows_where_the_call_was_awaited() -> None:
    async with echo.serving(UnaryUnary=refuse) as service:

        async def ask_for_it() -> None:
            await service.unary_unary(b"")

        with pytest.raises(aio.AioRpcError) as caught:
            await ask_for_it()
    assert "ask_for_it" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


async def test_the_loop_stays_fair_to_other_tasks() -> None:
    """A stream that never waits lets others have their turn."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with echo.serving() as service:
        ticking = asyncio.create_task(tick())
        messages = [bytes(10_000)] * 1000
        assert len([message async for message in service.stream_stream(iter(messages))]) == len(messages)
        ticking.cancel()
    assert turns > 10


@pytest.mark.parametrize("kind", list(LOOPS))
def test_a_loop_is_closed_in_mid_call(kind: str) -> None:
    """Nothing crashes, and what was made on another loop goes on."""

    async def hang(request: Any, context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def begin() -> None:
        server = aio.server()
        echo.add_handlers(server, {**echo.DEFAULTS, "UnaryUnary": hang})
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = aio.insecure_channel(f"127.0.0.1:{port}")
        call = channel.unary_unary(echo.path("UnaryUnary"))(b"")
        stream = channel.stream_stream(echo.path("StreamStream"))()
        await stream.write(b"x")
        assert await stream.read() == b"x"
        left.extend((server, channel, call, stream))

    left: list[Any] = []
    loop = LOOPS[kind]()
    loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    for task in tasks:
        # asyncio says so of tasks that are dropped; that is this test's doing.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks
    server, channel, call, stream = left
    for each in (call, stream):
        each.cancel()
        each.done()
        repr(each)
    left.clear()
    del server, channel, call, stream, each
    gc.collect()


@pytest.mark.parametrize("kind", list(LOOPS))
def test_a_server_whose_loop_is_gone_frees_its_port(kind: str) -> None:
    async def begin(port: int) -> tuple[Any, int]:
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        echo.add_handlers(server, echo.DEFAULTS)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server, port

    port = 0
    for _ in range(3):
        loop = LOOPS[kind]()
        server, port = loop.run_until_complete(begin(port))
        loop.close()
        del server
        gc.collect()


DEBUG_PROGRAM = """
import asyncio
import contextlib
import sys
sys.path.insert(0, {tests!r})
import echo
from oxgrpc import aio

async def main():
    assert asyncio.get_running_loop().get_debug()
    # A busy machine is not the matter here.
    asyncio.get_running_loop().slow_callback_duration = 60
    async with echo.serving() as service:
        assert await service.unary_unary(b"x") == b"x"
        assert [m async for m in service.unary_stream(b"3")] == [b"0", b"1", b"2"]
        assert await service.stream_unary(iter([b"a", b"b"])) == b"ab"
        call = service.stream_stream()
        await call.write(b"x")
        assert await call.read() == b"x"
        call.cancel()
        assert await asyncio.gather(*map(service.unary_unary, [b"a", b"b"])) == [b"a", b"b"]
        try:
            await service.channel.unary_unary("/no/such")(b"")
        except aio.AioRpcError as error:
            print(error.code())

{run}
"""


@pytest.mark.parametrize("kind", list(LOOPS))
def test_debug_mode_has_nothing_to_say(kind: str) -> None:
    """No task that is never awaited, no call from another thread, no resource that is left open."""
    run = "asyncio.run(main())" if kind == "asyncio" else "import uvloop; uvloop.run(main())"
    code = DEBUG_PROGRAM.format(tests=str(program.TESTS), run=run)
    printed = program.output_of(code, env={"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"})
    assert printed == "StatusCode.UNIMPLEMENTED\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are Python 3.12's")
def test_eager_tasks() -> None:
    """On asyncio's loop: uvloop 0.23 calls factories in a way that Python's own does not take."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with echo.serving() as service:
            tasks = [asyncio.create_task(service.unary_unary(b"%d" % number)) for number in range(10)]
            assert await asyncio.gather(*tasks) == [b"%d" % number for number in range(10)]
            assert await service.stream_unary(iter([b"a", b"b"])) == b"ab"

    asyncio.run(main())
