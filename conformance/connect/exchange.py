"""What the client and the server program share: the suite's messages on stdin and stdout, and its headers and errors
(docs/testing_clients.md and docs/testing_servers.md of the suite).
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import sys
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

SERVICE_PROTO = "connectrpc.conformance.v1.service"
STATUS_DETAILS = "grpc-status-details-bin"
_LENGTH_BYTES = 4

# Its package has no types.
status_pb2: Any = importlib.import_module("google.rpc.status_pb2")

Pairs = list[tuple[str, "str | bytes"]]


async def open_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    return reader


async def read(reader: asyncio.StreamReader, kind: type[Message]) -> Any:
    """The next message; `None` at the end of the input."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return kind.FromString(await reader.readexactly(length))


def write(message: Message) -> None:
    content = message.SerializeToString()
    sys.stdout.buffer.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    sys.stdout.buffer.flush()


def to_pairs(headers: Iterable[Any]) -> Pairs:
    """Metadata for the suite's headers. Binary values are base64 there."""
    return [
        (key, base64.b64decode(value + "==") if key.endswith("-bin") else value)
        for key, values in ((header.name.lower(), header.value) for header in headers)
        for value in values
    ]


def to_headers(header: type[Any], metadata: Iterable[tuple[str, str | bytes]]) -> list[Any]:
    """The suite's headers for metadata: one for each key."""
    values: dict[str, list[str]] = {}
    for key, value in metadata:
        text = value if isinstance(value, str) else base64.b64encode(value).decode().rstrip("=")
        values.setdefault(key, []).append(text)
    return [header(name=name, value=value) for name, value in values.items()]


def to_details(error: Any) -> Pairs:
    """The trailing metadata that carries the details of the suite's error."""
    status = status_pb2.Status(code=error.code, message=error.message, details=error.details)
    return [(STATUS_DETAILS, status.SerializeToString())]


def from_details(metadata: Iterable[tuple[str, str | bytes]]) -> list[Any]:
    """The details of an error, out of trailing metadata."""
    for key, value in metadata:
        if key == STATUS_DETAILS and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []
