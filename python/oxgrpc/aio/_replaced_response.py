"""What an interceptor returns in place of a call: a response, or an iterator of responses."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Generator
from typing import Any, NoReturn

from .._status import StatusCode
from . import _base_call
from ._metadata import Metadata
from ._typing import DoneCallbackType


class _Answered:
    """A call that has ended well before it came to a server."""

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: DoneCallbackType) -> None:
        callback(self)

    def time_remaining(self) -> float | None:
        return None

    async def initial_metadata(self) -> Metadata | None:
        return None

    async def trailing_metadata(self) -> Metadata | None:
        return None

    async def code(self) -> StatusCode:
        return StatusCode.OK

    async def details(self) -> str:
        return ""

    async def debug_error_string(self) -> str | None:
        return None

    async def wait_for_connection(self) -> None:
        return None


class _Response(_Answered):
    def __init__(self, response: Any) -> None:
        self._response = response

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response
        yield  # which makes a generator of it


class UnaryUnaryCallResponse(_Response, _base_call.UnaryUnaryCall[Any, Any]):  # type: ignore[misc]
    """A response that an interceptor has returned, as a call."""


class StreamUnaryCallResponse(_Response, _base_call.StreamUnaryCall[Any, Any]):  # type: ignore[misc]
    """A response that an interceptor has returned, as a call. Requests are written to the call around it."""

    async def write(self, request: Any) -> NoReturn:
        raise NotImplementedError

    async def done_writing(self) -> NoReturn:
        raise NotImplementedError


class _ResponseIterator:
    """A call with other responses. All else is the call's, or what is true of an answer where there is no call."""

    def __init__(self, call: Any, response_iterator: AsyncIterable[Any]) -> None:
        self._call = _Answered() if call is None else call
        self._response_iterator = response_iterator

    def cancel(self) -> bool:
        return self._call.cancel()

    def cancelled(self) -> bool:
        return self._call.cancelled()

    def done(self) -> bool:
        return self._call.done()

    def add_done_callback(self, callback: DoneCallbackType) -> None:
        self._call.add_done_callback(callback)

    def time_remaining(self) -> float | None:
        return self._call.time_remaining()

    async def initial_metadata(self) -> Metadata | None:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Metadata | None:
        return await self._call.trailing_metadata()

    async def code(self) -> StatusCode:
        return await self._call.code()

    async def details(self) -> str:
        return await self._call.details()

    async def debug_error_string(self) -> str | None:
        return await self._call.debug_error_string()

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._response_iterator.__aiter__()

    async def read(self) -> NoReturn:
        raise NotImplementedError("the call around it reads by iterating")


class UnaryStreamCallResponseIterator(_ResponseIterator, _base_call.UnaryStreamCall[Any, Any]):  # type: ignore[misc]
    """A call with the responses of an iterator that an interceptor has returned."""


class StreamStreamCallResponseIterator(_ResponseIterator, _base_call.StreamStreamCall[Any, Any]):  # type: ignore[misc]
    """A call with the responses of an iterator that an interceptor has returned."""

    async def write(self, request: Any) -> NoReturn:
        raise NotImplementedError("requests are written to the call around it")

    async def done_writing(self) -> NoReturn:
        raise NotImplementedError("requests are written to the call around it")
