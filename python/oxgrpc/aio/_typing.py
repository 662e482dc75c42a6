"""The types that signatures of the asynchronous API are made of."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Any, Union

from .._typing import Deserialized as Deserialized
from .._typing import DeserializingFunction as DeserializingFunction
from .._typing import RequestType as RequestType
from .._typing import ResponseType as ResponseType
from .._typing import Serialized as Serialized
from .._typing import SerializingFunction as SerializingFunction
from ._errors import EOFType as EOFType
from ._metadata import Metadata as Metadata
from ._metadata import MetadataKey as MetadataKey
from ._metadata import MetadataType as MetadataType
from ._metadata import MetadataValue as MetadataValue
from ._metadata import MetadatumType as MetadatumType

ChannelArgumentType = Sequence[tuple[str, Any]]
DoneCallbackType = Callable[[Any], None]
RequestIterableType = Union[AsyncIterable[RequestType], Iterable[RequestType]]
ResponseIterableType = AsyncIterable[ResponseType]
