"""Calls to the services behind the gateway, and the proxy that makes `client.gateway.<service>.<Method>(...)` one."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio

from ._calls import UNSET, Connection, Connections, Metadata, Timeout, connections_of
from ._errors import GatewayError
from ._events import StreamEvent, stream_event
from ._payload import from_json, request_json
from ._pubsub import names_of
from ._response import Response, deep
from ._streams import EventStream
from .gateway_pb2 import (
    GetMethodSchemaRequest,
    InvokeJsonRequest,
    InvokeJsonResponse,
    InvokeRequest,
    InvokeResponse,
    ListMethodsRequest,
    ListServicesRequest,
    MethodInfo,
    SubscribeRequest,
)

#: Seconds that a failed call may take longer, to find out which names resemble an unknown one.
SUGGESTION_TIMEOUT_SECONDS = 2.0


def _close(name: str, names: Iterable[str]) -> list[str]:
    """Returns the names that resemble one, in whatever case."""
    by_lower = {known.lower(): known for known in names}
    return [by_lower[close] for close in difflib.get_close_matches(name.lower(), by_lower, n=3)]


def _described(method: MethodInfo) -> Response:
    return Response(
        name=method.name,
        full_name=method.full_name,
        input_type=method.input_type,
        output_type=method.output_type,
        is_client_streaming=method.is_client_streaming,
        is_server_streaming=method.is_server_streaming,
    )


def _details(response_data: str | bytes) -> list[Response]:
    """Returns the details of a failed call: ``{"code", "message", "details"}`` if there are some, else nothing."""
    try:
        return list(from_json(response_data)["details"])
    except (ValueError, TypeError, KeyError):
        return []


class GatewayClient:
    """The services behind the gateway: ``client.gateway``, or of a ``grpc.aio`` channel to it.

    ``gateway.workmanager`` and ``gateway["my-service"]`` are proxies: see :class:`ServiceClient`.
    """

    def __init__(self, channel: grpc.aio.Channel | Connections, async_mode: bool = True) -> None:
        if not async_mode:
            raise ValueError("this client is asynchronous only: async_mode=False is not supported")
        self._connections = connections_of(channel)
        self._proxies: dict[str, ServiceClient] = {}

    def __getattr__(self, name: str) -> ServiceClient:
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; a service of that name is gateway[{name!r}]"
            )
        return self[name]

    def __getitem__(self, service: str) -> ServiceClient:
        proxy = self._proxies.get(service)
        if proxy is None:
            proxy = self._proxies[service] = ServiceClient(self, service)
        return proxy

    def __dir__(self) -> Iterable[str]:
        """The services as last listed, beside the methods: by `list_services_async` or `wait_ready`."""
        return [*object.__dir__(self), *(name for name in self._connections.services if name.isidentifier())]

    async def list_services_async(self, *, timeout: Timeout = UNSET, metadata: Metadata | None = None) -> list[str]:
        """Returns the names of the registered services."""
        connection = self._connections.current()
        response = await connection.call(connection.gateway.ListServices, ListServicesRequest(), timeout, metadata)
        self._connections.services = dict.fromkeys(response.services)
        return list(response.services)

    async def list_methods_async(
        self, service: str, *, timeout: Timeout = UNSET, metadata: Metadata | None = None
    ) -> list[Response]:
        """Returns a service's methods as dicts.

        Their keys are ``name``, ``full_name``, ``input_type``, ``output_type``, ``is_client_streaming`` and
        ``is_server_streaming``; the camelCase spellings work as well.

        Raises:
          grpc.RpcError: the service is unknown (NOT_FOUND), or the call failed.
        """
        connection = self._connections.current()
        response = await connection.call(
            connection.gateway.ListMethods, ListMethodsRequest(service=service), timeout, metadata
        )
        methods = [_described(method) for method in response.methods]
        self._connections.methods[service] = tuple(method["name"] for method in methods)
        return methods

    async def get_method_schema_async(
        self,
        service: str,
        method: str,
        type: str = "input",
        *,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Returns the schema of a method's request (``"input"``) or response (``"output"``)."""
        connection = self._connections.current()
        request = GetMethodSchemaRequest(service=service, method=method, type=type)
        schema = (await connection.call(connection.gateway.GetMethodSchema, request, timeout, metadata)).schema
        fields = [
            {
                "name": field.name,
                "type": field.type,
                "type_name": field.type_name,
                "is_repeated": field.is_repeated,
                "is_optional": field.is_optional,
                "oneof_group": field.oneof_group,
                "oneof_cases": [
                    {
                        "name": case.name,
                        "type": case.type,
                        "type_name": case.type_name,
                        "field_number": case.field_number,
                    }
                    for case in field.oneof_cases
                ],
            }
            for field in schema.fields
        ]
        return Response(
            input_type_name=schema.input_type_name,
            output_type_name=schema.output_type_name,
            schema_type=schema.schema_type,
            fields=deep(fields),
        )

    async def invoke_async(
        self,
        service: str,
        method: str,
        request_data: Any = None,
        *,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Calls a unary method of a service with a dict, and returns its response as one.

        Args:
          request_data: the request message, its fields in either spelling; bytes fields may be ``bytes``.
          timeout: seconds, passed on to the backend; ``None`` for no deadline of the client's.
          metadata: passed on to the backend.

        Raises:
          GatewayError: the service or the method is unknown, the request does not fit, or the backend failed.
          grpc.RpcError: the gateway cannot be reached, or did not answer in time.
        """
        connection = self._connections.current()
        request = InvokeJsonRequest(service=service, method=method, request_data=request_json(request_data))
        response = await connection.call(connection.gateway.InvokeJson, request, timeout, metadata)
        if not response.success:
            raise await self._failure(service, method, response)
        return Response() if not response.response_data else from_json(response.response_data)

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
        """Calls a unary method with a serialized message, and returns the serialized response. Raises alike."""
        connection = self._connections.current()
        request = InvokeRequest(service=service, method=method, request_data=bytes(request_bytes))
        response = await connection.call(connection.gateway.Invoke, request, timeout, metadata)
        if not response.success:
            raise await self._failure(service, method, response)
        return response.response_data

    async def invoke_stream_async(
        self,
        service: str,
        method: str,
        request_data: Any = None,
        *,
        timeout: Timeout = None,
        metadata: Metadata | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Calls a method that streams its responses, and yields them as dicts.

        Leaving the iteration cancels the backend's call.

        Args:
          timeout: seconds; without it the gateway's own deadline counts, 30 s unless it was told another.

        Raises:
          GatewayError: the call failed after its first response.
          grpc.RpcError: it failed before, with the backend's status.
        """
        connection = self._connections.current()
        request = InvokeJsonRequest(service=service, method=method, request_data=request_json(request_data))
        call = connection.gateway.InvokeJsonStream(
            request, timeout=connection.timeout(timeout), metadata=connection.metadata(metadata)
        )
        try:
            while True:
                with connection.closing_told():
                    response = await call.read()
                if response is grpc.aio.EOF:
                    break
                if not response.success:
                    raise await self._failure(service, method, response)
                if response.response_data:
                    yield from_json(response.response_data)
        finally:
            call.cancel()

    async def _failure(self, service: str, method: str, response: InvokeResponse | InvokeJsonResponse) -> GatewayError:
        """Returns the error of a failed call, with suggestions where a name is unknown."""
        suggestions: list[str] = []
        if response.status == "NOT_FOUND":
            # Where they cannot be found, the failure is told without them.
            with contextlib.suppress(grpc.RpcError, RuntimeError):
                suggestions = await self._suggestions(service, method)
        operation, details = f"{service}.{method}", _details(response.response_data)
        return GatewayError(operation, response.status, response.message, suggestions, details)

    async def _suggestions(self, service: str, method: str) -> list[str]:
        known = self._connections
        if service not in known.services:
            await self.list_services_async(timeout=SUGGESTION_TIMEOUT_SECONDS)
        if service not in known.services:
            return _close(service, known.services)
        name = method.rpartition("/")[2].rpartition(".")[2]
        if name not in known.methods.get(service, ()):
            await self.list_methods_async(service, timeout=SUGGESTION_TIMEOUT_SECONDS)
        return [] if name in known.methods[service] else _close(name, known.methods[service])

    async def subscribe_async(
        self,
        services: Iterable[str] | None = None,
        topics: Iterable[str] | None = None,
        event_types: Iterable[str] | None = None,
        *,
        reconnect: bool = False,
    ) -> EventStream[StreamEvent]:
        """Subscribes to the gateway's event stream: events that match all given filters, everything without one.

        Raises:
          grpc.RpcError: the gateway refuses, or cannot be reached.
        """
        return await self._stream(services, topics, event_types, reconnect=reconnect).open()

    def _stream(
        self,
        services: Iterable[str] | None,
        topics: Iterable[str] | None,
        event_types: Iterable[str] | None,
        **options: Any,
    ) -> EventStream[StreamEvent]:
        connection: Connection = self._connections.current()
        request = SubscribeRequest(
            services=names_of("services", services),
            topics=names_of("topics", topics),
            event_types=names_of("event_types", event_types),
        )
        return EventStream(
            connection,
            lambda: connection.gateway.Subscribe(request, metadata=connection.metadata(None)),
            lambda message: stream_event(message, self._connections.services),
            topics=request.topics,
            **options,
        )

    def __repr__(self) -> str:
        return f"<GatewayClient of {self._connections.settings.target or 'a channel'}>"


class ServiceClient:
    """A service behind the gateway. Each attribute is one of its methods: ``await service.Method({...})``.

    ``dir()`` lists the methods once they were listed with `list_methods_async`.
    """

    def __init__(self, gateway: GatewayClient, service: str) -> None:
        self._gateway = gateway
        self._service = service

    def __getattr__(self, name: str) -> ServiceMethod:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return ServiceMethod(self._gateway, self._service, name)

    def __getitem__(self, method: str) -> ServiceMethod:
        return ServiceMethod(self._gateway, self._service, method)

    def __dir__(self) -> Iterable[str]:
        return [*object.__dir__(self), *self._gateway._connections.methods.get(self._service, ())]

    def __repr__(self) -> str:
        return f"<ServiceClient {self._service!r} of {self._gateway!r}>"


class ServiceMethod:
    """A method of a service behind the gateway."""

    def __init__(self, gateway: GatewayClient, service: str, method: str) -> None:
        self._gateway = gateway
        self._service = service
        self._method = method

    async def __call__(
        self,
        request: Mapping[str, Any] | None = None,
        *,
        timeout: Timeout = UNSET,
        metadata: Metadata | None = None,
    ) -> Response:
        """Calls it; see :meth:`GatewayClient.invoke_async`."""
        return await self._gateway.invoke_async(
            self._service, self._method, request, timeout=timeout, metadata=metadata
        )

    def stream(
        self,
        request: Mapping[str, Any] | None = None,
        *,
        timeout: Timeout = None,
        metadata: Metadata | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Calls a method that streams its responses; see :meth:`GatewayClient.invoke_stream_async`."""
        return self._gateway.invoke_stream_async(
            self._service, self._method, request, timeout=timeout, metadata=metadata
        )

    def __repr__(self) -> str:
        return f"<ServiceMethod {self._service}.{self._method}>"
