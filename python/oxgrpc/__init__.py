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
    from ._interfaces import (
        ClientCallDetails,
        GenericRpcHandler,
        HandlerCallDetails,
        RpcContext,
        RpcError,
        RpcMethodHandler,
        ServiceRpcHandler,
        Status,
    )
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
    "ChannelConnectivity",
    "ClientCallDetails",
    "Compression",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "RpcContext",
    "RpcError",
    "RpcMethodHandler",
    "ServiceRpcHandler",
    "Status",
    "StatusCode",
    "__oxgrpc_version__",
    "__version__",
    "aio",
    "experimental",
    "install_as_grpc",
    "method_handlers_generic_handler",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
)

#: The module of each name.
_HOMES = {
    **dict.fromkeys(("ChannelConnectivity", "Compression", "StatusCode"), "._status"),
    **dict.fromkeys(("GenericRpcHandler", "HandlerCallDetails", "RpcContext", "RpcError"), "._interfaces"),
    **dict.fromkeys(("ClientCallDetails", "RpcMethodHandler", "ServiceRpcHandler", "Status"), "._interfaces"),
    **{name: "._utilities" for name in __all__ if name.endswith("_handler")},
    "install_as_grpc": "._alias",
}

#: Modules that grpcio's package has as attributes.
_MODULES = ("_common", "_utilities", "aio", "experimental")


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
