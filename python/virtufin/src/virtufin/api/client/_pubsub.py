"""Publishing, subscribing, and requests that are answered by an event."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio

from ._calls import UNSET, Connection, Connections, Timeout, before, connections_of
from ._errors import GatewayError, brief
from ._events import PubsubEvent, pubsub_event
from ._handlers import Callback, Dispatcher
from ._payload import payload, text_metadata
from ._replies import ReplyStream
from ._response import Response, status_response
from ._streams import LIVE_TIMEOUT_SECONDS, EventStream
from ._subscription import Subscription
from .pubsub_pb2 import PublishRequest, PubsubSubscribeRequest, UnsubscribeRequest

#: The metadata entry that ties a reply to its request.
CORRELATION_ID = "correlationid"


def names_of(what: str, names: Iterable[str] | None) -> tuple[str, ...]:
    """Returns names as a tuple; a single one, which would be taken for its letters, is refused."""
    if isinstance(names, str):
        raise TypeError(f"{what} is a list of names: write [{names!r}]")
    return tuple(names or ())


def _dispatcher(on_error: Callback | None, on_gap: Callback | None) -> dict[str, Callable[[Any], Awaitable[None]]]:
    """Returns the callbacks of a stream without a handler: those that were given, and silence for the others."""
    told = Dispatcher(lambda _: None, on_error, on_gap)
    return {
        name: call for name, call, given in (("on_error", told.error, on_error), ("on_gap", told.gap, on_gap)) if given
    }


class PubsubClient:
    """Pub/sub of the gateway: ``client.pubsub``, or of a ``grpc.aio`` channel to it."""

    def __init__(self, channel: grpc.aio.Channel | Connections) -> None:
        self._connections = connections_of(channel)

    async def publish_async(
        self,
        topic: str,
        data: Any,
        metadata: Mapping[str, str] | None = None,
        *,
        timeout: Timeout = UNSET,
    ) -> Response:
        """Publishes an event. Subscriptions that were begun before on this client and loop receive it.

        Args:
          data: text goes as UTF-8, bytes as they are, everything else as JSON with that content type.
          metadata: CloudEvents extension attributes; ``ce-id``, ``ce-type`` and so on set the event's own.
          timeout: seconds; ``None`` for no deadline.

        Returns:
          ``{"success": bool, "status": str, "message": str}``.

        Raises:
          grpc.RpcError: the call failed.
          TypeError: the metadata is not text, or the data has no JSON form.
        """
        attributes = text_metadata(metadata)
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            attributes.setdefault("ce-datacontenttype", "application/json")
        request = PublishRequest(topic=topic, data=payload(data), metadata=attributes)
        connection = self._connections.current()
        await self._subscribed(connection, topic)
        response = await connection.call(connection.pubsub.PublishEvent, request, timeout)
        return status_response(response.status)

    async def _subscribed(self, connection: Connection, topic: str) -> None:
        """Waits for subscriptions to the topic that are being opened, by tasks that were just created, too."""
        await asyncio.sleep(0)
        opening = [future for future, topics in connection.opening.items() if not topics or topic in topics]
        if opening:
            await asyncio.wait(opening, timeout=LIVE_TIMEOUT_SECONDS)

    def _stream(self, topic: str, **options: Any) -> EventStream[PubsubEvent]:
        connection, services = self._connections.current(), self._connections.services
        request = PubsubSubscribeRequest(topic=topic)
        return EventStream(
            connection,
            lambda: connection.pubsub.Subscribe(request, metadata=connection.metadata(None)),
            lambda message: pubsub_event(message, services),
            topics=(topic,),
            **options,
        )

    async def subscribe_async(
        self,
        topic: str,
        *,
        reconnect: bool = False,
        on_error: Callback | None = None,
        on_gap: Callback | None = None,
    ) -> EventStream[PubsubEvent]:
        """Subscribes to a topic, and returns its events as an asynchronous iterator with an ``id``.

        Args:
          reconnect: whether to resume a stream that is lost, rather than raise its ``grpc.RpcError``.
          on_error: is called with each failure that leads to a reconnection.
          on_gap: is called with a :class:`Gap` when the stream is live again.

        Raises:
          grpc.RpcError: the gateway refuses, or cannot be reached.
        """
        return await self._stream(topic, reconnect=reconnect, **_dispatcher(on_error, on_gap)).open()

    async def subscribe_async_iter(
        self,
        topic: str,
        *,
        reconnect: bool = False,
        on_error: Callback | None = None,
        on_gap: Callback | None = None,
    ) -> AsyncGenerator[PubsubEvent, None]:
        """Yields the events of a topic. Cancelling the task or closing the generator unsubscribes.

        Takes and raises what :meth:`subscribe_async` does; a lost connection raises its ``grpc.RpcError`` unless
        ``reconnect`` is set.
        """
        stream = self._stream(topic, reconnect=reconnect, **_dispatcher(on_error, on_gap))
        try:
            await stream.open()
            while (event := await stream.next()) is not None:
                yield event
        finally:
            await stream.aclose()

    async def subscribe_async_with_handler(
        self,
        on_event: Any,
        topics: Iterable[str] | None = None,
        *,
        on_error: Callback | None = None,
        on_gap: Callback | None = None,
        reconnect: bool = True,
    ) -> Subscription:
        """Subscribes to topics, one stream each, and calls ``on_event(event)`` with what comes, in the background.

        Args:
          on_event: a function or coroutine function, or an object with ``on_event`` and, if it likes, ``on_error``
            and ``on_gap``. An exception that it raises goes to ``on_error``; the stream goes on.
          topics: the topics.
          on_error: is called with each failure; without it they are logged.
          on_gap: is called with a :class:`Gap` when a lost stream is live again.
          reconnect: whether lost streams are resumed.

        Returns:
          A handle, once all streams are live: ``cancel()`` ends them.

        Raises:
          grpc.RpcError: the gateway refuses, or cannot be reached.
        """
        names = names_of("topics", topics)
        if not names:
            raise ValueError("topics names at least one topic; ApiClient.subscribe_async_with_handler takes all events")
        dispatcher = Dispatcher(on_event, on_error, on_gap)
        told = {"reconnect": reconnect, "on_error": dispatcher.error, "on_gap": dispatcher.gap}
        streams = [self._stream(topic, **told) for topic in dict.fromkeys(names)]
        return await Subscription(self._connections.current(), dispatcher, streams).open()

    async def unsubscribe_async(self, subscription_id: str, *, timeout: Timeout = UNSET) -> Response:
        """Ends the subscription with that id, which ``EventStream.id`` and ``Subscription.id`` tell.

        Returns:
          ``{"success": bool, "status": str, "message": str}``; ``NOT_FOUND`` if there is none.
        """
        connection = self._connections.current()
        request = UnsubscribeRequest(subscription_id=subscription_id)
        response = await connection.call(connection.pubsub.Unsubscribe, request, timeout)
        return status_response(response.status)

    async def publish_with_result_async(
        self,
        topic: str,
        data: Any,
        reply_topic: str,
        timeout: float | None = 30.0,
        metadata: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> PubsubEvent:
        """Publishes a request and waits for the event on ``reply_topic`` that carries its correlation id.

        The responder copies ``correlationid`` from the request's metadata into the reply's. The reply topic's stream is
        live before the request is published, and is shared by all requests that wait on that topic.

        Args:
          data, metadata: as :meth:`publish_async` takes them.
          timeout: seconds for all of it; ``None`` waits for ever.
          correlation_id: a fresh UUID if it is left out.

        Raises:
          TimeoutError: no reply has come in time.
          GatewayError: the gateway did not publish the request.
          grpc.RpcError: a call failed.
        """
        identifier = str(uuid.uuid4()) if correlation_id is None else correlation_id
        attributes = {**text_metadata(metadata), CORRELATION_ID: identifier}
        own_id, body = "", payload(data)
        if topic == reply_topic:
            # The request comes back to where the reply is waited for: it is told apart by its id.
            own_id = attributes.setdefault("ce-id", str(uuid.uuid4()))

        def is_reply(event: PubsubEvent) -> bool:
            return not (own_id and event.message_id == own_id and event.data == body)

        connection = self._connections.current()
        deadline = None if timeout is None else connection.loop.time() + timeout
        replies = connection.replies.get(reply_topic)
        if replies is None:
            replies = ReplyStream(connection, reply_topic, lambda **options: self._stream(reply_topic, **options))
        with replies.waiting(identifier, is_reply) as reply:
            try:
                await before(deadline, replies.live())
                published = await before(deadline, self.publish_async(topic, data, attributes, timeout=None))
                if not published["success"]:
                    raise GatewayError(f"publish to {topic}", published["status"], published["message"])
                return await before(deadline, reply)
            except TimeoutError as error:
                text = f"no reply to {identifier} on {reply_topic!r} within {timeout} s"
                if replies.last_error is not None:
                    text += f"; the reply stream was lost meanwhile: {brief(replies.last_error)}"
                raise TimeoutError(text) from error

    def __repr__(self) -> str:
        return f"<PubsubClient of {self._connections.settings.target or 'a channel'}>"
