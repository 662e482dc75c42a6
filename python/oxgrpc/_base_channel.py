"""The abstract classes of the synchronous API's channels and multicallables."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from ._base_call import Call, CallFuture, CallIterator
from ._status import ChannelConnectivity, Compression
from ._typing import (
    Deserialized,
    DeserializingFunction,
    MetadataType,
    RequestType,
    ResponseType,
    Serialized,
    SerializingFunction,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._credentials import CallCredentials


class UnaryUnaryMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with one request and one response, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request: RequestType,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> ResponseType:
        """Calls and waits for the response.

        Args:
          request: what the serializer takes.
          timeout: seconds until the call ends with DEADLINE_EXCEEDED, on both sides.
          metadata: pairs to send; values of keys that end in ``-bin`` are ``bytes``.
          credentials: only for secure channels.
          wait_for_ready: whether to wait while the server cannot be reached, instead of failing with UNAVAILABLE.
          compression: how to compress the request, in place of the channel's choice.

        Raises:
          RpcError: the call ended with another status than OK. It is a :class:`Call`, too.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def with_call(
        self,
        request: RequestType,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> tuple[ResponseType, Call]:
        """Calls as :meth:`__call__` does, and gives the call beside the response."""
        raise NotImplementedError

    @abc.abstractmethod
    def future(
        self,
        request: RequestType,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> CallFuture[ResponseType]:
        """Starts a call as :meth:`__call__` does, without waiting: the response is the future's result."""
        raise NotImplementedError


class UnaryStreamMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with one request and a stream of responses, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request: RequestType,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> CallIterator[ResponseType]:
        """Starts a call without waiting; arguments as for :meth:`UnaryUnaryMultiCallable.__call__`."""
        raise NotImplementedError


class StreamUnaryMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with a stream of requests and one response, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request_iterator: Iterable[RequestType],
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> ResponseType:
        """Calls and waits for the response; other arguments as for :meth:`UnaryUnaryMultiCallable.__call__`.

        Args:
          request_iterator: iterated over in a thread of its own; one that raises cancels the call.

        Raises:
          RpcError: the call ended with another status than OK. It is a :class:`Call`, too.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def with_call(
        self,
        request_iterator: Iterable[RequestType],
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> tuple[ResponseType, Call]:
        """Calls as :meth:`__call__` does, and gives the call beside the response."""
        raise NotImplementedError

    @abc.abstractmethod
    def future(
        self,
        request_iterator: Iterable[RequestType],
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> CallFuture[ResponseType]:
        """Starts a call as :meth:`__call__` does, without waiting: the response is the future's result."""
        raise NotImplementedError


class StreamStreamMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with streams both ways, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request_iterator: Iterable[RequestType],
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> CallIterator[ResponseType]:
        """Starts a call without waiting; arguments as for :meth:`StreamUnaryMultiCallable.__call__`."""
        raise NotImplementedError


class Channel(abc.ABC):
    """A way to a server. As a context manager it closes itself at the end."""

    @abc.abstractmethod
    def subscribe(self, callback: Callable[[ChannelConnectivity], None], try_to_connect: bool | None = False) -> None:
        """Calls ``callback(state)`` with the channel's state, now and at each change, in a thread of the channel's.

        ``try_to_connect`` begins to connect if the channel is idle.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def unsubscribe(self, callback: Callable[[ChannelConnectivity], None]) -> None:
        """Ends what :meth:`subscribe` began with the same callback."""
        raise NotImplementedError

    @abc.abstractmethod
    def unary_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable[Serialized, Deserialized]:
        """A method with one request and one response.

        Args:
          method: ``/package.Service/Method``.
          request_serializer: makes ``bytes`` of a request; without it requests are ``bytes``.
          response_deserializer: makes a response of ``bytes``; without it responses are ``bytes``.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def unary_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable[Serialized, Deserialized]:
        """A method with one request and a stream of responses; parameters as for :meth:`unary_unary`."""
        raise NotImplementedError

    @abc.abstractmethod
    def stream_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable[Serialized, Deserialized]:
        """A method with a stream of requests and one response; parameters as for :meth:`unary_unary`."""
        raise NotImplementedError

    @abc.abstractmethod
    def stream_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable[Serialized, Deserialized]:
        """A method with streams both ways; parameters as for :meth:`unary_unary`."""
        raise NotImplementedError

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the channel: no new calls, and calls that are under way are cancelled. May be repeated."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """The channel itself."""
        raise NotImplementedError

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Closes the channel."""
        raise NotImplementedError
