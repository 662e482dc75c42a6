"""The suite's server: reads from stdin how it is to be, says on stdout where it is, and answers as requests ask it to.

python -m conformance.connect.server oxgrpc|grpcio
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import any_pb2

from ..stack import STACKS, load
from .exchange import SERVICE_PROTO, open_stdin, read, to_details, to_headers, to_pairs, write

HOST = "127.0.0.1"


class ConformanceService:
    """The methods, but for those that are not to be implemented: they are the generated class's."""

    def __init__(self, grpc: Any, messages: Any) -> None:
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self._messages = messages

    async def Unary(self, request: Any, context: Any) -> Any:
        payload = await self._respond(request.response_definition, [request], context)
        return self._messages.UnaryResponse(payload=payload)

    async def ClientStream(self, requests: AsyncIterator[Any], context: Any) -> Any:
        received = [request async for request in requests]
        definition = received[0].response_definition if received else self._messages.UnaryResponseDefinition()
        payload = await self._respond(definition, received, context)
        return self._messages.ClientStreamResponse(payload=payload)

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for payload in self._stream(request.response_definition, [request], context):
            yield self._messages.ServerStreamResponse(payload=payload)

    async def BidiStream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if first.full_duplex:
            payloads = self._alternate(first, requests, context)
        else:
            received = [first, *[request async for request in requests]]
            payloads = self._stream(first.response_definition, received, context)
        async for payload in payloads:
            yield self._messages.BidiStreamResponse(payload=payload)

    async def _respond(self, definition: Any, requests: list[Any], context: Any) -> Any:
        """The only payload of a call, or its error."""
        info = self._info(requests, context)
        await self._send_headers(definition, context)
        await asyncio.sleep(definition.response_delay_ms / 1000)
        if definition.HasField("error"):
            await self._fail(definition, info, context)
        return self._messages.ConformancePayload(data=definition.response_data, request_info=info)

    async def _stream(self, definition: Any, requests: list[Any], context: Any) -> AsyncIterator[Any]:
        """The payloads of a call whose requests are all there."""
        info = self._info(requests, context)
        await self._send_headers(definition, context)
        for data in definition.response_data:
            await asyncio.sleep(definition.response_delay_ms / 1000)
            yield self._messages.ConformancePayload(data=data, request_info=info)
            info = None
        await self._fail(definition, info, context)

    async def _alternate(self, first: Any, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """A payload for each request, as long as there are any; those that are left when the requests end."""
        definition, received = first.response_definition, [first]
        info = self._info(received, context)
        await self._send_headers(definition, context)
        for number, data in enumerate(definition.response_data):
            if number and received:
                request = await anext(aiter(requests), None)
                received = [] if request is None else [request]
                info = self._messages.ConformancePayload.RequestInfo(requests=self._packed(received))
            await asyncio.sleep(definition.response_delay_ms / 1000)
            yield self._messages.ConformancePayload(data=data, request_info=info)
        await self._fail(definition, None if definition.response_data else info, context)

    async def _send_headers(self, definition: Any, context: Any) -> None:
        context.set_trailing_metadata(to_pairs(definition.response_trailers))
        await context.send_initial_metadata(to_pairs(definition.response_headers))

    async def _fail(self, definition: Any, info: Any | None, context: Any) -> None:
        """Raises the error that is asked for, if any, with `info` if no response has had it."""
        if not definition.HasField("error"):
            return
        error = definition.error
        if info is not None:
            error.details.add().Pack(info)
        trailing = [*to_pairs(definition.response_trailers), *to_details(error)]
        await context.abort(self._codes[error.code], error.message, trailing)

    def _info(self, requests: list[Any], context: Any) -> Any:
        """What is known of the call."""
        left = context.time_remaining()
        return self._messages.ConformancePayload.RequestInfo(
            request_headers=to_headers(self._messages.Header, context.invocation_metadata()),
            timeout_ms=None if left is None else int(left * 1000),
            requests=self._packed(requests),
        )

    def _packed(self, requests: list[Any]) -> list[Any]:
        packed = []
        for request in requests:
            packed.append(any_pb2.Any())
            packed[-1].Pack(request)
        return packed


def listen(grpc: Any, server: Any, wanted: Any) -> int:
    if not wanted.use_tls:
        return int(server.add_insecure_port(f"{HOST}:0"))
    own = [(wanted.server_creds.key, wanted.server_creds.cert)]
    clients = wanted.client_tls_cert or None
    credentials = grpc.ssl_server_credentials(own, clients, require_client_auth=clients is not None)
    return int(server.add_secure_port(f"{HOST}:0", credentials))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=STACKS)
    grpc, messages, services = load(parser.parse_args().stack, SERVICE_PROTO)
    compat = importlib.import_module(f"{SERVICE_PROTO.rpartition('.')[0]}.server_compat_pb2")
    wanted = await read(await open_stdin(), compat.ServerCompatRequest)

    options = []
    if wanted.message_receive_limit:
        options.append(("grpc.max_receive_message_length", wanted.message_receive_limit))
    server = grpc.aio.server(options=options, compression=grpc.Compression.Gzip)
    service = type("Service", (ConformanceService, services.ConformanceServiceServicer), {})(grpc, messages)
    services.add_ConformanceServiceServicer_to_server(service, server)
    port = listen(grpc, server, wanted)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    write(compat.ServerCompatResponse(host=HOST, port=port, pem_cert=wanted.server_creds.cert))
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
