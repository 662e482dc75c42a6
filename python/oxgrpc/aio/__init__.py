"""gRPC on asyncio: grpcio's ``grpc.aio``.

Everything runs on the event loop that uses it, without a thread of ours. A channel belongs to no loop; a server
serves on the loop that starts it. uvloop is served as well as asyncio's own loops.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._base_call import (
        Call,
        RpcContext,
        StreamStreamCall,
        StreamUnaryCall,
        UnaryStreamCall,
        UnaryUnaryCall,
    )
    from ._base_channel import (
        Channel,
        StreamStreamMultiCallable,
        StreamUnaryMultiCallable,
        UnaryStreamMultiCallable,
        UnaryUnaryMultiCallable,
    )
    from ._base_server import Server, ServicerContext
    from ._channel import insecure_channel, secure_channel
    from ._errors import EOF, AbortError, AioRpcError, BaseError, InternalError, UsageError
    from ._loop import init_grpc_aio, shutdown_grpc_aio
    from ._metadata import Metadata
    from ._server import server
    from ._typing import ChannelArgumentType as ChannelArgumentType

__all__ = (
    "EOF",
    "AbortError",
    "AioRpcError",
    "BaseError",
    "Call",
    "Channel",
    "InternalError",
    "Metadata",
    "RpcContext",
    "Server",
    "ServicerContext",
    "StreamStreamCall",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryMultiCallable",
    "UsageError",
    "init_grpc_aio",
    "insecure_channel",
    "secure_channel",
    "server",
    "shutdown_grpc_aio",
)

#: The module of each name: imported when the name is first used.
_HOMES = {
    **{name: "._base_call" for name in __all__ if name.endswith("Call")},
    **{name: "._base_channel" for name in __all__ if name.endswith("MultiCallable")},
    **dict.fromkeys(("EOF", "AbortError", "AioRpcError", "BaseError", "InternalError", "UsageError"), "._errors"),
    **dict.fromkeys(("init_grpc_aio", "shutdown_grpc_aio"), "._loop"),
    **dict.fromkeys(("Server", "ServicerContext"), "._base_server"),
    "Channel": "._base_channel",
    "ChannelArgumentType": "._typing",
    "Metadata": "._metadata",
    "RpcContext": "._base_call",
    "insecure_channel": "._channel",
    "secure_channel": "._channel",
    "server": "._server",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        from .._common import missing

        raise AttributeError(missing(__name__, name))
    value: object = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
