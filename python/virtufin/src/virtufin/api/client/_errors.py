"""What the client raises beside ``grpc.RpcError``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc.aio


def brief(error: BaseException | None) -> str:
    """Returns an exception in one line; of a failed call, its code and details."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return repr(error)


class GatewayError(ValueError):
    """The call reached the gateway, which reports that it failed: an unknown service, a backend's error, and so on.

    Attributes:
      status: the status word, such as ``NOT_FOUND``, ``INVALID_REQUEST``, ``UNSUPPORTED`` or ``UNAVAILABLE``.
      message: what the gateway or the backend says about it.
      operation: what was called, as ``service.Method``.
      suggestions: names that exist and resemble the unknown one.
      details: the details of the backend's error, as dicts.
    """

    def __init__(
        self,
        operation: str,
        status: str,
        message: str,
        suggestions: Iterable[str] = (),
        details: Iterable[dict[str, Any]] = (),
    ) -> None:
        self.operation = operation
        self.status = status or "UNKNOWN"
        self.message = message
        self.suggestions = tuple(suggestions)
        self.details = tuple(details)
        super().__init__(operation, status, message, self.suggestions, self.details)

    def __str__(self) -> str:
        text = f"{self.operation}: {self.status}"
        if self.message:
            text += f": {self.message}"
        if self.suggestions:
            text += f" (did you mean {' or '.join(map(repr, self.suggestions))}?)"
        return text
