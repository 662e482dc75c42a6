"""Events, as pub/sub and the gateway's event stream deliver them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._errors import brief
from .gateway_pb2 import TopicEventRequest
from .pubsub_pb2 import PubsubSubscribeResponse

#: Topic of the events that tell of saved and deleted state.
STATE_CHANGES = "state-changes"

_OUR_SOURCE = re.compile(r"urn:com\.virtufin\.([^:/]+)\Z")

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
    #: The service that the event is about or comes from; empty if there is none.
    service: str = ""

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

    def __repr__(self) -> str:
        data = repr(self.data[:_SHOWN]) + ("..." if len(self.data) > _SHOWN else "")
        return f"{type(self).__name__}(topic={self.topic!r}, data={data}, message_id={self.message_id!r})"


@dataclass(frozen=True, repr=False)
class StreamEvent(PubsubEvent):
    """An event of the gateway's event stream, which carries no metadata and no timestamp."""

    #: The CloudEvents type.
    event_type: str = ""
    #: The CloudEvents source.
    source: str = ""
    #: The media type of the data.
    data_content_type: str = ""
    #: The pub/sub component.
    pubsub_name: str = ""

    def __repr__(self) -> str:
        data = repr(self.data[:_SHOWN]) + ("..." if len(self.data) > _SHOWN else "")
        return (
            f"StreamEvent(service={self.service!r}, topic={self.topic!r}, event_type={self.event_type!r}, data={data}, "
            f"message_id={self.message_id!r})"
        )


@dataclass(frozen=True)
class Gap:
    """A time without a stream: events of that time are missing, because nothing is replayed."""

    #: What was subscribed to; empty for all topics.
    topics: tuple[str, ...]
    #: When the stream was lost, and when it was live again; in UTC.
    started: datetime
    ended: datetime
    #: Why it was lost.
    cause: BaseException | None
    #: The last event before the gap; empty if there was none.
    last_message_id: str

    @property
    def seconds(self) -> float:
        """How long the gap was."""
        return (self.ended - self.started).total_seconds()

    def __str__(self) -> str:
        what = ", ".join(self.topics) or "all topics"
        since = f"for {self.seconds:.3f} s from {self.started.isoformat()}"
        return f"events of {what} are missing {since}: {brief(self.cause)}"


def _service_of(topic: str, source: str, data: bytes, services: Collection[str]) -> str:
    first = topic.partition(".")[0]
    if first in services:
        return first
    if topic == STATE_CHANGES:
        try:
            named = json.loads(data)["service"]
        except (ValueError, TypeError, KeyError):
            named = None
        if isinstance(named, str):
            return named
    ours = _OUR_SOURCE.match(source)
    if ours is not None:
        return ours[1]
    return source if source in services else ""


def pubsub_event(message: PubsubSubscribeResponse, services: Collection[str]) -> PubsubEvent:
    """Returns what a message of ``Pubsub.Subscribe`` says; ``services`` are those known to be registered."""
    metadata = dict(message.metadata)
    return PubsubEvent(
        topic=message.topic,
        data=message.data,
        metadata=metadata,
        message_id=message.message_id,
        timestamp=message.timestamp,
        service=_service_of(message.topic, metadata.get("ce-source", ""), message.data, services),
    )


def stream_event(message: TopicEventRequest, services: Collection[str]) -> StreamEvent:
    """Returns what a message of ``Gateway.Subscribe`` says; ``services`` are those known to be registered."""
    return StreamEvent(
        topic=message.topic,
        data=message.data,
        message_id=message.id,
        service=_service_of(message.topic, message.source, message.data, services),
        event_type=message.type,
        source=message.source,
        data_content_type=message.data_content_type,
        pubsub_name=message.pubsub_name,
    )
