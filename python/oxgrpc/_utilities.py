"""Method handlers, and the version check that generated code asks for."""

from __future__ import annotations

import re
from collections import namedtuple
from typing import TYPE_CHECKING, Any

from . import _common
from ._interfaces import RpcMethodHandler as AbstractRpcMethodHandler
from ._interfaces import ServiceRpcHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

    from . import aio
    from ._base_server import ServicerContext
    from ._interfaces import HandlerCallDetails as HandlerCallDetailsProtocol
    from ._typing import Deserialized, DeserializingFunction, RequestType, ResponseType, Serialized, SerializingFunction

    # The functions of method handlers: asynchronous ones, and plain ones. Those that stream responses yield them, or
    # write them to the context.
    _UnaryUnary = (
        Callable[[RequestType, aio.ServicerContext[RequestType, ResponseType]], Awaitable[ResponseType]]
        | Callable[[RequestType, ServicerContext], ResponseType]
    )
    _UnaryStream = (
        Callable[
            [RequestType, aio.ServicerContext[RequestType, ResponseType]],
            AsyncIterable[ResponseType] | Awaitable[None],
        ]
        | Callable[[RequestType, ServicerContext], Iterable[ResponseType]]
    )
    _StreamUnary = (
        Callable[[AsyncIterator[RequestType], aio.ServicerContext[RequestType, ResponseType]], Awaitable[ResponseType]]
        | Callable[[Iterator[RequestType], ServicerContext], ResponseType]
    )
    _StreamStream = (
        Callable[
            [AsyncIterator[RequestType], aio.ServicerContext[RequestType, ResponseType]],
            AsyncIterable[ResponseType] | Awaitable[None],
        ]
        | Callable[[Iterator[RequestType], ServicerContext], Iterable[ResponseType]]
    )


_RpcMethodHandler = namedtuple(
    "_RpcMethodHandler",
    (
        "request_streaming",
        "response_streaming",
        "request_deserializer",
        "response_serializer",
        "unary_unary",
        "unary_stream",
        "stream_unary",
        "stream_stream",
    ),
)


class RpcMethodHandler(_RpcMethodHandler, AbstractRpcMethodHandler[Any, Any]):
    """A method handler. A named tuple, because interceptors use ``_replace``."""


#: What a generic handler is asked with.
HandlerCallDetails = namedtuple("HandlerCallDetails", ("method", "invocation_metadata"))


class DictionaryGenericHandler(ServiceRpcHandler):
    """Handles the methods of one service out of a mapping."""

    def __init__(self, service: str, method_handlers: Mapping[str, AbstractRpcMethodHandler[Any, Any]]) -> None:
        self._name = service
        self._method_handlers = {
            _common.fully_qualified_method(service, method): handler for method, handler in method_handlers.items()
        }

    def service_name(self) -> str:
        return self._name

    def service(self, handler_call_details: HandlerCallDetailsProtocol) -> AbstractRpcMethodHandler[Any, Any] | None:
        return self._method_handlers.get(handler_call_details.method)


def _method_handler(
    kind: str,
    behavior: Callable[..., Any],
    request_deserializer: Callable[[bytes], Any] | None,
    response_serializer: Callable[[Any], bytes] | None,
) -> RpcMethodHandler:
    behaviors = dict.fromkeys(("unary_unary", "unary_stream", "stream_unary", "stream_stream"))
    return RpcMethodHandler(
        request_streaming=kind.startswith("stream"),
        response_streaming=kind.endswith("stream"),
        request_deserializer=request_deserializer,
        response_serializer=response_serializer,
        **{**behaviors, kind: behavior},
    )


def unary_unary_rpc_method_handler(
    behavior: _UnaryUnary[Deserialized, Serialized],
    request_deserializer: DeserializingFunction[Deserialized] | None = None,
    response_serializer: SerializingFunction[Serialized] | None = None,
) -> AbstractRpcMethodHandler[Deserialized, Serialized]:
    """A handler ``behavior(request, context)`` that returns the response."""
    return _method_handler("unary_unary", behavior, request_deserializer, response_serializer)


def unary_stream_rpc_method_handler(
    behavior: _UnaryStream[Deserialized, Serialized],
    request_deserializer: DeserializingFunction[Deserialized] | None = None,
    response_serializer: SerializingFunction[Serialized] | None = None,
) -> AbstractRpcMethodHandler[Deserialized, Serialized]:
    """A handler ``behavior(request, context)`` that yields responses, or writes them to the context."""
    return _method_handler("unary_stream", behavior, request_deserializer, response_serializer)


def stream_unary_rpc_method_handler(
    behavior: _StreamUnary[Deserialized, Serialized],
    request_deserializer: DeserializingFunction[Deserialized] | None = None,
    response_serializer: SerializingFunction[Serialized] | None = None,
) -> AbstractRpcMethodHandler[Deserialized, Serialized]:
    """A handler ``behavior(request_iterator, context)`` that returns the response."""
    return _method_handler("stream_unary", behavior, request_deserializer, response_serializer)


def stream_stream_rpc_method_handler(
    behavior: _StreamStream[Deserialized, Serialized],
    request_deserializer: DeserializingFunction[Deserialized] | None = None,
    response_serializer: SerializingFunction[Serialized] | None = None,
) -> AbstractRpcMethodHandler[Deserialized, Serialized]:
    """A handler ``behavior(request_iterator, context)`` that yields responses, or writes them to the context."""
    return _method_handler("stream_stream", behavior, request_deserializer, response_serializer)


def method_handlers_generic_handler(
    service: str, method_handlers: Mapping[str, AbstractRpcMethodHandler[Any, Any]]
) -> DictionaryGenericHandler:
    """A generic handler for the methods of ``service``, by their names."""
    return DictionaryGenericHandler(service, method_handlers)


def first_version_is_lower(version1: str, version2: str) -> bool:
    """Whether ``version1`` is lower than ``version2``; a pre-release is lower than its release.

    Generated code asks this of ``grpc.__version__`` and the version of the generator that wrote it.
    """

    def key(version: str) -> tuple[list[int], bool]:
        numbers = [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]
        return numbers, re.fullmatch(r"[\d.]+", version) is not None

    return key(version1) < key(version2)
