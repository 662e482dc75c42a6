"""Publishing through a Dapr sidecar: a server of the one RPC, which sees the octets."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from virtufin.api.client import DaprPublisher

VARIABLES = ("DAPR_GRPC_ENDPOINT", "DAPR_RUNTIME_HOST", "DAPR_GRPC_PORT", "DAPR_API_TOKEN")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Sidecar:
    def __init__(self) -> None:
        self.port = 0
        self.received: list[tuple[bytes, dict[str, Any]]] = []
        self.failure: grpc.StatusCode | None = None

    async def publish(self, request: bytes, context: Any) -> bytes:
        self.received.append((request, dict(context.invocation_metadata())))
        if self.failure is not None:
            await context.abort(self.failure, "pubsub component is not there")
        return b""


@asynccontextmanager
async def sidecar() -> AsyncIterator[Sidecar]:
    served = Sidecar()
    server = grpc.aio.server()
    handlers = {"PublishEvent": grpc.unary_unary_rpc_method_handler(served.publish)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.Dapr", handlers),))
    served.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield served
    finally:
        await server.stop(None)


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message, shorter than 128 octets."""
    return bytes([number << 3 | 2, len(value)]) + value


PUBSUB, TOPIC = field(1, b"pubsub"), field(2, b"my-topic")


async def test_it_sends_dapr_s_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar() as served:
        monkeypatch.setenv("DAPR_GRPC_PORT", str(served.port))
        publisher = DaprPublisher(pubsub_name="pubsub")
        assert await publisher.publish_async("my-topic", {"key": "value"}) is None
        await publisher.publish_async("my-topic", "text")
        await publisher.publish_async("my-topic", b"octets")
        await publisher.publish_async("my-topic", b"\xff")
        await publisher.publish_async("my-topic", b"{}", "application/json", metadata={"k": "v"})
        await publisher.close()
        await publisher.close()
        json_type = field(4, b"application/json")
        assert [request for request, _ in served.received] == [
            PUBSUB + TOPIC + field(3, b'{"key": "value"}') + json_type,
            PUBSUB + TOPIC + field(3, b"text"),
            PUBSUB + TOPIC + field(3, b"octets"),
            PUBSUB + TOPIC + field(3, b"\xff") + field(4, b"application/octet-stream"),
            PUBSUB + TOPIC + field(3, b"{}") + json_type + field(5, field(1, b"k") + field(2, b"v")),
        ]


async def test_the_token_goes_along_and_the_error_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPR_API_TOKEN", "t0ken")
    async with sidecar() as served, DaprPublisher("other", address=f"127.0.0.1:{served.port}") as publisher:
        served.failure = grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            await publisher.publish_async("t", "x")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        request, metadata = served.received[0]
        assert request.startswith(field(1, b"other"))
        assert metadata["dapr-api-token"] == "t0ken"
        assert "t0ken" not in repr(publisher)


async def test_without_a_sidecar_it_fails_and_does_not_wait() -> None:
    """Dapr's own SDK blocks in its constructor for a minute."""
    async with DaprPublisher(address="127.0.0.1:1") as publisher:
        with pytest.raises(grpc.RpcError) as caught:
            await publisher.publish_async("t", "x")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("variables", "target", "secure"),
    [
        ({}, "127.0.0.1:50001", False),
        ({"DAPR_RUNTIME_HOST": "dapr", "DAPR_GRPC_PORT": "7"}, "dapr:7", False),
        ({"DAPR_GRPC_ENDPOINT": "host:9", "DAPR_GRPC_PORT": "7"}, "host:9", False),
        ({"DAPR_GRPC_ENDPOINT": "http://host:9"}, "host:9", False),
        ({"DAPR_GRPC_ENDPOINT": "https://host"}, "host:443", True),
        ({"DAPR_GRPC_ENDPOINT": "dns:host:9?tls=true"}, "dns:host:9", True),
        ({"DAPR_GRPC_ENDPOINT": "unix:/run/dapr.sock"}, "unix:/run/dapr.sock", False),
        ({"DAPR_GRPC_ENDPOINT": "http://[::1]:9"}, "[::1]:9", False),
    ],
)
def test_the_sidecar_is_where_dapr_s_environment_says(
    variables: dict[str, str], target: str, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = DaprPublisher()._connections.settings
    assert (settings.target, settings.credentials is not None) == (target, secure)


def test_publish_says_what_it_became() -> None:
    publisher = DaprPublisher()
    assert inspect.signature(DaprPublisher).parameters["pubsub_name"].default == "pubsub"
    with pytest.raises(AttributeError, match=r"became publish_async.*await publisher\.publish_async\(topic, data\)"):
        publisher.publish("t", {})
    assert not hasattr(publisher, "publish")
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        publisher.other  # noqa: B018
    assert repr(publisher) == "DaprPublisher(pubsub_name='pubsub', address='127.0.0.1:50001')"


async def test_its_message_lives_beside_dapr_s_own() -> None:
    """A file that declares the same message in the default pool, as Dapr's SDK does, is no conflict."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="dapr_test.proto", package="dapr.proto.runtime.v1", syntax="proto3")
    file.message_type.add(name="PublishEventRequest")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    async with sidecar() as served, DaprPublisher(address=f"127.0.0.1:{served.port}") as publisher:
        await asyncio.gather(*(publisher.publish_async("t", number) for number in range(10)))
        assert len(served.received) == 10
