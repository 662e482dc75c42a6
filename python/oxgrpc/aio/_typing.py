"""The types that signatures of the asynchronous API are made of."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Any, TypeVar, Union

from ._errors import EOFType as EOFType
from ._metadata import Metadata as Metadata
from ._metadata import MetadataKey as MetadataKey
from ._metadata import MetadataType as MetadataType
from ._metadata import MetadataValue as MetadataValue
from ._metadata import MetadatumType as MetadatumType

RequestType = TypeVar("RequestType")
ResponseType = TypeVar("ResponseType")
SerializingFunction = Callable[[Any], bytes]
DeserializingFunction = Callable[[bytes], Any]
ChannelArgumentType = Sequence[tuple[str, Any]]
DoneCallbackType = Callable[[Any], None]
RequestIterableType = Union[AsyncIterable[RequestType], Iterable[RequestType]]
ResponseIterableType = AsyncIterable[ResponseType]
