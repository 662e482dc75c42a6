"""Interceptors: the classes that a program derives its own from.

The calls that go through them are in `_intercepted_call`, the methods that make such calls in `_intercepting`.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

from .._interfaces import HandlerCallDetails, RpcMethodHandler
from . import _base_call
from ._call import StreamStreamCall as StreamStreamCall
from ._call import StreamUnaryCall as StreamUnaryCall
from ._call import UnaryStreamCall as UnaryStreamCall
from ._call import UnaryUnaryCall as UnaryUnaryCall
from ._client_call_details import ClientCallDetails as ClientCallDetails
from ._intercepted_call import InterceptedCall as InterceptedCall
from ._intercepted_call import InterceptedStreamStreamCall as InterceptedStreamStreamCall
from ._intercepted_call import InterceptedStreamUnaryCall as InterceptedStreamUnaryCall
from ._intercepted_call import InterceptedUnaryStreamCall as InterceptedUnaryStreamCall
from ._intercepted_call import InterceptedUnaryUnaryCall as InterceptedUnaryUnaryCall
from ._replaced_response import StreamStreamCallResponseIterator as StreamStreamCallResponseIterator
from ._replaced_response import UnaryStreamCallResponseIterator as UnaryStreamCallResponseIterator
from ._replaced_response import UnaryUnaryCallResponse as UnaryUnaryCallResponse
from ._typing import RequestIterableType, RequestType, ResponseType

_Sent = TypeVar("_Sent")
_Call = TypeVar("_Call")

#: Goes on: to the next interceptor, behind the last one to the server. Gives the call, which has been started.
Continuation = Callable[[ClientCallDetails, _Sent], Awaitable[_Call]]


class ClientInterceptor(metaclass=abc.ABCMeta):  # noqa: B024
    """What all client interceptors are derived from."""


class UnaryUnaryClientInterceptor(ClientInterceptor, metaclass=abc.ABCMeta):
    """Intercepts calls with one request and one response."""

    @abc.abstractmethod
    async def intercept_unary_unary(
        self,
        continuation: Continuation[RequestType, _base_call.UnaryUnaryCall[RequestType, ResponseType]],
        client_call_details: ClientCallDetails,
        request: RequestType,
    ) -> _base_call.UnaryUnaryCall[RequestType, ResponseType] | ResponseType:
        """Runs for each call, in a task of its own, before there is a call.

        Args:
          continuation: ``call = await continuation(client_call_details, request)`` goes on; as often as it is awaited,
            so that an interceptor can try again, or not at all.
          client_call_details: the call as it was asked for; ``_replace`` changes it.
          request: what the program wants to send.

        Returns:
          The call, or a response in its place.

        Raises:
          AioRpcError: the program's call ends with this status.
          asyncio.CancelledError: the program has cancelled its call. It comes from whatever is awaited here; a call
            that was started and is not returned is cancelled, too.
        """


class UnaryStreamClientInterceptor(ClientInterceptor, metaclass=abc.ABCMeta):
    """Intercepts calls with one request and a stream of responses."""

    @abc.abstractmethod
    async def intercept_unary_stream(
        self,
        continuation: Continuation[RequestType, _base_call.UnaryStreamCall[RequestType, ResponseType]],
        client_call_details: ClientCallDetails,
        request: RequestType,
    ) -> _base_call.UnaryStreamCall[RequestType, ResponseType] | AsyncIterable[ResponseType]:
        """Runs for each call, as :meth:`UnaryUnaryClientInterceptor.intercept_unary_unary` does.

        Returns:
          The call, or an asynchronous iterator whose items the program gets in place of the call's responses.
        """


class StreamUnaryClientInterceptor(ClientInterceptor, metaclass=abc.ABCMeta):
    """Intercepts calls with a stream of requests and one response."""

    @abc.abstractmethod
    async def intercept_stream_unary(
        self,
        continuation: Continuation[
            RequestIterableType[RequestType], _base_call.StreamUnaryCall[RequestType, ResponseType]
        ],
        client_call_details: ClientCallDetails,
        request_iterator: RequestIterableType[RequestType],
    ) -> _base_call.StreamUnaryCall[RequestType, ResponseType] | ResponseType:
        """Runs for each call, as :meth:`UnaryUnaryClientInterceptor.intercept_unary_unary` does.

        Args:
          request_iterator: the program's; an asynchronous iterator if it writes its requests by hand. They come while
            the call runs: an interceptor that awaits them all must not wait for them here.
        """


class StreamStreamClientInterceptor(ClientInterceptor, metaclass=abc.ABCMeta):
    """Intercepts calls with streams both ways."""

    @abc.abstractmethod
    async def intercept_stream_stream(
        self,
        continuation: Continuation[
            RequestIterableType[RequestType], _base_call.StreamStreamCall[RequestType, ResponseType]
        ],
        client_call_details: ClientCallDetails,
        request_iterator: RequestIterableType[RequestType],
    ) -> _base_call.StreamStreamCall[RequestType, ResponseType] | AsyncIterable[ResponseType]:
        """Runs for each call, as :meth:`StreamUnaryClientInterceptor.intercept_stream_unary` does.

        Returns:
          The call, or an asynchronous iterator whose items the program gets in place of the call's responses.
        """


class ServerInterceptor(metaclass=abc.ABCMeta):
    """Intercepts calls on a server, before it is known who handles them."""

    @abc.abstractmethod
    async def intercept_service(
        self,
        continuation: Callable[[HandlerCallDetails], Awaitable[RpcMethodHandler[RequestType, ResponseType] | None]],
        handler_call_details: HandlerCallDetails,
    ) -> RpcMethodHandler[RequestType, ResponseType] | None:
        """Runs for each call, in the call's task and context: the handler sees the context variables that are set here.

        Args:
          continuation: ``handler = await continuation(handler_call_details)`` asks the next interceptor, behind the
            last one the server's handlers.
          handler_call_details: the call's method and metadata.

        Returns:
          Who handles the call; ``None`` if nobody does, which ends it with UNIMPLEMENTED.

        Raises:
          Exception: ends the call with UNKNOWN.
          asyncio.CancelledError: the call is over, at its deadline or because the client has gone.
        """
