"""One client used by several tasks, threads and event loops, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_gateway import FakeGateway, serving

from virtufin.api.client import ApiClient

HERE = Path(__file__).parent


async def test_threads_with_loops_of_their_own_share_a_client() -> None:
    async with serving() as fake:
        client = ApiClient("127.0.0.1", fake.port)

        async def use(number: int) -> list[int]:
            results = await asyncio.gather(*(client.gateway.echo.Echo({"n": number + i}) for i in range(20)))
            reply = client.pubsub.publish_with_result_async("same", "x", "same", timeout=0.01)
            with pytest.raises(TimeoutError):
                await reply
            return [result["n"] for result in results]

        with ThreadPoolExecutor(4) as pool:
            loop = asyncio.get_running_loop()
            numbers = [100 * n for n in range(4)]
            found = await asyncio.gather(
                *(loop.run_in_executor(pool, lambda n=n: asyncio.run(use(n))) for n in numbers), use(1000)
            )
        assert found == [[n + i for i in range(20)] for n in [*numbers, 1000]]
        await client.close()


async def test_tasks_may_enter_a_client_together() -> None:
    async with serving() as fake:
        client, left = ApiClient("127.0.0.1", fake.port), asyncio.Event()

        async def brief() -> None:
            async with client:
                await client.list_services_async()
            left.set()

        async def longer() -> list[str]:
            async with client, await client.pubsub.subscribe_async("t") as stream:
                await left.wait()
                assert stream.live
                return await client.list_services_async()

        _, services = await asyncio.gather(brief(), longer())
        assert "echo" in services
        with pytest.raises(RuntimeError, match="closed"):
            await client.list_services_async()
        async with client:
            assert await client.list_services_async() == services


async def test_a_handle_is_cancelled_from_another_thread() -> None:
    async with serving() as fake, ApiClient("127.0.0.1", fake.port) as client:
        handle = await client.pubsub.subscribe_async_with_handler(print, ["t"])
        await asyncio.to_thread(handle.cancel)
        await handle
        assert handle.closed
        await fake.subscribed(0)


async def test_a_call_that_is_running_tells_that_the_client_was_closed() -> None:
    async with serving() as fake:
        client = ApiClient("127.0.0.1", fake.port)
        calling = asyncio.create_task(client.gateway.echo.Wait({}))
        streaming = asyncio.create_task(anext(client.gateway.echo.Wait.stream({"wait": True})))
        while not {"InvokeJson", "InvokeJsonStream"} <= set(fake.seen):
            await asyncio.sleep(0)
        await client.close()
        for task in (calling, streaming):
            with pytest.raises(RuntimeError, match="closed while it waited for the gateway"):
                await task


async def test_closing_from_one_loop_closes_what_another_has_open() -> None:
    async with serving() as fake:
        client = ApiClient("127.0.0.1", fake.port)

        async def iterate() -> int:
            return len([event async for event in client.pubsub.subscribe_async_iter("t")])

        thread = threading.Thread(target=lambda: results.append(asyncio.run(iterate())))
        results: list[int] = []
        thread.start()
        await fake.subscribed()
        fake.send("t", b"1")
        while not await asyncio.to_thread(_received, client):
            pass
        await client.close()
        await asyncio.to_thread(thread.join)
        assert results == [1]
        await fake.subscribed(0)


def _received(client: ApiClient) -> bool:
    [connection] = client._connections._by_loop.values()
    return any(getattr(stream, "_last_id", "") for stream in tuple(connection.open))


async def test_many_readers_have_streams_of_their_own() -> None:
    async with serving() as fake, ApiClient("127.0.0.1", fake.port) as client:

        async def first_event() -> bytes:
            async with await client.pubsub.subscribe_async("t") as stream:
                return (await anext(stream)).data

        readers = [asyncio.create_task(first_event()) for _ in range(50)]
        await client.pubsub.publish_async("t", "to all")
        assert set(await asyncio.gather(*readers)) == {b"to all"}
        await fake.subscribed(0)
        for _ in range(20):
            reader = asyncio.create_task(first_event())
            await client.pubsub.publish_async("t", "again")
            await reader
        assert not client._connections.current().open


PROGRAM = """
import asyncio, sys
from virtufin.api.client import ApiClient
from fake_gateway import serving

async def main():
    async with serving() as fake:
        await {leave}(ApiClient("127.0.0.1", fake.port), fake)

async def closed_while_busy(client, fake):
    await client.subscribe_async_with_handler(print)
    iterating = asyncio.create_task(anext(client.pubsub.subscribe_async_iter("t"), None))
    asking = asyncio.create_task(client.pubsub.publish_with_result_async("t", "x", "t"))
    await fake.subscribed(3)
    await client.close()
    print(await iterating)
    try:
        await asking
    except RuntimeError as error:
        print("closed" in str(error))

async def never_closed(client, fake):
    await client.subscribe_async_with_handler(lambda event: None, on_error=lambda error: None)
    print(await client.list_services_async())

async def cancelled(client, fake):
    async with client:
        task = asyncio.create_task(anext(client.pubsub.subscribe_async_iter("t")))
        await fake.subscribed()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            print("cancelled")

async def left_by_break(client, fake):
    async with client:
        await client.list_services_async()
        asyncio.get_running_loop().call_later(0.05, fake.send, "t", b"1")
        async for event in client.pubsub.subscribe_async_iter("t"):
            print(event.data)
            break

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("leave", "printed"),
    [
        ("closed_while_busy", ["None", "True"]),
        ("never_closed", ["['workmanager', 'echo']"]),
        ("cancelled", ["cancelled"]),
        ("left_by_break", ["b'1'"]),
    ],
)
def test_nothing_is_complained_of(leave: str, printed: list[str]) -> None:
    """Although every warning is an error."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "GRPC_VERBOSITY": "NONE"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM.replace("{leave}", leave)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("StreamEvent(")] == printed


def test_a_client_outlives_its_loops() -> None:
    fake_ports: list[int] = []
    client: list[ApiClient] = []

    async def once(fake: FakeGateway | None = None) -> list[str]:
        async with serving(port=fake_ports[0] if fake_ports else 0) as fake:
            if not fake_ports:
                fake_ports.append(fake.port)
                client.append(ApiClient("127.0.0.1", fake.port))
            return await client[0].list_services_async()

    assert asyncio.run(once()) == asyncio.run(once()) == ["workmanager", "echo"]

    async def close() -> None:
        await client[0].close()

    asyncio.run(close())
