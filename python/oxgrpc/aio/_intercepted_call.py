"""Calls that go through interceptors: a task runs the interceptors, and what they return is the call.

Until then a call can be cancelled and asked; the answers wait for the interceptors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from .._status import Compression, StatusCode
from . import _base_call
from ._client_call_details import ClientCallDetails
from ._errors import EOF, AioRpcError, EOFType, UsageError
from ._metadata import Metadata
from ._replaced_response import (
    StreamStreamCallResponseIterator,
    StreamUnaryCallResponse,
    UnaryStreamCallResponseIterator,
    UnaryUnaryCallResponse,
)
from ._typing import DeserializingFunction, DoneCallbackType, RequestIterableType, SerializingFunction
from ._written_requests import WrittenRequests

if TYPE_CHECKING:
    from .._native import Channel

_LOCALLY_CANCELLED = "Locally cancelled by application!"
_FINISHED = "RPC already finished."
_HALF_CLOSED = 'RPC is half closed after calling "done_writing".'

_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."


class InterceptedCall:
    """What intercepted calls of all kinds share.

    A call that nobody keeps any more, once the interceptors have returned it, is cancelled.
    """

    #: The channel's function that gives the method, and the end of the name of the interceptors' function.
    _KIND: ClassVar[str]

    def __init__(
        self,
        interceptors: Sequence[Any],
        request: Any,
        timeout: float | None,
        metadata: Metadata,
        credentials: Any,
        wait_for_ready: bool | None,
        channel: Channel,
        method: bytes,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
        loop: asyncio.AbstractEventLoop,
        registered_call_handle: int = 0,
        compression: Compression | None = None,
    ) -> None:
        self._loop = loop
        self._interceptors = interceptors
        self._channel = channel
        self._serializers = (request_serializer, response_deserializer)
        self._compression = compression
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._done_callbacks: list[DoneCallbackType] = []
        #: What the interceptors have started, while they run.
        self._started: list[Any] | None = []
        #: What stands in for the call where an interceptor returns responses of its own.
        self._last: Any = None
        details = ClientCallDetails(method, timeout, metadata, credentials, wait_for_ready)
        self._interceptors_task = loop.create_task(self._run(details, request))
        self._interceptors_task.add_done_callback(self._on_intercepted)

    def __del__(self) -> None:
        task: asyncio.Task[Any] | None = getattr(self, "_interceptors_task", None)
        # One that still runs keeps this object, so it is not to be found here unless its loop is gone.
        if task is not None and task.done():
            self.cancel()

    async def _run(self, details: ClientCallDetails, request: Any) -> Any:
        try:
            return await self._intercept(0, details, request)
        except asyncio.CancelledError:
            # The interceptor that has started it does not return it: nobody else could end it.
            for call in self._started or ():
                call.cancel()
            raise
        finally:
            self._started = None

    async def _intercept(self, index: int, details: ClientCallDetails, request: Any) -> Any:
        """Runs the interceptor that has this place in the chain; behind the last one the call is started."""
        if index == len(self._interceptors):
            self._last = self._start(details, request)
        else:
            intercept = getattr(self._interceptors[index], f"intercept_{self._KIND}")
            self._last = self._as_call(await intercept(partial(self._intercept, index + 1), details, request))
        return self._last

    def _start(self, details: ClientCallDetails, request: Any) -> Any:
        method = getattr(self._channel, self._KIND)(details.method, *self._serializers)
        call = method(
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=self._compression,
        )
        if self._started is not None:
            self._started.append(call)
        return call

    def _as_call(self, result: Any) -> Any:
        """What an interceptor has returned, as a call."""
        raise NotImplementedError

    def _on_intercepted(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            # asyncio is not to complain of an exception that nobody asks for: calls do not, either.
            task.exception()
        callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            try:
                self.add_done_callback(callback)
            except Exception as error:
                context = {"message": f"Exception in callback {callback!r}", "exception": error}
                task.get_loop().call_exception_handler(context)

    def _intercepted(self) -> Any:
        """The call, if the interceptors have returned one."""
        task = self._interceptors_task
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def _until_intercepted(self) -> asyncio.Task[Any]:
        """Waits for the interceptors' end; cancelling the task that waits does not cancel them."""
        if not self._interceptors_task.done():
            await asyncio.wait((self._interceptors_task,))
        return self._interceptors_task

    async def _answer(self, question: str, if_cancelled: object) -> Any:
        """What the call answers, or the error that the interceptors have ended with."""
        task = await self._until_intercepted()
        if task.cancelled():
            return if_cancelled
        error = task.exception()
        if error is None:
            return await getattr(task.result(), question)()
        if isinstance(error, AioRpcError):
            return getattr(error, question)()
        raise error

    async def initial_metadata(self) -> Metadata | None:
        return await self._answer("initial_metadata", None)  # type: ignore[no-any-return]

    async def trailing_metadata(self) -> Metadata | None:
        return await self._answer("trailing_metadata", None)  # type: ignore[no-any-return]

    async def code(self) -> StatusCode:
        return await self._answer("code", StatusCode.CANCELLED)  # type: ignore[no-any-return]

    async def details(self) -> str:
        return await self._answer("details", _LOCALLY_CANCELLED)  # type: ignore[no-any-return]

    async def debug_error_string(self) -> str | None:
        return await self._answer("debug_error_string", "")  # type: ignore[no-any-return]

    async def wait_for_connection(self) -> None:
        task = await self._until_intercepted()
        await task.result().wait_for_connection()

    def cancel(self) -> bool:
        if not self._interceptors_task.done():
            return self._interceptors_task.cancel()
        call = self._intercepted()
        return call is not None and call.cancel()

    def cancelled(self) -> bool:
        task = self._interceptors_task
        if not task.done():
            return False
        if task.cancelled():
            return True
        error = task.exception()
        if error is None:
            return task.result().cancelled()  # type: ignore[no-any-return]
        return isinstance(error, AioRpcError) and error.code() is StatusCode.CANCELLED

    def done(self) -> bool:
        if not self._interceptors_task.done():
            return False
        call = self._intercepted()
        return call is None or call.done()

    def add_done_callback(self, callback: DoneCallbackType) -> None:
        if not self._interceptors_task.done():
            self._done_callbacks.append(callback)
            return
        call = self._intercepted()
        if call is None or call.done():
            callback(self)
        else:
            call.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        """Seconds until the deadline of the call, of what the program has asked for until there is one."""
        call = self._intercepted()
        if call is not None:
            return call.time_remaining()  # type: ignore[no-any-return]
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


class _UnaryResponse(InterceptedCall):
    """A call that is awaited."""

    def __await__(self) -> Generator[Any, None, Any]:
        call = yield from self._interceptors_task.__await__()
        return (yield from call.__await__())


class _StreamResponse(InterceptedCall):
    """A call whose responses are iterated or read. Both go through the iterator that the interceptors return."""

    _responses: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Any:
        if self._responses is None:
            return self._first()
        return self._responses.__anext__()

    async def _first(self) -> Any:
        call = await self._interceptors_task
        if self._responses is None:
            self._responses = call.__aiter__()
        return await self._responses.__anext__()

    async def read(self) -> EOFType | Any:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return EOF


class _StreamRequest(InterceptedCall):
    """A call whose requests come from an iterator, or are written by hand: then interceptors get an iterator all the
    same.
    """

    _written: WrittenRequests | None = None

    def __init__(
        self,
        interceptors: Sequence[Any],
        request_iterator: RequestIterableType[Any] | None,
        *arguments: Any,
        **more: Any,
    ) -> None:
        if request_iterator is None:
            request_iterator = self._written = WrittenRequests()
        super().__init__(interceptors, request_iterator, *arguments, **more)

    def _on_intercepted(self, task: asyncio.Task[Any]) -> None:
        if self._written is not None:
            self._written.changes.tell()
            call = self._intercepted()
            if call is not None:
                call.add_done_callback(self._written.changes.tell)
        super()._on_intercepted(task)

    def _check_running(self) -> None:
        task = self._interceptors_task
        if not task.done():
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AioRpcError):
            raise error
        if task.cancelled() or error is not None or task.result().done():
            raise asyncio.InvalidStateError(_FINISHED)

    def _check_writable(self) -> None:
        self._check_running()
        if self._requests_by_hand().ended:
            raise asyncio.InvalidStateError(_HALF_CLOSED)

    def _requests_by_hand(self) -> WrittenRequests:
        if self._written is None:
            raise UsageError(_MIXED)
        return self._written

    async def write(self, request: Any) -> None:
        requests = self._requests_by_hand()
        try:
            await requests.put(request, self._check_writable, self._interceptors_task.done)
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._check_running()

    async def done_writing(self) -> None:
        requests = self._requests_by_hand()
        if self._interceptors_task.cancelled():
            raise asyncio.InvalidStateError(_FINISHED)
        requests.end()


class InterceptedUnaryUnaryCall(_UnaryResponse, _base_call.UnaryUnaryCall[Any, Any]):  # type: ignore[misc]
    """A call with one request and one response that goes through interceptors."""

    _KIND = "unary_unary"

    def _as_call(self, result: Any) -> Any:
        return result if isinstance(result, _base_call.UnaryUnaryCall) else UnaryUnaryCallResponse(result)


class InterceptedUnaryStreamCall(_StreamResponse, _base_call.UnaryStreamCall[Any, Any]):  # type: ignore[misc]
    """A call with one request and a stream of responses that goes through interceptors."""

    _KIND = "unary_stream"

    def _as_call(self, result: Any) -> Any:
        is_call = isinstance(result, _base_call.UnaryStreamCall)
        return result if is_call else UnaryStreamCallResponseIterator(self._last, result)


class InterceptedStreamUnaryCall(_UnaryResponse, _StreamRequest, _base_call.StreamUnaryCall[Any, Any]):  # type: ignore[misc]
    """A call with a stream of requests and one response that goes through interceptors."""

    _KIND = "stream_unary"

    def _as_call(self, result: Any) -> Any:
        return result if isinstance(result, _base_call.StreamUnaryCall) else StreamUnaryCallResponse(result)


class InterceptedStreamStreamCall(_StreamResponse, _StreamRequest, _base_call.StreamStreamCall[Any, Any]):  # type: ignore[misc]
    """A call with streams both ways that goes through interceptors."""

    _KIND = "stream_stream"

    def _as_call(self, result: Any) -> Any:
        is_call = isinstance(result, _base_call.StreamStreamCall)
        return result if is_call else StreamStreamCallResponseIterator(self._last, result)
