"""One end of a measurement: a server, or a client that loads it. Runs on oxgrpc or on genuine grpcio.

    worker.py STACK LOOP server                       prints its port, serves until its standard input ends
    worker.py STACK LOOP client PORT SCENARIO SECONDS  prints "begin" and, at the end, one line of JSON

STACK is oxgrpc or grpcio, LOOP is asyncio or uvloop. Messages are bytes: no protobuf on either side.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

WARM_UP_SECONDS = 0.3
STREAM_LENGTH = 20_000
LARGE_STREAM_LENGTH = 200
SMALL = b"x" * 64
LARGE = b"x" * (1 << 20)


def load_stack(name: str) -> Any:
    if name == "oxgrpc":
        import oxgrpc

        return oxgrpc
    import grpc
    import grpc.aio

    return grpc


async def unary(request: bytes, context: Any) -> bytes:
    return request


async def server_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    count, size = map(int, request.split())
    message = b"x" * size
    for _ in range(count):
        yield message


async def client_stream(requests: AsyncIterator[bytes], context: Any) -> bytes:
    count = 0
    async for _ in requests:
        count += 1
    return b"%d" % count


async def both_streams(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def serve(grpc: Any) -> None:
    server = grpc.aio.server()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    server.add_registered_method_handlers("bench.Echo", handlers)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


class Load:
    """Runs one kind of work, several at a time, for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.latencies: list[float] = []
        self.count = 0
        self.measuring = False
        self.running = True

    async def run(self, concurrency: int, work: Callable[[], Awaitable[int]]) -> dict[str, float]:
        async def repeat() -> None:
            clock = time.perf_counter
            while self.running:
                started = clock()
                count = await work()
                if self.measuring:
                    self.latencies.append(clock() - started)
                    self.count += count

        tasks = [asyncio.create_task(repeat()) for _ in range(concurrency)]
        await asyncio.sleep(WARM_UP_SECONDS)
        print("begin", flush=True)
        self.measuring = True
        cpu, begun = time.process_time(), time.perf_counter()
        await asyncio.sleep(self.seconds)
        # What is under way when the time is up, such as a long stream, is counted with the time it takes.
        self.running = False
        await asyncio.gather(*tasks)
        elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
        self.latencies.sort()
        return {
            "count": self.count,
            "seconds": elapsed,
            "cpu_seconds": used,
            "p50_us": self.latencies[len(self.latencies) // 2] * 1e6,
            "p99_us": self.latencies[len(self.latencies) * 99 // 100] * 1e6,
        }


async def load(grpc: Any, port: str, scenario: str, seconds: float) -> dict[str, float]:
    kind, size, concurrency = scenario.split(".")
    payload = LARGE if size == "1m" else SMALL
    length = LARGE_STREAM_LENGTH if size == "1m" else STREAM_LENGTH
    many = int(concurrency)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        measure = Load(seconds)
        if kind == "unary":
            call = channel.unary_unary("/bench.Echo/Unary")

            async def one() -> int:
                await call(payload)
                return 1

        elif kind == "sstream":
            stream = channel.unary_stream("/bench.Echo/ServerStream")

            async def one() -> int:
                count = 0
                async for _ in stream(b"%d %d" % (length, len(payload))):
                    count += 1
                assert count == length
                return count

        elif kind == "cstream":
            requests = channel.stream_unary("/bench.Echo/ClientStream")

            async def messages() -> AsyncIterator[bytes]:
                for _ in range(length):
                    yield payload

            async def one() -> int:
                assert int(await requests(messages())) == length
                return length

        elif kind == "bidi":
            bidi = channel.stream_stream("/bench.Echo/BothStreams")
            call = bidi()

            async def one() -> int:
                await call.write(payload)
                await call.read()
                return 1

        else:
            raise ValueError(scenario)
        result = await measure.run(many, one)
        if kind == "bidi":
            await call.done_writing()
        return result


def main() -> None:
    stack, loop, role, *rest = sys.argv[1:]
    grpc = load_stack(stack)
    if role == "server":
        program = serve(grpc)
    else:
        port, scenario, seconds = rest

        async def client() -> None:
            print(json.dumps(await load(grpc, port, scenario, float(seconds))), flush=True)

        program = client()
    if loop == "uvloop":
        import uvloop

        uvloop.run(program)
    else:
        asyncio.run(program)


if __name__ == "__main__":
    main()
