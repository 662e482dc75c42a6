"""A gateway of a few lines on grpc.aio, in the test's own process: its faults can be chosen.

It keeps the wire contract of proto/virtufin: in-band failures, etags, a broadcast to each subscription, and the
subscription's id in the initial metadata.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from virtufin.api.client import (
    gateway_pb2,
    gateway_pb2_grpc,
    pubsub_pb2,
    pubsub_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    status_pb2,
)

SERVICES = {"workmanager": ["ListWorkers", "CreateWorker", "StartWorker", "Count"], "echo": ["Echo", "Fail", "Wait"]}

END = object()


def status(success: bool = True, word: str = "OK", message: str = "") -> status_pb2.StatusResponse:
    return status_pb2.StatusResponse(success=success, status=word, message=message)


class FakeGateway(gateway_pb2_grpc.GatewayServicer, pubsub_pb2_grpc.PubsubServicer, state_pb2_grpc.StateServicer):
    def __init__(self) -> None:
        self.port = 0
        #: Metadata and deadlines of the calls, by method.
        self.seen: dict[str, list[tuple[dict[str, Any], float | None]]] = {}
        #: Subscriptions by id: the topic (``None`` for the event stream) and what is sent to it.
        self.subscriptions: dict[str, tuple[str | None, asyncio.Queue[Any]]] = {}
        #: Status codes with which the next subscriptions are refused.
        self.refusals: list[grpc.StatusCode] = []
        #: Whether initial metadata is sent before the first event.
        self.announces = True
        self.published: list[pubsub_pb2.PublishRequest] = []
        self.publish_status = status()
        self.state: dict[tuple[str, str], tuple[str, int]] = {}
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    def _note(self, method: str, context: Any) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.seen.setdefault(method, []).append((metadata, context.time_remaining()))

    async def subscribed(self, count: int = 1) -> None:
        """Waits until there are so many subscriptions."""
        while len(self.subscriptions) != count:
            self._changed.clear()
            await self._changed.wait()

    def lose(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Ends all subscriptions with a status."""
        for _, queue in self.subscriptions.values():
            queue.put_nowait(code)

    # Gateway

    async def ListServices(self, request: Any, context: Any) -> Any:
        self._note("ListServices", context)
        return gateway_pb2.ListServicesResponse(services=SERVICES)

    async def ListMethods(self, request: Any, context: Any) -> Any:
        self._note("ListMethods", context)
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service {request.service!r} is not registered")
        methods = [
            gateway_pb2.MethodInfo(name=name, full_name=f"test.{request.service}.{name}", input_type="test.Request")
            for name in SERVICES[request.service]
        ]
        return gateway_pb2.ListMethodsResponse(methods=methods)

    async def GetMethodSchema(self, request: Any, context: Any) -> Any:
        field = gateway_pb2.FieldSchema(name="id", type="string")
        schema = gateway_pb2.MethodSchema(input_type_name="test.Request", schema_type=request.type, fields=[field])
        return gateway_pb2.GetMethodSchemaResponse(schema=schema)

    async def InvokeJson(self, request: Any, context: Any) -> Any:
        self._note("InvokeJson", context)
        if request.method not in SERVICES.get(request.service, ()):
            return gateway_pb2.InvokeJsonResponse(status="NOT_FOUND", message="no such service or method")
        if request.method == "Fail":
            details = json.dumps({"code": 6, "message": "it is there", "details": [{"retryDelay": "1s"}]})
            return gateway_pb2.InvokeJsonResponse(status="ALREADY_EXISTS", message="it is there", response_data=details)
        if request.method == "Wait":
            await asyncio.Event().wait()
        if request.method == "Echo":
            return gateway_pb2.InvokeJsonResponse(success=True, status="OK", response_data=request.request_data)
        answer = {"workers": [{"id": "w1", "mimeType": "text/x-python", "codeSource": {"url": "u"}}]}
        return gateway_pb2.InvokeJsonResponse(success=True, status="OK", response_data=json.dumps(answer))

    async def Invoke(self, request: Any, context: Any) -> Any:
        if request.method == "Fail":
            return gateway_pb2.InvokeResponse(status="UNAVAILABLE", message="down")
        return gateway_pb2.InvokeResponse(success=True, status="OK", response_data=request.request_data[::-1])

    async def InvokeJsonStream(self, request: Any, context: Any) -> Any:
        self._note("InvokeJsonStream", context)
        if request.method == "Wait":
            await asyncio.Event().wait()
        for number in range(json.loads(request.request_data).get("count", 0)):
            yield gateway_pb2.InvokeJsonResponse(
                success=True, status="OK", response_data=json.dumps({"itemNumber": number})
            )
        if request.method == "Fail":
            yield gateway_pb2.InvokeJsonResponse(status="INTERNAL", message="broke")
        else:
            yield gateway_pb2.InvokeJsonResponse(success=True, status="OK")

    # State

    async def SaveState(self, request: Any, context: Any) -> Any:
        place = (request.service, request.key)
        current = str(self.state[place][1]) if place in self.state else ""
        if (request.etag and request.etag != current) or (request.create_only and current):
            await context.abort(grpc.StatusCode.ABORTED, f"{request.key}: the etag is {current}")
        etag = next(self._numbers)
        self.state[place] = (request.value, etag)
        return state_pb2.SaveStateResponse(status=status(message=f"{request.service}/{request.key}"), etag=str(etag))

    async def GetState(self, request: Any, context: Any) -> Any:
        value, etag = self.state.get((request.service, request.key), ("", ""))
        return state_pb2.GetStateResponse(key=request.key, value=value, etag=str(etag))

    async def GetAllState(self, request: Any, context: Any) -> Any:
        values = {key: value for (service, key), (value, _) in self.state.items() if service == request.service}
        return state_pb2.GetAllStateResponse(values=values)

    async def ListKeys(self, request: Any, context: Any) -> Any:
        """Two a page."""
        keys = sorted(
            key for service, key in self.state if service == request.service and key.startswith(request.prefix)
        )
        rest = [key for key in keys if key > request.page_token]
        token = rest[1] if len(rest) > 2 else ""
        return state_pb2.ListKeysResponse(keys=rest[:2], next_page_token=token)

    async def RegisterKeys(self, request: Any, context: Any) -> Any:
        return state_pb2.RegisterKeysResponse(status=status(message=",".join(request.keys)))

    async def DeleteState(self, request: Any, context: Any) -> Any:
        place = (request.service, request.key)
        if request.etag and request.etag != str(self.state.get(place, ("", ""))[1]):
            await context.abort(grpc.StatusCode.ABORTED, "another etag")
        present = self.state.pop(place, None) is not None
        return state_pb2.DeleteStateResponse(status=status(present, "OK" if present else "NOT_FOUND"))

    # Pub/sub

    async def PublishEvent(self, request: Any, context: Any) -> Any:
        self._note("PublishEvent", context)
        self.published.append(request)
        if self.publish_status.success:
            self.send(request.topic, request.data, dict(request.metadata))
        return pubsub_pb2.PublishResponse(status=self.publish_status)

    def send(self, topic: str, data: bytes, metadata: dict[str, str] | None = None, identifier: str = "") -> None:
        """Delivers an event to whoever subscribes to it."""
        metadata = dict(metadata or {})
        identifier = identifier or metadata.pop("ce-id", "") or f"m{next(self._numbers)}"
        for wanted, queue in self.subscriptions.values():
            if wanted == topic:
                queue.put_nowait(
                    pubsub_pb2.PubsubSubscribeResponse(
                        topic=topic,
                        data=data,
                        metadata=metadata,
                        message_id=identifier,
                        timestamp="2026-01-02T03:04:05Z",
                    )
                )
            elif wanted is None:
                source = metadata.get("ce-source", "")
                event = gateway_pb2.TopicEventRequest(id=identifier, topic=topic, data=data, source=source, type="t")
                event.metadata.update(metadata)
                queue.put_nowait(event)

    async def _stream(self, method: str, topic: str | None, context: Any) -> AsyncIterator[Any]:
        self._note(method, context)
        if self.refusals:
            await context.abort(self.refusals.pop(0), "refused")
        identifier, queue = f"s{next(self._numbers)}", asyncio.Queue[Any]()
        self.subscriptions[identifier] = (topic, queue)
        self._changed.set()
        try:
            if self.announces:
                await context.send_initial_metadata((("subscription-id", identifier),))
            while (event := await queue.get()) is not END:
                if isinstance(event, grpc.StatusCode):
                    await context.abort(event, "lost")
                yield event
        finally:
            del self.subscriptions[identifier]
            self._changed.set()

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Of both services: their requests differ."""
        if isinstance(request, pubsub_pb2.PubsubSubscribeRequest):
            stream = self._stream("Pubsub.Subscribe", request.topic, context)
        else:
            stream = self._stream("Gateway.Subscribe", None, context)
        async for event in stream:
            yield event

    async def Unsubscribe(self, request: Any, context: Any) -> Any:
        found = self.subscriptions.get(request.subscription_id)
        if found is None:
            return pubsub_pb2.UnsubscribeResponse(status=status(False, "NOT_FOUND", "no such subscription"))
        found[1].put_nowait(END)
        return pubsub_pb2.UnsubscribeResponse(status=status())


@asynccontextmanager
async def serving(fake: FakeGateway | None = None, port: int = 0) -> AsyncIterator[FakeGateway]:
    """A fake gateway at a port of its own."""
    fake = fake or FakeGateway()
    server = grpc.aio.server()
    gateway_pb2_grpc.add_GatewayServicer_to_server(fake, server)
    pubsub_pb2_grpc.add_PubsubServicer_to_server(fake, server)
    state_pb2_grpc.add_StateServicer_to_server(fake, server)
    fake.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
        await fake.subscribed(0)
