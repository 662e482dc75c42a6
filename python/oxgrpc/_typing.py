"""The types that signatures of both APIs are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union

RequestType = TypeVar("RequestType")
ResponseType = TypeVar("ResponseType")

# Type variables with defaults (PEP 696) are for type checkers: Python has them since 3.13.
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    # A method handler without type arguments handles anything.
    HandledRequest = _TypeVar("HandledRequest", default=Any)
    HandledResponse = _TypeVar("HandledResponse", default=Any)
    # What has no serializer or deserializer is bytes.
    Serialized = _TypeVar("Serialized", default=bytes)
    Deserialized = _TypeVar("Deserialized", default=bytes)
else:
    HandledRequest = TypeVar("HandledRequest")
    HandledResponse = TypeVar("HandledResponse")
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
