"""Channels: where they lead, how they connect and reconnect, who may use them, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import threading
import uuid
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from conftest import LOOPS
from oxgrpc import aio

State = grpc.ChannelConnectivity

#: Reconnects at once, so that nobody has to wait.
EAGER = [
    ("grpc.initial_reconnect_backoff_ms", 10),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 20),
]


async def failure(awaitable: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


def method(channel: aio.Channel) -> Any:
    return channel.unary_unary(echo.path("UnaryUnary"))


@contextmanager
def nobody() -> Iterator[str]:
    """A target where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def serve(address: str, **handlers: Any) -> tuple[aio.Server, int]:
    server = aio.server()
    echo.add_handlers(server, {**echo.DEFAULTS, **handlers})
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


NEEDS_IPV6 = pytest.mark.skipif(not echo.HAS_IPV6, reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("address", "target", "peer"),
    [
        ("127.0.0.1:0", "127.0.0.1:{port}", "ipv4:127.0.0.1:"),
        ("127.0.0.1:0", "ipv4:127.0.0.1:{port}", "ipv4:127.0.0.1:"),
        ("127.0.0.1:0", "ipv4:///127.0.0.1:{port}", "ipv4:127.0.0.1:"),
        ("127.0.0.1:0", "dns:127.0.0.1:{port}", "ipv4:127.0.0.1:"),
        ("127.0.0.1:0", "dns:///localhost:{port}", "ipv4:127.0.0.1:"),
        ("127.0.0.1:0", "localhost:{port}", "ipv4:127.0.0.1:"),
        ("0.0.0.0:0", "127.0.0.1:{port}", "ipv4:127.0.0.1:"),
        pytest.param("[::1]:0", "[::1]:{port}", "ipv6:", marks=NEEDS_IPV6),
        pytest.param("[::1]:0", "ipv6:[::1]:{port}", "ipv6:", marks=NEEDS_IPV6),
        pytest.param("[::]:0", "[::1]:{port}", "ipv6:", marks=NEEDS_IPV6),
        ("[::]:0", "127.0.0.1:{port}", "ip"),
        ("unix:{directory}/s", "unix:{directory}/s", "unix:"),
        ("unix:{directory}/s", "unix://{directory}/s", "unix:"),
        ("unix-abstract:{name}", "unix-abstract:{name}", "unix"),
    ],
)
async def test_a_target_is_reached(address: str, target: str, peer: str, tmp_path: Path) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return context.peer().encode()  # type: ignore[no-any-return]

    places = {"directory": tmp_path, "name": uuid.uuid4().hex}
    server, port = await serve(address.format(**places), UnaryUnary=handler)
    async with aio.insecure_channel(target.format(port=port, **places)) as channel:
        assert (await method(channel)(b"")).decode().startswith(peer)
    await server.stop(None)


async def test_a_unix_socket_is_taken_over_and_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    # Somebody who did not clean up.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    for _ in range(2):
        server, _ = await serve(f"unix:{path}")
        async with aio.insecure_channel(f"unix:{path}") as channel:
            assert await method(channel)(b"x") == b"x"
        await server.stop(None)
    assert not path.exists()


async def test_addresses_are_tried_one_after_the_other() -> None:
    async with echo.serving() as service:
        with nobody() as first:
            async with aio.insecure_channel(f"ipv4:{first},{service.target}") as channel:
                assert await method(channel)(b"x") == b"x"


@pytest.mark.parametrize(
    "target",
    ["http://localhost:80", "https://localhost", "localhost:port", "localhost:99999", "ipv4:host:1", "unix:"],
)
def test_a_target_that_makes_no_sense_is_refused_at_once(target: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        aio.insecure_channel(target)


async def test_an_empty_target_leads_nowhere() -> None:
    async with aio.insecure_channel("") as channel:
        with pytest.raises(aio.AioRpcError, match="no address") as caught:
            await method(channel)(b"x")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(RuntimeError, match="no gRPC target"):
        aio.server().add_insecure_port("")


def test_a_url_is_told_what_to_write_instead() -> None:
    with pytest.raises(ValueError, match="'localhost:80'"):
        aio.insecure_channel("http://localhost:80/")


@pytest.mark.parametrize("wait_for_ready", [None, False])
async def test_where_nobody_listens_calls_are_unavailable(wait_for_ready: bool | None) -> None:
    with nobody() as target:
        async with aio.insecure_channel(target) as channel:
            for _ in range(2):
                call = method(channel)(b"", wait_for_ready=wait_for_ready)
                error = await failure(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert target in (error.details() or "")
                assert "refused" in (error.details() or "")
            stream = channel.stream_stream(echo.path("StreamStream"))()
            assert (await failure(stream.wait_for_connection())).code() is grpc.StatusCode.UNAVAILABLE
            assert (await failure(stream.write(b""))).code() is grpc.StatusCode.UNAVAILABLE
            assert (await failure(stream.read())).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_call_that_fails_at_once_leaves_its_requests_alone(kind: str) -> None:
    async def requests() -> AsyncIterator[bytes]:
        asked.set()
        await asyncio.Event().wait()
        yield b""

    asked = asyncio.Event()
    with nobody() as target:
        async with aio.insecure_channel(target) as channel:
            await failure(method(channel)(b""))
            assert channel.get_state() is State.TRANSIENT_FAILURE
            call = getattr(channel, kind)(echo.path("UnaryUnary"))(requests())
            assert call.done()
            await asyncio.sleep(0.01)
            assert not asked.is_set()
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["no.such.host.invalid:80", "no/name"])
async def test_a_name_that_nobody_has_is_unavailable(name: str) -> None:
    async with aio.insecure_channel(name) as channel:
        error = await failure(method(channel)(b""))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert name.partition(":")[0] in (error.details() or "")


async def test_a_server_that_speaks_something_else_is_unavailable() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with aio.insecure_channel(f"127.0.0.1:{other.sockets[0].getsockname()[1]}") as channel:
        assert (await failure(method(channel)(b""))).code() is grpc.StatusCode.UNAVAILABLE
    other.close()
    await other.wait_closed()


async def test_wait_for_ready_waits_for_the_server() -> None:
    with nobody() as target:
        channel = aio.insecure_channel(target, options=EAGER)
        call = method(channel)(b"x", wait_for_ready=True)
        while channel.get_state() is not State.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        # Another that does not wait fails beside it.
        assert (await failure(method(channel)(b""))).code() is grpc.StatusCode.UNAVAILABLE
        assert not call.done()
    server, _ = await serve(target)
    assert await call == b"x"
    await channel.close()
    await server.stop(None)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_calls_that_end_during_an_outage_leave_nothing(end: str) -> None:
    with nobody() as target:
        channel = aio.insecure_channel(target)
        waiting = [method(channel)(b"x", wait_for_ready=True) for _ in range(3)]
        timeout = 0.02 if end == "expired" else None
        calls = [method(channel)(b"x", wait_for_ready=True, timeout=timeout) for _ in range(200)]
        for call in calls:
            if end == "cancelled":
                assert call.cancel()
            await call.code()
        kept = list(map(weakref.ref, calls))
        del calls, call
        gc.collect()
        assert sum(call() is not None for call in kept) <= 10
        assert not any(call.done() for call in waiting)
        await channel.close()


async def test_a_channel_reconnects_when_its_server_comes_back(tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/socket"
    async with aio.insecure_channel(target, options=EAGER) as channel:
        for round in range(3):
            server, _ = await serve(target)
            assert await method(channel)(b"%d" % round, wait_for_ready=True) == b"%d" % round
            await server.stop(None)
            assert (await failure(method(channel)(b""))).code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_under_way_are_unavailable_when_the_connection_is_lost() -> None:
    """The server's process is killed: nobody says goodbye."""
    called: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # SETTINGS, empty: enough to be taken for a server.
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        await reader.readuntil(b"the request")
        called.set_result(writer)

    other = await asyncio.start_server(backend, "127.0.0.1", 0)
    async with aio.insecure_channel(f"127.0.0.1:{other.sockets[0].getsockname()[1]}") as channel:
        call = method(channel)(b"the request")
        (await called).transport.abort()
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE
    other.close()
    await other.wait_closed()


async def test_connectivity_is_shown() -> None:
    async with echo.serving() as service:
        channel = aio.insecure_channel(service.target)
        assert channel.get_state() is State.IDLE
        # Only looking does not connect.
        await asyncio.sleep(0)
        assert channel.get_state() is State.IDLE
        # What it was when it was asked for.
        assert channel.get_state(try_to_connect=True) is State.IDLE
        seen = [State.IDLE]
        while seen[-1] is not State.READY:
            await channel.wait_for_state_change(seen[-1])
            seen.append(channel.get_state())
        assert seen in ([State.IDLE, State.CONNECTING, State.READY], [State.IDLE, State.READY])
        await channel.channel_ready()
        watcher = asyncio.ensure_future(channel.wait_for_state_change(State.READY))
        await service.server.stop(None)
        await watcher
        assert channel.get_state() is not State.READY
        watcher = asyncio.ensure_future(channel.wait_for_state_change(channel.get_state()))
        await asyncio.sleep(0)
        await channel.close()
        await watcher
        assert channel.get_state() is State.SHUTDOWN
        assert channel.get_state(try_to_connect=True) is State.SHUTDOWN


async def test_channel_ready_waits_as_long_as_it_takes() -> None:
    with nobody() as target:
        channel = aio.insecure_channel(target, options=EAGER)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(channel.channel_ready(), 0.05)
        ready = asyncio.create_task(channel.channel_ready())
        await asyncio.sleep(0)
        assert not ready.done()
    server, _ = await serve(target)
    await ready
    assert channel.get_state() is State.READY
    await channel.close()
    await server.stop(None)


async def test_channel_ready_of_a_channel_that_is_closed() -> None:
    with nobody() as target:
        channel = aio.insecure_channel(target)
        ready = asyncio.create_task(channel.channel_ready())
        await asyncio.sleep(0)
        await channel.close()
        with pytest.raises(aio.UsageError):
            await ready
        with pytest.raises(aio.UsageError):
            await channel.channel_ready()


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_a_call_after_close_is_a_usage_error(kind: str) -> None:
    async with echo.serving() as service:
        before = getattr(service.channel, kind)(echo.path("UnaryUnary"))
        await service.channel.close()
        await service.channel.close()
        with pytest.raises(aio.UsageError, match="closed"):
            before(b"" if kind.startswith("unary") else None)
        with pytest.raises(aio.UsageError):
            await service.channel.wait_for_state_change(State.SHUTDOWN)


async def test_close_with_grace_lets_calls_end() -> None:
    release = asyncio.Event()
    entered = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        entered.set()
        await release.wait()
        return request

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"x")
        await entered.wait()
        closing = asyncio.create_task(service.channel.close(grace=50))
        await asyncio.sleep(0)
        with pytest.raises(aio.UsageError):
            service.unary_unary(b"")
        assert not closing.done()
        release.set()
        assert await call == b"x"
        await closing


@pytest.mark.parametrize("timeout", [None, 50])
async def test_close_with_grace_waits_for_no_stream_that_nobody_keeps(timeout: float | None) -> None:
    with nobody() as target:
        channel = aio.insecure_channel(target)
        call = channel.unary_stream(echo.path("UnaryStream"))(b"", wait_for_ready=True, timeout=timeout)
        closing = asyncio.create_task(channel.close(grace=50))
        await asyncio.sleep(0.01)
        assert not closing.done()
        del call
        await asyncio.wait_for(closing, 10)


async def test_close_cancels_what_is_left_when_grace_is_over() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with echo.serving(UnaryUnary=handler) as service:
        call = service.unary_unary(b"")
        await call.wait_for_connection()
        await service.channel.close(grace=0.01)
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(ValueError, match="grace"):
            await aio.insecure_channel("localhost:1").close(grace=-1)


async def test_a_channel_that_nobody_keeps_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def handler(requests: Any, context: Any) -> bytes:
        context.add_done_callback(lambda _: gone.set())
        async for _ in requests:
            pass
        return b""

    async def use() -> None:
        channel = aio.insecure_channel(service.target)
        assert await method(channel)(b"x") == b"x"
        stream = channel.stream_stream(echo.path("StreamStream"))()
        await stream.write(b"")
        assert await stream.read() == b""

    async with echo.serving(StreamUnary=handler) as service:
        await use()
        gc.collect()
        # Nothing is left for the leak guard.
        assert await service.unary_unary(b"y") == b"y"


async def test_a_channel_that_nobody_keeps_gives_its_attempt_up() -> None:
    """The loop hears of the connection after the channel is gone."""

    async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # SETTINGS, empty: a connection is established.
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        await ended.put(None)

    ended: asyncio.Queue[None] = asyncio.Queue()
    other = await asyncio.start_server(backend, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    for target in (f"127.0.0.1:{port}", f"ipv4:127.0.0.1:{port},127.0.0.1:{port}"):
        for _ in range(5):
            assert aio.insecure_channel(target).get_state(try_to_connect=True) is State.IDLE
    # No second address is tried.
    for _ in range(10):
        await asyncio.wait_for(ended.get(), 10)
    other.close()
    await other.wait_closed()
    assert ended.empty()


@pytest.mark.parametrize("function", ["request_serializer", "response_deserializer"])
async def test_a_stub_that_serializes_itself_is_collected(function: str) -> None:
    class Client:
        def __init__(self, target: str) -> None:
            functions = {function: self.convert}
            self.method = aio.insecure_channel(target).unary_unary(echo.path("UnaryUnary"), **functions)
            self.last: Any = None

        def convert(self, message: bytes) -> bytes:
            return message + b"!"

    async with echo.serving() as service:
        client = Client(service.target)
        client.last = client.method(b"x")
        assert await client.last == b"x!"
        kept = weakref.ref(client)
        del client
        gc.collect()
        assert kept() is None


async def test_a_call_keeps_its_channel() -> None:
    async with echo.serving() as service:

        def call() -> Any:
            return method(aio.insecure_channel(service.target))(b"x")

        pending = call()
        gc.collect()
        assert await pending == b"x"


async def test_a_channel_is_made_without_a_loop() -> None:
    async with echo.serving() as service:
        channel = await asyncio.to_thread(aio.insecure_channel, service.target)
        stub = await asyncio.to_thread(method, channel)
        assert await stub(b"x") == b"x"
        await channel.close()


def run_on_new_loop(loop_kind: str, main: Any) -> Any:
    """What `asyncio.run` does, on the kind of loop of this test."""
    loop = LOOPS[loop_kind]()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def server_in_a_thread() -> Iterator[str]:
    """A server on a loop of its own."""
    started: list[Any] = []
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        server, port = await serve("127.0.0.1:0")
        started.extend((asyncio.get_running_loop(), stop, f"127.0.0.1:{port}"))
        ready.set()
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    ready.wait()
    loop, stop, target = started
    try:
        yield target
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.mark.parametrize("loop_kind", list(LOOPS))
def test_one_channel_in_one_asyncio_run_after_the_other(loop_kind: str) -> None:
    async def use(request: bytes) -> bytes:
        return await method(channel)(request)  # type: ignore[no-any-return]

    with server_in_a_thread() as target:
        channel = aio.insecure_channel(target)
        for number in range(5):
            assert run_on_new_loop(loop_kind, use(b"%d" % number)) == b"%d" % number
        run_on_new_loop(loop_kind, channel.close())
        with pytest.raises(aio.UsageError):
            run_on_new_loop(loop_kind, use(b""))


def test_one_channel_in_asyncio_run_itself() -> None:
    async def use() -> bytes:
        async with aio.insecure_channel(target) as channel:
            return await method(channel)(b"x")  # type: ignore[no-any-return]

    with server_in_a_thread() as target:
        for _ in range(5):
            assert asyncio.run(use()) == b"x"


@pytest.mark.parametrize("loop_kind", list(LOOPS))
def test_threads_with_loops_of_their_own_share_a_channel(loop_kind: str) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    async def use(number: int) -> None:
        requests = [b"%d-%d" % (number, at) for at in range(50)]
        assert await asyncio.gather(*map(method(channel), requests)) == requests

    def work(number: int) -> None:
        try:
            barrier.wait()
            for _ in range(3):
                run_on_new_loop(loop_kind, use(number))
        except BaseException as error:
            failures.append(error)

    with server_in_a_thread() as target:
        channel = aio.insecure_channel(target)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        run_on_new_loop(loop_kind, channel.close())


@pytest.mark.parametrize("grace", [None, 0.01])
async def test_a_channel_is_closed_while_another_loop_uses_it(grace: float | None) -> None:
    """The other loop's calls are cancelled, and who waits there for another state has it."""
    entered = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        entered.set()
        await asyncio.Event().wait()
        return request

    async with echo.serving(UnaryUnary=handler) as service:

        async def use() -> None:
            await service.channel.channel_ready()
            watching = asyncio.create_task(service.channel.wait_for_state_change(State.READY))
            await asyncio.sleep(0)
            stream = service.stream_stream()
            for call in (service.unary_unary(b"x"), stream.read()):
                with pytest.raises(asyncio.CancelledError):
                    await call
            await watching

        other = asyncio.create_task(asyncio.to_thread(asyncio.run, use()))
        await entered.wait()
        await service.channel.close(grace)
        await asyncio.wait_for(other, 10)


async def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError):
        aio.insecure_channel("localhost:1", options=[("grpc.max_send_message_length", "long")])
    with pytest.raises(TypeError):
        aio.insecure_channel("localhost:1", options=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        aio.server(options=[("grpc.max_send_message_length", None)])


async def test_options_that_mean_nothing_here_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oxgrpc")
    option = f"grpc.some_option_{uuid.uuid4().hex}"
    for _ in range(2):
        aio.insecure_channel("localhost:1", options=[(option, 1)])
    assert [option in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("path", ["no-slash", "", "/with space", "/naïve"])
async def test_a_method_that_makes_no_sense_is_refused(path: str) -> None:
    channel = aio.insecure_channel("localhost:1")
    with pytest.raises(ValueError, match="method"):
        channel.unary_unary(path)
    with pytest.raises(TypeError):
        channel.unary_unary("/a/b", request_serializer=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        channel.unary_unary(5)  # type: ignore[arg-type]


async def test_credentials_on_an_insecure_channel() -> None:
    async with echo.serving() as service:
        with pytest.raises(aio.UsageError, match="Call credentials are only valid on secure channels"):
            service.unary_unary(b"", credentials=grpc.access_token_call_credentials("token"))
