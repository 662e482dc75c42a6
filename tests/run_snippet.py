"""Runs a function of the documentation's usage examples (snippets.md) on oxgrpc, on asyncio's loop and on uvloop.

    run_snippet.py SECTION FUNCTION [--abort CODE] [--target TARGET] [--replace OLD NEW]...

The examples call a server at localhost:50051: here it is the documentation's own servicer, at another port. Their
pauses are shortened. Names that they take for granted (``request``) are given to them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
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

        async def async_process(self, request: Any) -> str:
            return f"processed {request.message}"

    return Servicer()


async def run(options: argparse.Namespace) -> None:
    server = oxgrpc.aio.server()
    my_service_pb2_grpc.add_MyServiceServicer_to_server(servicer(options.abort), server)
    port = server.add_insecure_port("localhost:0")
    await server.start()
    request = my_service_pb2.MyRequest(message="given")
    if options.function == "async_streaming_with_timeout":
        request = my_service_pb2.MyStreamRequest(count=3)
    target = options.target or f"localhost:{port}"
    replaced = [("localhost:50051", target), *map(tuple, options.replace)]
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
