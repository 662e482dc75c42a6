"""A server's stream of events as an asynchronous iterator, which resumes if asked to.

    opening --live--> live --lost--> waiting --back-off--> opening again
       |               |               |
       +---------------+---------------+--> closed: aclose(), the server's OK, or a failure that is final

Without ``reconnect`` a lost stream raises its RpcError and is closed. A stream that the server ends with OK was
unsubscribed: its iteration ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from ._calls import Connection, before, cancelled_from_outside
from ._events import Gap, PubsubEvent

Event = TypeVar("Event", bound=PubsubEvent)

#: Seconds that opening waits for the server's word that the subscription is live. Servers that send no initial metadata
#: before the first event are believed after that.
LIVE_TIMEOUT_SECONDS = 3.0

#: Back-off between attempts to resume, in seconds: doubled each time, with a jitter of a fifth.
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0

#: How many of the latest ids are remembered, so that no event is delivered twice around a reconnection.
REMEMBERED_IDS = 1_024

#: Codes that trying again does not cure.
FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)


async def _ignore(_: object) -> None: ...


class EventStream(Generic[Event]):
    """Events as they come. Leave it with :meth:`aclose`, or use it in ``async with``.

    Cancelling a task that waits for an event, by ``asyncio.wait_for`` for example, loses none: iterate on.
    """

    def __init__(
        self,
        connection: Connection,
        start: Callable[[], grpc.aio.UnaryStreamCall[Any, Any]],
        convert: Callable[[Any], Event],
        *,
        topics: Iterable[str] = (),
        reconnect: bool = False,
        on_error: Callable[[BaseException], Awaitable[None]] = _ignore,
        on_gap: Callable[[Gap], Awaitable[None]] = _ignore,
    ) -> None:
        self.topics = tuple(topics)
        #: The subscription's id at the server, which ``unsubscribe_async`` takes; another one after a reconnection.
        self.id = ""
        #: Times that the stream was resumed, and the latest of the gaps that this left.
        self.reconnects = 0
        self.last_gap: Gap | None = None
        #: Why the stream was lost, most recently.
        self.last_error: BaseException | None = None
        self._connection = connection
        self._start_call = start
        self._convert = convert
        self._reconnect = reconnect
        self._on_error = on_error
        self._on_gap = on_gap
        self._call: grpc.aio.UnaryStreamCall[Any, Any] | None = None
        #: A message that was read while the stream was opened.
        self._first: list[Any] = []
        self._live = asyncio.Event()
        self._closing = asyncio.Event()
        self._reading: asyncio.Future[Event | None] | None = None
        self._last_id = ""
        #: When something was delivered, or the stream was opened.
        self._moved = datetime.now(timezone.utc)
        self._recent: deque[str] = deque(maxlen=REMEMBERED_IDS)
        #: Ids that a resumed stream does not deliver again.
        self._delivered: frozenset[str] = frozenset()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closing.is_set()

    @property
    def live(self) -> bool:
        """Whether events are delivered now: not before it is open, and not while the connection is lost."""
        return self._live.is_set()

    async def open(self) -> EventStream[Event]:
        """Subscribes; the subscription is live when this returns.

        Raises:
          grpc.RpcError: the gateway refuses, or cannot be reached.
        """
        opening = self._connection.loop.create_future()
        self._connection.opening[opening] = frozenset(self.topics)
        self._connection.open.add(self)
        try:
            await self._start()
        except BaseException:
            self.cancel()
            raise
        finally:
            del self._connection.opening[opening]
            opening.set_result(None)
        return self

    async def wait_live(self) -> None:
        """Waits until events are delivered, or nothing will be any more."""
        if self.live or self.closed:
            return
        live, closing = (asyncio.ensure_future(event.wait()) for event in (self._live, self._closing))
        try:
            await asyncio.wait((live, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            live.cancel()
            closing.cancel()

    async def _start(self) -> None:
        self._call = call = self._start_call()
        deadline = self._connection.loop.time() + LIVE_TIMEOUT_SECONDS
        try:
            metadata = dict(await before(deadline, call.initial_metadata()))
        except TimeoutError:
            metadata = {}
        except asyncio.CancelledError:
            if not self.closed or cancelled_from_outside():
                raise
        if self.closed:
            call.cancel()
            return
        self._first = [await call.read()] if call.done() else []
        identifier = metadata.get("subscription-id", "")
        self.id = identifier if isinstance(identifier, str) else identifier.decode()
        self._live.set()

    async def _resume(self, error: grpc.aio.AioRpcError) -> None:
        started, cause = datetime.now(timezone.utc), error
        self._live.clear()
        self.id = ""
        delay = FIRST_DELAY_SECONDS
        while not self.closed:
            self.last_error = error
            await self._on_error(error)
            pause = delay * random.uniform(0.8, 1.2)
            try:
                await before(self._connection.loop.time() + pause, self._closing.wait())
            except TimeoutError:
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            else:
                return
            try:
                await self._start()
            except grpc.aio.AioRpcError as again:
                if again.code() in FINAL:
                    raise
                error = again
                continue
            if self.closed:
                return
            self._delivered = frozenset(self._recent)
            self.reconnects += 1
            await self._report(started, cause, None)
            return

    async def _report(self, started: datetime, cause: BaseException | None, dropped: int | None) -> None:
        self._moved = datetime.now(timezone.utc)
        self.last_gap = Gap(self.topics, started, self._moved, cause, self._last_id, dropped)
        await self._on_gap(self.last_gap)

    async def _read(self) -> Any:
        if self._first:
            return self._first.pop()
        assert self._call is not None, "open() comes first"
        return await self._call.read()

    async def next(self) -> Event | None:
        """Waits for an event; ``None`` once the stream has ended. A cancelled wait ends the stream.

        Raises:
          grpc.RpcError: it is lost, and is not to be resumed or cannot be.
        """
        while not self.closed:
            try:
                message = await self._read()
            except grpc.aio.AioRpcError as error:
                if self.closed:
                    break
                try:
                    if not self._reconnect or error.code() in FINAL:
                        raise
                    await self._resume(error)
                except grpc.aio.AioRpcError:
                    self.cancel()
                    raise
                continue
            except asyncio.CancelledError:
                if self.closed and not cancelled_from_outside():
                    break
                self.cancel()
                raise
            if message is grpc.aio.EOF:
                self.cancel()
                break
            event = self._convert(message)
            # Some gateways probe their subscribers with events of nothing.
            if not event.topic and not event.data:
                continue
            if event.dropped:
                await self._report(self._moved, None, event.dropped)
            if event.message_id:
                if event.message_id in self._delivered:
                    continue
                self._recent.append(event.message_id)
                self._last_id = event.message_id
            self._moved = datetime.now(timezone.utc)
            return event
        return None

    def __aiter__(self) -> EventStream[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self.next())
        reading = self._reading
        try:
            event = await asyncio.shield(reading)
        finally:
            if reading.done():
                self._reading = None
        if event is None:
            raise StopAsyncIteration
        return event

    def cancel(self) -> None:
        """Ends the stream at once; the server forgets the subscription. For the thread of its loop."""
        self._closing.set()
        self._live.clear()
        self._connection.open.discard(self)
        if self._call is not None:
            self._call.cancel()

    async def aclose(self) -> None:
        """Ends the stream; an iteration that waits for an event ends, too."""
        self.cancel()
        reading = self._reading
        if reading is not None:
            await asyncio.wait((reading,))

    async def __aenter__(self) -> EventStream[Event]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "not live"
        return f"<EventStream of {', '.join(self.topics) or 'all topics'}, {state}, id {self.id!r}>"
