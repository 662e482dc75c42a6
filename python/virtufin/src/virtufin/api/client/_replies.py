"""Replies to requests that were published: one stream for each reply topic, shared by all who wait on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from ._calls import Connection
from ._events import PubsubEvent
from ._streams import EventStream

#: Seconds that a stream nobody waits on is kept for the next request.
IDLE_SECONDS = 30.0

_Accepts = Callable[[PubsubEvent], bool]


class ReplyStream:
    """The events of a reply topic, each given to those who wait for its correlation id."""

    def __init__(
        self, connection: Connection, topic: str, open_stream: Callable[..., EventStream[PubsubEvent]]
    ) -> None:
        """``open_stream`` takes ``reconnect``."""
        self.topic = topic
        self._connection = connection
        self._stream = open_stream(reconnect=True)
        self._waiting: dict[str, list[tuple[asyncio.Future[PubsubEvent], _Accepts]]] = {}
        self._opened: asyncio.Future[None] = connection.loop.create_future()
        self._expiry: asyncio.TimerHandle | None = None
        connection.replies[topic] = self
        connection.open.add(self)
        self._task = connection.loop.create_task(self._pump())

    @property
    def last_error(self) -> BaseException | None:
        """Why the stream was lost, most recently."""
        return self._stream.last_error

    async def live(self) -> None:
        """Waits until replies are received.

        Raises:
          grpc.RpcError: the stream cannot be opened.
        """
        await asyncio.shield(self._opened)
        await self._stream.wait_live()

    @contextmanager
    def waiting(self, correlation_id: str, accepts: _Accepts) -> Iterator[asyncio.Future[PubsubEvent]]:
        """Gives the future of the first event with that correlation id which is accepted."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        future: asyncio.Future[PubsubEvent] = self._connection.loop.create_future()
        entry = (future, accepts)
        self._waiting.setdefault(correlation_id, []).append(entry)
        try:
            yield future
        finally:
            entries = self._waiting[correlation_id]
            entries.remove(entry)
            if not entries:
                del self._waiting[correlation_id]
            future.cancel()
            if not self._waiting and not self._task.done():
                self._expiry = self._connection.loop.call_later(IDLE_SECONDS, self._end)

    async def _pump(self) -> None:
        failure: BaseException = RuntimeError(f"the client was closed while it waited for a reply on {self.topic!r}")
        try:
            await self._stream.open()
            self._opened.set_result(None)
            while (event := await self._stream.next()) is not None:
                for future, accepts in self._waiting.get(event.correlation_id, ()):
                    if not future.done() and accepts(event):
                        future.set_result(event)
        except grpc.RpcError as error:
            failure = error
        finally:
            self._end()
            replies = [reply for entries in self._waiting.values() for reply, _ in entries]
            waited_for: list[asyncio.Future[Any]] = [self._opened, *replies]
            for future in waited_for:
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # Whoever waits will be told; nobody has to.

    def _end(self) -> None:
        if self._connection.replies.get(self.topic) is self:
            del self._connection.replies[self.topic]
        self._connection.open.discard(self)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._stream.cancel()

    async def aclose(self) -> None:
        """Ends the stream; requests that wait for a reply fail."""
        self._end()
        await asyncio.wait((self._task,))
