"""grpcio's add-ons at work: health checking, reflection, rich statuses. ``addons.py STACK`` prints what was observed.

STACK is oxgrpc, which then stands in for grpcio, or grpcio. What the add-ons do has to be the same on both.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

if sys.argv[1] == "oxgrpc":
    import oxgrpc

    oxgrpc.install_as_grpc()

import grpc
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

Status = health_pb2.HealthCheckResponse


async def health_checks(server: Any, channel: Any) -> Any:
    """States as they are asked for and as they are watched, until the server says that it is about to stop."""
    servicer = server.health
    stub = health_pb2_grpc.HealthStub(channel)
    observed: list[Any] = []

    async def check(service: str) -> None:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            observed.append(["check", service, Status.ServingStatus.Name(answer.status)])
        except grpc.aio.AioRpcError as error:
            observed.append(["check", service, error.code().name, error.details()])

    await check("")
    await check("some.Service")
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="some.Service"))

    async def next_state() -> None:
        observed.append(["watch", Status.ServingStatus.Name((await watch.read()).status)])

    await next_state()
    await servicer.set("some.Service", Status.SERVING)
    await next_state()
    await check("some.Service")
    await servicer.set("some.Service", Status.NOT_SERVING)
    await next_state()
    await servicer.set("some.Service", Status.SERVING)
    await next_state()
    await servicer.enter_graceful_shutdown()
    await next_state()
    await servicer.set("some.Service", Status.SERVING)
    await check("some.Service")
    watch.cancel()
    observed.append((await watch.code()).name)
    # The servicer counts those who watch: one that is gone is noticed.
    while servicer._server_watchers:
        await asyncio.sleep(0)
    return observed


async def reflections(server: Any, channel: Any) -> Any:
    """Services, files and symbols, in one stream and each in a stream of its own."""
    info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    Request = reflection_pb2.ServerReflectionRequest
    requests = [
        Request(list_services=""),
        Request(file_by_filename=health_pb2.DESCRIPTOR.name),
        Request(file_by_filename="no/such.proto"),
        Request(file_containing_symbol="grpc.health.v1.Health"),
        Request(file_containing_symbol="grpc.health.v1.Health.Check"),
        Request(file_containing_symbol="no.such.Symbol"),
        Request(all_extension_numbers_of_type="no.such.Type"),
        Request(),
    ]

    def plain(response: Any) -> Any:
        kind = response.WhichOneof("message_response")
        if kind == "list_services_response":
            return [kind, [service.name for service in response.list_services_response.service]]
        if kind == "file_descriptor_response":
            octets = response.file_descriptor_response.file_descriptor_proto
            return [kind, [descriptor_pb2.FileDescriptorProto.FromString(each).name for each in octets]]
        return [kind, response.error_response.error_code, response.error_response.error_message]

    async def answers(asked: list[Any]) -> list[Any]:
        return [plain(response) async for response in info(iter(asked))]

    together = await answers(requests)
    alone = [await answers([request]) for request in requests]
    by_hand = info()
    await by_hand.write(requests[0])
    first = plain(await by_hand.read())
    await by_hand.done_writing()
    return [together, alone, first, await by_hand.read() is grpc.aio.EOF, (await by_hand.code()).name]


async def statuses(server: Any, channel: Any) -> Any:
    """Rich statuses, from a handler's `abort_with_status` to the client."""
    observed = []
    for name in ("rich", "plain", "wrong code", "none"):
        call = channel.unary_unary("/statuses/Fail")(name.encode())
        try:
            await call
        except grpc.aio.AioRpcError as error:
            observed.append([name, error.code().name, error.details()])
        try:
            status = await rpc_status.aio.from_call(call)
        except ValueError as error:
            observed.append(str(error))
            continue
        if status is None:
            observed.append(None)
            continue
        retry = error_details_pb2.RetryInfo()
        status.details[0].Unpack(retry)
        observed.append([status.code, status.message, retry.retry_delay.seconds])
    return observed


async def fail(request: bytes, context: Any) -> bytes:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=7)))
    rich = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="come again", details=[detail])
    if request == b"rich":
        await context.abort_with_status(rpc_status.to_status(rich))
    if request == b"plain":
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here")
    if request == b"wrong code":
        status = rpc_status.to_status(rich)
        await context.abort(grpc.StatusCode.ABORTED, status.details, status.trailing_metadata)
    return b""


async def main() -> None:
    server = grpc.aio.server()
    server.health = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(server.health, server)
    names = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    methods = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("statuses", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for observe in (health_checks, reflections, statuses):
            print(json.dumps([observe.__name__, await asyncio.wait_for(observe(server, channel), 60)]))
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
