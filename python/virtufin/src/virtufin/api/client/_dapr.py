"""Publishing through a Dapr sidecar: ``dapr.proto.runtime.v1.Dapr/PublishEvent``, without Dapr's SDK.

The message is declared here, in a descriptor pool of its own, so that it can live beside Dapr's generated modules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from ._calls import DEFAULT_TIMEOUT_SECONDS, UNSET, Connections, Metadata, Settings, Timeout, pairs, target_of
from ._payload import payload, text_metadata


def _publish_event_request() -> type[message.Message]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="virtufin/api/client/dapr.proto", package="dapr.proto.runtime.v1", syntax="proto3"
    )
    request = file.message_type.add(name="PublishEventRequest")
    entry = request.nested_type.add(name="MetadataEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    kinds = {"data": field.TYPE_BYTES}
    for number, name in enumerate(("pubsub_name", "topic", "data", "data_content_type"), 1):
        request.field.add(name=name, number=number, type=kinds.get(name, field.TYPE_STRING), label=field.LABEL_OPTIONAL)
    request.field.add(
        name="metadata",
        number=5,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".dapr.proto.runtime.v1.PublishEventRequest.MetadataEntry",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("dapr.proto.runtime.v1.PublishEventRequest"))


_PublishEventRequest: Any = _publish_event_request()


def _endpoint(address: str | None) -> tuple[str, bool]:
    """Returns the sidecar's target and whether it wants TLS, as Dapr's SDKs find them."""
    endpoint = address or os.environ.get("DAPR_GRPC_ENDPOINT", "")
    if not endpoint:
        host = os.environ.get("DAPR_RUNTIME_HOST") or "127.0.0.1"
        return target_of(host, int(os.environ.get("DAPR_GRPC_PORT") or 50001)), False
    target, _, query = endpoint.partition("?")
    secure = parse_qs(query).get("tls", ["false"])[0].lower() == "true"
    parts = urlsplit(target)
    if parts.scheme in ("http", "https", "grpc", "grpcs"):
        encrypted = parts.scheme in ("https", "grpcs")
        return target_of(parts.hostname or "", parts.port or (443 if encrypted else 80)), secure or encrypted
    return target, secure


class DaprPublisher:
    """Publishes events through a Dapr sidecar, past the gateway.

    Args:
      pubsub_name: the Dapr component.
      address: the sidecar's gRPC endpoint. Without it ``DAPR_GRPC_ENDPOINT`` counts, then ``DAPR_RUNTIME_HOST``
        (127.0.0.1) and ``DAPR_GRPC_PORT`` (50001).
      api_token: goes along as ``dapr-api-token``; without it ``DAPR_API_TOKEN`` counts.
      credentials: for a sidecar behind TLS; an endpoint with ``https`` or ``?tls=true`` has the system's by itself.
      timeout: seconds that publishing may take; ``None`` for no deadline.
      metadata: gRPC metadata that goes with every call.
    """

    def __init__(
        self,
        pubsub_name: str = "pubsub",
        *,
        address: str | None = None,
        api_token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        metadata: Metadata | None = None,
    ) -> None:
        self.pubsub_name = pubsub_name
        target, secure = _endpoint(address)
        token = api_token if api_token is not None else os.environ.get("DAPR_API_TOKEN")
        if secure and credentials is None:
            credentials = grpc.ssl_channel_credentials()
        self._connections = Connections(
            Settings(
                target=target,
                credentials=credentials,
                timeout=timeout,
                metadata=(*pairs(metadata), *((("dapr-api-token", token),) if token else ())),
            )
        )

    async def publish_async(
        self,
        topic: str,
        data: Any,
        data_content_type: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: Timeout = UNSET,
    ) -> None:
        """Publishes an event.

        Args:
          data: text goes as UTF-8, bytes as they are, everything else as JSON.
          data_content_type: the media type. Left out, it is ``application/json`` for what goes as JSON,
            ``application/octet-stream`` for bytes that are not text, and otherwise Dapr's default, ``text/plain``.
          metadata: Dapr's publish metadata, such as ``ttlInSeconds`` or ``cloudevent.type``.
          timeout: seconds; ``None`` for no deadline.

        Raises:
          grpc.RpcError: the sidecar refuses, or cannot be reached.
        """
        body = payload(data)
        if data_content_type is None:
            data_content_type = self._content_type(data, body)
        request = _PublishEventRequest(
            pubsub_name=self.pubsub_name,
            topic=topic,
            data=body,
            data_content_type=data_content_type,
            metadata=text_metadata(metadata),
        )
        connection = self._connections.current()
        publish: Any = connection.channel.unary_unary(
            "/dapr.proto.runtime.v1.Dapr/PublishEvent",
            request_serializer=_PublishEventRequest.SerializeToString,
        )
        await connection.call(publish, request, timeout)

    @staticmethod
    def _content_type(data: Any, body: bytes) -> str:
        if isinstance(data, str):
            return ""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            return "application/json"
        try:
            body.decode()
        except UnicodeDecodeError:
            return "application/octet-stream"
        return ""

    async def close(self) -> None:
        """Closes the channels. May be repeated."""
        await self._connections.close()

    async def __aenter__(self) -> DaprPublisher:
        self._connections.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.leave()

    def __getattr__(self, name: str) -> NoReturn:
        if name == "publish":
            raise AttributeError(
                "DaprPublisher.publish became publish_async in 0.0.40 and is a coroutine: "
                "await publisher.publish_async(topic, data)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"DaprPublisher(pubsub_name={self.pubsub_name!r}, address={self._connections.settings.target!r})"
