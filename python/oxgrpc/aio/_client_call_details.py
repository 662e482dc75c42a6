"""What a client interceptor is told of a call."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._base_interceptor import ClientCallDetails as AbstractClientCallDetails
from ._metadata import Metadata


class _ClientCallDetails(NamedTuple):
    method: bytes
    timeout: float | None
    metadata: Metadata | None
    credentials: Any
    wait_for_ready: bool | None


class ClientCallDetails(_ClientCallDetails, AbstractClientCallDetails):  # type: ignore[misc]
    """A call that is about to be started. A named tuple, because interceptors use ``_replace``.

    Attributes:
      method: ``b"/package.Service/Method"``.
      timeout: seconds that the call may take, counted from when it is started; ``None`` for no limit.
      metadata: what is sent with the call.
      credentials: the call's credentials.
      wait_for_ready: whether the call waits while the server cannot be reached.
    """
