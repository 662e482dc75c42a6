"""The abstract classes of the asynchronous API's channels and multicallables."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from .. import _native
from .._status import ChannelConnectivity, Compression
from . import _base_call
from ._typing import (
    Deserialized,
    DeserializingFunction,
    MetadataType,
    RequestIterableType,
    RequestType,
    ResponseType,
    Serialized,
    SerializingFunction,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from .._credentials import CallCredentials


class UnaryUnaryMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with one request and one response, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request: RequestType,
        *,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> _base_call.UnaryUnaryCall[RequestType, ResponseType]:
        """Starts a call. It is on its way when this returns, or in line for a connection.

        Args:
          request: what the serializer takes.
          timeout: seconds until the call ends with DEADLINE_EXCEEDED, on both sides.
          metadata: pairs to send; values of keys that end in ``-bin`` are ``bytes``.
          credentials: only for secure channels.
          wait_for_ready: whether to wait while the server cannot be reached, instead of failing with UNAVAILABLE.
          compression: how to compress the request, in place of the channel's choice.

        Raises:
          TypeError, ValueError: an argument is not of its kind, or metadata cannot be sent.
          UsageError: the channel is closed.
        """


class UnaryStreamMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with one request and a stream of responses, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request: RequestType,
        *,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> _base_call.UnaryStreamCall[RequestType, ResponseType]:
        """Starts a call, as :meth:`UnaryUnaryMultiCallable.__call__` does."""


class StreamUnaryMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with a stream of requests and one response, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request_iterator: RequestIterableType[RequestType] | None = None,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> _base_call.StreamUnaryCall[RequestType, ResponseType]:
        """Starts a call, as :meth:`UnaryUnaryMultiCallable.__call__` does.

        Args:
          request_iterator: an iterator, asynchronous or not, whose items a task of its own sends; one that raises
            cancels the call. Without it the call is written by hand.
        """


class StreamStreamMultiCallable(Generic[RequestType, ResponseType], abc.ABC):
    """A method with streams both ways, ready to be called."""

    @abc.abstractmethod
    def __call__(
        self,
        request_iterator: RequestIterableType[RequestType] | None = None,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> _base_call.StreamStreamCall[RequestType, ResponseType]:
        """Starts a call, as :meth:`StreamUnaryMultiCallable.__call__` does."""


class Channel(abc.ABC):
    """A way to a server. It belongs to no event loop: each loop that uses it has a connection of its own.

    As a context manager it closes itself at the end.
    """

    @abc.abstractmethod
    async def __aenter__(self) -> Self:
        """The channel itself."""

    @abc.abstractmethod
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Closes the channel; calls that are under way are cancelled."""

    @abc.abstractmethod
    async def close(self, grace: float | None = None) -> None:
        """Closes the channel: no new calls.

        Args:
          grace: seconds for which calls that are under way may go on; then, or at once if ``None``, they are cancelled.
        """

    @abc.abstractmethod
    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        """The state of the running loop's connection; ``try_to_connect`` then begins to connect if it is idle."""

    @abc.abstractmethod
    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """Waits until the state is another than ``last_observed_state``."""

    @abc.abstractmethod
    async def channel_ready(self) -> None:
        """Connects and waits until calls can be made, however long it takes."""

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

    @abc.abstractmethod
    def unary_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable[Serialized, Deserialized]:
        """A method with one request and a stream of responses; parameters as for :meth:`unary_unary`."""

    @abc.abstractmethod
    def stream_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable[Serialized, Deserialized]:
        """A method with a stream of requests and one response; parameters as for :meth:`unary_unary`."""

    @abc.abstractmethod
    def stream_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable[Serialized, Deserialized]:
        """A method with streams both ways; parameters as for :meth:`unary_unary`."""


UnaryUnaryMultiCallable.register(_native.UnaryUnaryMultiCallable)
UnaryStreamMultiCallable.register(_native.UnaryStreamMultiCallable)
StreamUnaryMultiCallable.register(_native.StreamUnaryMultiCallable)
StreamStreamMultiCallable.register(_native.StreamStreamMultiCallable)
