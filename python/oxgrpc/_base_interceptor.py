"""The abstract classes of the synchronous API's interceptors.

An interceptor is given the next one, or the call itself, as ``continuation``: it may call it once, often or never.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ._base_call import CallFuture, CallIterator
from ._interfaces import HandlerCallDetails, RpcMethodHandler
from ._status import Compression
from ._typing import MetadataType, RequestType, ResponseType

if TYPE_CHECKING:
    from ._credentials import CallCredentials


class ClientCallDetails(abc.ABC):
    """What a call is to be made with: all but its requests."""

    method: str
    timeout: float | None
    metadata: MetadataType | None
    credentials: CallCredentials | None
    wait_for_ready: bool | None
    compression: Compression | None


class UnaryUnaryClientInterceptor(abc.ABC):
    """Intercepts calls with one request and one response."""

    @abc.abstractmethod
    def intercept_unary_unary(
        self,
        continuation: Callable[[ClientCallDetails, RequestType], CallFuture[ResponseType]],
        client_call_details: ClientCallDetails,
        request: RequestType,
    ) -> CallFuture[ResponseType]:
        """Makes the call, or answers in its place.

        Args:
          continuation: ``continuation(client_call_details, request)`` goes on with the call. It does not raise when the
            call fails: that is in what it returns.

        Returns:
          A call that is a future, too.
        """
        raise NotImplementedError


class UnaryStreamClientInterceptor(abc.ABC):
    """Intercepts calls with one request and a stream of responses."""

    @abc.abstractmethod
    def intercept_unary_stream(
        self,
        continuation: Callable[[ClientCallDetails, RequestType], CallIterator[ResponseType]],
        client_call_details: ClientCallDetails,
        request: RequestType,
    ) -> CallIterator[ResponseType]:
        """Makes the call, or answers in its place, with a call that is an iterator of responses, too."""
        raise NotImplementedError


class StreamUnaryClientInterceptor(abc.ABC):
    """Intercepts calls with a stream of requests and one response."""

    @abc.abstractmethod
    def intercept_stream_unary(
        self,
        continuation: Callable[[ClientCallDetails, Iterable[RequestType]], CallFuture[ResponseType]],
        client_call_details: ClientCallDetails,
        request_iterator: Iterable[RequestType],
    ) -> CallFuture[ResponseType]:
        """Makes the call, or answers in its place, with a call that is a future, too."""
        raise NotImplementedError


class StreamStreamClientInterceptor(abc.ABC):
    """Intercepts calls with streams both ways."""

    @abc.abstractmethod
    def intercept_stream_stream(
        self,
        continuation: Callable[[ClientCallDetails, Iterable[RequestType]], CallIterator[ResponseType]],
        client_call_details: ClientCallDetails,
        request_iterator: Iterable[RequestType],
    ) -> CallIterator[ResponseType]:
        """Makes the call, or answers in its place, with a call that is an iterator of responses, too."""
        raise NotImplementedError


class ServerInterceptor(abc.ABC):
    """Intercepts calls before it is decided who handles them."""

    @abc.abstractmethod
    def intercept_service(
        self,
        continuation: Callable[[HandlerCallDetails], RpcMethodHandler[RequestType, ResponseType] | None],
        handler_call_details: HandlerCallDetails,
    ) -> RpcMethodHandler[RequestType, ResponseType] | None:
        """The handler for a call: that of ``continuation(handler_call_details)``, or another.

        ``None`` if nobody handles it.
        """
        raise NotImplementedError
