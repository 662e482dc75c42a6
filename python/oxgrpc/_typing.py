"""The types that signatures of both APIs are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Classes without type arguments are classes of anything (PEP 696).
    RequestType = TypeVar("RequestType", default=Any)
    ResponseType = TypeVar("ResponseType", default=Any)
    # A channel's methods take and give bytes, unless a serializer or deserializer says otherwise.
    Serialized = TypeVar("Serialized", default=bytes)
    Deserialized = TypeVar("Deserialized", default=bytes)
else:
    from typing import TypeVar

    RequestType = TypeVar("RequestType")
    ResponseType = TypeVar("ResponseType")
    Serialized = TypeVar("Serialized")
    Deserialized = TypeVar("Deserialized")

MetadatumType = tuple[str, Union[str, bytes]]
MetadataType = Sequence[MetadatumType]
SerializingFunction = Callable[[RequestType], bytes]
DeserializingFunction = Callable[[bytes], ResponseType]
ChannelArgumentType = tuple[str, Any]
DoneCallbackType = Callable[[Any], None]
NullaryCallbackType = Callable[[], None]
RequestIterableType = Iterable[RequestType]
ResponseIterableType = Iterable[ResponseType]
