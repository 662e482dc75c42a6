"""The abstract classes of the synchronous API's calls. Subclass them for a call of your own, in a test for example."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic

from ._interfaces import RpcContext
from ._status import StatusCode
from ._typing import MetadatumType, ResponseType


class FutureTimeoutError(Exception):
    """A future had no result in time."""


class FutureCancelledError(Exception):
    """A future has no result because it was cancelled."""


class Future(Generic[ResponseType], abc.ABC):
    """Something that is done in another thread and has a result at its end.

    Those methods that wait take a ``timeout`` in seconds; ``None`` waits for as long as it takes.
    """

    @abc.abstractmethod
    def cancel(self) -> bool:
        """Tries to cancel it; does not wait.

        Returns:
          Whether it was cancelled. ``False`` when that cannot be said, or when it was done before.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def cancelled(self) -> bool:
        """Whether it was cancelled before it was done."""
        raise NotImplementedError

    @abc.abstractmethod
    def running(self) -> bool:
        """Whether it is neither done nor cancelled."""
        raise NotImplementedError

    @abc.abstractmethod
    def done(self) -> bool:
        """Whether it has ended: with a result, with an exception, or because it was cancelled."""
        raise NotImplementedError

    @abc.abstractmethod
    def result(self, timeout: float | None = None) -> ResponseType:
        """Waits for the result.

        Raises:
          FutureTimeoutError: the time is up.
          FutureCancelledError: it was cancelled.
          Exception: what it ended with.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def exception(self, timeout: float | None = None) -> Exception | None:
        """Waits for the end and gives what :meth:`result` raises; ``None`` if there is a result.

        Raises:
          FutureTimeoutError: the time is up.
          FutureCancelledError: it was cancelled.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Waits for the end and gives the traceback of what :meth:`result` raises; ``None`` if there is a result.

        Raises:
          FutureTimeoutError: the time is up.
          FutureCancelledError: it was cancelled.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls ``fn(future)`` when it has ended, in any thread; at once if it has."""
        raise NotImplementedError


class Call(RpcContext, metaclass=abc.ABCMeta):
    """What every call can be asked. What is not known yet is waited for."""

    @abc.abstractmethod
    def initial_metadata(self) -> Sequence[MetadatumType]:
        """The server's initial metadata, as soon as it has come."""
        raise NotImplementedError

    @abc.abstractmethod
    def trailing_metadata(self) -> Sequence[MetadatumType]:
        """The server's trailing metadata, once the call has ended."""
        raise NotImplementedError

    @abc.abstractmethod
    def code(self) -> StatusCode:
        """The status code, once the call has ended."""
        raise NotImplementedError

    @abc.abstractmethod
    def details(self) -> str:
        """The status message, once the call has ended."""
        raise NotImplementedError


class CallFuture(Call, Future[ResponseType], metaclass=abc.ABCMeta):
    """A call with one response, which it is the future of."""

    @abc.abstractmethod
    def cancel(self) -> bool:
        """Cancels the call, and says whether there was anything to cancel."""
        raise NotImplementedError


class CallIterator(Call, Iterator[ResponseType], metaclass=abc.ABCMeta):
    """A call with a stream of responses: iterate over it. Ends with RpcError if the status is not OK."""
