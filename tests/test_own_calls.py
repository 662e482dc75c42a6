"""Calls of a program's own, for its tests: an abstract class and an answer, used as what a channel gives is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from oxgrpc import StatusCode, aio


class Answered(aio.Call):
    """What all of them say of themselves."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def initial_metadata(self) -> aio.Metadata:
        return aio.Metadata()

    async def trailing_metadata(self) -> aio.Metadata:
        return aio.Metadata()

    async def code(self) -> StatusCode:
        return StatusCode.OK

    async def details(self) -> str:
        return ""

    async def wait_for_connection(self) -> None:
        return None

    def cancelled(self) -> bool:
        return self.answer.cancelled()

    def done(self) -> bool:
        return self.answer.done()

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return self.answer.cancel()

    def add_done_callback(self, callback: Any) -> None:
        self.answer.add_done_callback(callback)


class OwnCall(Answered, aio.UnaryUnaryCall[bytes, bytes]):
    """A call that is answered by a future."""

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.answer.__await__()


class OwnStream(Answered, aio.UnaryStreamCall[bytes, bytes]):
    """A call that is answered by a generator."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for response in (b"a", b"b", b"c"):
            yield response

    async def read(self) -> Any:
        return await anext(self, aio.EOF)


async def test_it_can_be_awaited() -> None:
    call = OwnCall()
    call.answer.set_result(b"x")
    assert await call == b"x"


async def test_it_can_be_made_a_task() -> None:
    call = OwnCall()
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    call.answer.set_result(b"x")
    assert await task == b"x"


async def test_its_task_can_be_cancelled() -> None:
    call = OwnCall()
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled()


async def test_its_error_is_the_tasks() -> None:
    call = OwnCall()
    task = asyncio.create_task(call)
    call.answer.set_exception(aio.AioRpcError(StatusCode.NOT_FOUND))
    with pytest.raises(aio.AioRpcError):
        await task


async def test_closing_leaves_the_call_alone() -> None:
    for steps in range(2):
        call = OwnCall()
        for _ in range(steps):
            call.send(None)
        call.close()
        assert not call.done()


async def test_its_responses_can_be_asked_for_one_by_one() -> None:
    call = OwnStream()
    assert await anext(call) == b"a"
    assert [await call.read(), await call.read(), await call.read()] == [b"b", b"c", aio.EOF]
    with pytest.raises(StopAsyncIteration):
        await anext(call)


async def test_its_responses_can_be_iterated() -> None:
    assert [response async for response in OwnStream()] == [b"a", b"b", b"c"]
