"""A backend of a user's own: a server on grpc.aio with reflection, which knows nothing of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import my_service_pb2
import my_service_pb2_grpc
from grpc_reflection.v1alpha import reflection


class Echo(my_service_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
    async def UnaryMethod(self, request: Any, context: Any) -> Any:
        return my_service_pb2.MyResponse(reply=f"echo: {request.message}")

    async def UnaryStreamMethod(self, request: Any, context: Any) -> Any:
        for number in range(request.count):
            yield my_service_pb2.MyResponse(reply=f"item {number}")

    async def StreamStreamMethod(self, requests: AsyncIterator[Any], context: Any) -> Any:
        async for request in requests:
            yield my_service_pb2.MyResponse(reply=f"echo: {request.message}")


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """A backend at a port of its own."""
    server = grpc.aio.server()
    my_service_pb2_grpc.add_MyServiceServicer_to_server(Echo(), server)
    name = my_service_pb2.DESCRIPTOR.services_by_name["MyService"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def main() -> None:
    """Prints the port and serves until a signal ends the process."""
    async with serving() as port:
        print(port, flush=True)
        await asyncio.Event().wait()
