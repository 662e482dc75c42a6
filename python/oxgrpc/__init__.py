"""gRPC for Python with a Rust heart: ``import oxgrpc as grpc``.

The names here are grpcio's. ``__version__`` is the version of grpcio's API that this package provides, because
generated code compares it with the generator's; the package's own version is ``__oxgrpc_version__``.

:func:`install_as_grpc` makes ``import grpc`` mean this package, for generated code and for libraries.

Names are imported from their modules when they are first used: a program that only calls does not load the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._native import __version__ as __oxgrpc_version__

if TYPE_CHECKING:
    from . import aio, experimental
    from ._alias import install_as_grpc
    from ._base_call import Call, Future, FutureCancelledError, FutureTimeoutError
    from ._base_channel import (
        Channel,
        StreamStreamMultiCallable,
        StreamUnaryMultiCallable,
        UnaryStreamMultiCallable,
        UnaryUnaryMultiCallable,
    )
    from ._base_interceptor import (
        ClientCallDetails,
        ServerInterceptor,
        StreamStreamClientInterceptor,
        StreamUnaryClientInterceptor,
        UnaryStreamClientInterceptor,
        UnaryUnaryClientInterceptor,
    )
    from ._base_server import Server, ServicerContext
    from ._credentials import (
        CallCredentials,
        ChannelCredentials,
        LocalConnectionType,
        ServerCertificateConfiguration,
        ServerCredentials,
        access_token_call_credentials,
        alts_channel_credentials,
        alts_server_credentials,
        composite_call_credentials,
        composite_channel_credentials,
        compute_engine_channel_credentials,
        dynamic_ssl_server_credentials,
        insecure_server_credentials,
        local_channel_credentials,
        local_server_credentials,
        metadata_call_credentials,
        ssl_channel_credentials,
        ssl_server_certificate_configuration,
        ssl_server_credentials,
        xds_channel_credentials,
        xds_server_credentials,
    )
    from ._interfaces import (
        GenericRpcHandler,
        HandlerCallDetails,
        RpcContext,
        RpcError,
        RpcMethodHandler,
        ServiceRpcHandler,
        Status,
    )
    from ._plugin import AuthMetadataContext, AuthMetadataPlugin, AuthMetadataPluginCallback
    from ._status import ChannelConnectivity, Compression, StatusCode
    from ._utilities import (
        method_handlers_generic_handler,
        stream_stream_rpc_method_handler,
        stream_unary_rpc_method_handler,
        unary_stream_rpc_method_handler,
        unary_unary_rpc_method_handler,
    )

__version__ = "1.85.1"

__all__ = (
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "Call",
    "CallCredentials",
    "Channel",
    "ChannelConnectivity",
    "ChannelCredentials",
    "ClientCallDetails",
    "Compression",
    "Future",
    "FutureCancelledError",
    "FutureTimeoutError",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "LocalConnectionType",
    "RpcContext",
    "RpcError",
    "RpcMethodHandler",
    "Server",
    "ServerCertificateConfiguration",
    "ServerCredentials",
    "ServerInterceptor",
    "ServiceRpcHandler",
    "ServicerContext",
    "Status",
    "StatusCode",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "__oxgrpc_version__",
    "__version__",
    "access_token_call_credentials",
    "aio",
    "alts_channel_credentials",
    "alts_server_credentials",
    "composite_call_credentials",
    "composite_channel_credentials",
    "compute_engine_channel_credentials",
    "dynamic_ssl_server_credentials",
    "experimental",
    "insecure_server_credentials",
    "install_as_grpc",
    "local_channel_credentials",
    "local_server_credentials",
    "metadata_call_credentials",
    "method_handlers_generic_handler",
    "ssl_channel_credentials",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
    "xds_channel_credentials",
    "xds_server_credentials",
)

#: The module of each name.
_HOMES = {
    **{name: "._base_channel" for name in __all__ if name.endswith("MultiCallable")},
    **{name: "._base_interceptor" for name in __all__ if name.endswith("Interceptor")},
    **dict.fromkeys(("Call", "Future", "FutureCancelledError", "FutureTimeoutError"), "._base_call"),
    **dict.fromkeys(("Server", "ServicerContext"), "._base_server"),
    **dict.fromkeys(("ChannelConnectivity", "Compression", "StatusCode"), "._status"),
    **dict.fromkeys(("GenericRpcHandler", "HandlerCallDetails", "RpcContext", "RpcError"), "._interfaces"),
    **dict.fromkeys(("RpcMethodHandler", "ServiceRpcHandler", "Status"), "._interfaces"),
    **{name: "._utilities" for name in __all__ if name.endswith("_handler")},
    **{name: "._credentials" for name in __all__ if name.endswith(("Credentials", "_credentials"))},
    **{name: "._plugin" for name in __all__ if name.startswith("AuthMetadata")},
    **dict.fromkeys(("LocalConnectionType", "ServerCertificateConfiguration"), "._credentials"),
    "Channel": "._base_channel",
    "ClientCallDetails": "._base_interceptor",
    "install_as_grpc": "._alias",
    "ssl_server_certificate_configuration": "._credentials",
}

#: Modules that grpcio's package has as attributes.
_MODULES = (
    *("_auth", "_common", "_compression", "_cython", "_grpcio_metadata", "_observability", "_typing", "_utilities"),
    *("aio", "experimental"),
)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        from ._common import missing

        raise AttributeError(missing(__name__, name))
    value: object = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
