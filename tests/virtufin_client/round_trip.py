"""A program that uses the client as a user's does, and prints which gRPC it ran on.

round_trip.py [--first IMPORT]
"""

from __future__ import annotations

import asyncio
import importlib
import sys

if sys.argv[1:2] == ["--first"]:
    if sys.argv[2] == "install_as_grpc":
        importlib.import_module("oxgrpc").install_as_grpc()
    else:
        importlib.import_module(sys.argv[2])

client = importlib.import_module("virtufin.api.client")
grpc = importlib.import_module("grpc")
fake_gateway = importlib.import_module("fake_gateway")


async def main() -> None:
    async with fake_gateway.serving() as fake, client.ApiClient("127.0.0.1", fake.port) as api:
        print(await api.list_services_async())
        async with await api.pubsub.subscribe_async("t") as stream:
            await api.pubsub.publish_async("t", "published")
            print((await anext(stream)).data_as_text())
        try:
            await api.list_methods_async("nobody")
        except grpc.RpcError as error:
            print(error.code().name)
        try:
            await api.gateway.echo.Fail()
        except ValueError as error:
            print(error)
    loaded = [name for name in ("oxgrpc", "grpc._cython.cygrpc") if name in sys.modules]
    print("on", loaded)


asyncio.run(main())
