"""The interop client on oxgrpc or on genuine grpcio: one case, as grpc's doc/interop-test-descriptions.md has it.

python -m conformance.interop.python.client oxgrpc|grpcio --port PORT --case CASE [--ca FILE --server-name NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ...stack import STACKS, load

STATUS_MESSAGE = "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
#: What is asked for, and what is sent with it.
PING_PONG = ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904))
INITIAL = ("x-grpc-test-echo-initial", "test_initial_metadata_value")
TRAILING = ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")
UNKNOWN = 2


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise SystemExit(f"{what} was {got!r:.200}, not {wanted!r:.200}")


class Cases:
    """A method for each case, of the case's name."""

    def __init__(self, grpc: Any, messages: Any, services: Any, channel: Any) -> None:
        self.grpc, self.messages = grpc, messages
        self.stub = services.TestServiceStub(channel)
        self.unimplemented = services.UnimplementedServiceStub(channel)

    def payload(self, size: int) -> Any:
        return self.messages.Payload(body=bytes(size))

    def large(self, **more: Any) -> Any:
        return self.messages.SimpleRequest(response_size=314159, payload=self.payload(271828), **more)

    def ping(self, response: int, request: int) -> Any:
        parameters = [self.messages.ResponseParameters(size=response)]
        return self.messages.StreamingOutputCallRequest(response_parameters=parameters, payload=self.payload(request))

    async def expect_code(self, call: Any, name: str) -> None:
        expect("the status", await call.code(), self.grpc.StatusCode[name])

    async def empty_unary(self) -> None:
        expect("the response", await self.stub.EmptyCall(self.messages.Empty()), self.messages.Empty())

    async def large_unary(self) -> None:
        expect("the body", (await self.stub.UnaryCall(self.large())).payload.body, bytes(314159))

    async def client_streaming(self) -> None:
        async def requests() -> AsyncIterator[Any]:
            for size in (27182, 8, 1828, 45904):
                yield self.messages.StreamingInputCallRequest(payload=self.payload(size))

        response = await self.stub.StreamingInputCall(requests())
        expect("the sum", response.aggregated_payload_size, 74922)

    async def server_streaming(self) -> None:
        sizes = [31415, 9, 2653, 58979]
        parameters = [self.messages.ResponseParameters(size=size) for size in sizes]
        request = self.messages.StreamingOutputCallRequest(response_parameters=parameters)
        got = [len(response.payload.body) async for response in self.stub.StreamingOutputCall(request)]
        expect("the sizes", got, sizes)

    async def ping_pong(self) -> None:
        call = self.stub.FullDuplexCall()
        for response_size, request_size in PING_PONG:
            await call.write(self.ping(response_size, request_size))
            expect("the body", (await call.read()).payload.body, bytes(response_size))
        await call.done_writing()
        expect("the end", await call.read(), self.grpc.aio.EOF)
        await self.expect_code(call, "OK")

    async def empty_stream(self) -> None:
        call = self.stub.FullDuplexCall()
        await call.done_writing()
        expect("the end", await call.read(), self.grpc.aio.EOF)
        await self.expect_code(call, "OK")

    async def cancel_after_begin(self) -> None:
        call = self.stub.StreamingInputCall()
        await call.wait_for_connection()
        call.cancel()
        await self.expect_code(call, "CANCELLED")

    async def cancel_after_first_response(self) -> None:
        call = self.stub.FullDuplexCall()
        await call.write(self.ping(*PING_PONG[0]))
        expect("the body", (await call.read()).payload.body, bytes(PING_PONG[0][0]))
        call.cancel()
        await self.expect_code(call, "CANCELLED")

    async def timeout_on_sleeping_server(self) -> None:
        call = self.stub.FullDuplexCall(timeout=0.001)
        # The time may be up before this is written, and then genuine grpcio says INTERNAL (docs/parity.md).
        if self.grpc.__name__ == "oxgrpc":
            with contextlib.suppress(self.grpc.RpcError, asyncio.InvalidStateError):
                await call.write(self.messages.StreamingOutputCallRequest(payload=self.payload(27182)))
        await self.expect_code(call, "DEADLINE_EXCEEDED")

    async def expect_message(self, call: Any, message: str) -> None:
        await self.expect_code(call, "UNKNOWN")
        expect("the message", await call.details(), message)

    async def status_code_and_message(self) -> None:
        status = self.messages.EchoStatus(code=UNKNOWN, message=STATUS_MESSAGE)
        unary = self.stub.UnaryCall(self.messages.SimpleRequest(response_status=status))
        await self.expect_message(unary, STATUS_MESSAGE)
        stream = self.stub.FullDuplexCall()
        await stream.write(self.messages.StreamingOutputCallRequest(response_status=status))
        await stream.done_writing()
        await self.expect_message(stream, STATUS_MESSAGE)

    async def special_status_message(self) -> None:
        status = self.messages.EchoStatus(code=UNKNOWN, message=SPECIAL_MESSAGE)
        call = self.stub.UnaryCall(self.messages.SimpleRequest(response_status=status))
        await self.expect_message(call, SPECIAL_MESSAGE)

    async def unimplemented_method(self) -> None:
        await self.expect_code(self.stub.UnimplementedCall(self.messages.Empty()), "UNIMPLEMENTED")

    async def unimplemented_service(self) -> None:
        await self.expect_code(self.unimplemented.UnimplementedCall(self.messages.Empty()), "UNIMPLEMENTED")

    async def expect_echo(self, call: Any) -> None:
        expect("the initial metadata", dict(await call.initial_metadata()).get(INITIAL[0]), INITIAL[1])
        expect("the trailing metadata", dict(await call.trailing_metadata()).get(TRAILING[0]), TRAILING[1])

    async def custom_metadata(self) -> None:
        unary = self.stub.UnaryCall(self.large(), metadata=(INITIAL, TRAILING))
        expect("the body", (await unary).payload.body, bytes(314159))
        await self.expect_echo(unary)
        stream = self.stub.FullDuplexCall(metadata=(INITIAL, TRAILING))
        await stream.write(self.ping(314159, 271828))
        expect("the body", (await stream.read()).payload.body, bytes(314159))
        await stream.done_writing()
        await self.expect_code(stream, "OK")
        await self.expect_echo(stream)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--server-name")
    options = parser.parse_args()

    grpc, messages, services = load(options.stack, "test")
    target = f"127.0.0.1:{options.port}"
    if options.ca is None:
        channel = grpc.aio.insecure_channel(target)
    else:
        credentials = grpc.ssl_channel_credentials(options.ca.read_bytes())
        channel = grpc.aio.secure_channel(
            target, credentials, options=[("grpc.ssl_target_name_override", options.server_name)]
        )
    async with channel:
        await getattr(Cases(grpc, messages, services, channel), options.case)()


if __name__ == "__main__":
    asyncio.run(main())
