"""The interop server on oxgrpc or on genuine grpcio. It prints its port.

python -m conformance.interop.python.server oxgrpc|grpcio [--cert FILE --key FILE]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ...stack import STACKS, load

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


class TestService:
    """What grpc's doc/interop-test-descriptions.md asks of a server."""

    def __init__(self, grpc: Any, messages: Any) -> None:
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self._messages = messages

    async def EmptyCall(self, request: Any, context: Any) -> Any:
        return request

    async def UnaryCall(self, request: Any, context: Any) -> Any:
        await self._echo_metadata(context)
        await self._echo_status(request, context)
        return self._messages.SimpleResponse(payload=self._payload(request.response_size))

    async def StreamingInputCall(self, requests: AsyncIterator[Any], context: Any) -> Any:
        total = 0
        async for request in requests:
            total += len(request.payload.body)
        return self._messages.StreamingInputCallResponse(aggregated_payload_size=total)

    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for parameters in request.response_parameters:
            await asyncio.sleep(parameters.interval_us / 1e6)
            yield self._messages.StreamingOutputCallResponse(payload=self._payload(parameters.size))

    async def FullDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._echo_metadata(context)
        async for request in requests:
            await self._echo_status(request, context)
            async for response in self.StreamingOutputCall(request, context):
                yield response

    def _payload(self, size: int) -> Any:
        return self._messages.Payload(body=bytes(size))

    async def _echo_metadata(self, context: Any) -> None:
        for key, value in context.invocation_metadata():
            if key == INITIAL:
                await context.send_initial_metadata(((key, value),))
            elif key == TRAILING:
                context.set_trailing_metadata(((key, value),))

    async def _echo_status(self, request: Any, context: Any) -> None:
        if request.response_status.code:
            await context.abort(self._codes[request.response_status.code], request.response_status.message)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()

    grpc, messages, services = load(options.stack, "test")
    # The methods that are not ours are the generated class's, which answers UNIMPLEMENTED.
    service = type("Service", (TestService, services.TestServiceServicer), {})(grpc, messages)
    server = grpc.aio.server()
    services.add_TestServiceServicer_to_server(service, server)
    if options.cert is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials([(options.key.read_bytes(), options.cert.read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
