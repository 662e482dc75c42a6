"""Retries: a call that fails is made again as its method's policy says, and its program sees the last attempt only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from attempts import KINDS, RESPONSES, responses, service_config, start
from oxgrpc import aio

Code = grpc.StatusCode


def options(*more: tuple[str, Any], throttling: Any = None, **policy: Any) -> list[tuple[str, Any]]:
    """A channel's options with a policy for all methods."""
    default = {
        "maxAttempts": 4,
        "initialBackoff": "0.001s",
        "maxBackoff": "0.001s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return [service_config({"retryPolicy": {**default, **policy}}, throttling), *more]


LONG = {"initialBackoff": "100s", "maxBackoff": "100s"}


class Flaky:
    """Handlers of all kinds that fail so many times, and then do what the default ones do."""

    def __init__(self, failures: int, code: grpc.StatusCode = Code.UNAVAILABLE, pushback_ms: str | None = None) -> None:
        self.failures = failures
        self.code = code
        self.trailing = () if pushback_ms is None else (("grpc-retry-pushback-ms", pushback_ms),)
        #: What each attempt says about the ones before it.
        self.previous: list[str | None] = []
        self.failed = asyncio.Event()

    async def begin(self, context: Any) -> None:
        self.previous.append(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts"))
        if len(self.previous) <= self.failures:
            self.failed.set()
            await context.abort(self.code, f"attempt {len(self.previous)}", self.trailing)

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        await self.begin(context)
        return request

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self.begin(context)
        async for number in echo.count(request, context):
            yield number

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        # The first attempt fails at once, the second when it has seen the first request.
        if self.previous:
            first = await anext(requests)
            await self.begin(context)
            return b"".join([first, *[request async for request in requests]])
        await self.begin(context)
        return await echo.join(requests, context)

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        received = [request async for request in requests]
        await self.begin(context)
        for request in received:
            yield request

    def serving(self, channel_options: list[tuple[str, Any]], **handlers: Any) -> Any:
        return echo.serving(
            channel_options=channel_options,
            **{
                "UnaryUnary": self.unary_unary,
                "UnaryStream": self.unary_stream,
                "StreamUnary": self.stream_unary,
                "StreamStream": self.stream_stream,
                **handlers,
            },
        )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_made_again_until_it_succeeds(kind: str) -> None:
    flaky = Flaky(3)
    done: asyncio.Queue[Any] = asyncio.Queue()
    async with flaky.serving(options()) as service:
        call = start(service, kind)
        call.add_done_callback(done.put_nowait)
        assert await responses(kind, call) == RESPONSES[kind]
        assert await call.code() is Code.OK
        assert await call.details() == ""
        assert await done.get() is call
        assert done.empty()
    assert flaky.previous == [None, "1", "2", "3"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_attempts_status_is_the_calls(kind: str) -> None:
    flaky = Flaky(9, pushback_ms="0")
    done: asyncio.Queue[Any] = asyncio.Queue()
    async with flaky.serving(options()) as service:
        call = start(service, kind)
        call.add_done_callback(done.put_nowait)
        with pytest.raises(aio.AioRpcError) as failed:
            await responses(kind, call)
        assert failed.value.details() == await call.details() == "attempt 4"
        assert await call.code() is Code.UNAVAILABLE
        assert "attempt 4" in await call.debug_error_string()
        assert dict(await call.trailing_metadata()) == {"grpc-retry-pushback-ms": "0"}
        assert await done.get() is call
        assert done.empty()
    assert flaky.previous == [None, "1", "2", "3"]


@pytest.mark.parametrize("kind", KINDS)
async def test_other_codes_are_final(kind: str) -> None:
    flaky = Flaky(1, Code.NOT_FOUND)
    async with flaky.serving(options()) as service:
        with pytest.raises(aio.AioRpcError, match="attempt 1"):
            await responses(kind, start(service, kind))
    assert flaky.previous == [None]


@pytest.mark.parametrize("pushback_ms", ["-1", "later", ""])
async def test_a_server_may_ask_not_to_be_asked_again(pushback_ms: str) -> None:
    flaky = Flaky(1, pushback_ms=pushback_ms)
    async with flaky.serving(options()) as service:
        assert await service.unary_unary(b"").code() is Code.UNAVAILABLE
    assert flaky.previous == [None]


async def test_a_server_may_say_when_to_ask_again() -> None:
    flaky = Flaky(2, pushback_ms="1")
    async with flaky.serving(options(**LONG)) as service:
        assert await service.unary_unary(b"x") == b"x"
    assert flaky.previous == [None, "1", "2"]


async def test_retries_can_be_switched_off() -> None:
    flaky = Flaky(1)
    async with flaky.serving(options(("grpc.enable_retries", 0))) as service:
        assert await service.unary_unary(b"").code() is Code.UNAVAILABLE
    assert flaky.previous == [None]


async def test_an_answer_that_has_begun_is_final() -> None:
    attempts = 0

    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal attempts
        attempts += 1
        yield b"response"
        await context.abort(Code.UNAVAILABLE, "enough")

    async def head(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("x", "y"),))
        return b"".join([response async for response in answer(request, context)])

    async with echo.serving(channel_options=options(), UnaryStream=answer, UnaryUnary=head) as service:
        stream = service.unary_stream(b"")
        assert await stream.read() == b"response"
        assert await stream.code() is Code.UNAVAILABLE
        call = service.unary_unary(b"")
        assert await call.code() is Code.UNAVAILABLE
        assert dict(await call.initial_metadata()) == {"x": "y"}
    assert attempts == 2


async def processed(service: echo.Service) -> None:
    """Waits until the client has seen all that the server has sent so far."""
    await service.channel.unary_unary("/nothing.Service/Method")(b"").code()


async def backing_off(flaky: Flaky, service: echo.Service, call: Any) -> None:
    """Waits until an attempt has failed and the call waits for the next."""
    await flaky.failed.wait()
    flaky.failed.clear()
    await processed(service)
    assert not call.done()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_can_be_cancelled_while_it_backs_off(kind: str) -> None:
    flaky = Flaky(9)
    async with flaky.serving(options(**LONG)) as service:
        call = start(service, kind)
        await backing_off(flaky, service, call)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await responses(kind, call)
        assert await call.code() is Code.CANCELLED
        assert call.cancelled()
    assert flaky.previous == [None]


async def test_a_task_can_be_cancelled_while_its_call_backs_off() -> None:
    flaky = Flaky(9)
    async with flaky.serving(options(**LONG)) as service:
        call = service.unary_unary(b"")

        async def wait() -> bytes:
            return bytes(await call)

        task = asyncio.create_task(wait())
        await backing_off(flaky, service, call)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.cancelled()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_is_that_of_all_attempts(kind: str) -> None:
    flaky = Flaky(9)
    policy = {"maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "100s", "backoffMultiplier": 2000}
    async with flaky.serving(options(**policy)) as service:
        call = start(service, kind, timeout=0.5)
        assert await call.code() is Code.DEADLINE_EXCEEDED
        assert await call.details() == "Deadline Exceeded"
    assert flaky.previous == [None, "1"]


async def test_each_attempt_has_the_time_that_is_left() -> None:
    remaining: list[float] = []

    async def fail(request: bytes, context: Any) -> bytes:
        remaining.append(context.time_remaining())
        await context.abort(Code.UNAVAILABLE)
        return b""

    async with echo.serving(
        channel_options=options(initialBackoff="0.1s", maxBackoff="0.1s"), UnaryUnary=fail
    ) as service:
        await service.unary_unary(b"", timeout=50).code()
    assert len(remaining) == 4
    assert sorted(remaining, reverse=True) == remaining
    assert remaining[0] - remaining[-1] > 0.15


async def test_a_channel_that_closes_cancels_calls_that_back_off() -> None:
    flaky = Flaky(9)
    async with flaky.serving(options(**LONG)) as service:
        calls = [start(service, kind) for kind in KINDS]
        while len(flaky.previous) < len(KINDS):
            await flaky.failed.wait()
            flaky.failed.clear()
        await processed(service)
        await service.channel.close()
        for call in calls:
            assert await call.code() is Code.CANCELLED


async def test_a_channel_that_closes_with_grace_waits_for_attempts_to_come() -> None:
    flaky = Flaky(2)
    async with flaky.serving(options(initialBackoff="0.1s", maxBackoff="0.1s")) as service:
        call = service.unary_unary(b"x")
        await backing_off(flaky, service, call)
        await service.channel.close(grace=50)
        assert await call == b"x"


async def test_a_call_that_nobody_keeps_is_not_made_again() -> None:
    flaky = Flaky(9)
    async with flaky.serving(options(**LONG)) as service:
        call = service.unary_stream(b"1")
        await backing_off(flaky, service, call)
        # What is left of it would be found by the leak guard.
        del call
    assert flaky.previous == [None]


async def test_a_unary_call_that_nobody_keeps_is() -> None:
    flaky, received = Flaky(1), asyncio.Event()

    async def receive(request: bytes, context: Any) -> bytes:
        response = await flaky.unary_unary(request, context)
        received.set()
        return response

    async with flaky.serving(options(), UnaryUnary=receive) as service:
        service.unary_unary(b"x")
        await received.wait()
    assert flaky.previous == [None, "1"]


async def test_what_was_written_is_written_again_and_what_comes_goes_on() -> None:
    received: list[list[bytes]] = []
    go_on = asyncio.Event()

    async def read(requests: AsyncIterator[bytes], context: Any) -> bytes:
        received.append([])
        async for request in requests:
            received[-1].append(request)
            if request == b"fail":
                go_on.set()
                if len(received) < 3:
                    await context.abort(Code.UNAVAILABLE)
        return b"|".join(received[-1])

    async with echo.serving(
        channel_options=options(initialBackoff="0.2s", maxBackoff="0.2s"), StreamUnary=read
    ) as service:
        call = service.stream_unary()
        await call.write(b"first")
        await call.write(b"fail")
        await go_on.wait()
        await processed(service)
        # It backs off, and a write does not wait for the next attempt.
        task = asyncio.create_task(call.write(b"written while it backs off"))
        await asyncio.sleep(0)
        assert task.done()
        await call.write(b"and more")
        await call.done_writing()
        assert await call == b"first|fail|written while it backs off|and more"
    assert received == [[b"first", b"fail"]] * 2 + [[b"first", b"fail", b"written while it backs off", b"and more"]]


async def test_writes_wait_once_enough_is_kept() -> None:
    flaky = Flaky(1, pushback_ms="200")
    keep = ("grpc.per_rpc_retry_buffer_size", 100)
    async with flaky.serving(options(keep)) as service:
        call = service.stream_unary()
        await call.write(b"")
        await backing_off(flaky, service, call)
        await call.write(b"a" * 99)
        await call.write(b"b" * 99)
        task = asyncio.create_task(call.write(b"c" * 99))
        await asyncio.sleep(0)
        assert not task.done()
        await task
        await call.done_writing()
        assert await call == b"a" * 99 + b"b" * 99 + b"c" * 99
    assert flaky.previous == [None, "1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kept", "attempts"), [(13, 2), (11, 1)])
async def test_a_call_is_not_made_again_whose_requests_are_not_kept(kind: str, kept: int, attempts: int) -> None:
    if kind.startswith("Unary"):
        kept -= 12  # its only request has one octet
    received = 0

    async def fail(request: Any, context: Any) -> bytes:
        nonlocal received
        received += 1
        if not isinstance(request, bytes):
            async for _ in request:
                pass
        await context.abort(Code.UNAVAILABLE)
        return b""

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await fail(request, context)

    handlers: dict[str, Callable[..., Any]] = {
        "UnaryUnary": fail,
        "StreamUnary": fail,
        "UnaryStream": stream,
        "StreamStream": stream,
    }
    keep = ("grpc.per_rpc_retry_buffer_size", kept)
    async with echo.serving(channel_options=options(keep, maxAttempts=2), **handlers) as service:
        call = start(service, kind)
        assert await call.code() is Code.UNAVAILABLE
    assert received == attempts


async def test_a_call_finds_the_server_that_comes_up_meanwhile() -> None:
    server = aio.server()
    echo.add_handlers(server, echo.DEFAULTS)
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{reserved.getsockname()[1]}"
        reconnect = ("grpc.initial_reconnect_backoff_ms", 1)
        policy = options(reconnect, initialBackoff="0.3s", maxBackoff="0.3s")
        async with aio.insecure_channel(target, options=policy) as channel:
            call = channel.unary_unary(echo.path("UnaryUnary"))(b"x")
            state = channel.get_state()
            while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
            server.add_insecure_port(target)
            await server.start()
            try:
                assert await call == b"x"
            finally:
                await server.stop(None)


async def test_a_channel_whose_calls_mostly_fail_makes_none_again() -> None:
    flaky = Flaky(10**6)
    throttled = options(throttling={"maxTokens": 10, "tokenRatio": 1})
    async with flaky.serving(throttled, StreamUnary=echo.join) as service:

        async def attempts() -> int:
            before = len(flaky.previous)
            await service.unary_unary(b"").code()
            return len(flaky.previous) - before

        # With five tokens or fewer there are no further attempts.
        assert [await attempts() for _ in range(3)] == [4, 1, 1]
        # Calls of any method that succeed bring it back.
        for _ in range(3):
            assert await service.stream_unary(iter([b"x"])) == b"x"
        assert await attempts() == 2


async def test_many_calls_back_off_at_once() -> None:
    seen: dict[bytes, int] = {}

    async def fail_twice(request: bytes, context: Any) -> bytes:
        seen[request] = seen.get(request, 0) + 1
        if seen[request] < 3:
            await context.abort(Code.UNAVAILABLE)
        return request

    async with echo.serving(channel_options=options(), UnaryUnary=fail_twice) as service:
        names = [b"%d" % number for number in range(500)]
        assert await asyncio.gather(*(service.unary_unary(name) for name in names)) == names
    assert set(seen.values()) == {3}
