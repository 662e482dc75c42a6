"""What the tests of retries and of hedging share: service configs, and calls of each kind with the same requests."""

from __future__ import annotations

import json
from typing import Any

import echo

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
REQUESTS = [b"2", b"second", b"third"]

#: What the default handlers answer to the requests.
RESPONSES = {
    "UnaryUnary": [b"2"],
    "UnaryStream": [b"0", b"1"],
    "StreamUnary": [b"2secondthird"],
    "StreamStream": REQUESTS,
}


def service_config(policy: dict[str, Any], throttling: Any) -> tuple[str, Any]:
    """The channel option that gives all methods a policy."""
    config = {"methodConfig": [{"name": [{}], **policy}], "retryThrottling": throttling}
    return ("grpc.service_config", json.dumps(config))


def start(service: echo.Service, kind: str, **more: Any) -> Any:
    """Starts a call with all requests that its kind takes."""
    methods = {
        "UnaryUnary": service.unary_unary,
        "UnaryStream": service.unary_stream,
        "StreamUnary": service.stream_unary,
        "StreamStream": service.stream_stream,
    }
    return methods[kind](REQUESTS[0] if kind.startswith("Unary") else iter(REQUESTS), **more)


async def responses(kind: str, call: Any) -> list[bytes]:
    """All responses of a call."""
    return [await call] if kind.endswith("Unary") else [response async for response in call]
