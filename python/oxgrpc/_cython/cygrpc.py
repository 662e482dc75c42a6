"""The names of grpcio's native module that other packages take, each for what it is here.

What belongs to grpcio's C core (its completion queues, its channelz, its xDS) has no counterpart and says so.
"""

from __future__ import annotations

import enum

from .._metadatum import _Metadatum as _Metadatum
from .._native import ServicerContext as _ServicerContext
from ..aio._errors import EOF as EOF
from ..aio._errors import AbortError as AbortError
from ..aio._errors import BaseError as BaseError
from ..aio._errors import EOFType as _EOF
from ..aio._errors import InternalError as InternalError
from ..aio._errors import UsageError as UsageError
from ..aio._loop import init_grpc_aio as init_grpc_aio
from ..aio._loop import shutdown_grpc_aio as shutdown_grpc_aio
from ..aio._migration import SyncServicerContext as _SyncServicerContext

__all__ = (
    "EOF",
    "GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM",
    "GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY",
    "AbortError",
    "BaseError",
    "ChannelArgKey",
    "CompressionAlgorithm",
    "ConnectivityState",
    "InternalError",
    "StatusCode",
    "UsageError",
    "_EOF",
    "_Metadatum",
    "_ServicerContext",
    "_SyncServicerContext",
    "channelz_get_channel",
    "channelz_get_server",
    "channelz_get_server_sockets",
    "channelz_get_servers",
    "channelz_get_socket",
    "channelz_get_subchannel",
    "channelz_get_top_channels",
    "dump_xds_configs",
    "init_grpc_aio",
    "shutdown_grpc_aio",
)

GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM = "grpc.default_compression_algorithm"
GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY = "grpc-internal-encoding-request"


class StatusCode(enum.IntEnum):
    """The number of each status code."""

    ok = 0
    cancelled = 1
    unknown = 2
    invalid_argument = 3
    deadline_exceeded = 4
    not_found = 5
    already_exists = 6
    permission_denied = 7
    resource_exhausted = 8
    failed_precondition = 9
    aborted = 10
    out_of_range = 11
    unimplemented = 12
    internal = 13
    unavailable = 14
    data_loss = 15
    unauthenticated = 16


class ConnectivityState:
    """The number of each state of a channel."""

    idle = 0
    connecting = 1
    ready = 2
    transient_failure = 3
    shutdown = 4


class CompressionAlgorithm:
    """The number of each encoding of messages."""

    none = 0
    deflate = 1
    gzip = 2


class ChannelArgKey:
    """The names of channel arguments."""

    enable_census = b"grpc.census"
    max_concurrent_streams = b"grpc.max_concurrent_streams"
    max_receive_message_length = b"grpc.max_receive_message_length"
    max_send_message_length = b"grpc.max_send_message_length"
    http2_initial_sequence_number = b"grpc.http2.initial_sequence_number"
    default_authority = b"grpc.default_authority"
    primary_user_agent_string = b"grpc.primary_user_agent"
    secondary_user_agent_string = b"grpc.secondary_user_agent"
    ssl_session_cache = b"grpc.ssl_session_cache"
    ssl_target_name_override = b"grpc.ssl_target_name_override"


def _no_core(what: str) -> NotImplementedError:
    return NotImplementedError(f"{what} is a part of grpcio's C core, which oxgrpc does not have")


def channelz_get_top_channels(start_channel_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_channel(channel_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_subchannel(subchannel_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_socket(socket_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_servers(start_server_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_server(server_id: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def channelz_get_server_sockets(server_id: int, start_socket_id: int, max_results: int) -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("channelz")


def dump_xds_configs() -> bytes:
    """Raises NotImplementedError."""
    raise _no_core("xDS")


def __getattr__(name: str) -> object:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: oxgrpc has no C core behind it")
