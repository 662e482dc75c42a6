"""One end of a differential test, on either stack. Its process runs in the virtual environment of its stack.

    program.py STACK LOOP server                 prints its ports, without interceptors and with them, serves until its
                                                 standard input ends, prints what was left
    program.py STACK LOOP client TARGET TARGET   runs all scripts against these two; prints a line of JSON for each: its
                                                 name, what it observed

STACK is oxgrpc or grpcio, LOOP is asyncio or uvloop. With a directory of certificates behind it all, both speak TLS,
and the scripts are those of `credential_scripts`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from typing import Any

import interceptor_scripts  # noqa: F401
import order_scripts  # noqa: F401
from credential_scripts import SECURED, server_credentials
from scripts import SCRIPTS, Client
from service import SERVICE, Service, interceptor


def load(stack: str) -> Any:
    grpc = importlib.import_module("oxgrpc" if stack == "oxgrpc" else "grpc")
    importlib.import_module(f"{grpc.__name__}.aio")
    return grpc


async def serve(grpc: Any, certificates: str | None = None) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    service = Service(grpc)
    interceptors = [interceptor(service), interceptor(service)]
    servers = [grpc.aio.server(options=options), grpc.aio.server(options=options, interceptors=interceptors)]
    ports = []
    for server in servers:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, service.handlers()),))
        if certificates is None:
            ports.append(server.add_insecure_port("127.0.0.1:0"))
        else:
            ports.append(server.add_secure_port("127.0.0.1:0", server_credentials(grpc, certificates)))
        await server.start()
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    left = [task for task in asyncio.all_tasks() if "andler" in repr(task.get_coro())]
    print(f"{len(left)} handlers were left", flush=True)
    for server in servers:
        await server.stop(None)


async def run(grpc: Any, target: str, intercepted: str, certificates: str | None = None) -> None:
    for name, script in (SECURED if certificates else SCRIPTS).items():
        client = Client(grpc, target, f"{grpc.__name__} {name}", intercepted, certificates)
        async with client.channel:
            print(json.dumps([name, await asyncio.wait_for(script(client), 60)]), flush=True)


def main() -> None:
    stack, loop, role, *rest = sys.argv[1:]
    # Handlers raise on purpose, and both stacks log that.
    logging.disable(logging.CRITICAL)
    grpc = load(stack)
    program = serve(grpc, *rest) if role == "server" else run(grpc, *rest)
    if loop == "uvloop":
        importlib.import_module("uvloop").run(program)
    else:
        asyncio.run(program)


if __name__ == "__main__":
    main()
