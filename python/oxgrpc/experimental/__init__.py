"""grpcio's experimental names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .. import aio as aio
from .._common import missing
from .._credentials import insecure_channel_credentials as insecure_channel_credentials
from .._credentials import ssl_channel_credentials_with_custom_signer as ssl_channel_credentials_with_custom_signer

if TYPE_CHECKING:
    from .._interfaces import RpcMethodHandler

_Handler = TypeVar("_Handler", bound="RpcMethodHandler[Any, Any]")

__all__ = (
    "ChannelOptions",
    "ExperimentalApiWarning",
    "UsageError",
    "aio",
    "insecure_channel_credentials",
    "ssl_channel_credentials_with_custom_signer",
    "wrap_server_method_handler",
)

# Importing `grpc.experimental.aio` gives the same module, not a copy.
sys.modules[f"{__name__}.aio"] = aio


class ChannelOptions:
    """Options of channels that mean something in Python only."""

    #: A stream of responses is read in the thread that iterates over it, without another. Always so on asyncio.
    SingleThreadedUnaryStream = "SingleThreadedUnaryStream"


class ExperimentalApiWarning(Warning):
    """Something experimental is used."""


class UsageError(Exception):
    """The API was used in a way that it does not allow."""


@overload
def wrap_server_method_handler(
    wrapper: Callable[[Callable[..., Any]], Callable[..., Any]], handler: _Handler
) -> _Handler: ...
@overload
def wrap_server_method_handler(wrapper: Callable[[Callable[..., Any]], Callable[..., Any]], handler: None) -> None: ...
def wrap_server_method_handler(wrapper: Callable[[Callable[..., Any]], Callable[..., Any]], handler: Any) -> Any:
    """A method handler with another function: ``wrapper(function)`` in place of its own.

    ``None``, which says that nobody handles a method, stays ``None``.
    """
    if not handler:
        return None
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    return handler._replace(**{kind: wrapper(getattr(handler, kind))})


def __getattr__(name: str) -> object:
    raise AttributeError(missing(__name__, name))
