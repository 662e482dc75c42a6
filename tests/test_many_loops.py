"""One channel on many event loops: of threads that call at the same time, and of loops that live for one call."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import echo
import program
from conftest import LOOPS
from oxgrpc import aio

THREADS = 8
CALLS = 10_000
#: Calls that one thread has under way at the same time.
AT_ONCE = 25
RUNS = 1_000
#: After these runs nothing may grow any more.
WARM_UP = 200

#: A server in a process of its own: nothing of it is counted here.
SERVER = """
import asyncio, echo
from oxgrpc import aio
async def main():
    server = aio.server()
    echo.add_handlers(server, echo.DEFAULTS)
    print(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(factory: LoopFactory, main: Any) -> Any:
    """What `asyncio.run` does, on a loop of any make."""
    loop = factory()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def server_in_a_thread() -> Iterator[str]:
    """A server with the default handlers, on a loop of its own. Gives its target."""
    ready: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = aio.server()
        echo.add_handlers(server, echo.DEFAULTS)
        ready.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        started.set()
        await stop.wait()
        await server.stop(None)

    def main() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    try:
        assert started.wait(60)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


async def call_each_kind(channel: aio.Channel, number: int) -> bool:
    request = b"%d" % number
    match number % 4:
        case 0:
            return bool(await channel.unary_unary(echo.path("UnaryUnary"))(request) == request)
        case 1:
            stream = channel.unary_stream(echo.path("UnaryStream"))(b"3")
            return [int(response) async for response in stream] == [0, 1, 2]
        case 2:
            return bool(await channel.stream_unary(echo.path("StreamUnary"))(iter([request, b"|"])) == request + b"|")
        case _:

            async def requests() -> AsyncIterator[bytes]:
                yield request
                yield b"last"

            call = channel.stream_stream(echo.path("StreamStream"))(requests())
            return [response async for response in call] == [request, b"last"]


@pytest.mark.parametrize("kind", LOOPS)
def test_threads_with_a_loop_each_share_a_channel(kind: str) -> None:
    together = threading.Barrier(THREADS)

    async def calls(channel: aio.Channel, numbers: range) -> int:
        together.wait(60)
        answered = 0
        for at in range(0, len(numbers), AT_ONCE):
            batch = (call_each_kind(channel, number) for number in numbers[at : at + AT_ONCE])
            answered += sum(await asyncio.gather(*batch))
        return answered

    with server_in_a_thread() as target, ThreadPoolExecutor(THREADS) as pool:
        channel = aio.insecure_channel(target)
        each = CALLS // THREADS
        ranges = [range(at, at + each) for at in range(0, CALLS, each)]
        answered = pool.map(lambda numbers: run(LOOPS[kind], calls(channel, numbers)), ranges)
        assert list(answered) == [each] * THREADS
        run(LOOPS[kind], channel.close())


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def holdings() -> tuple[int, int]:
    """Native objects and file descriptors."""
    gc.collect()
    native = sum(type(thing).__module__ == "oxgrpc._native" for thing in gc.get_objects())
    return native, len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_for_each_call(kind: str) -> None:
    """`asyncio.run(one_call(channel))`, again and again: what a loop leaves behind goes with it."""
    with program.started(SERVER) as server:
        channel = aio.insecure_channel(f"127.0.0.1:{int(server.stdout.readline())}")  # type: ignore[union-attr]
        for number in range(WARM_UP):
            assert run(LOOPS[kind], call_each_kind(channel, number))
        before, resident = holdings(), resident_bytes()
        for number in range(WARM_UP, RUNS):
            assert run(LOOPS[kind], call_each_kind(channel, number))
        assert holdings() <= before
        assert resident_bytes() - resident < 16 << 20
        run(LOOPS[kind], channel.close())
