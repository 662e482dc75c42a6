"""Events, as pub/sub and the gateway's event stream deliver them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from ._errors import brief
from .gateway_pb2 import TopicEventRequest
from .pubsub_pb2 import PubsubSubscribeResponse

_OUR_SOURCE = re.compile(r"urn:com\.virtufin\.([^:/]+)\Z")

#: In an event's metadata: how many events were dropped before it.
DROPPED_EVENTS = "droppedevents"

#: Characters of data that a repr shows.
_SHOWN = 60


@dataclass(frozen=True, repr=False)
class PubsubEvent:
    """An event of a topic."""

    topic: str
    #: The payload, octet by octet as published.
    data: bytes = b""
    #: CloudEvents extension attributes and ``ce-*`` entries; ``correlationid`` names the request that a reply answers.
    metadata: dict[str, str] = field(default_factory=dict)
    #: Unique for each event.
    message_id: str = ""
    #: When it was published, as ISO 8601 text in UTC; empty if the stream does not say.
    timestamp: str = ""
    #: Names of services that are known to be registered.
    _services: Collection[str] = field(default=(), compare=False)

    def data_as_text(self, errors: str = "strict") -> str:
        """Decodes the data as UTF-8. ``errors`` is what ``bytes.decode`` takes."""
        return self.data.decode("utf-8", errors)

    def data_as_json(self) -> Any:
        """Parses the data as JSON.

        Raises:
          ValueError: it is not JSON.
        """
        return json.loads(self.data)

    @property
    def correlation_id(self) -> str:
        """The id of the request that this event answers, or that its answer has to carry; empty if there is none."""
        return self.metadata.get("correlationid", "")

    @property
    def source(self) -> str:
        """The CloudEvents source, who published it; empty if unknown."""
        return self.metadata.get("ce-source", "")

    @property
    def event_type(self) -> str:
        """The CloudEvents type; empty if unknown."""
        return self.metadata.get("ce-type", "")

    @property
    def dropped(self) -> int:
        """How many events the gateway dropped before this one, because this subscriber fell behind."""
        count = self.metadata.get(DROPPED_EVENTS, "0")
        return int(count) if count.isdecimal() else 0

    @cached_property
    def service(self) -> str:
        """The service that the event is about or comes from; empty if there is none.

        It is the topic's first part if that is a registered service, else what the payload calls ``service``, else that
        of the source.
        """
        first, dot, _ = self.topic.partition(".")
        if dot and first in self._services:
            return first
        ours = _OUR_SOURCE.match(self.source)
        return self._service_of_payload() or (ours[1] if ours else "")

    def _service_of_payload(self) -> str:
        if not self.data.startswith(b"{"):
            return ""
        try:
            service = json.loads(self.data).get("service")
        except ValueError:
            return ""
        return service if isinstance(service, str) else ""

    def _shown_data(self) -> str:
        return repr(self.data[:_SHOWN]) + ("..." if len(self.data) > _SHOWN else "")

    def __repr__(self) -> str:
        return f"PubsubEvent(topic={self.topic!r}, data={self._shown_data()}, message_id={self.message_id!r})"


@dataclass(frozen=True, repr=False)
class StreamEvent(PubsubEvent):
    """An event of the gateway's event stream, which carries no timestamp."""

    #: The CloudEvents type.
    event_type: str = ""
    #: The CloudEvents source.
    source: str = ""
    #: The media type of the data.
    data_content_type: str = ""
    #: The pub/sub component.
    pubsub_name: str = ""

    def __repr__(self) -> str:
        return (
            f"StreamEvent(service={self.service!r}, topic={self.topic!r}, event_type={self.event_type!r}, "
            f"data={self._shown_data()}, message_id={self.message_id!r})"
        )


@dataclass(frozen=True)
class Gap:
    """Events that a subscription did not receive: the stream was lost for a time, or the subscriber fell behind.

    Nothing is replayed.
    """

    #: What was subscribed to; empty for all topics.
    topics: tuple[str, ...]
    #: When the last event came or the stream was lost, and when the stream went on; in UTC.
    started: datetime
    ended: datetime
    #: Why the stream was lost; ``None`` if it was not.
    cause: BaseException | None
    #: The last event before the gap; empty if there was none.
    last_message_id: str
    #: How many events are missing; ``None`` if that is unknown, as it is for a lost stream.
    dropped: int | None = None

    @property
    def seconds(self) -> float:
        """How long the gap was."""
        return (self.ended - self.started).total_seconds()

    def __str__(self) -> str:
        what = ", ".join(self.topics) or "all topics"
        since = f"{self.seconds:.3f} s from {self.started.isoformat()}"
        if self.dropped is not None:
            return f"{self.dropped} events of {what} were dropped within {since}: the subscriber fell behind"
        return f"events of {what} are missing for {since}: {brief(self.cause)}"


def pubsub_event(message: PubsubSubscribeResponse, services: Collection[str]) -> PubsubEvent:
    """Returns what a message of ``Pubsub.Subscribe`` says; ``services`` are those known to be registered."""
    return PubsubEvent(
        topic=message.topic,
        data=message.data,
        metadata=dict(message.metadata),
        message_id=message.message_id,
        timestamp=message.timestamp,
        _services=services,
    )


def stream_event(message: TopicEventRequest, services: Collection[str]) -> StreamEvent:
    """Returns what a message of ``Gateway.Subscribe`` says; ``services`` are those known to be registered."""
    return StreamEvent(
        topic=message.topic,
        data=message.data,
        metadata=dict(message.metadata),
        message_id=message.id,
        event_type=message.type,
        source=message.source,
        data_content_type=message.data_content_type,
        pubsub_name=message.pubsub_name,
        _services=services,
    )
