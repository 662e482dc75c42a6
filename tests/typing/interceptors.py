"""The types of interceptors: those that let every call pass, and those that know what they intercept."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, Union

from typing_extensions import assert_type

import oxgrpc as grpc
from oxgrpc import aio

Request = TypeVar("Request")
Response = TypeVar("Response")
Requests = Union[AsyncIterable[Request], Iterable[Request]]


class Logged(
    aio.UnaryUnaryClientInterceptor,
    aio.UnaryStreamClientInterceptor,
    aio.StreamUnaryClientInterceptor,
    aio.StreamStreamClientInterceptor,
):
    """Lets calls of all kinds pass."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Request], Awaitable[aio.UnaryUnaryCall[Request, Response]]],
        client_call_details: aio.ClientCallDetails,
        request: Request,
    ) -> aio.UnaryUnaryCall[Request, Response] | Response:
        call = await continuation(client_call_details, request)
        assert_type(call, aio.UnaryUnaryCall[Request, Response])
        assert_type(await call, Response)
        return call if await call.code() is grpc.StatusCode.OK else await call

    async def intercept_unary_stream(
        self,
        continuation: Callable[[aio.ClientCallDetails, Request], Awaitable[aio.UnaryStreamCall[Request, Response]]],
        client_call_details: aio.ClientCallDetails,
        request: Request,
    ) -> AsyncIterator[Response]:
        call = await continuation(client_call_details, request)

        async def responses() -> AsyncIterator[Response]:
            async for response in call:
                yield response

        return responses()

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, Requests[Request]], Awaitable[aio.StreamUnaryCall[Request, Response]]
        ],
        client_call_details: aio.ClientCallDetails,
        request_iterator: Requests[Request],
    ) -> aio.StreamUnaryCall[Request, Response]:
        return await continuation(client_call_details, request_iterator)

    async def intercept_stream_stream(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, Requests[Request]], Awaitable[aio.StreamStreamCall[Request, Response]]
        ],
        client_call_details: aio.ClientCallDetails,
        request_iterator: Requests[Request],
    ) -> aio.StreamStreamCall[Request, Response]:
        return await continuation(client_call_details, request_iterator)


class Named(aio.UnaryUnaryClientInterceptor):
    """Adds to the metadata."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        assert_type(client_call_details.timeout, "float | None")
        metadata = client_call_details.metadata or aio.Metadata()
        metadata.add("name", "x")
        changed = aio.ClientCallDetails(
            client_call_details.method,
            client_call_details.timeout,
            metadata,
            client_call_details.credentials,
            client_call_details.wait_for_ready,
        )
        assert_type(client_call_details._replace(metadata=metadata), aio.ClientCallDetails)
        return await continuation(changed, request)


class Misunderstood(aio.UnaryUnaryClientInterceptor):
    """Takes what is not given."""

    async def intercept_unary_unary(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, continuation: Any, client_call_details: aio.ClientCallDetails
    ) -> Any:
        return await continuation(client_call_details)


class Admits(aio.ServerInterceptor):
    """Lets nobody in without a token."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Request, Response] | None:
        if "token" in dict(handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return None


aio.insecure_channel("localhost:1", interceptors=[Logged(), Named()])
aio.server(interceptors=(Admits(),))
aio.insecure_channel("localhost:1", interceptors=[Admits()])  # type: ignore[list-item] # pyright: ignore
aio.server(interceptors=[Logged()])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
