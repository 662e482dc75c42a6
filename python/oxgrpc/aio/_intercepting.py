"""The methods of a channel that has interceptors."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .._common import encode
from .._status import Compression
from . import _base_channel
from ._intercepted_call import (
    InterceptedCall,
    InterceptedStreamStreamCall,
    InterceptedStreamUnaryCall,
    InterceptedUnaryStreamCall,
    InterceptedUnaryUnaryCall,
)
from ._interceptor import (
    ClientInterceptor,
    StreamStreamClientInterceptor,
    StreamUnaryClientInterceptor,
    UnaryStreamClientInterceptor,
    UnaryUnaryClientInterceptor,
)
from ._loop import policy_loop
from ._metadata import Metadata, MetadataType
from ._typing import DeserializingFunction, RequestIterableType, SerializingFunction

if TYPE_CHECKING:
    from .._native import Channel

_CLASSES: dict[str, type[ClientInterceptor]] = {
    "unary_unary": UnaryUnaryClientInterceptor,
    "unary_stream": UnaryStreamClientInterceptor,
    "stream_unary": StreamUnaryClientInterceptor,
    "stream_stream": StreamStreamClientInterceptor,
}


class Interception:
    """The interceptors of a channel, by the kinds of calls that they are for, and the calls that go through them."""

    def __init__(self, channel: Channel, interceptors: Iterable[Any]) -> None:
        self.channel = channel
        self._interceptors: dict[str, list[Any]] = {kind: [] for kind in _CLASSES}
        #: Calls, for the channel's end. Those that nobody keeps are over.
        self.calls: weakref.WeakSet[InterceptedCall] = weakref.WeakSet()
        for interceptor in interceptors:
            kinds = [kind for kind, of_kind in _CLASSES.items() if isinstance(interceptor, of_kind)]
            if not kinds:
                names = " or ".join(of_kind.__name__ for of_kind in _CLASSES.values())
                raise ValueError(f"Interceptor {interceptor!r} must be {names}.")
            for kind in kinds:
                self._interceptors[kind].append(interceptor)

    def unary_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
    ) -> _base_channel.UnaryUnaryMultiCallable[Any, Any]:
        # Made in any case: it raises what is to be said of a method that cannot be.
        plain = self.channel.unary_unary(method, request_serializer, response_deserializer)
        interceptors = self._interceptors["unary_unary"]
        if not interceptors:
            return plain
        return UnaryUnaryMultiCallable(self, interceptors, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
    ) -> _base_channel.UnaryStreamMultiCallable[Any, Any]:
        plain = self.channel.unary_stream(method, request_serializer, response_deserializer)
        interceptors = self._interceptors["unary_stream"]
        if not interceptors:
            return plain
        return UnaryStreamMultiCallable(self, interceptors, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
    ) -> _base_channel.StreamUnaryMultiCallable[Any, Any]:
        plain = self.channel.stream_unary(method, request_serializer, response_deserializer)
        interceptors = self._interceptors["stream_unary"]
        if not interceptors:
            return plain
        return StreamUnaryMultiCallable(self, interceptors, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
    ) -> _base_channel.StreamStreamMultiCallable[Any, Any]:
        plain = self.channel.stream_stream(method, request_serializer, response_deserializer)
        interceptors = self._interceptors["stream_stream"]
        if not interceptors:
            return plain
        return StreamStreamMultiCallable(self, interceptors, method, request_serializer, response_deserializer)

    async def wait_for_idle(self, timeout: float) -> None:
        """Waits until interceptors have returned their calls, ``timeout`` seconds at most."""
        tasks = [call._interceptors_task for call in self.calls if not call.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def cancel(self) -> None:
        """Cancels all calls."""
        for call in list(self.calls):
            call.cancel()


class _Method:
    """What the four classes share."""

    _CALL: type[InterceptedCall]

    def __init__(
        self,
        interception: Interception,
        interceptors: Sequence[Any],
        method: str,
        request_serializer: SerializingFunction[Any] | None,
        response_deserializer: DeserializingFunction[Any] | None,
    ) -> None:
        self._interception = interception
        self._interceptors = interceptors
        self._method = (interception.channel, encode(method), request_serializer, response_deserializer)

    def _start(
        self,
        request: Any,
        timeout: float | None,
        metadata: MetadataType | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Compression | None,
    ) -> Any:
        try:
            loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        except RuntimeError:
            loop = policy_loop()
        # What is not a tuple is the interceptors' to deal with, as in grpcio.
        sent: Any = metadata or Metadata()
        call = self._CALL(
            self._interceptors,
            request,
            timeout,
            Metadata.from_tuple(sent) if isinstance(sent, tuple) else sent,
            credentials,
            wait_for_ready,
            *self._method,
            loop,
            compression=compression,
        )
        self._interception.calls.add(call)
        return call


class _TakesARequest(_Method):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> Any:
        return self._start(request, timeout, metadata, credentials, wait_for_ready, compression)


class _TakesRequests(_Method):
    def __call__(
        self,
        request_iterator: RequestIterableType[Any] | None = None,
        timeout: float | None = None,
        metadata: MetadataType | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> Any:
        return self._start(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


class UnaryUnaryMultiCallable(_TakesARequest, _base_channel.UnaryUnaryMultiCallable[Any, Any]):
    """A method with one request and one response whose calls go through interceptors."""

    _CALL = InterceptedUnaryUnaryCall


class UnaryStreamMultiCallable(_TakesARequest, _base_channel.UnaryStreamMultiCallable[Any, Any]):
    """A method with one request and a stream of responses whose calls go through interceptors."""

    _CALL = InterceptedUnaryStreamCall


class StreamUnaryMultiCallable(_TakesRequests, _base_channel.StreamUnaryMultiCallable[Any, Any]):
    """A method with a stream of requests and one response whose calls go through interceptors."""

    _CALL = InterceptedStreamUnaryCall


class StreamStreamMultiCallable(_TakesRequests, _base_channel.StreamStreamMultiCallable[Any, Any]):
    """A method with streams both ways whose calls go through interceptors."""

    _CALL = InterceptedStreamStreamCall
