"""The client of a gateway: services, state, events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from ._calls import DEFAULT_TIMEOUT_SECONDS, UNSET, Connections, Metadata, Settings, Timeout, pairs, target_of
from ._errors import brief
from ._gateway import GatewayClient
from ._handlers import Callback, Dispatcher
from ._payload import text_value
from ._pubsub import PubsubClient, names_of
from ._response import Response, status_response
from ._streams import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS
from ._subscription import Subscription
from .state_pb2 import (
    DeleteStateRequest,
    GetAllStateRequest,
    GetStateRequest,
    ListKeysRequest,
    RegisterKeysRequest,
    SaveStateRequest,
)

#: Seconds after which `wait_ready` asks again.
PROBE_SECONDS = 5.0


class ApiClient:
    """A client of the gateway at ``host:grpc_port``.

    It connects when it is first used, and may be used by several tasks, threads and event loops at once. Leave it with
    ``await client.close()``, or use it in ``async with``.

    Args:
      host: the gateway's name or address.
      grpc_port: its gRPC port.
      credentials: ``grpc.ssl_channel_credentials(...)``, for example; without them nothing is encrypted.
      api_key: goes with every call as ``x-api-key``.
      timeout: seconds that a unary call may take unless it says otherwise; ``None`` for no deadline.
      metadata: gRPC metadata that goes with every call.
      options: gRPC channel options, as pairs.
    """

    def __init__(
        self,
        host: str = "localhost",
        grpc_port: int = 5002,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        metadata: Metadata | None = None,
        options: Iterable[tuple[str, Any]] = (),
    ) -> None:
        if not 0 < int(grpc_port) < 65536:
            raise ValueError(f"grpc_port is a port, 1 to 65535: {grpc_port}")
        self.host = host
        self.grpc_port = int(grpc_port)
        key = () if api_key is None else (("x-api-key", api_key),)
        self._connections = Connections(
            Settings(
                target=target_of(host, self.grpc_port),
                credentials=credentials,
                timeout=timeout,
                metadata=(*pairs(metadata), *key),
                options=tuple(options),
            )
        )
        self._gateway = GatewayClient(self._connections)
        self._pubsub = PubsubClient(self._connections)

    @property
    def gateway(self) -> GatewayClient:
        """The services behind the gateway: ``await client.gateway.workmanager.ListWorkers()``."""
        return self._gateway

    @property
    def pubsub(self) -> PubsubClient:
        """Publishing and subscribing."""
        return self._pubsub

    async def __aenter__(self) -> ApiClient:
        self._connections.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.leave()

    async def close(self) -> None:
        """Ends all subscriptions and closes the channels, those of other loops included. May be repeated."""
        await self._connections.close()

    async def wait_ready(self, timeout: float | None = None, services: Iterable[str] = ()) -> list[str]:
        """Waits until the gateway answers, and until these services are registered; returns all their names.

        Raises:
          TimeoutError: that took longer than ``timeout`` seconds. It says what is missing.
          grpc.RpcError: the gateway refuses, because it wants an API key for example.
        """
        wanted = names_of("services", services)
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        delay, missing = FIRST_DELAY_SECONDS, ""
        while True:
            remaining = None if deadline is None else deadline - loop.time()
            if remaining is not None and remaining <= 0:
                raise TimeoutError(
                    f"the gateway at {self.host}:{self.grpc_port} is not ready after {timeout} s: {missing}"
                )
            try:
                present = await self._gateway.list_services_async(timeout=min(filter(None, (remaining, PROBE_SECONDS))))
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                # A deadline that cuts the last attempt short says less than what was found before.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or not missing:
                    missing = brief(error)
            else:
                absent = [service for service in wanted if service not in present]
                if not absent:
                    return present
                missing = f"{', '.join(absent)} not registered"
            pause = delay * random.uniform(0.8, 1.2)
            await asyncio.sleep(pause if deadline is None else max(0.0, min(pause, deadline - loop.time())))
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def list_services_async(self, *, timeout: Timeout = UNSET, metadata: Metadata | None = None) -> list[str]:
        """Returns the names of the registered services."""
        return await self._gateway.list_services_async(timeout=timeout, metadata=metadata)

    async def list_methods_async(
        self, service: str, *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> list[Response]:
        """Returns a service's methods as dicts; see :meth:`GatewayClient.list_methods_async`."""
        return await self._gateway.list_methods_async(service, timeout=timeout, metadata=metadata)

    async def invoke_async(
        self,
        service: str,
        method: str,
        request_data: Any = None,
        *,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Calls a unary method of a service with a dict; see :meth:`GatewayClient.invoke_async`."""
        return await self._gateway.invoke_async(service, method, request_data, timeout=timeout, metadata=metadata)

    #: The same: requests as dicts go as JSON.
    invoke_json_async = invoke_async

    async def invoke_raw_async(
        self,
        service: str,
        method: str,
        request_bytes: bytes = b"",
        *,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> bytes:
        """Calls a unary method with a serialized message; see :meth:`GatewayClient.invoke_raw_async`."""
        return await self._gateway.invoke_raw_async(service, method, request_bytes, timeout=timeout, metadata=metadata)

    async def save_state_async(
        self,
        service: str,
        key: str,
        value: Any,
        etag: str | None = None,
        *,
        include_value: bool = False,
        create_only: bool = False,
        ttl_seconds: int = 0,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Saves a value under a service's key.

        Args:
          value: text is kept as it is; bytes as the UTF-8 text that they are; everything else as JSON.
          etag: the value is only replaced if its etag still is this one; without it the last write wins.
          include_value: whether the ``state-changes`` event carries the value.
          create_only: whether to fail if the key has a value.
          ttl_seconds: seconds until the value expires; 0 for never.

        Returns:
          ``{"success": bool, "status": str, "message": str, "etag": str}``; the etag is that of the new value.

        Raises:
          grpc.RpcError: ABORTED if the etag does not match, or the key has a value with ``create_only``.
        """
        connection = self._connections.current()
        request = SaveStateRequest(
            service=service,
            key=key,
            value=text_value(value),
            etag=etag or "",
            include_value=include_value,
            create_only=create_only,
            ttl_seconds=ttl_seconds,
        )
        response = await connection.call(connection.state.SaveState, request, timeout, metadata)
        return status_response(response.status, etag=response.etag)

    async def get_state_async(
        self, service: str, key: str, *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> Response:
        """Returns ``{"key": str, "value": str, "etag": str}``; value and etag are empty if the key has no value."""
        connection = self._connections.current()
        request = GetStateRequest(service=service, key=key)
        response = await connection.call(connection.state.GetState, request, timeout, metadata)
        return Response(key=response.key, value=response.value, etag=response.etag)

    async def get_all_state_async(
        self, service: str, *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> dict[str, dict[str, str]]:
        """Returns ``{"values": {key: value}}``, all that the service has saved."""
        connection = self._connections.current()
        request = GetAllStateRequest(service=service)
        response = await connection.call(connection.state.GetAllState, request, timeout, metadata)
        return {"values": dict(response.values)}

    async def register_keys_async(
        self, service: str, keys: Iterable[str], *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> Response:
        """Adds keys to those that the service is known to use. Returns ``{"success", "status", "message"}``."""
        connection = self._connections.current()
        request = RegisterKeysRequest(service=service, keys=names_of("keys", keys))
        response = await connection.call(connection.state.RegisterKeys, request, timeout, metadata)
        return status_response(response.status)

    async def list_keys_async(
        self, service: str, prefix: str = "", *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> list[str]:
        """Returns the keys of a service that begin with a prefix, without their values, in order."""
        connection = self._connections.current()
        keys: list[str] = []
        request = ListKeysRequest(service=service, prefix=prefix, page_size=1_000)
        while True:
            response = await connection.call(connection.state.ListKeys, request, timeout, metadata)
            keys += response.keys
            if not response.next_page_token:
                return keys
            request.page_token = response.next_page_token

    async def delete_state_async(
        self,
        service: str,
        key: str,
        include_value: bool = False,
        *,
        etag: str | None = None,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Deletes a key's value; with an etag, only if it still is this one (else ``grpc.RpcError``, ABORTED).

        Returns:
          ``{"success", "status", "message"}``.
        """
        connection = self._connections.current()
        request = DeleteStateRequest(service=service, key=key, include_value=include_value, etag=etag or "")
        response = await connection.call(connection.state.DeleteState, request, timeout, metadata)
        return status_response(response.status)

    async def subscribe_async_with_handler(
        self,
        handler: Any,
        services: Iterable[str] | None = None,
        topics: Iterable[str] | None = None,
        event_types: Iterable[str] | None = None,
        *,
        on_error: Callback | None = None,
        on_gap: Callback | None = None,
        reconnect: bool = True,
    ) -> Subscription:
        """Calls ``handler.on_event`` with the events that match all given filters, everything without one.

        The calls are made in the background, one after the other, until the handle is cancelled or the client closed.

        Args:
          handler: has ``on_event(event)`` and, if it likes, ``on_error(error)`` and ``on_gap(gap)``: a
            :class:`StreamEventHandler` or any other object; or is a function. Coroutine functions are awaited.
          services, topics, event_types: names; event types are ``state``, ``pubsub`` and ``system``.
          on_error, on_gap: stand in where the handler has none.
          reconnect: whether a lost stream is resumed. Each failure goes to ``on_error``, a resumption to ``on_gap``.

        Returns:
          A handle, once the subscription is live.

        Raises:
          grpc.RpcError: the gateway refuses, or cannot be reached.
        """
        dispatcher = Dispatcher(handler, on_error, on_gap)
        stream = self._gateway._stream(
            services, topics, event_types, reconnect=reconnect, on_error=dispatcher.error, on_gap=dispatcher.gap
        )
        return await Subscription(self._connections.current(), dispatcher, [stream]).open()

    def __repr__(self) -> str:
        secure = "" if self._connections.settings.credentials is None else ", secure"
        return f"ApiClient(host={self.host!r}, grpc_port={self.grpc_port}{secure})"
