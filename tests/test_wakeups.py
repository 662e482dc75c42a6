"""Whoever waits is woken: when a connection dies at an awkward moment, when the loop refuses, when it is nested."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import echo
import oxgrpc as grpc
from oxgrpc import aio
from program import output_of


class Relay:
    """Carries one connection to a server on a thread of its own, and resets it when it is told to."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(port,))
        self._thread.start()

    def _run(self, port: int) -> None:
        with self._listener, socket.create_connection(("127.0.0.1", port)) as self._server:
            self._client, _ = self._listener.accept()
            back = threading.Thread(target=self._carry, args=(self._server, self._client))
            back.start()
            self._carry(self._client, self._server)
            back.join()
            self._client.close()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while octets := source.recv(65536):
                sink.sendall(octets)
        except OSError:
            pass

    def reset(self) -> None:
        """Resets the client's connection; has done so when it returns."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.shutdown(socket.SHUT_RD)
        # Only now can the thread come to its end and close both.
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()


@pytest.mark.parametrize("iterates", [False, True])
async def test_a_read_that_finds_the_connection_dead(iterates: bool) -> None:
    async with echo.serving() as service:
        relay = Relay(service.port)
        async with aio.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            call = channel.stream_stream(echo.path("StreamStream"))()
            await call.write(b"a")
            if not iterates:
                assert await call.read() == b"a"

            async def write_and_read() -> None:
                while True:
                    await call.write(b"b")
                    await (anext(aiter(call)) if iterates else call.read())

            # The loop learns nothing of the reset before the next write. No turn of ours has woken this task, so that
            # it is written at once.
            await asyncio.sleep(0)
            relay.reset()
            with pytest.raises(aio.AioRpcError) as caught:
                await write_and_read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_connection_that_the_loop_cannot_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("the methods of this loop cannot be replaced")
    async with echo.serving() as service:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "add_reader", refuse)
            with pytest.raises(aio.AioRpcError) as caught:
                await service.unary_unary(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "No space left on device" in (caught.value.details() or "")
        assert await service.unary_unary(b"again", wait_for_ready=True) == b"again"


async def test_a_call_that_another_thread_drops() -> None:
    gate, started = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(request: bytes, context: Any) -> AsyncIterator[bytes]:
        started.release()
        await gate.wait()
        yield b"1"

    asyncio.get_running_loop().set_debug(True)
    async with echo.serving(UnaryStream=slow) as service:
        await service.unary_unary(b"")
        held = [service.unary_stream(b"")]
        other = service.unary_stream(b"")
        reading = asyncio.create_task(other.read())
        await started.acquire()
        await started.acquire()
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        await asyncio.sleep(0)
        after = (service.unary_unary(b"after"), service.unary_unary(b"that"))
        assert await asyncio.gather(*after) == [b"after", b"that"]
        gate.set()
        assert await reading == b"1"


def awaitables() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "Awaitable" for thing in gc.get_objects())


async def test_a_wait_with_a_time_limit_leaves_nothing_behind() -> None:
    left: list[int] = []

    async def wait_in_vain(wait: Any) -> int:
        before = awaitables()
        for _ in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.0001)
        return awaitables() - before

    async def idle(requests: Any, context: Any) -> None:
        left.append(await wait_in_vain(context.read))

    async with echo.serving(StreamStream=idle) as service:
        call = service.stream_stream()
        left.append(await wait_in_vain(call.code))
        state = service.channel.get_state()
        left.append(await wait_in_vain(lambda: service.channel.wait_for_state_change(state)))
        await call.done_writing()
        await call.code()
    # The last of each may still be on its way.
    assert all(count <= 2 for count in left), left


def test_a_finalizer_that_looks_at_what_it_belonged_to() -> None:
    said = output_of(
        """
import asyncio, echo
async def main():
    async with echo.serving() as service:
        call = service.stream_stream()
        waiting = call.code()
        waiting.send(None)
        class Message:
            def __del__(self):
                print("finalized", waiting.done())
        waiting.cancel(Message())
        waiting.close()
        call.cancel()
asyncio.run(main())
"""
    )
    assert said == "finalized True\n"


def test_a_loop_that_is_run_by_a_task_of_its_own() -> None:
    said = output_of(
        """
import asyncio, warnings
warnings.simplefilter("ignore")
import echo, nest_asyncio
nest_asyncio.apply()
async def main():
    loop = asyncio.get_running_loop()
    async with echo.serving() as service:
        print(await service.unary_unary(b"outer"))
        async def inner():
            return await service.unary_unary(b"inner")
        print(loop.run_until_complete(asyncio.wait_for(inner(), 30)))
asyncio.run(main())
"""
    )
    assert said == "b'outer'\nb'inner'\n"
