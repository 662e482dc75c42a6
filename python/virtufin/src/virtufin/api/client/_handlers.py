"""Handlers of events: plain functions, coroutine functions, and objects with ``on_event`` and ``on_error``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import grpc

from ._errors import brief
from ._events import Gap

logger = logging.getLogger("virtufin.api.client")

#: A function, or a coroutine function, of one argument.
Callback = Callable[[Any], Any]


class StreamEventHandler:
    """Callbacks of a subscription. Each may be a function or a coroutine function; a subclass may define them instead.

    Args:
      on_event: is called with each event, one after the other.
      on_error: is called with each exception: a lost stream, a failed attempt to resume it, what ``on_event`` raised.
      on_gap: is called with a :class:`Gap` once a lost stream is live again.
    """

    on_event: Callback
    on_error: Callback
    on_gap: Callback

    def __init__(
        self,
        on_event: Callback | None = None,
        on_error: Callback | None = None,
        on_gap: Callback | None = None,
    ) -> None:
        given = {"on_event": on_event, "on_error": on_error, "on_gap": on_gap}
        for name, callback in given.items():
            if callback is not None:
                setattr(self, name, callback)
        if not hasattr(self, "on_event"):
            raise TypeError("a handler needs on_event")

    def __repr__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}" for name in ("on_event", "on_error", "on_gap") if hasattr(self, name)
        ]
        return f"{type(self).__name__}({', '.join(given)})"


async def _call(callback: Callback, argument: object) -> None:
    result = callback(argument)
    if inspect.isawaitable(result):
        await result


class Dispatcher:
    """Calls a handler's callbacks. Nothing but cancellation gets out of it, so that no exception ends a stream."""

    def __init__(self, handler: Any, on_error: Callback | None = None, on_gap: Callback | None = None) -> None:
        """``on_error`` and ``on_gap`` stand in where the handler is a function alone, or lacks them.

        Raises:
          TypeError: the handler is neither callable nor has it ``on_event``.
        """
        on_event = getattr(handler, "on_event", None)
        if on_event is None and callable(handler):
            on_event = handler
        if not callable(on_event):
            raise TypeError(f"a handler is a function of an event, or has on_event(event): {handler!r} is neither")
        self._on_event: Callback = on_event
        self._on_error: Callback | None = getattr(handler, "on_error", None) or on_error
        self._on_gap: Callback | None = getattr(handler, "on_gap", None) or on_gap

    async def event(self, event: object) -> None:
        try:
            await _call(self._on_event, event)
        except Exception as error:
            await self.error(error)

    async def error(self, error: BaseException) -> None:
        if self._on_error is None:
            is_ours = not isinstance(error, grpc.RpcError)
            logger.error("a subscription without on_error: %s", brief(error), exc_info=error if is_ours else None)
            return
        try:
            await _call(self._on_error, error)
        except Exception:
            logger.exception("on_error raised, when called with %s", brief(error))

    async def gap(self, gap: Gap) -> None:
        if self._on_gap is None:
            logger.warning("%s", str(gap))
            return
        try:
            await _call(self._on_gap, gap)
        except Exception as error:
            await self.error(error)
