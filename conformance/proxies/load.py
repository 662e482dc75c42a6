"""The client in front of the proxy: bursts of calls, and a steady load while something happens to the proxy.

    python -m conformance.proxies.load STACK PORT

It reads commands, a line each, and answers each with a line of JSON: what became of the calls.

    burst KIND COUNT SIZE   as many calls of a kind at once, with messages of this size
    begin                   starts the steady load and answers when it runs
    end                     answers when calls succeed again and no handler is left over
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .service import SERVICE, load

#: Streams have as many messages.
MESSAGES = 3
CALL_SECONDS = 60.0
#: The steady load: calls at once, what they carry, and how many have to succeed before and after.
WORKERS, WORKER_BYTES, ENOUGH = 24, 300 << 10, 100

Burst = Callable[[int], Awaitable[None]]


class Client:
    """Calls of all kinds, which check what they are answered."""

    def __init__(self, grpc: Any, channel: Any) -> None:
        self.error: type[Exception] = grpc.RpcError
        self._upload = channel.unary_unary(f"/{SERVICE}/Upload")
        self._download = channel.unary_unary(f"/{SERVICE}/Download")
        self._upload_stream = channel.stream_unary(f"/{SERVICE}/UploadStream")
        self._download_stream = channel.unary_stream(f"/{SERVICE}/DownloadStream")
        self._mirror = channel.stream_stream(f"/{SERVICE}/Mirror")
        self._running = channel.unary_unary(f"/{SERVICE}/Running")
        self.kinds: dict[str, Burst] = {
            "upload": self.upload,
            "download": self.download,
            "upload-stream": self.upload_stream,
            "download-stream": self.download_stream,
            "mirror": self.mirror,
        }

    async def upload(self, size: int) -> None:
        answer = await self._upload(bytes(size), timeout=CALL_SECONDS, wait_for_ready=True)
        _check(answer, b"%d" % size)

    async def download(self, size: int) -> None:
        answer = await self._download(b"%d" % size, timeout=CALL_SECONDS, wait_for_ready=True)
        _check(answer, bytes(size))

    async def upload_stream(self, size: int) -> None:
        answer = await self._upload_stream(_messages(size), timeout=CALL_SECONDS, wait_for_ready=True)
        _check(answer, b" ".join(MESSAGES * [b"%d" % size]))

    async def download_stream(self, size: int) -> None:
        request = b" ".join(MESSAGES * [b"%d" % size])
        call = self._download_stream(request, timeout=CALL_SECONDS, wait_for_ready=True)
        _check([answer async for answer in call], MESSAGES * [bytes(size)])

    async def mirror(self, size: int) -> None:
        call = self._mirror(_messages(size), timeout=CALL_SECONDS, wait_for_ready=True)
        _check([answer async for answer in call], MESSAGES * [bytes(size)])

    async def running(self) -> int:
        return int(await self._running(b"", timeout=CALL_SECONDS, wait_for_ready=True))

    async def outcome(self, call: Burst, size: int) -> str:
        try:
            await call(size)
        except self.error as error:
            return str(error.code().name)  # type: ignore[attr-defined] # a call's error has it
        return "OK"


async def _messages(size: int) -> AsyncIterator[bytes]:
    for _ in range(MESSAGES):
        yield bytes(size)


def _check(answer: object, wanted: object) -> None:
    if answer != wanted:
        raise SystemExit("an answer is not what was asked for")


class SteadyLoad:
    """Calls that follow one another, a few at once, until enough have succeeded since they were told to end."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.outcomes: Counter[str] = Counter()
        self.runs = asyncio.Event()
        self._ends = False
        self._left = ENOUGH
        calls = [client.upload, client.download]
        self.workers = [asyncio.create_task(self._work(calls[number % 2])) for number in range(WORKERS)]

    async def _work(self, call: Burst) -> None:
        while self._left > 0:
            outcome = await self.client.outcome(call, WORKER_BYTES)
            self.outcomes[outcome] += 1
            if self.outcomes["OK"] >= ENOUGH:
                self.runs.set()
            self._left -= self._ends and outcome == "OK"

    async def end(self) -> dict[str, int]:
        self._ends = True
        await asyncio.gather(*self.workers)
        while await self.client.running():
            await asyncio.sleep(0.01)
        return dict(self.outcomes)


async def main(stack: str, port: str) -> None:
    grpc = load(stack)
    steady: SteadyLoad | None = None
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        client = Client(grpc, channel)
        while command := (await asyncio.to_thread(sys.stdin.readline)).split():
            answer: dict[str, int] = {}
            if command[0] == "burst":
                call, count, size = client.kinds[command[1]], int(command[2]), int(command[3])
                outcomes = await asyncio.gather(*(client.outcome(call, size) for _ in range(count)))
                answer = dict(Counter(outcomes))
            elif command[0] == "begin":
                steady = SteadyLoad(client)
                await steady.runs.wait()
            elif steady:
                answer = await steady.end()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
