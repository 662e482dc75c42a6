"""Code that grpcio-tools generates, with the types that mypy-protobuf gives it, where ``import grpc`` means oxgrpc."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import my_service_pb2 as messages
import my_service_pb2_grpc as services
from typing_extensions import assert_type

import oxgrpc


def same(code: grpc.StatusCode, channel: grpc.Channel) -> tuple[oxgrpc.StatusCode, oxgrpc.Channel]:
    return code, channel


class Servicer(services.MyServiceServicer):
    """A servicer: all that it overrides is checked against the generated one."""

    async def UnaryMethod(
        self, request: messages.MyRequest, context: grpc.aio.ServicerContext[messages.MyRequest, messages.MyResponse]
    ) -> messages.MyResponse:
        return messages.MyResponse(reply=request.message)

    async def UnaryStreamMethod(
        self,
        request: messages.MyStreamRequest,
        context: grpc.aio.ServicerContext[messages.MyStreamRequest, messages.MyResponse],
    ) -> AsyncIterator[messages.MyResponse]:
        for _ in range(request.count):
            yield messages.MyResponse()

    async def StreamUnaryMethod(
        self,
        request_iterator: AsyncIterator[messages.MyRequest],
        context: grpc.aio.ServicerContext[messages.MyRequest, messages.MyResponse],
    ) -> messages.MyResponse:
        return messages.MyResponse(reply="".join([request.message async for request in request_iterator]))

    async def StreamStreamMethod(
        self,
        request_iterator: AsyncIterator[messages.MyRequest],
        context: grpc.aio.ServicerContext[messages.MyRequest, messages.MyResponse],
    ) -> AsyncIterator[messages.MyResponse]:
        async for request in request_iterator:
            yield messages.MyResponse(reply=request.message)

    async def SecureMethod(
        self, request: messages.MyRequest, context: grpc.aio.ServicerContext[messages.MyRequest, messages.MyResponse]
    ) -> messages.MyResponse:
        return messages.MyResponse(reply=request.message)


async def main(channel: grpc.aio.Channel, server: oxgrpc.aio.Server) -> None:
    services.add_MyServiceServicer_to_server(Servicer(), server)
    stub = services.MyServiceStub(channel)
    assert_type(await stub.UnaryMethod(messages.MyRequest(message="x"), timeout=1), messages.MyResponse)
    async for response in stub.UnaryStreamMethod(messages.MyStreamRequest(count=1)):
        assert_type(response, messages.MyResponse)
    call = stub.StreamStreamMethod()
    assert_type(call, "grpc.aio.StreamStreamCall[messages.MyRequest, messages.MyResponse]")
    await call.write(messages.MyRequest())
    stub.UnaryMethod(messages.MyStreamRequest())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    method: grpc.aio.UnaryUnaryMultiCallable[messages.MyRequest, messages.MyResponse] = channel.unary_unary(
        "/test.MyService/UnaryMethod", messages.MyRequest.SerializeToString, messages.MyResponse.FromString
    )
    assert_type((await method(messages.MyRequest())).reply, str)
