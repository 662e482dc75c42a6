"""Runs a function of the documentation's usage examples (snippets.md) on oxgrpc, on asyncio's loop and on uvloop.

    run_snippet.py SECTION FUNCTION [--abort CODE] [--target TARGET] [--replace OLD NEW]... [--identity KEY CHAIN]

The examples call a server at localhost:50051: here it is the documentation's own servicer, at another port. The one
over TLS calls secure-server.com:443, which the loop's resolver finds here. Their pauses are shortened. Names that they
take for granted (``request``) are given to them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oxgrpc

oxgrpc.install_as_grpc()

import my_service_pb2  # noqa: E402
import my_service_pb2_grpc  # noqa: E402

from snippets import SECTIONS  # noqa: E402


def define(section: str, replaced: list[tuple[str, str]], **given: Any) -> dict[str, Any]:
    """The names that a section defines, beside those that it takes for granted."""
    code = SECTIONS[section]
    for old, new in replaced:
        assert old in code, f"{old} is not in {section}"
        code = code.replace(old, new)
    names = {
        "__name__": "snippet",
        "asyncio": asyncio,
        "grpc": oxgrpc,
        **vars(my_service_pb2),
        **vars(my_service_pb2_grpc),
        **given,
    }
    exec(compile(code, section, "exec"), names)
    return names


def servicer(abort: str | None) -> Any:
    base = define("Async Server Implementation", [])["AsyncMyServiceServicer"]

    class Servicer(base):  # type: ignore[misc, valid-type]
        async def UnaryMethod(self, request: Any, context: Any) -> Any:
            if abort is not None:
                await context.abort(oxgrpc.StatusCode[abort], "as asked")
            await context.send_initial_metadata((("sent", "early"),))
            context.set_trailing_metadata((("sent", "late"),))
            return await super().UnaryMethod(request, context)

        async def SecureMethod(self, request: Any, context: Any) -> Any:
            return my_service_pb2.MyResponse(reply=f"Secure echo: {request.message}")

        async def async_process(self, request: Any) -> str:
            return f"processed {request.message}"

    return Servicer()


def resolve_here(name: str, its_port: int, port: int) -> None:
    """Has the running loop's resolver find a server of this machine's under a name and port."""
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def getaddrinfo(host: str, its: int, **options: Any) -> Any:
        assert (host, its) == (name, its_port)
        return await look_up("127.0.0.1", port, **options)

    loop.getaddrinfo = getaddrinfo  # type: ignore[assignment]


async def run(options: argparse.Namespace) -> None:
    server = oxgrpc.aio.server()
    my_service_pb2_grpc.add_MyServiceServicer_to_server(servicer(options.abort), server)
    if options.identity is None:
        port = server.add_insecure_port("localhost:0")
    else:
        key, chain = (Path(name).read_bytes() for name in options.identity)
        port = server.add_secure_port("127.0.0.1:0", oxgrpc.ssl_server_credentials([(key, chain)]))
        resolve_here("secure-server.com", 443, port)
    await server.start()
    request = my_service_pb2.MyRequest(message="given")
    if options.function == "async_streaming_with_timeout":
        request = my_service_pb2.MyStreamRequest(count=3)
    target = options.target or f"localhost:{port}"
    addressed = [("localhost:50051", target)] if options.identity is None else []
    replaced = [*addressed, *map(tuple, options.replace)]
    names = define(options.section, replaced, request=request)
    result = await names[options.function]()
    if result is not None:
        print("returned", result.reply)
    await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("section")
    parser.add_argument("function")
    parser.add_argument("--abort", metavar="CODE")
    parser.add_argument("--target")
    parser.add_argument("--replace", nargs=2, action="append", default=[])
    parser.add_argument("--identity", nargs=2, metavar=("KEY", "CHAIN"))
    options = parser.parse_args()

    import uvloop

    pause = asyncio.sleep
    asyncio.sleep = lambda delay, result=None: pause(delay / 20, result)  # type: ignore[assignment]
    factories: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
    for factory in factories:
        loop = factory()
        loop.run_until_complete(run(options))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        print("--")


if __name__ == "__main__":
    main()
