"""Servers: who handles a call, how many at once, and how a server begins and ends."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio


async def failure(awaitable: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


class Gate:
    """A handler that answers when it is let."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def handle(self, request: bytes, context: Any) -> bytes:
        self.entered.release()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request


class Generic(grpc.GenericRpcHandler):
    """Handles the methods that it is told to, and notes what it was asked."""

    def __init__(self, answer: bytes, *paths: str) -> None:
        self.answer = answer
        self.paths = paths
        self.asked: list[Any] = []

    async def handle(self, request: bytes, context: Any) -> bytes:
        return self.answer

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        self.asked.append(handler_call_details)
        if handler_call_details.method not in self.paths:
            return None
        return grpc.unary_unary_rpc_method_handler(self.handle)


async def test_generic_handlers_are_asked_in_their_order() -> None:
    first, second = Generic(b"first", "/a/a"), Generic(b"second", "/a/a", "/a/b")
    server = aio.server(handlers=[first])
    server.add_generic_rpc_handlers((second,))
    async with echo.serving(server) as service:
        assert await service.channel.unary_unary("/a/a")(b"") == b"first"
        assert await service.channel.unary_unary("/a/b")(b"", metadata=(("key", "value"),)) == b"second"
        error = await failure(service.channel.unary_unary("/a/c")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [details.method for details in first.asked] == ["/a/a", "/a/b", "/a/c"]
    assert [details.method for details in second.asked] == ["/a/b", "/a/c"]
    assert ("key", "value") in second.asked[0].invocation_metadata


async def test_registered_handlers_come_before_generic_ones() -> None:
    generic = Generic(b"generic", echo.path("UnaryUnary"), "/a/b")
    server = aio.server(handlers=[generic])
    async with echo.serving(server) as service:
        assert await service.unary_unary(b"echoed") == b"echoed"
        assert await service.channel.unary_unary("/a/b")(b"") == b"generic"


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_a_generic_handler_may_be_of_each_kind(kind: str) -> None:
    class All(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
            kind = handler_call_details.method.rpartition("/")[2]
            handlers = {
                "unary_unary": grpc.unary_unary_rpc_method_handler(echo.echo),
                "unary_stream": grpc.unary_stream_rpc_method_handler(echo.count),
                "stream_unary": grpc.stream_unary_rpc_method_handler(echo.join),
                "stream_stream": grpc.stream_stream_rpc_method_handler(echo.mirror),
            }
            return handlers[kind]

    async with echo.serving(aio.server(handlers=[All()])) as service:
        method = getattr(service.channel, kind)(f"/any/{kind}")
        call = method(iter([b"1", b"2"]) if kind.startswith("stream") else b"2")
        if kind.endswith("unary"):
            assert await call == (b"12" if kind.startswith("stream") else b"2")
        else:
            assert len([message async for message in call]) == 2


async def test_a_service_of_method_handlers() -> None:
    """What generated code of grpcio-tools before 1.64 does."""
    handlers = {"UnaryUnary": grpc.unary_unary_rpc_method_handler(echo.echo)}
    generic = grpc.method_handlers_generic_handler("old.Service", handlers)
    assert generic.service_name() == "old.Service"
    async with echo.serving(aio.server(handlers=[generic])) as service:
        assert await service.channel.unary_unary("/old.Service/UnaryUnary")(b"x") == b"x"
        error = await failure(service.channel.unary_unary("/old.Service/Other")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_generic_handler_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Raising(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
            raise LookupError("who?")

    async with echo.serving(aio.server(handlers=[Raising()])) as service:
        error = await failure(service.channel.unary_unary("/any/method")(b""))
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert await service.unary_unary(b"x") == b"x"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_what_a_generic_handler_gives_may_keep_the_context_of_its_call() -> None:
    servicers = weakref.WeakSet[Any]()

    class Servicer:
        async def handle(self, request: bytes, context: Any) -> bytes:
            self.context = context
            return request

    class OneForEachCall(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
            servicer = Servicer()
            servicers.add(servicer)
            return grpc.unary_unary_rpc_method_handler(servicer.handle)

    server = aio.server(handlers=[OneForEachCall()])
    async with echo.serving(server) as service:
        for _ in range(3):
            assert await service.channel.unary_unary("/any/Method")(b"x") == b"x"
        # The handler's task has come to its end, too.
        await asyncio.sleep(0)
        gc.collect()
        assert not servicers


async def test_what_is_no_handler_is_refused() -> None:
    server = aio.server()
    with pytest.raises(AttributeError):
        server.add_generic_rpc_handlers((object(),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.add_registered_method_handlers("a", {"b": grpc.unary_unary_rpc_method_handler(None)})  # type: ignore[arg-type]
    await server.stop(None)


async def test_too_many_calls_at_once_are_refused() -> None:
    gate = Gate()
    server = aio.server(maximum_concurrent_rpcs=2)
    async with echo.serving(server, UnaryUnary=gate.handle) as service:
        calls = [service.unary_unary(b"%d" % number) for number in range(2)]
        for _ in calls:
            await gate.entered.acquire()
        for refused in (service.unary_unary(b""), service.stream_stream(iter([b""])).read()):
            error = await failure(refused)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == "Concurrent RPC limit exceeded!"
        gate.open.set()
        assert await asyncio.gather(*calls) == [b"0", b"1"]
        assert await service.unary_unary(b"again") == b"again"


async def test_cancelled_calls_make_room() -> None:
    gate = Gate()
    server = aio.server(maximum_concurrent_rpcs=1)
    async with echo.serving(server, UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"")
        await gate.entered.acquire()
        call.cancel()
        await gate.cancelled.wait()
        gate.open.set()
        assert await service.unary_unary(b"x") == b"x"


async def test_stop_with_grace_lets_calls_end() -> None:
    gate = Gate()
    async with echo.serving(UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"x")
        await gate.entered.acquire()
        stopping = asyncio.create_task(service.server.stop(grace=50))
        terminated = asyncio.create_task(service.server.wait_for_termination())
        # The server says that it takes no more calls: the channel looks for another.
        await service.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert (await failure(service.unary_unary(b""))).code() is grpc.StatusCode.UNAVAILABLE
        assert not stopping.done()
        assert not terminated.done()
        gate.open.set()
        assert await call == b"x"
        await stopping
        assert await terminated is False


async def test_stop_cancels_what_is_left_when_grace_is_over() -> None:
    gate = Gate()
    async with echo.serving(UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"")
        await gate.entered.acquire()
        await service.server.stop(grace=0.01)
        error = await failure(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        await gate.cancelled.wait()


@pytest.mark.parametrize("grace", [None, 0])
async def test_stop_without_grace_cancels_at_once(grace: float | None) -> None:
    gate = Gate()

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await gate.handle(request, context)

    async with echo.serving(UnaryUnary=gate.handle, UnaryStream=stream) as service:
        call, streaming = service.unary_unary(b""), service.unary_stream(b"")
        assert await streaming.read() == b"first"
        await gate.entered.acquire()
        await gate.entered.acquire()
        await service.server.stop(grace)
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE
        assert (await failure(streaming.read())).code() is grpc.StatusCode.UNAVAILABLE
        await gate.cancelled.wait()


async def test_the_shortest_grace_counts() -> None:
    gate = Gate()
    async with echo.serving(UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"")
        await gate.entered.acquire()
        patient = asyncio.create_task(service.server.stop(grace=50))
        await asyncio.sleep(0)
        await service.server.stop(None)
        await patient
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_stop_may_be_repeated_and_come_before_start() -> None:
    async with echo.serving() as service:
        await asyncio.gather(*(service.server.stop(1) for _ in range(3)))
        await service.server.stop(None)
        assert await service.server.wait_for_termination() is False
    server = aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.stop(None)
    assert await server.wait_for_termination() is False


async def test_a_stopped_server_keeps_no_connection() -> None:
    def connections() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "ServerLink" for thing in gc.get_objects())

    gate = Gate()
    async with echo.serving(UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"x")
        await gate.entered.acquire()
        stopping = asyncio.create_task(service.server.stop(grace=50))
        await asyncio.sleep(0)
        gate.open.set()
        assert await call == b"x"
        await stopping
        await service.channel.close()

        async def gone() -> None:
            while connections():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(gone(), 10)


async def test_a_task_that_waits_for_stop_may_be_cancelled() -> None:
    gate = Gate()
    async with echo.serving(UnaryUnary=gate.handle) as service:
        call = service.unary_unary(b"x")
        await gate.entered.acquire()
        stopping = asyncio.create_task(service.server.stop(grace=50))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        gate.open.set()
        assert await call == b"x"
        await service.server.wait_for_termination()


async def test_a_server_whose_own_task_is_cancelled_has_stopped() -> None:
    gate = Gate()
    for turns in range(2):
        async with echo.serving(UnaryUnary=gate.handle) as service:
            call = service.unary_unary(b"")
            await gate.entered.acquire()
            before = asyncio.all_tasks()
            waiting = asyncio.create_task(service.server.stop(grace=50))
            while not (stopping := asyncio.all_tasks() - before - {waiting}):
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            # As asyncio.run does it at its end, with all tasks.
            for task in stopping:
                task.cancel()
            await asyncio.wait_for(waiting, 10)
            assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE
            await service.server.stop(grace=50)


async def test_termination_may_be_waited_for_before_the_start() -> None:
    server = aio.server()
    waiting = asyncio.create_task(server.wait_for_termination())
    await asyncio.sleep(0)
    async with echo.serving(server):
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, 10) is False


async def test_wait_for_termination_with_a_timeout() -> None:
    async with echo.serving() as service:
        assert await service.server.wait_for_termination(timeout=0.01) is True
        waiting = asyncio.create_task(service.server.wait_for_termination(timeout=50))
        await asyncio.sleep(0)
        await service.server.stop(None)
        assert await waiting is False


async def test_a_server_begins_once() -> None:
    async with echo.serving() as service:
        await service.server.start()
        with pytest.raises(aio.UsageError):
            service.server.add_insecure_port("127.0.0.1:0")
        assert await service.unary_unary(b"x") == b"x"
        await service.server.stop(None)
        for action in (
            service.server.start,
            lambda: service.server.add_insecure_port("127.0.0.1:0"),
            lambda: echo.add_handlers(service.server, {"UnaryUnary": echo.echo}),
            lambda: service.server.add_generic_rpc_handlers((Generic(b""),)),
        ):
            with pytest.raises(aio.UsageError, match="has stopped"):
                await action()


async def test_handlers_may_come_while_the_server_serves() -> None:
    async def late(request: bytes, context: Any) -> bytes:
        return b"late"

    async with echo.serving() as service:
        # The connection is there before the handlers are.
        assert await service.unary_unary(b"x") == b"x"
        error = await failure(service.channel.unary_unary("/a/a")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        service.server.add_registered_method_handlers("a", {"a": grpc.unary_unary_rpc_method_handler(late)})
        assert await service.channel.unary_unary("/a/a")(b"") == b"late"
        service.server.add_generic_rpc_handlers((Generic(b"generic", "/a/b"),))
        assert await service.channel.unary_unary("/a/b")(b"") == b"generic"


async def test_no_handler_is_lost_that_comes_while_another_one_is_read() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return b"answer"

    class Handler(grpc.RpcMethodHandler):
        """Registers more handlers when it is looked at."""

        request_streaming = response_streaming = False
        request_deserializer = response_serializer = None

        @property
        def unary_unary(self) -> Any:
            handlers = {"within": grpc.unary_unary_rpc_method_handler(answer)}
            service.server.add_registered_method_handlers("a", handlers)
            service.server.add_generic_rpc_handlers((Generic(b"generic", "/a/generic"),))
            return answer

    async with echo.serving() as service:
        service.server.add_registered_method_handlers("a", {"a": Handler()})
        for method, expected in (("a", b"answer"), ("within", b"answer"), ("generic", b"generic")):
            assert await service.channel.unary_unary(f"/a/{method}")(b"") == expected
        assert await service.unary_unary(b"x") == b"x"


async def test_a_server_that_nobody_holds_stops() -> None:
    server = aio.server()
    echo.add_handlers(server, {"UnaryUnary": echo.echo})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(echo.path("UnaryUnary"))
        assert await method(b"x") == b"x"
        del server
        gc.collect()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert (await failure(method(b"x"))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_calls_is_positive(limit: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        aio.server(maximum_concurrent_rpcs=limit)


async def test_an_address_may_be_octets() -> None:
    server = aio.server()
    assert server.add_insecure_port(b"127.0.0.1:0") > 0  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.add_insecure_port(5)  # type: ignore[arg-type]
    await server.stop(None)


async def test_a_port_that_is_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = aio.server()
        with pytest.raises(RuntimeError, match=f"127.0.0.1:{port}"):
            server.add_insecure_port(f"127.0.0.1:{port}")
        # It may still listen elsewhere.
        async with echo.serving(server) as service:
            assert await service.unary_unary(b"x") == b"x"


async def test_two_servers_share_a_port_unless_told_otherwise() -> None:
    async with echo.serving() as service:
        second = aio.server()
        assert second.add_insecure_port(service.target) == service.port
        await second.stop(None)
    async with echo.serving(aio.server(options=[("grpc.so_reuseport", 0)])) as service:
        third = aio.server(options=[("grpc.so_reuseport", 0)])
        with pytest.raises(RuntimeError):
            third.add_insecure_port(service.target)
        await third.stop(None)


@pytest.mark.parametrize("address", ["", "127.0.0.1:99999", "no.such.host.invalid:0", "unix:", "unix:/no/such/dir/s"])
async def test_an_address_that_cannot_be_listened_on(address: str) -> None:
    server = aio.server()
    with pytest.raises(RuntimeError):
        server.add_insecure_port(address)
    with pytest.raises(TypeError):
        server.add_insecure_port(5)  # type: ignore[arg-type]
    await server.stop(None)


async def test_a_server_listens_on_several_ports(tmp_path: Path) -> None:
    server = aio.server()
    ports = [server.add_insecure_port(address) for address in ("127.0.0.1:0", "localhost:0", "[::]:0")]
    assert len(set(ports)) == 3
    assert server.add_insecure_port(f"unix:{tmp_path}/socket") == 1
    targets = [f"127.0.0.1:{ports[0]}", f"localhost:{ports[1]}", f"127.0.0.1:{ports[2]}"]
    if echo.HAS_IPV6:
        targets.append(f"[::1]:{ports[2]}")
    async with echo.serving(server):
        for target in (*targets, f"unix:{tmp_path}/socket"):
            async with aio.insecure_channel(target) as channel:
                assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"


async def test_a_server_that_is_not_started_answers_nobody() -> None:
    server = aio.server()
    echo.add_handlers(server, {"UnaryUnary": echo.echo})
    port = server.add_insecure_port("127.0.0.1:0")
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        assert not call.done()
        await server.start()
        assert await call == b"x"
        await server.stop(None)


async def test_a_server_needs_no_loop_to_be_made() -> None:
    def make() -> tuple[aio.Server, int]:
        server = aio.server()
        echo.add_handlers(server, {"UnaryUnary": echo.echo})
        return server, server.add_insecure_port("127.0.0.1:0")

    server, port = await asyncio.to_thread(make)
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(echo.path("UnaryUnary"))(b"x") == b"x"
    await server.stop(None)


class Plain:
    """Plain functions as handlers, and the threads they ran in."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def note(self) -> None:
        self.threads.add(threading.get_ident())

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        self.note()
        return request

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            self.note()
            yield b"%d" % number

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.note()
        return b"".join(requests)

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            self.note()
            yield request

    def handlers(self) -> dict[str, Any]:
        return {
            "UnaryUnary": self.unary_unary,
            "UnaryStream": self.unary_stream,
            "StreamUnary": self.stream_unary,
            "StreamStream": self.stream_stream,
        }


@pytest.mark.parametrize("own_pool", [True, False])
async def test_plain_functions_run_in_the_thread_pool(own_pool: bool) -> None:
    plain = Plain()
    pool = ThreadPoolExecutor(2) if own_pool else None
    async with echo.serving(aio.server(migration_thread_pool=pool), **plain.handlers()) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert [message async for message in service.unary_stream(b"3")] == [b"0", b"1", b"2"]
        assert await service.stream_unary(iter([b"a", b"b", b"c"])) == b"abc"
        call = service.stream_stream()
        for number in range(3):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is aio.EOF
    assert threading.get_ident() not in plain.threads
    if pool is not None:
        assert plain.threads <= {thread.ident for thread in pool._threads}
        pool.shutdown()


async def test_plain_functions_do_not_stop_the_loop() -> None:
    release = threading.Event()

    def blocking(request: bytes, context: Any) -> bytes:
        assert release.wait(60)
        return request

    async with echo.serving(UnaryUnary=blocking) as service:
        call = service.unary_unary(b"x")
        assert await service.stream_unary(iter([b"a"])) == b"a"
        assert not call.done()
        release.set()
        assert await call == b"x"


async def test_plain_functions_have_the_synchronous_context(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()

    def handler(request: bytes, context: Any) -> bytes:
        assert context.is_active()
        assert context.add_callback(ended.set)
        assert ("key", "value") in context.invocation_metadata()
        assert context.peer().startswith("ipv4:127.0.0.1:")
        assert 0 < context.time_remaining() <= 50
        context.send_initial_metadata((("begun", "yes"),))
        context.set_trailing_metadata((("ended", "yes"),))
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        if request == b"raise":
            raise LookupError("oh")
        if request == b"swallow":
            with pytest.raises(aio.AbortError):
                context.abort(grpc.StatusCode.NOT_FOUND, "first", (("aborted", "yes"),))
            with pytest.raises(aio.UsageError):
                context.abort(grpc.StatusCode.ABORTED, "second")
            return request
        if request == b"cancel":
            context.cancel()
            context.cancel()
            assert not context.is_active()
            assert not context.add_callback(ended.set)
            return request
        assert isinstance(context, grpc.ServicerContext)
        context.set_code(grpc.StatusCode.OK)
        context.set_details("fine")
        return request

    async with echo.serving(UnaryUnary=handler) as service:

        def call(request: bytes) -> aio.UnaryUnaryCall[bytes, bytes]:
            return service.unary_unary(request, timeout=50, metadata=(("key", "value"),))

        good = call(b"x")
        assert await good == b"x"
        assert await good.details() == "fine"
        assert await good.initial_metadata() == aio.Metadata(("begun", "yes"))
        assert await good.trailing_metadata() == aio.Metadata(("ended", "yes"))
        assert await asyncio.to_thread(ended.wait, 60)
        error = await failure(call(b"abort"))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "not here")
        error = await failure(call(b"swallow"))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "first")
        assert error.trailing_metadata() == aio.Metadata(("aborted", "yes"))
        assert (await failure(call(b"cancel"))).code() is grpc.StatusCode.CANCELLED
        assert caplog.records == []
        error = await failure(call(b"raise"))
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert "oh" in (error.details() or "")
        assert len(caplog.records) == 1


async def test_a_plain_generator_may_abort_in_its_middle() -> None:
    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"one"
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "only one")

    async with echo.serving(UnaryStream=handler) as service:
        call = service.unary_stream(b"")
        assert await call.read() == b"one"
        error = await failure(call.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "only one")


async def test_a_plain_function_that_reads_ends_when_its_client_gives_up() -> None:
    reading, ended = threading.Event(), threading.Event()

    def handler(requests: Iterator[bytes], context: Any) -> bytes:
        try:
            for _ in requests:
                reading.set()
        finally:
            ended.set()
        return b""

    async with echo.serving(StreamUnary=handler) as service:
        call = service.stream_unary()
        await call.write(b"")
        assert await asyncio.to_thread(reading.wait, 60)
        call.cancel()
        assert await asyncio.to_thread(ended.wait, 60)


async def test_callables_and_methods_are_handlers() -> None:
    class Callable:
        async def __call__(self, request: bytes, context: Any) -> bytes:
            return b"called " + request

    async def with_more(more: bytes, request: bytes, context: Any) -> bytes:
        return more + request

    async with echo.serving(UnaryUnary=Callable()) as service:
        assert await service.unary_unary(b"x") == b"called x"
    async with echo.serving(UnaryUnary=functools.partial(with_more, b"more ")) as service:
        assert await service.unary_unary(b"x") == b"more x"


async def test_handlers_of_one_connection_run_at_the_same_time() -> None:
    barrier: list[asyncio.Future[None]] = []

    async def handler(request: bytes, context: Any) -> bytes:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        barrier.append(mine)
        if len(barrier) == 50:
            for other in barrier:
                other.set_result(None)
        await mine
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        results = await asyncio.gather(*(service.unary_unary(b"%d" % number) for number in range(50)))
        assert results == [b"%d" % number for number in range(50)]


async def test_a_port_is_free_when_its_server_has_stopped() -> None:
    alone = [("grpc.so_reuseport", 0)]
    async with echo.serving(aio.server(options=alone)) as service:
        port = service.port
        assert await service.unary_unary(b"x") == b"x"
    server = aio.server(options=alone)
    echo.add_handlers(server, echo.DEFAULTS)
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(echo.path("UnaryUnary"))(b"y") == b"y"
    await server.stop(None)
