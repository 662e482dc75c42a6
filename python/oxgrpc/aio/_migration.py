"""Handlers that are plain functions: they run in a thread pool, as in grpcio, while a program moves to asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NoReturn, TypeVar

from .._interfaces import RpcMethodHandler
from .._status import StatusCode

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
    try:
        return await _in_thread(pool, behavior, argument, sync_context)
    except _Abort:
        await context.abort(*sync_context.aborted)


async def _run_stream(
    behavior: Callable[..., Any], pool: Executor | None, streams: bool, request: Any, context: Any
) -> AsyncIterator[Any]:
    sync_context = SyncServicerContext(context)
    argument = _Requests(request, sync_context) if streams else request
    try:
        responses = iter(await _in_thread(pool, behavior, argument, sync_context))
        while (response := await _in_thread(pool, next, responses, _END)) is not _END:
            yield response
    except _Abort:
        await context.abort(*sync_context.aborted)


class _Abort(Exception):
    """Ends a plain function that called ``abort``."""


class _Requests(Iterator[Any]):
    """The requests of a call for a plain function: waits in its thread for what the loop receives."""

    def __init__(self, requests: AsyncIterator[Any], context: SyncServicerContext) -> None:
        self._requests = requests
        self._context = context

    def __next__(self) -> Any:
        try:
            return self._context.wait_for(self._requests.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


class SyncServicerContext:
    """The context that a plain function gets. What only sets or tells something does so at once, in any thread."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        #: What ``abort`` was called with.
        self.aborted: tuple[Any, ...] = ()
        for name in (
            "add_done_callback",
            "auth_context",
            "code",
            "details",
            "disable_next_message_compression",
            "invocation_metadata",
            "peer",
            "peer_identities",
            "peer_identity_key",
            "set_code",
            "set_compression",
            "set_details",
            "set_trailing_metadata",
            "time_remaining",
            "trailing_metadata",
        ):
            setattr(self, name, getattr(context, name))

    def wait_for(self, awaitable: Awaitable[_T]) -> _T:
        """Waits in this thread for something on the loop."""

        async def await_it() -> _T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(await_it(), self._loop).result()

    def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """Ends the call with a status: raises an exception that the function is to let pass."""
        self.aborted = (code, details, trailing_metadata)
        raise _Abort

    def abort_with_status(self, status: Any) -> NoReturn:
        """Ends the call as :meth:`abort` does, with what ``status`` holds."""
        self.abort(status.code, status.details, status.trailing_metadata)

    def send_initial_metadata(self, initial_metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Sends the initial metadata now."""
        self.wait_for(self._context.send_initial_metadata(initial_metadata))

    def is_active(self) -> bool:
        """Whether the call is under way."""
        return not self._context.done()

    def cancel(self) -> None:
        """Ends the call with CANCELLED."""
        self.abort(StatusCode.CANCELLED)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls ``callback()`` when the call is over. ``False``: it is over, and the callback is not called."""
        if self._context.done():
            return False
        self._context.add_done_callback(lambda _: callback())
        return True
