"""Hedging: attempts that begin before the ones before them have failed. The first that is answered is the call's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from attempts import KINDS, RESPONSES, responses, service_config, start
from oxgrpc import aio

Code = grpc.StatusCode


def options(*more: tuple[str, Any], throttling: Any = None, **policy: Any) -> list[tuple[str, Any]]:
    """A channel's options with a hedging policy for all methods: all attempts begin at once."""
    default = {"maxAttempts": 3, "nonFatalStatusCodes": ["UNAVAILABLE"]}
    return [service_config({"hedgingPolicy": {**default, **policy}}, throttling), *more]


class Attempts:
    """Handlers of all kinds whose attempts do what the test tells them to: `answer`, `wait`, or end with a code."""

    def __init__(self, *parts: str, pushback_ms: str | None = None) -> None:
        self.parts = parts
        self.trailing = () if pushback_ms is None else (("grpc-retry-pushback-ms", pushback_ms),)
        #: What each attempt says about the ones before it.
        self.previous: list[str | None] = []
        self.begun = asyncio.Event()
        self.cancelled: asyncio.Queue[int] = asyncio.Queue()
        self.requests: dict[int, list[bytes]] = {}

    async def begin(self, context: Any) -> int:
        number = len(self.previous)
        self.previous.append(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts"))
        if len(self.previous) == len(self.parts):
            self.begun.set()
        return number

    async def play(self, number: int, context: Any) -> None:
        part = self.parts[number]
        if part == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.put_nowait(number)
        # No part is played before all attempts have begun.
        await self.begun.wait()
        if part != "answer":
            await context.abort(Code[part], f"attempt {number}", self.trailing)

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        await self.play(await self.begin(context), context)
        return request

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self.play(await self.begin(context), context)
        async for number in echo.count(request, context):
            yield number

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        number = await self.begin(context)
        received = self.requests.setdefault(number, [])
        async for request in requests:
            received.append(request)
        await self.play(number, context)
        return b"".join(received)

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        number = await self.begin(context)
        received = [request async for request in requests]
        await self.play(number, context)
        for request in received:
            yield request

    def serving(self, channel_options: list[tuple[str, Any]]) -> Any:
        return echo.serving(
            channel_options=channel_options,
            UnaryUnary=self.unary_unary,
            UnaryStream=self.unary_stream,
            StreamUnary=self.stream_unary,
            StreamStream=self.stream_stream,
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("winner", range(3))
async def test_the_first_answer_wins_and_the_others_are_cancelled(kind: str, winner: int) -> None:
    parts = ["wait"] * 3
    parts[winner] = "answer"
    attempts = Attempts(*parts)
    done: asyncio.Queue[Any] = asyncio.Queue()
    async with attempts.serving(options()) as service:
        call = start(service, kind)
        call.add_done_callback(done.put_nowait)
        assert await responses(kind, call) == RESPONSES[kind]
        assert await call.code() is Code.OK
        assert await done.get() is call
        losers = {await attempts.cancelled.get() for _ in range(2)}
        assert losers == set(range(3)) - {winner}
        assert done.empty()
    assert attempts.previous == [None, "1", "2"]


@pytest.mark.parametrize("kind", KINDS)
async def test_failures_that_are_not_fatal_leave_the_others_alone(kind: str) -> None:
    attempts = Attempts("UNAVAILABLE", "UNAVAILABLE", "answer")
    async with attempts.serving(options()) as service:
        assert await responses(kind, start(service, kind)) == RESPONSES[kind]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fatal_failure_is_the_calls(kind: str) -> None:
    attempts = Attempts("wait", "NOT_FOUND", "wait")
    async with attempts.serving(options()) as service:
        with pytest.raises(aio.AioRpcError, match="attempt 1"):
            await responses(kind, start(service, kind))
        assert {await attempts.cancelled.get() for _ in range(2)} == {0, 2}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_failure_is_the_calls(kind: str) -> None:
    attempts = Attempts(*["UNAVAILABLE"] * 3)
    async with attempts.serving(options()) as service:
        call = start(service, kind)
        assert await call.code() is Code.UNAVAILABLE
        assert (await call.details()).startswith("attempt ")
    assert len(attempts.previous) == 3


async def test_the_next_attempt_begins_after_the_delay() -> None:
    attempts = Attempts("wait", "answer")
    async with attempts.serving(options(maxAttempts=2, hedgingDelay="0.05s")) as service:
        assert await service.unary_unary(b"x") == b"x"
        assert await attempts.cancelled.get() == 0
    assert attempts.previous == [None, "1"]


async def test_an_answer_within_the_delay_needs_no_second_attempt() -> None:
    attempts = Attempts("answer")
    async with attempts.serving(options(hedgingDelay="100s")) as service:
        assert await service.unary_unary(b"x") == b"x"
    assert attempts.previous == [None]


async def test_a_failure_does_not_wait_for_the_delay() -> None:
    attempts = Attempts("UNAVAILABLE", "UNAVAILABLE", "answer")
    attempts.begun.set()
    async with attempts.serving(options(hedgingDelay="100s")) as service:
        assert await service.unary_unary(b"x") == b"x"
    assert attempts.previous == [None, "1", "2"]


@pytest.mark.parametrize(("pushback_ms", "code", "count"), [("-1", Code.UNAVAILABLE, 1), ("1", Code.OK, 2)])
async def test_a_server_may_say_when_to_ask_again(pushback_ms: str, code: grpc.StatusCode, count: int) -> None:
    attempts = Attempts("UNAVAILABLE", "answer", pushback_ms=pushback_ms)
    attempts.begun.set()
    async with attempts.serving(options(hedgingDelay="100s")) as service:
        assert await service.unary_unary(b"x").code() is code
    assert len(attempts.previous) == count


@pytest.mark.parametrize("option", ["grpc.enable_retries", "grpc.experimental.enable_hedging"])
async def test_hedging_can_be_switched_off(option: str) -> None:
    attempts = Attempts("UNAVAILABLE")
    async with attempts.serving(options((option, 0))) as service:
        assert await service.unary_unary(b"x").code() is Code.UNAVAILABLE
    assert attempts.previous == [None]


@pytest.mark.parametrize("kind", KINDS)
async def test_all_attempts_end_with_the_deadline(kind: str) -> None:
    attempts = Attempts("wait", "wait", "wait")
    async with attempts.serving(options()) as service:
        assert await start(service, kind, timeout=0.2).code() is Code.DEADLINE_EXCEEDED
        assert {await attempts.cancelled.get() for _ in range(3)} == {0, 1, 2}


@pytest.mark.parametrize("kind", KINDS)
async def test_all_attempts_are_cancelled_with_the_call(kind: str) -> None:
    attempts = Attempts("wait", "wait", "wait")
    async with attempts.serving(options()) as service:
        call = start(service, kind)
        await attempts.begun.wait()
        assert call.cancel()
        assert {await attempts.cancelled.get() for _ in range(3)} == {0, 1, 2}
        assert await call.code() is Code.CANCELLED


async def test_all_attempts_end_with_a_stream_that_nobody_keeps() -> None:
    attempts = Attempts("wait", "wait", "wait")
    async with attempts.serving(options()) as service:
        call = service.unary_stream(b"1")
        await attempts.begun.wait()
        assert not call.done()
        del call
        assert {await attempts.cancelled.get() for _ in range(3)} == {0, 1, 2}


async def test_what_is_written_goes_to_all_attempts() -> None:
    attempts = Attempts("wait", "wait", "answer")
    async with attempts.serving(options()) as service:
        call = service.stream_unary()
        await call.write(b"first")
        await attempts.begun.wait()
        await call.write(b"second")
        await call.done_writing()
        assert await call == b"firstsecond"
        assert {await attempts.cancelled.get() for _ in range(2)} == {0, 1}
    assert list(attempts.requests.values()) == [[b"first", b"second"]] * 3


async def test_more_than_is_kept_leaves_one_attempt() -> None:
    attempts = Attempts("answer", "wait", "wait")
    keep = ("grpc.per_rpc_retry_buffer_size", 10)
    async with attempts.serving(options(keep)) as service:
        call = service.stream_unary()
        await call.write(b"12345")
        await attempts.begun.wait()
        await call.write(b"67890a")
        await call.done_writing()
        assert await call == b"1234567890a"


async def test_a_channel_whose_calls_mostly_fail_does_not_hedge() -> None:
    attempts = Attempts(*["UNAVAILABLE"] * 10)
    attempts.begun.set()
    throttled = options(throttling={"maxTokens": 4, "tokenRatio": 1}, hedgingDelay="100s")
    async with attempts.serving(throttled) as service:
        counts = []
        for _ in range(3):
            before = len(attempts.previous)
            assert await service.unary_unary(b"").code() is Code.UNAVAILABLE
            counts.append(len(attempts.previous) - before)
    assert counts == [2, 1, 1]


async def test_many_hedged_calls_at_once() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        if int(request) % 3 == int(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0")):
            return request
        await asyncio.Event().wait()
        return b""

    async with echo.serving(channel_options=options(), UnaryUnary=handler) as service:
        names = [b"%d" % number for number in range(300)]
        assert await asyncio.gather(*(service.unary_unary(name) for name in names)) == names
