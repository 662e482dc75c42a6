"""Nothing native writes to a file descriptor: what there is to say goes through Python's logging."""

from __future__ import annotations

import logging

import pytest

import echo
import program
from oxgrpc import aio

#: A program in which much goes wrong: a server that is not there, one that speaks something else, a handler that
#: raises, a peer that breaks the rules, a connection that is cut, a fork, calls left under way at the end.
FAILURES = """
import asyncio, logging, os, socket, sys, warnings
sys.path.insert(0, {tests!r})
import echo
from oxgrpc import aio

async def fail(request, context):
    raise LookupError("in the handler")

async def hang(request, context):
    await asyncio.Event().wait()

async def expect(call):
    try:
        await call
    except aio.AioRpcError as error:
        print(error.code().name)

async def other(reader, writer):
    writer.write(b"this is not HTTP/2, whatever you may think of it\\r\\n\\r\\n")
    writer.close()

async def main():
    async with aio.insecure_channel("no.such.host.invalid:1") as channel:
        await expect(channel.unary_unary("/a/b")(b""))
    async with aio.insecure_channel(nobody) as channel:
        await expect(channel.unary_unary("/a/b")(b""))
    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with aio.insecure_channel("127.0.0.1:%d" % server.sockets[0].getsockname()[1]) as channel:
        await expect(channel.unary_unary("/a/b")(b""))
    server.close()
    async with echo.serving(UnaryUnary=fail, StreamUnary=hang) as service:
        await expect(service.unary_unary(b""))
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
        await reader.read()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(range(200)))
        await reader.read()
        writer.transport.abort()
        await expect(service.channel.unary_unary("/no/such")(b""))
        await expect(service.unary_unary(b"", timeout=0))
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about the resolver's thread
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        service.stream_unary().cancel()
        left.append(service.stream_unary())
    left.append(aio.insecure_channel(nobody))

left = []
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
nobody = "127.0.0.1:%d" % bound.getsockname()[1]
{setup}
asyncio.run(main())
bound.close()
"""

CODES = ["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", "UNKNOWN", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"]


def test_a_program_whose_log_goes_nowhere_writes_nothing() -> None:
    setup = (
        "logging.getLogger('oxgrpc').addHandler(logging.NullHandler()); logging.getLogger('oxgrpc').propagate = False"
    )
    printed = program.output_of(FAILURES.format(tests=str(program.TESTS), setup=setup))
    assert printed.split() == CODES


def test_all_that_is_written_comes_from_logging() -> None:
    setup = "logging.basicConfig(format='LOG %(name)s %(levelname)s %(message)s', level=logging.DEBUG)"
    done = program.run("-c", FAILURES.format(tests=str(program.TESTS), setup=setup))
    assert done.returncode == 0
    assert done.stdout.split() == CODES
    ours = [line for line in done.stderr.splitlines() if line.startswith("LOG oxgrpc")]
    assert any("LookupError" in line and "/test.Echo/UnaryUnary" in line for line in ours)
    warnings = [line for line in ours if " WARNING " in line]
    assert any("a rule was broken by the peer" in line for line in warnings)


async def test_what_goes_well_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with echo.serving() as service:
        assert await service.unary_unary(b"x") == b"x"
        assert [message async for message in service.unary_stream(b"3")] == [b"0", b"1", b"2"]
        service.stream_stream().cancel()
        with pytest.raises(aio.AioRpcError):
            await service.channel.unary_unary("/no/such")(b"")
    assert [record for record in caplog.records if record.name.startswith("oxgrpc")] == []
