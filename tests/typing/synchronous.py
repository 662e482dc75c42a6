"""The synchronous API's abstract classes, as annotations and as what a program derives its own from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import grpc
import grpc.experimental
from typing_extensions import assert_type

Request = TypeVar("Request")
Response = TypeVar("Response")


def called(channel: grpc.Channel, requests: Iterable[bytes]) -> None:
    method = channel.unary_unary("/s/m", str.encode, bytes.decode)
    assert_type(method("x", timeout=1, metadata=(("k", "v"),)), str)
    response, call = method.with_call("x")
    assert_type(response, str)
    assert_type(call.code(), grpc.StatusCode)
    future = method.future("x")
    assert_type(future.result(timeout=1), str)
    assert_type(future.exception(), "Exception | None")
    future.add_done_callback(lambda done: print(done))
    for octets in channel.stream_stream("/s/m")(requests):
        assert_type(octets, bytes)
    assert_type(channel.stream_unary("/s/m")(requests), bytes)
    channel.subscribe(lambda state: print(state is grpc.ChannelConnectivity.READY), try_to_connect=True)
    method(b"x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with channel as opened:
        assert_type(opened, grpc.Channel)
    try:
        method("x")
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call):
            assert_type(error.details(), str)


class Retries(grpc.UnaryUnaryClientInterceptor):
    """Calls once more."""

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Request], grpc._CallFuture[Response]],  # pyright: ignore
        client_call_details: grpc.ClientCallDetails,
        request: Request,
    ) -> grpc._CallFuture[Response]:  # pyright: ignore[reportPrivateUsage]
        return continuation(client_call_details, request)


class Refuses(grpc.ServerInterceptor):
    """Lets nobody in without a token."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Request, Response] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Request, Response] | None:
        if "token" in dict(handler_call_details.invocation_metadata):
            return continuation(handler_call_details)
        return None


class Status(NamedTuple):
    """A status to abort with."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str], ...]


def logged(handler: grpc.RpcMethodHandler[bytes, bytes]) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.experimental.wrap_server_method_handler(lambda function: function, handler)
