"""The documentation's usage examples, as printed, with stubs that stock grpcio-tools generated (snippets.md)."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import echo
import oxgrpc as grpc
import program
import snippets
from certificates import authority
from oxgrpc import aio

CALLS = "Async Multi-Callables"
CALL_OBJECTS = "Async Call Objects"
CHANNELS = "Async Channel Management"
ERRORS = "Async Error Handling"
SERVER = "Async Server Implementation"

#: What each function prints, on either loop.
PRINTS = {
    (CHANNELS, "async_client_example"): ["Response: Async echo: Hello async"],
    (CHANNELS, "manual_channel_management"): ["returned Async echo: given"],
    (CALLS, "async_rpc_examples"): [
        "Unary response: Async echo: Hello",
        *(f"Stream response: Item {number}" for number in range(5)),
        "Stream-unary response: Processed 3 items",
        *(f"Bidirectional response: processed Message {number}" for number in range(5)),
    ],
    (CALLS, "concurrent_requests"): [f"Response {n}: Async echo: Concurrent request {n}" for n in range(10)],
    (CALLS, "async_streaming_with_timeout"): [f"Response: Item {number}" for number in range(3)],
    (CALL_OBJECTS, "call_control_examples"): [
        "Initial metadata: {'sent': 'early'}",
        "Response: Async echo: Hello",
        "Status: StatusCode.OK - ",
        "Trailing metadata: {'sent': 'late'}",
    ],
    (CALL_OBJECTS, "streaming_with_cancellation"): [
        *(f"Response {number}: Item {number}" for number in range(5)),
        "Cancellation successful: True",
        "Call was cancelled",
    ],
    (CALL_OBJECTS, "bidirectional_streaming"): [f"Received: processed Message {number}" for number in range(10)],
    (ERRORS, "error_handling_examples"): [],
}

#: Functions that are run in another way.
RUN_ELSEWHERE = {
    (CHANNELS, "secure_async_client"): "run over TLS, below",
    (ERRORS, "main"): "run whole, below",
    (SERVER, "serve"): "run whole, below",
}

TAKES_A_TIMEOUT = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is Python 3.11's")


def printed(section: str, function: str, *more: str, env: Mapping[str, str] | None = None) -> list[str]:
    """The lines that a function prints: the same on both loops."""
    done = program.run(str(program.TESTS / "run_snippet.py"), section, function, *more, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    on_asyncio, on_uvloop, end = done.stdout.split("--\n")
    assert on_asyncio == on_uvloop
    assert not end
    return on_asyncio.splitlines()


@pytest.mark.parametrize(
    ("section", "function"),
    [pytest.param(*which, id=which[1], marks=TAKES_A_TIMEOUT if "timeout" in which[1] else ()) for which in PRINTS],
)
def test_a_function_prints_what_it_should(section: str, function: str) -> None:
    assert printed(section, function) == PRINTS[section, function]


def test_every_function_of_the_documentation_is_run() -> None:
    found = {(section, function) for section in snippets.SECTIONS for function in snippets.functions(section)}
    assert found == {*PRINTS, *RUN_ELSEWHERE}


def test_a_secure_channel_believes_the_system_s_authorities(tmp_path: Path) -> None:
    identity = authority().identity("secure-server.com")
    files = {"key": identity.key, "chain": identity.chain, "roots": authority().pem}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    env = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "roots")}
    lines = printed(
        CHANNELS, "secure_async_client", "--identity", str(tmp_path / "key"), str(tmp_path / "chain"), env=env
    )
    assert lines == ["returned Secure echo: given"]


@TAKES_A_TIMEOUT
def test_a_stream_that_takes_too_long_is_left_by_the_timeout() -> None:
    lines = printed(CALLS, "async_streaming_with_timeout", "--replace", "timeout(10.0)", "timeout(0.001)")
    assert lines == ["Stream timed out"]


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("DEADLINE_EXCEEDED", ["Request timed out"]),
        ("UNAVAILABLE", ["Service unavailable"]),
        ("NOT_FOUND", []),
    ],
)
def test_error_handling_tells_the_codes_apart(code: str, last: list[str]) -> None:
    lines = printed(ERRORS, "error_handling_examples", "--abort", code)
    assert lines == [f"RPC failed: StatusCode.{code} - as asked", *last]


def test_error_handling_of_a_server_that_is_not_there() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        lines = printed(ERRORS, "error_handling_examples", "--target", f"127.0.0.1:{nobody.getsockname()[1]}")
    assert len(lines) == 2
    assert lines[0].startswith("RPC failed: StatusCode.UNAVAILABLE - ")
    assert lines[1] == "Service unavailable"


def test_the_runtime_is_shut_down_as_printed() -> None:
    code = (
        "import oxgrpc, snippets\n"
        "oxgrpc.install_as_grpc()\n"
        "import asyncio, grpc.aio\n"
        "async def run_async_application(): print('running')\n"
        f"exec(snippets.SECTIONS[{ERRORS!r}])\n"
    )
    assert program.output_of(code) == "running\n"


def reserve() -> socket.socket:
    """A port that nobody else gets, but that a server of ours can listen on, because both share it."""
    reserved = socket.socket(socket.AF_INET6 if echo.HAS_IPV6 else socket.AF_INET)
    if echo.HAS_IPV6:
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("::" if echo.HAS_IPV6 else "0.0.0.0", 0))
    return reserved


async def test_the_server_serves_until_it_is_interrupted() -> None:
    """The whole program, of which only the port is another."""
    with reserve() as reserved:
        port = reserved.getsockname()[1]
        code = (
            "import oxgrpc, snippets\n"
            "oxgrpc.install_as_grpc()\n"
            "from my_service_pb2 import *\n"
            "from my_service_pb2_grpc import *\n"
            f"exec(snippets.SECTIONS[{SERVER!r}].replace('50051', '{port}'))\n"
        )
        with program.started(code) as process:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            assert line == f"Starting async server on [::]:{port}\n"
            for host in ("127.0.0.1", "[::1]") if echo.HAS_IPV6 else ("127.0.0.1",):
                async with aio.insecure_channel(f"{host}:{port}") as channel:
                    method = channel.unary_unary("/test.MyService/UnaryMethod")
                    # A message whose first field, a string, is "hi".
                    reply = await method(b"\x0a\x02hi", wait_for_ready=True)
                    assert reply == b"\x0a\x0eAsync echo: hi"
                    method = channel.stream_stream("/test.MyService/StreamStreamMethod")
                    # It asks for what its subclasses are to have.
                    call = method(iter([b"\x0a\x02hi"]))
                    with pytest.raises(aio.AioRpcError) as caught:
                        await call.read()
                    assert caught.value.code() is grpc.StatusCode.UNKNOWN
                    assert "async_process" in (caught.value.details() or "")
            process.send_signal(signal.SIGINT)
            _, errors = await asyncio.to_thread(process.communicate, timeout=program.TIMEOUT_SECONDS)
            assert process.returncode != 0
            assert "KeyboardInterrupt" in errors
