"""The client whose memory `test_memory_bounds.py` watches: `memory_client.py ACT PORT HONEST_PORT`.

It says when it is ready, and acts when a line comes, until its input ends. For each line it makes honest calls to
another server, one after the other, and says when they are done.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from oxgrpc import aio

HONEST_CALLS = 300

#: What is kept of an act, so that nothing is cancelled before the end.
kept: list[Any] = []


async def requests() -> AsyncIterator[bytes]:
    while True:
        yield bytes(64 << 10)


async def writes(channel: aio.Channel) -> None:
    call = channel.stream_unary("/test/Writes")()
    kept.append(call)
    async for request in requests():
        await call.write(request)


async def iterates(channel: aio.Channel) -> None:
    await channel.stream_unary("/test/Iterates")(requests())


async def reads_nothing(channel: aio.Channel) -> None:
    for _ in range(100):
        call = channel.unary_stream("/test/Unread")(b"")
        kept.append(call)
        await call.initial_metadata()


async def calls(channel: aio.Channel) -> None:
    """A thousand unary calls at once; how they end is not the point."""
    method = channel.unary_unary("/test/Unary")
    await asyncio.gather(*(method(b"") for _ in range(1000)), return_exceptions=True)


async def one_after_the_other(channel: aio.Channel) -> None:
    method = channel.unary_unary("/test/Unary")
    for _ in range(200):
        try:
            await method(b"")
        except aio.AioRpcError as error:
            kept[:] = [error]


ACTS: dict[str, Callable[[aio.Channel], Awaitable[None]]] = {
    act.__name__: act for act in (writes, iterates, reads_nothing, calls, one_after_the_other)
}


async def main(act: str, port: str, honest_port: str, *options: str) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    pairs = [(name, int(number)) for name, number in zip(options[::2], options[1::2], strict=True)]
    async with (
        aio.insecure_channel(f"127.0.0.1:{honest_port}") as honest,
        aio.insecure_channel(f"127.0.0.1:{port}", options=pairs) as channel,
    ):
        echo = honest.unary_unary("/test.Echo/UnaryUnary")
        for _ in range(100):
            await echo(b"honest")
        print("ready", flush=True)
        await reader.readline()
        task = asyncio.create_task(ACTS[act](channel))
        while True:
            for _ in range(HONEST_CALLS):
                assert await echo(b"honest") == b"honest"
            print("done", flush=True)
            if not await reader.readline():
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for call in kept:
            if isinstance(call, aio.Call):
                call.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
