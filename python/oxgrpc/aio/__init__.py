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
    from ._client_call_details import ClientCallDetails
    from ._errors import EOF, AbortError, AioRpcError, BaseError, InternalError, UsageError
    from ._intercepted_call import InterceptedUnaryUnaryCall
    from ._interceptor import (
        ClientInterceptor,
        ServerInterceptor,
        StreamStreamClientInterceptor,
        StreamUnaryClientInterceptor,
        UnaryStreamClientInterceptor,
        UnaryUnaryClientInterceptor,
    )
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
    "ClientCallDetails",
    "ClientInterceptor",
    "InterceptedUnaryUnaryCall",
    "InternalError",
    "Metadata",
    "RpcContext",
    "Server",
    "ServerInterceptor",
    "ServicerContext",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
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
    **{name: "._interceptor" for name in __all__ if name.endswith("Interceptor")},
    **{name: "._base_channel" for name in __all__ if name.endswith("MultiCallable")},
    **dict.fromkeys(("EOF", "AbortError", "AioRpcError", "BaseError", "InternalError", "UsageError"), "._errors"),
    **dict.fromkeys(("init_grpc_aio", "shutdown_grpc_aio"), "._loop"),
    **dict.fromkeys(("Server", "ServicerContext"), "._base_server"),
    "ClientCallDetails": "._client_call_details",
    "InterceptedUnaryUnaryCall": "._intercepted_call",
    "Channel": "._base_channel",
    "ChannelArgumentType": "._typing",
    "Metadata": "._metadata",
    "RpcContext": "._base_call",
    "insecure_channel": "._channel",
    "secure_channel": "._channel",
    "server": "._server",
}

#: Modules that grpcio's package has as attributes.
_MODULES = (
    *("_base_call", "_base_channel", "_base_server", "_call", "_channel", "_interceptor", "_metadata", "_server"),
    *("_typing", "_utils"),
)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        from .._common import missing

        raise AttributeError(missing(__name__, name))
    value: object = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
