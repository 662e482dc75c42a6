"""The abstract classes that both APIs share. They are plain Python, to be subclassed by anybody."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, runtime_checkable

from ._status import StatusCode
from ._typing import HandledRequest, HandledResponse, MetadatumType


class RpcError(Exception):
    """Raised when a call ends with another status than OK."""


class RpcContext(abc.ABC):
    """What the synchronous API says about a call that is under way."""

    @abc.abstractmethod
    def is_active(self) -> bool:
        """Whether the call is under way."""
        raise NotImplementedError

    @abc.abstractmethod
    def time_remaining(self) -> float | None:
        """Seconds until the deadline; ``None`` if there is none."""
        raise NotImplementedError

    @abc.abstractmethod
    def cancel(self) -> bool | None:
        """Cancels the call. Does nothing if it has ended."""
        raise NotImplementedError

    @abc.abstractmethod
    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls ``callback()`` when the call ends. ``False``: it has ended, and the callback is not called."""
        raise NotImplementedError


class Status(abc.ABC):
    """A status to abort a call with: has ``code``, ``details`` and ``trailing_metadata``."""

    code: StatusCode
    details: str
    trailing_metadata: Sequence[MetadatumType] | None


class RpcMethodHandler(Generic[HandledRequest, HandledResponse], abc.ABC):
    """How one method is handled: its kind, its serializers and, in the attribute of its kind, a function."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Callable[[bytes], HandledRequest] | None
    response_serializer: Callable[[HandledResponse], bytes] | None
    unary_unary: Callable[..., Any] | None
    unary_stream: Callable[..., Any] | None
    stream_unary: Callable[..., Any] | None
    stream_stream: Callable[..., Any] | None


@runtime_checkable
class HandlerCallDetails(Protocol):
    """What is known of a call before it is handled."""

    method: str
    invocation_metadata: Sequence[MetadatumType]


class GenericRpcHandler(abc.ABC):
    """Decides at each call who handles it."""

    @abc.abstractmethod
    def service(self, handler_call_details: HandlerCallDetails) -> RpcMethodHandler[Any, Any] | None:
        """The handler for a call; ``None`` to leave it to others."""
        raise NotImplementedError


class ServiceRpcHandler(GenericRpcHandler, metaclass=abc.ABCMeta):
    """Handles the methods of one service."""

    @abc.abstractmethod
    def service_name(self) -> str:
        """The service's full name."""
        raise NotImplementedError
