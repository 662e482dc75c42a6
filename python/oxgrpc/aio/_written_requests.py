"""Requests that are written by hand to a call that interceptors are given an iterator of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_NOTHING = object()


class Changes:
    """Wakes everybody who waits for something to change, each on a future of its own."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def tell(self, *_: object) -> None:
        """Something has changed. Takes any arguments, so that it can be a callback."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Waits for the next change."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


class WrittenRequests:
    """An iterator over what is put into it. It holds one request, so that a writer is held back by a slow reader."""

    def __init__(self) -> None:
        self._request: Any = _NOTHING
        self._taken = 0
        self.ended = False
        self.changes = Changes()

    async def put(self, request: Any, check: Callable[[], None], is_begun: Callable[[], bool]) -> None:
        """Puts a request in, and waits until it is taken or the call has begun.

        Args:
          check: raises if nothing more can be written; asked whenever something has changed.
          is_begun: whether the interceptors have returned the call.
        """
        check()
        while self._request is not _NOTHING:
            await self.changes.wait()
            check()
        self._request, taken = request, self._taken
        self.changes.tell()
        while self._taken == taken and not is_begun():
            await self.changes.wait()

    def end(self) -> None:
        """Says that nothing more comes. May be repeated."""
        self.ended = True
        self.changes.tell()

    def __aiter__(self) -> WrittenRequests:
        return self

    async def __anext__(self) -> Any:
        while self._request is _NOTHING:
            if self.ended:
                raise StopAsyncIteration
            await self.changes.wait()
        request, self._request = self._request, _NOTHING
        self._taken += 1
        self.changes.tell()
        return request
