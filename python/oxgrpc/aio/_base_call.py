"""The abstract classes of the asynchronous API's calls.

What a multicallable returns is an instance of them. Subclass them for a call of your own, in a test for example.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from typing import Any, Generic

from .. import _native
from .._status import StatusCode
from ._errors import EOFType
from ._metadata import Metadata
from ._typing import DoneCallbackType, RequestType, ResponseType


class RpcContext(abc.ABC):
    """What is known of a call without waiting for anything."""

    @abc.abstractmethod
    def cancelled(self) -> bool:
        """Whether the call has ended with CANCELLED."""

    @abc.abstractmethod
    def done(self) -> bool:
        """Whether the call has ended."""

    @abc.abstractmethod
    def time_remaining(self) -> float | None:
        """Seconds until the deadline, not less than 0; ``None`` if there is none."""

    @abc.abstractmethod
    def cancel(self) -> bool:
        """Cancels the call: its server is told, and whoever awaits it gets ``asyncio.CancelledError``.

        Returns:
          Whether there was anything to cancel.
        """

    @abc.abstractmethod
    def add_done_callback(self, callback: DoneCallbackType) -> None:
        """Calls ``callback(call)`` when the call has ended; at once if it has."""


class Call(RpcContext, metaclass=abc.ABCMeta):
    """What every call can be asked. Cancelling a task that waits for one of these answers leaves the call alone."""

    @abc.abstractmethod
    async def initial_metadata(self) -> Metadata:
        """The server's initial metadata, as soon as it has come, empty if the call ended without."""

    @abc.abstractmethod
    async def trailing_metadata(self) -> Metadata:
        """The server's trailing metadata, once the call has ended."""

    @abc.abstractmethod
    async def code(self) -> StatusCode:
        """The status code, once the call has ended. Never raises for a failed call."""

    @abc.abstractmethod
    async def details(self) -> str:
        """The status message, once the call has ended."""

    @abc.abstractmethod
    async def wait_for_connection(self) -> None:
        """Waits until the call is on a connection.

        Raises:
          AioRpcError: the call has failed before.
        """


class _Awaited(Coroutine[Any, Any, ResponseType]):
    """A call that is awaited is its own coroutine, so that ``asyncio.create_task(call)`` waits for its response."""

    _steps: Generator[Any, Any, ResponseType] | None = None

    def _begun(self) -> Generator[Any, Any, ResponseType]:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps

    def send(self, value: Any) -> Any:
        """Goes on to wait for the response: what an event loop calls."""
        return self._begun().send(value)

    def throw(self, *args: Any) -> Any:
        """Raises an exception where the response is waited for: what an event loop calls to cancel."""
        return self._begun().throw(*args)

    def close(self) -> None:
        """Waits no more."""
        if self._steps is not None:
            self._steps.close()

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, None, ResponseType]:
        """Waits for the response."""


class _Iterated(AsyncIterator[ResponseType]):
    """A call that is iterated over is its own iterator, so that ``anext(call)`` waits for its next response."""

    _iterator: AsyncIterator[ResponseType] | None = None

    def __anext__(self) -> Awaitable[ResponseType]:
        """Waits for the next response."""
        if self._iterator is None:
            self._iterator = self.__aiter__()
        return self._iterator.__anext__()

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[ResponseType]:
        """Iterates over the responses."""


class UnaryUnaryCall(Call, _Awaited[ResponseType], Generic[RequestType, ResponseType], metaclass=abc.ABCMeta):
    """A call with one request and one response."""

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, None, ResponseType]:
        """Waits for the response. Cancelling the task that waits cancels the call.

        Raises:
          AioRpcError: the call ended with another status than OK.
          asyncio.CancelledError: this side cancelled the call.
        """


class UnaryStreamCall(Call, _Iterated[ResponseType], Generic[RequestType, ResponseType], metaclass=abc.ABCMeta):
    """A call with one request and a stream of responses: iterate it, or read it, but not both.

    A call that nobody keeps any more is cancelled.
    """

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[ResponseType]:
        """Iterates over the responses; ends with AioRpcError if the status is not OK.

        A program that leaves ``async for`` early gets the remaining responses when it iterates the same call again.
        """

    @abc.abstractmethod
    async def read(self) -> EOFType | ResponseType:
        """The next response, ``EOF`` at the end. Cancelling the task that waits cancels the call.

        Raises:
          AioRpcError: the call ended with another status than OK.
        """


class StreamUnaryCall(Call, _Awaited[ResponseType], Generic[RequestType, ResponseType], metaclass=abc.ABCMeta):
    """A call with a stream of requests and one response."""

    @abc.abstractmethod
    async def write(self, request: RequestType) -> None:
        """Sends a request; done when it is within the server's flow-control windows.

        Raises:
          AioRpcError: the call has failed while the request waited.
          asyncio.InvalidStateError: the call has ended, or :meth:`done_writing` was called.
          UsageError: the call was given a request iterator.
        """

    @abc.abstractmethod
    async def done_writing(self) -> None:
        """Says that no more requests come. May be repeated."""

    @abc.abstractmethod
    def __await__(self) -> Generator[Any, None, ResponseType]:
        """Waits for the response, as :meth:`UnaryUnaryCall.__await__` does."""


class StreamStreamCall(Call, _Iterated[ResponseType], Generic[RequestType, ResponseType], metaclass=abc.ABCMeta):
    """A call with streams both ways, independent of each other."""

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[ResponseType]:
        """Iterates over the responses, as :meth:`UnaryStreamCall.__aiter__` does."""

    @abc.abstractmethod
    async def read(self) -> EOFType | ResponseType:
        """The next response, as :meth:`UnaryStreamCall.read` gives it."""

    @abc.abstractmethod
    async def write(self, request: RequestType) -> None:
        """Sends a request, as :meth:`StreamUnaryCall.write` does."""

    @abc.abstractmethod
    async def done_writing(self) -> None:
        """Says that no more requests come. May be repeated."""


RpcContext.register(_native.Call)
Call.register(_native.Call)
UnaryUnaryCall.register(_native.UnaryUnaryCall)
UnaryStreamCall.register(_native.UnaryStreamCall)
StreamUnaryCall.register(_native.StreamUnaryCall)
StreamStreamCall.register(_native.StreamStreamCall)
