"""The handle of a subscription whose events go to a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any

import grpc

from ._calls import Connection
from ._events import Gap
from ._handlers import Dispatcher
from ._streams import EventStream


class Subscription:
    """Events go to a handler until this is cancelled, the client is closed or the gateway ends it.

    It may be dropped: the subscription goes on. ``await subscription`` waits for its end.
    """

    def __init__(self, connection: Connection, dispatcher: Dispatcher, streams: Sequence[EventStream[Any]]) -> None:
        self._connection = connection
        self._dispatcher = dispatcher
        self._streams = tuple(streams)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def open(self) -> Subscription:
        """Opens the streams; all are live when this returns.

        Raises:
          grpc.RpcError: one of them cannot be opened; then none is.
        """
        try:
            await asyncio.gather(*(stream.open() for stream in self._streams))
        except BaseException:
            await asyncio.gather(*(stream.aclose() for stream in self._streams))
            raise
        self._tasks = tuple(self._connection.loop.create_task(self._pump(stream)) for stream in self._streams)
        self._connection.open.add(self)
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    def _ended(self, _: object) -> None:
        if all(task.done() for task in self._tasks):
            self._connection.open.discard(self)

    async def _pump(self, stream: EventStream[Any]) -> None:
        try:
            while (event := await stream.next()) is not None:
                await self._dispatcher.event(event)
        except grpc.RpcError as error:
            await self._dispatcher.error(error)
        finally:
            stream.cancel()

    @property
    def id(self) -> str:
        """The id at the gateway, which ``unsubscribe_async`` takes; of several topics, the first one's."""
        return self.ids[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids at the gateway, one a stream. A reconnected stream has another one; a lost one's is empty."""
        return tuple(stream.id for stream in self._streams)

    @property
    def topics(self) -> tuple[str, ...]:
        """What is subscribed to; empty for all topics."""
        return tuple(topic for stream in self._streams for topic in stream.topics)

    @property
    def live(self) -> bool:
        """Whether all streams deliver events now."""
        return all(stream.live for stream in self._streams)

    @property
    def closed(self) -> bool:
        """Whether no event will come any more."""
        return all(stream.closed for stream in self._streams)

    @property
    def reconnects(self) -> int:
        """How often a stream was lost and resumed."""
        return sum(stream.reconnects for stream in self._streams)

    @property
    def last_gap(self) -> Gap | None:
        """The latest time without a stream, ``None`` if there was none."""
        gaps = [stream.last_gap for stream in self._streams if stream.last_gap is not None]
        return max(gaps, key=lambda gap: gap.ended, default=None)

    def cancel(self) -> None:
        """Ends the subscription, from any thread."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._connection.loop:
            self._cancel()
        elif not self._connection.loop.is_closed():
            self._connection.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for stream in self._streams:
            stream.cancel()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:  # A handler may cancel its own subscription.
                task.cancel()

    async def aclose(self) -> None:
        """Ends the subscription, and waits until its handler has returned."""
        self._cancel()
        self._connection.open.discard(self)
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        if others:
            await asyncio.wait(others)

    async def wait(self) -> None:
        """Waits for the end of the subscription. A cancelled wait leaves it alone."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "reconnecting"
        ids = ", ".join(filter(None, self.ids)) or "none"
        return f"<Subscription to {', '.join(self.topics) or 'all topics'}, {state}, id {ids}>"
