"""Handlers that are plain functions: they run in a thread pool, as in grpcio, while a program moves to asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from .. import _base_server as _sync
from .._interfaces import RpcMethodHandler, Status
from .._status import StatusCode
from . import _base_server
from ._errors import AbortError, UsageError
from ._metadata import MetadataType

_T = TypeVar("_T")
_END = object()


def asynchronous(handler: RpcMethodHandler, pool: Executor | None) -> Callable[..., Any]:
    """The function of a method handler, made asynchronous if it is not."""
    kind = (
        ("stream" if handler.request_streaming else "unary")
        + "_"
        + ("stream" if handler.response_streaming else "unary")
    )
    behavior = getattr(handler, kind)
    if not callable(behavior):
        raise TypeError(f"a {kind} method handler needs a function, not {behavior!r}")
    if _is_asynchronous(behavior) or _is_asynchronous(type(behavior).__call__):
        return behavior  # type: ignore[no-any-return]
    run = _run_stream if handler.response_streaming else _run_unary
    return partial(run, behavior, pool, handler.request_streaming)


def _is_asynchronous(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


async def _in_thread(pool: Executor | None, function: Callable[..., _T], *arguments: Any) -> _T:
    call = partial(contextvars.copy_context().run, _without_stop_iteration, function, *arguments)
    return await asyncio.get_running_loop().run_in_executor(pool, call)


def _without_stop_iteration(function: Callable[..., _T], *arguments: Any) -> _T:
    """A future takes any exception but ``StopIteration``: who awaits it would wait for ever. Generators do the same."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError("a handler raised StopIteration") from error


async def _run_unary(
    behavior: Callable[..., Any], pool: Executor | None, streams: bool, request: Any, context: Any
) -> Any:
    sync_context = SyncServicerContext(context)
    argument = _Requests(request, sync_context) if streams else request
    return await _in_thread(pool, behavior, argument, sync_context)


async def _run_stream(
    behavior: Callable[..., Any], pool: Executor | None, streams: bool, request: Any, context: Any
) -> AsyncIterator[Any]:
    sync_context = SyncServicerContext(context)
    argument = _Requests(request, sync_context) if streams else request
    responses = iter(await _in_thread(pool, behavior, argument, sync_context))
    while (response := await _in_thread(pool, next, responses, _END)) is not _END:
        yield response


class _Requests(Iterator[Any]):
    """The requests of a call for a plain function: waits in its thread for what the loop receives."""

    def __init__(self, requests: AsyncIterator[Any], context: SyncServicerContext) -> None:
        self._requests = requests
        self._context = context

    def __next__(self) -> Any:
        try:
            return self._context._wait_for(self._requests.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


def _same(name: str) -> Callable[..., Any]:
    """A method that does what the context's own does, at once and in any thread."""

    def method(self: SyncServicerContext, *arguments: Any, **keywords: Any) -> Any:
        return getattr(self._context, name)(*arguments, **keywords)

    method.__name__ = name
    method.__doc__ = getattr(_base_server.ServicerContext, name).__doc__
    return method


class SyncServicerContext:
    """The context that a plain function gets: the synchronous API's, and ``abort`` raises ``aio.AbortError``."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()

    add_done_callback = _same("add_done_callback")
    auth_context = _same("auth_context")
    code = _same("code")
    details = _same("details")
    disable_next_message_compression = _same("disable_next_message_compression")
    invocation_metadata = _same("invocation_metadata")
    peer = _same("peer")
    peer_identities = _same("peer_identities")
    peer_identity_key = _same("peer_identity_key")
    set_code = _same("set_code")
    set_compression = _same("set_compression")
    set_details = _same("set_details")
    set_trailing_metadata = _same("set_trailing_metadata")
    time_remaining = _same("time_remaining")
    trailing_metadata = _same("trailing_metadata")

    def _wait_for(self, awaitable: Awaitable[_T]) -> _T:
        """Waits in this thread for something on the loop."""

        async def await_it() -> _T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(await_it(), self._loop).result()

    def abort(self, code: StatusCode, details: str = "", trailing_metadata: MetadataType = ()) -> NoReturn:
        """Ends the call with a status: raises an exception that the function is to let pass."""
        self._wait_for(self._context.abort(code, details, trailing_metadata))
        raise AssertionError("abort returned")

    def abort_with_status(self, status: Status) -> NoReturn:
        """Ends the call as :meth:`abort` does, with what ``status`` holds."""
        self._wait_for(self._context.abort_with_status(status))
        raise AssertionError("abort returned")

    def send_initial_metadata(self, initial_metadata: MetadataType) -> None:
        """Sends the initial metadata now."""
        self._wait_for(self._context.send_initial_metadata(initial_metadata))

    def is_active(self) -> bool:
        """Whether the call is under way."""
        return not self._context.done()

    def cancel(self) -> None:
        """Ends the call with CANCELLED. Does nothing if it is over."""
        with suppress(AbortError, UsageError):
            self._wait_for(self._context.abort(StatusCode.CANCELLED))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls ``callback()`` when the call is over. ``False``: it is over, and the callback is not called."""
        if self._context.done():
            return False
        self._context.add_done_callback(lambda _: callback())
        return True


_sync.ServicerContext.register(SyncServicerContext)
