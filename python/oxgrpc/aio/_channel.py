"""Channels of the asynchronous API."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .. import _native
from .._status import ChannelConnectivity, Compression
from . import _base_channel
from ._errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from .._credentials import ChannelCredentials
    from ._base_channel import (
        StreamStreamMultiCallable,
        StreamUnaryMultiCallable,
        UnaryStreamMultiCallable,
        UnaryUnaryMultiCallable,
    )
    from ._intercepting import Interception
    from ._interceptor import ClientInterceptor
    from ._typing import ChannelArgumentType, Deserialized, DeserializingFunction, Serialized, SerializingFunction


class Channel(_base_channel.Channel):
    """A channel, with its native part."""

    def __init__(
        self,
        target: str,
        options: ChannelArgumentType | None,
        compression: Compression | None,
        interceptors: Sequence[ClientInterceptor] | None,
        credentials: ChannelCredentials | None = None,
    ) -> None:
        if credentials is None:
            self._native = _native.Channel(target, options, compression)
        else:
            security = credentials._credentials
            self._native = _native.Channel(target, options, compression, security.transport, security.plugins)
        self._interception = _intercepted(self._native, interceptors) if interceptors else None
        #: What makes the methods: whoever has no interceptors gets native ones.
        self._methods = self._interception or self._native
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        if self._closed:
            return
        if grace is not None and grace < 0:
            raise ValueError(f"grace is a number of seconds, not {grace}")
        self._closed = True
        self._native.stop_accepting()
        try:
            if grace and self._interception is not None:
                began = time.monotonic()
                await self._interception.wait_for_idle(grace)
                grace = max(0.0, grace - (time.monotonic() - began))
            idle = self._native.wait_for_idle()
            if grace and idle is not None:
                await asyncio.wait_for(idle, grace)
        except asyncio.TimeoutError:
            pass
        finally:
            if self._interception is not None:
                self._interception.cancel()
            self._native.close()

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        return self._native.get_state(try_to_connect and not self._closed)

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        if self._closed:
            raise UsageError("Channel is closed.")
        await self._native.wait_for_state_change(last_observed_state.value[0])

    async def channel_ready(self) -> None:
        while (state := self.get_state(try_to_connect=True)) is not ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def unary_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable[Serialized, Deserialized]:
        return self._methods.unary_unary(method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable[Serialized, Deserialized]:
        return self._methods.unary_stream(method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable[Serialized, Deserialized]:
        return self._methods.stream_unary(method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: SerializingFunction[Serialized] | None = None,
        response_deserializer: DeserializingFunction[Deserialized] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable[Serialized, Deserialized]:
        return self._methods.stream_stream(method, request_serializer, response_deserializer)


def _intercepted(channel: _native.Channel, interceptors: Sequence[ClientInterceptor]) -> Interception:
    # Who has no interceptors does not load what they need.
    from ._intercepting import Interception

    return Interception(channel, interceptors)


def insecure_channel(
    target: str,
    options: ChannelArgumentType | None = None,
    compression: Compression | None = None,
    interceptors: Sequence[ClientInterceptor] | None = None,
) -> Channel:
    """A channel without encryption. Needs no running loop; connects when it is first used.

    Args:
      target: ``host:port``, ``dns:///host:port``, ``ipv4:…``, ``ipv6:…``, ``unix:path`` or ``unix-abstract:name``.
      options: pairs of ``grpc.*`` names and values, as grpcio takes them.
      compression: how requests are compressed unless a call says otherwise.
      interceptors: client interceptors, the outermost first. One that is of several kinds is used for each.

    Raises:
      ValueError: the target cannot be understood, or an interceptor is of no kind.
      TypeError: an option has a value of another kind.
    """
    return Channel(target, options, compression, interceptors)


def secure_channel(
    target: str,
    credentials: ChannelCredentials,
    options: ChannelArgumentType | None = None,
    compression: Compression | None = None,
    interceptors: Sequence[ClientInterceptor] | None = None,
) -> Channel:
    """A channel with credentials. Needs no running loop; connects when it is first used.

    Args:
      target: as :func:`insecure_channel` takes it. Its host is whom a server's certificate has to name, unless the
        option ``grpc.ssl_target_name_override`` or ``grpc.default_authority`` says another.
      credentials: from :func:`oxgrpc.ssl_channel_credentials`, for example.
      options: pairs of ``grpc.*`` names and values, as grpcio takes them.
      compression: how requests are compressed unless a call says otherwise.
      interceptors: what stands between the program and its calls, the first outermost.

    Raises:
      ValueError: the target cannot be understood.
      TypeError: an option has a value of another kind.
    """
    from .._credentials import ChannelCredentials

    if not isinstance(credentials, ChannelCredentials):
        raise TypeError(f"credentials are a ChannelCredentials, not {type(credentials).__name__}")
    return Channel(target, options, compression, interceptors, credentials)
