"""The documentation's code as printed (snippets.md), against the real gateway and its backends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import custom_backend
import grpc
import platform_process
import pytest
import web
from platform_process import Platform

from run_snippet import SECTIONS
from virtufin.api.client import ApiClient, Gap, PubsubEvent, StreamEventHandler

HERE = Path(__file__).parent

#: What each section prints; the others have tests of their own.
PRINTS = {
    "Quick Start": ["Services: ['echo', 'websocketmanager', 'workmanager']"],
    "Constructor": [],
    "Async Context Manager": [],
    "Properties": [],
    "Methods": [],
    "List Services": ["['echo', 'websocketmanager', 'workmanager']"],
    "Pub/Sub Methods": [
        "Received: news - one",
        "Received: news - two",
        "Response: {'answered': {'input': 'hello'}}",
        "Event: my-topic",
    ],
    "PubsubEvent": ["""t b'{"a": 1}' {"a": 1} {'a': 1} True""", "True True"],
    "Pub/Sub": [f"Received: Message {number}" for number in range(5)],
    "Dynamic Service Access": ["Available services: ['echo', 'websocketmanager', 'workmanager']"],
    "Subscribe to Events": ["Event: workmanager/state-changes", "Event: /somewhere"],
    "StreamEventHandler": ["Event: echo/echo.events", "Error: shown"],
    "DaprPublisher": ["my-topic {'key': 'value'} application/json"],
    "Thread Safety": ["['echo', 'websocketmanager', 'workmanager']"],
}

#: Sections whose tests come further down.
RUN_ELSEWHERE = {
    "From Local Source",
    "State Management",
    "Request-Reply",
    "WorkManager",
    "WebSocketManager",
    "Error Handling",
}

WORKER = b"""
def Process(event):
    return {"type": "worker-responses", "data": {"status": "idle", "asked": event["data"]["command"]}}
"""


def run(section: str, port: int, *replace: tuple[str, str], page: Path | None = None) -> list[str]:
    """Runs a section on the grpc of this environment, and returns the lines that it prints."""
    command = [sys.executable, str(HERE / "run_snippet.py"), section, "--port", str(port)]
    for old, new in replace:
        command += ["--replace", old, new]
    if page is not None:
        command += ["--page", str(page)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GRPC_VERBOSITY": "NONE"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("section", PRINTS)
def test_a_section_prints_what_it_should(section: str, platform: Platform) -> None:
    assert run(section, platform.grpc_port) == PRINTS[section]


def test_every_section_is_run() -> None:
    assert {*PRINTS, *RUN_ELSEWHERE} == set(SECTIONS)


def test_a_local_source_is_imported(platform: Platform, tmp_path: Path) -> None:
    root = HERE.parent.parent
    python = root / ".venv-sdks" / "bin" / "python"
    create = [python, root / "scripts" / "create_client.py", "--output", tmp_path]
    subprocess.run(create, check=True, capture_output=True, timeout=60)
    code = SECTIONS["From Local Source"].replace("/path/to/virtufin-api/src/python", str(tmp_path))
    code += "print(sys.modules['virtufin'].__file__)"
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{tmp_path}/virtufin/__init__.py\n", done.stderr


async def test_state_is_managed(platform: Platform) -> None:
    lines = await asyncio.to_thread(run, "State Management", platform.grpc_port)
    async with ApiClient("127.0.0.1", platform.grpc_port) as client:
        etag = (await client.get_state_async("workmanager", "mykey"))["etag"]
    assert lines[:2] == ["Saved: True", f"Value: myvalue, Etag: {etag}"]
    assert lines[2].startswith("All state: {")
    assert "'mykey': 'myvalue'" in lines[2]


async def test_an_unknown_service_is_a_gateway_error(platform: Platform) -> None:
    [line] = await asyncio.to_thread(run, "Error Handling", platform.grpc_port)
    assert line.startswith("Gateway error: unknown-service.UnknownMethod: NOT_FOUND: ")


async def test_workers_are_listed_created_started_and_answer(platform: Platform) -> None:
    async with (
        web.serving({"/worker.py": WORKER}, platform.worker_port),
        ApiClient("127.0.0.1", platform.grpc_port) as client,
    ):
        workmanager = client.gateway.workmanager
        kept = await workmanager.CreateWorker(
            {"code_source": {"content": WORKER}, "mime_type": "text/x-python", "topic": "elsewhere"}
        )
        url = ("https://example.com/worker.py", f"http://127.0.0.1:{platform.worker_port}/worker.py")
        lines = await asyncio.to_thread(run, "WorkManager", platform.grpc_port, url)
        assert f"  {kept['id']}: WORKER_STATUS_STOPPED (Python)" in lines
        workers = (await workmanager.ListWorkers())["workers"]
        [started] = [w for w in workers if w["topic"] == "worker-commands"]
        assert started["status"] == "WORKER_STATUS_RUNNING"
        assert started["code_source"]["url"] == url[1]
        lines = await asyncio.to_thread(run, "Request-Reply", platform.grpc_port)
        assert lines == ["Got response: {'asked': 'status', 'status': 'idle'}"]
        for worker in (kept, started):
            await workmanager.DeleteWorker({"id": worker["id"]})


async def test_web_sockets_are_listed_connected_and_disconnected(platform: Platform) -> None:
    async with web.serving({}) as port, ApiClient("127.0.0.1", platform.grpc_port) as client:
        url = f"ws://127.0.0.1:{port}/feed"
        manager = client.gateway.websocketmanager
        kept = await manager.Connect({"url": url, "auto_reconnect": False})
        replaced = ("wss://stream.example.com/feed", url)
        lines = await asyncio.to_thread(run, "WebSocketManager", platform.grpc_port, replaced)
        assert lines == [f"  {kept['id']}: {url} (CONNECTED)"]
        await manager.Disconnect({"id": kept["id"]})
        assert kept["id"] not in [c["id"] for c in (await manager.List())["connections"]]


async def test_a_handler_goes_on_when_the_gateway_restarts(tmp_path: Path) -> None:
    """Nothing acknowledged is lost either: the state is there again."""
    flags = [f"--data={tmp_path / 'data'}", "--http-port=0"]
    first = platform_process.started(tmp_path, *flags, "--grpc-port=0")
    port = (await asyncio.to_thread(first.__enter__)).grpc_port
    events: asyncio.Queue[PubsubEvent] = asyncio.Queue()
    errors: asyncio.Queue[BaseException] = asyncio.Queue()
    gaps: asyncio.Queue[Gap] = asyncio.Queue()
    handler = StreamEventHandler(events.put_nowait, errors.put_nowait, gaps.put_nowait)
    async with ApiClient("127.0.0.1", port) as client:
        handle = await client.pubsub.subscribe_async_with_handler(handler, topics=["t"])
        saved = await client.save_state_async("s", "k", "v")
        await client.pubsub.publish_async("t", "before")
        assert (await events.get()).data == b"before"
        await asyncio.to_thread(first.__exit__, None, None, None)
        assert isinstance(await errors.get(), grpc.RpcError)
        second = platform_process.started(tmp_path, *flags, f"--grpc-port={port}")
        await asyncio.to_thread(second.__enter__)
        gap = await gaps.get()
        assert (gap.topics, handle.live) == (("t",), True)
        assert (await client.get_state_async("s", "k"))["etag"] == saved["etag"]
        await client.pubsub.publish_async("t", "after")
        assert (await events.get()).data == b"after"
        handle.cancel()
    await asyncio.to_thread(second.__exit__, None, None, None)


async def test_a_backend_is_called_that_was_added_while_the_gateway_ran(platform: Platform) -> None:
    async with custom_backend.serving() as port, ApiClient("127.0.0.1", platform.grpc_port) as client:
        assert "added" not in await client.list_services_async()
        with platform.registered("added", port):
            await client.wait_ready(30, services=["added"])
            assert await client.gateway.added.UnaryMethod({"message": "you"}) == {"reply": "echo: you"}
            methods = await client.list_methods_async("added")
            assert "UnaryMethod" in [method["name"] for method in methods]
            with pytest.raises(ValueError, match="did you mean 'UnaryMethod'"):
                await client.gateway.added.UnaryMethd({"message": "you"})
            with pytest.raises(ValueError, match=r"INVALID_REQUEST.*mesage"):
                await client.gateway.added.UnaryMethod({"mesage": "you"})
            items = [item["reply"] async for item in client.gateway.added.UnaryStreamMethod.stream({"count": 2})]
            assert items == ["item 0", "item 1"]
        with contextlib.suppress(ValueError):
            for _ in range(1000):
                await client.gateway.added.UnaryMethod({"message": "you"})
                await asyncio.sleep(0.02)
            raise AssertionError("the backend is still called after it was taken out of the registry")
