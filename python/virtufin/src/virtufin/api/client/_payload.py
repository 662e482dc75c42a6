"""What callers pass as data, turned into what goes on the wire."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Union

from google.protobuf import json_format
from google.protobuf.message import Message

from ._response import Response

BytesLike = Union[bytes, bytearray, memoryview]


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()  # Protobuf JSON's form of a bytes field.
    if isinstance(value, Message):
        return json_format.MessageToDict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def to_json(value: Any) -> str:
    """Returns a value as JSON; bytes in it as base64, protobuf messages as protobuf JSON.

    Raises:
      TypeError: something in it has no JSON form.
      ValueError: a number in it is infinite or NaN, which JSON cannot express.
    """
    return json.dumps(value, default=_default, ensure_ascii=False, allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """Parses JSON; its objects are :class:`Response`."""
    return json.loads(text, object_hook=Response)


def request_json(request: Any) -> str:
    """Returns a request message, a mapping, protobuf message, JSON text or ``None`` for an empty one, as JSON."""
    if request is None:
        return "{}"
    if isinstance(request, str):
        return request
    if isinstance(request, (Mapping, Message)):
        return to_json(request)
    if isinstance(request, (bytes, bytearray, memoryview)):
        raise TypeError("a request as bytes is a serialized message: pass it to invoke_raw_async")
    raise TypeError(f"a request is a dict, not {type(request).__name__}: {request!r}")


def payload(data: Any) -> bytes:
    """Returns an event's data: text as UTF-8, bytes as they are, everything else as JSON."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    return to_json(data).encode()


def text_value(value: Any) -> str:
    """Returns a value of the state: text as it is, bytes as the UTF-8 that they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the state keeps text, and these bytes are not UTF-8: {error}; encode them first"
            ) from error
    return to_json(value)


def text_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Returns an event's metadata.

    Raises:
      TypeError: a key or a value is not text. It would be lost on the way, so it is refused here.
    """
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"metadata is text: {key!r} is {value!r}, so write {str(key)!r}: {str(value)!r} if that is meant"
            )
    return dict(metadata or {})
