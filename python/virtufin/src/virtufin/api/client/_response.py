"""JSON of the gateway as dicts that answer to both spellings of a field's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_AFTER_UNDERSCORE = re.compile(r"_+(.?)")
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


def _twin(key: str) -> str:
    """Returns the lowerCamelCase twin of a snake_case name, and the other way about."""
    if "_" in key:
        return _AFTER_UNDERSCORE.sub(lambda match: match[1].upper(), key)
    return _CAPITAL.sub(r"_\1", key).lower()


class Response(dict[str, Any]):
    """A JSON object of the gateway. A key that is not there stands for its other spelling, if that is.

    Protobuf JSON spells ``mime_type`` as ``mimeType``: here ``response["mime_type"]`` and ``response["mimeType"]`` are
    the same entry, in nested objects too. Iterating, printing and comparing show the keys as they were received.
    """

    def _present(self, key: Any) -> Any:
        if not dict.__contains__(self, key) and isinstance(key, str):
            twin = _twin(key)
            if dict.__contains__(self, twin):
                return twin
        return key

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, self._present(key))

    def __missing__(self, key: str) -> Any:
        twin = self._present(key)
        if twin == key:
            raise KeyError(key)
        return dict.__getitem__(self, twin)

    def __setitem__(self, key: str, value: Any) -> None:
        dict.__setitem__(self, self._present(key), value)

    def __delitem__(self, key: str) -> None:
        dict.__delitem__(self, self._present(key))

    def get(self, key: str, default: Any = None) -> Any:
        return dict.get(self, self._present(key), default)

    def pop(self, key: str, *default: Any) -> Any:
        return dict.pop(self, self._present(key), *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        return dict.setdefault(self, self._present(key), default)

    def copy(self) -> Response:
        return Response(self)


def status_response(status: Any, **more: Any) -> Response:
    """Returns a ``StatusResponse`` message as ``{"success", "status", "message"}`` and what else is given."""
    return Response(success=status.success, status=status.status, message=status.message, **more)


def deep(value: Any) -> Any:
    """Returns a JSON value whose objects are responses."""
    if isinstance(value, Mapping):
        return Response((key, deep(member)) for key, member in value.items())
    if isinstance(value, list):
        return [deep(member) for member in value]
    return value
