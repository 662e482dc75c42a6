"""The suite's client: makes the calls that stdin describes, and reports on stdout what became of each.

python -m conformance.connect.client oxgrpc|grpcio
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import Any

from ..stack import STACKS, load
from .exchange import SERVICE_PROTO, from_details, open_stdin, read, to_headers, to_pairs, write

CALLS_AT_ONCE = 16
_PACKAGE = SERVICE_PROTO.rpartition(".")[0]
_SERVICE = f"{_PACKAGE}.ConformanceService"


class Unsupported(Exception):
    """The call cannot be made: the suite asks for what gRPC in Python does not have."""


class Ended(Exception):
    """The call is over before all was done that was asked for."""


class Caller:
    """Makes one call as a request says, and collects what comes back."""

    def __init__(self, grpc: Any, messages: Any, compat: Any, config: Any, request: Any) -> None:
        self.grpc, self.messages, self.config, self.request = grpc, messages, config, request
        self.result = compat.ClientResponseResult()
        self._unsent = len(request.request_messages)

    def channel(self) -> Any:
        request, grpc = self.request, self.grpc
        target = f"{request.host}:{request.port}"
        options = []
        if request.message_receive_limit:
            options.append(("grpc.max_receive_message_length", request.message_receive_limit))
        if not request.server_tls_cert:
            return grpc.aio.insecure_channel(target, options=options)
        own = request.client_tls_creds
        secrets = (own.key, own.cert) if request.HasField("client_tls_creds") else (None, None)
        credentials = grpc.ssl_channel_credentials(request.server_tls_cert, *secrets)
        return grpc.aio.secure_channel(target, credentials, options=options)

    async def run(self, stub: Any) -> None:
        request = self.request
        if request.service != _SERVICE or not hasattr(stub, request.method):
            raise Unsupported(f"no method {request.method} of {request.service}")
        if request.HasField("raw_request"):
            raise Unsupported("raw requests are for the suite's own client")
        requests = [self._unpack(message) for message in request.request_messages]
        gzip = request.compression == self.config.COMPRESSION_GZIP
        options = {
            "metadata": to_pairs(request.request_headers),
            "timeout": request.timeout_ms / 1000 if request.HasField("timeout_ms") else None,
            "compression": self.grpc.Compression.Gzip if gzip else None,
        }
        method = getattr(stub, request.method)
        if request.stream_type in (self.config.STREAM_TYPE_UNARY, self.config.STREAM_TYPE_SERVER_STREAM):
            if len(requests) != 1:
                raise Unsupported(f"{request.method} takes one request, not {len(requests)}")
            self.call = method(requests[0], **options)
            self._unsent = 0
        else:
            self.call = method(**options)
        with contextlib.suppress(Ended):
            await self._converse(requests)
        await self._report()

    def _unpack(self, message: Any) -> Any:
        request = getattr(self.messages, message.TypeName().rpartition(".")[2])()
        if not message.Unpack(request):
            raise Unsupported(f"a request of type {message.type_url}")
        return request

    async def _converse(self, requests: list[Any]) -> None:
        """Sends the requests, reads the responses, and cancels where it is asked to."""
        kind, config = self.request.stream_type, self.config
        if kind in (config.STREAM_TYPE_UNARY, config.STREAM_TYPE_SERVER_STREAM):
            self._cancel_later()
        else:
            for request in requests:
                await asyncio.sleep(self.request.request_delay_ms / 1000)
                async with self._until_over():
                    await self.call.write(request)
                self._unsent -= 1
                if kind == config.STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM and not await self._read():
                    raise Ended
            if self._cancels("before_close_send"):
                self.call.cancel()
            async with self._until_over():
                await self.call.done_writing()
            self._cancel_later()
        if kind in (config.STREAM_TYPE_UNARY, config.STREAM_TYPE_CLIENT_STREAM):
            async with self._until_over():
                self._receive(await self.call)
        else:
            while await self._read():
                pass

    async def _read(self) -> bool:
        async with self._until_over():
            response = await self.call.read()
        if response is self.grpc.aio.EOF:
            return False
        self._receive(response)
        cancel = self.request.cancel
        if self._cancels("after_num_responses") and len(self.result.payloads) == cancel.after_num_responses:
            self.call.cancel()
        return True

    def _receive(self, response: Any) -> None:
        # The response of the method that nobody implements has no payload.
        payload = getattr(response, "payload", None)
        self.result.payloads.append(payload or self.messages.ConformancePayload())

    def _cancels(self, when: str) -> bool:
        """Whether the request asks for a cancel at this time."""
        if not self.request.HasField("cancel"):
            return False
        return when == (self.request.cancel.WhichOneof("cancel_timing") or "after_close_send_ms")

    def _cancel_later(self) -> None:
        """Cancels after the last request, with the delay that is asked for: none by default."""
        if self._cancels("after_close_send_ms"):
            delay = self.request.cancel.after_close_send_ms / 1000
            asyncio.get_running_loop().call_later(delay, self.call.cancel)

    @contextlib.asynccontextmanager
    async def _until_over(self) -> AsyncIterator[None]:
        try:
            yield
        except (self.grpc.RpcError, asyncio.InvalidStateError) as error:
            raise Ended from error
        except asyncio.CancelledError as error:
            # The call that was cancelled says so, too.
            if not self.call.cancelled():
                raise
            raise Ended from error

    async def _report(self) -> None:
        code, result, header = await self.call.code(), self.result, self.messages.Header
        initial, trailing = await self.call.initial_metadata() or (), await self.call.trailing_metadata() or ()
        if code != self.grpc.StatusCode.OK:
            result.error.code = code.value[0]
            result.error.message = await self.call.details() or ""
            result.error.details.extend(from_details(trailing))
        result.response_headers.extend(to_headers(header, initial))
        result.response_trailers.extend(to_headers(header, trailing))
        result.num_unsent_requests = self._unsent


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=STACKS)
    grpc, messages, services = load(parser.parse_args().stack, SERVICE_PROTO)
    compat = importlib.import_module(f"{_PACKAGE}.client_compat_pb2")
    config = importlib.import_module(f"{_PACKAGE}.config_pb2")
    turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def answer(request: Any) -> None:
        response = compat.ClientCompatResponse(test_name=request.test_name)
        async with turns:
            caller = Caller(grpc, messages, compat, config, request)
            try:
                async with caller.channel() as channel:
                    await caller.run(services.ConformanceServiceStub(channel))
                response.response.CopyFrom(caller.result)
            except Exception as error:
                response.error.message = f"{type(error).__name__}: {error}"
        write(response)

    stdin = await open_stdin()
    calls = set()
    while (request := await read(stdin, compat.ClientCompatRequest)) is not None:
        call = asyncio.create_task(answer(request))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)


if __name__ == "__main__":
    asyncio.run(main())
