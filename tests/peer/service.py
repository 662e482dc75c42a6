"""The service of the differential tests: written once, for oxgrpc and for genuine grpcio alike.

What a method does is told by the request's metadata, so that one server serves every script:

    x-response-size N     the size of each response, in octets (default: the request itself)
    x-response-count N    how many responses a stream has (default: one for each request)
    x-initial, x-trailing, x-initial-bin, x-trailing-bin
                          are sent back as initial and as trailing metadata
    x-status CODE         ends the call with this code and the details of `x-details-bin`, in the way `x-how` names
    x-wait NAME           waits before the only response, or after the last one, until the call is cancelled; what
                          happens to it meanwhile is kept under NAME
    x-compression NAME    compresses the responses
    x-pause SECONDS       waits so long before the status of `x-status`
    x-plan PART/PART/…    what becomes of the attempts at the call that x-name names, each part for one of them: `OK`, a
                          code, a code and a pushback behind `@`, and `headers:` before it to answer first
    x-intercept HOW       what the second of a server's interceptors does, where it has any
    x-experiment NAME     what the handler tries with its context, see `contexts.py`; its notes are kept under x-notes
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from contexts import EXPERIMENTS, told

SERVICE = "differential.Service"

#: The methods that interceptors have seen of a call.
INTERCEPTED: ContextVar[list[str]] = ContextVar("INTERCEPTED", default=[])  # noqa: B039


def interceptor(service: Service) -> Any:
    """An interceptor that does what the call's metadata asks for."""
    grpc = service.grpc

    class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, name-defined]
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            told = dict(handler_call_details.invocation_metadata)
            path: list[str] = INTERCEPTED.get()
            INTERCEPTED.set([*path, handler_call_details.method])
            how = told.get("x-intercept")
            if how is None or not path:
                return await continuation(handler_call_details)
            match how:
                case "none":
                    return None
                case "raise":
                    raise HandlerError("raised by an interceptor")
                case "abort":
                    return grpc.unary_unary_rpc_method_handler(refuse)
                case "again":
                    await continuation(handler_call_details)
                    await asyncio.sleep(0)
                    return await continuation(handler_call_details)
                case "elsewhere":
                    details = type(handler_call_details)(f"/{SERVICE}/Intercepted", ())
                    return await continuation(details)
                case "replace":
                    handler = await continuation(handler_call_details)
                    return handler._replace(response_serializer=bytes.upper)
                case "wait":
                    await service.wait(told["x-wait"])
                case "slowly":
                    await asyncio.sleep(0.01)
                    return await continuation(handler_call_details)
                case _:
                    return "no handler"
            return None

    async def refuse(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    return Interceptor()


class HandlerError(Exception):
    """What a handler raises where a script asks for it."""


class Service:
    """The handlers, for the `grpc` module that they are to run on."""

    def __init__(self, grpc: Any) -> None:
        self.grpc = grpc
        self.codes = {code.name: code for code in grpc.StatusCode}
        self.experiments: dict[str, tuple[Any, list[Any]]] = {}
        self.waits: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self.attempts: defaultdict[str, list[str]] = defaultdict(list)

    def handlers(self) -> dict[str, Any]:
        grpc = self.grpc
        return {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream_stream),
            "Digest": grpc.stream_stream_rpc_method_handler(self.digest),
            "Told": grpc.unary_unary_rpc_method_handler(self.told),
            "Who": grpc.unary_unary_rpc_method_handler(self.who),
            "Carried": grpc.unary_unary_rpc_method_handler(self.carried),
            "Attempts": grpc.unary_unary_rpc_method_handler(self.attempts_of_call),
            "Intercepted": grpc.unary_unary_rpc_method_handler(self.intercepted),
            "Plain": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
            "Wait": grpc.unary_unary_rpc_method_handler(self.next_of_wait),
            "UnaryExperiment": grpc.unary_unary_rpc_method_handler(self.unary_experiment),
            "StreamExperiment": grpc.unary_stream_rpc_method_handler(self.stream_experiment),
            "Notes": grpc.unary_unary_rpc_method_handler(self.notes),
        }

    async def begin(self, context: Any) -> dict[str, Any]:
        told = dict(context.invocation_metadata())
        if "x-compression" in told:
            context.set_compression(self.grpc.Compression[told["x-compression"]])
        initial = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-initial")]
        trailing = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-trailing")]
        if initial:
            await context.send_initial_metadata(tuple(initial))
        if trailing:
            context.set_trailing_metadata(tuple(trailing))
        return told

    async def attempt(self, told: dict[str, Any], context: Any) -> None:
        """Plays the part that the plan has for this attempt; the last part is for all that follow."""
        plan, seen = told["x-plan"].split("/"), self.attempts[told["x-name"]]
        part = plan[min(len(seen), len(plan) - 1)]
        previous = told.get("grpc-previous-rpc-attempts", "none")
        seen.append(f"after {previous}, {'some' if context.time_remaining() else 'no'} time left")
        if part.startswith("headers:"):
            await context.send_initial_metadata((("x-initial", "sent"),))
            # Alone: headers that come together with the status may be no answer yet to a genuine client.
            await asyncio.sleep(0.05)
        code, _, pushback = part.removeprefix("headers:").partition("@")
        if code != "OK":
            trailing = [("x-trailing", f"of attempt {len(seen)}")]
            if pushback:
                trailing.append(("grpc-retry-pushback-ms", pushback))
            await context.abort(self.codes[code], f"attempt {len(seen)}", tuple(trailing))

    async def attempts_of_call(self, request: bytes, context: Any) -> bytes:
        """The attempts that the call with this name took, one a line."""
        return "\n".join(self.attempts[request.decode()]).encode()

    async def finish(self, told: dict[str, Any], context: Any) -> None:
        if "x-plan" in told:
            await self.attempt(told, context)
        if "x-wait" in told:
            await self.wait(told["x-wait"])
        if "x-status" not in told:
            return
        await asyncio.sleep(float(told.get("x-pause", 0)))
        details = told.get("x-details-bin", b"").decode()
        match told["x-how"]:
            case "abort":
                await context.abort(self.codes[told["x-status"]], details)
            case "set":
                context.set_code(self.codes[told["x-status"]])
                context.set_details(details)
            case "raise":
                raise HandlerError(details)

    async def wait(self, name: str) -> None:
        self.waits[name].put_nowait("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.waits[name].put_nowait("cancelled")
            raise

    @staticmethod
    def response(told: dict[str, Any], request: bytes) -> bytes:
        return b"r" * int(told["x-response-size"]) if "x-response-size" in told else request

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        told = await self.begin(context)
        await self.finish(told, context)
        return self.response(told, request)

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        told = await self.begin(context)
        for _ in range(int(told.get("x-response-count", 1))):
            if "x-plan" not in told:
                yield self.response(told, request)
        await self.finish(told, context)
        if "x-plan" in told:
            yield self.response(told, request)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        told = await self.begin(context)
        received = [request async for request in requests]
        await self.finish(told, context)
        return self.response(told, b"|".join(received))

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        told = await self.begin(context)
        if "x-plan" in told:
            received = [request async for request in requests]
            await self.finish(told, context)
            for request in received:
                yield self.response(told, request)
            return
        async for request in requests:
            yield self.response(told, request)
        await self.finish(told, context)

    async def digest(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """The size and the digest of each request."""
        async for request in requests:
            yield b"%d %s" % (len(request), hashlib.sha256(request).hexdigest().encode())

    async def told(self, request: bytes, context: Any) -> bytes:
        """What the server was told of the call, one `name=value` a line."""
        lines = [f"{key}={value!r}" for key, value in context.invocation_metadata() if key.startswith("x-")]
        remaining = context.time_remaining()
        lines.append("no deadline" if remaining is None or remaining > 1e6 else f"minutes={round(remaining / 60)}")
        return "\n".join(lines).encode()

    async def who(self, request: bytes, context: Any) -> bytes:
        """Who the client is, one `name=value` a line."""
        lines = [f"identities={context.peer_identities()}", f"key={context.peer_identity_key()}"]
        for key, values in context.auth_context().items():
            # Which group it is depends on what the libraries know.
            lines.append(key if key == "ssl_negotiated_key_exchange_group" else f"{key}={values}")
        return "\n".join(lines).encode()

    async def carried(self, request: bytes, context: Any) -> bytes:
        """The call's metadata in its order."""
        return repr([tuple(pair) for pair in context.invocation_metadata() if pair[0] != "user-agent"]).encode()

    async def intercepted(self, request: bytes, context: Any) -> bytes:
        """What interceptors have put into a context variable."""
        return " ".join(INTERCEPTED.get()).encode()

    async def next_of_wait(self, request: bytes, context: Any) -> bytes:
        """What happened next to the call that waits under this name; waits for it to happen."""
        return (await self.waits[request.decode()].get()).encode()

    async def experiment(self, context: Any) -> None:
        asked = dict(context.invocation_metadata())
        notes: list[Any] = []
        self.experiments[asked["x-notes"]] = context, notes
        await EXPERIMENTS[asked["x-experiment"]](self.grpc, context, notes)

    async def unary_experiment(self, request: bytes, context: Any) -> bytes:
        await self.experiment(context)
        return request

    async def stream_experiment(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self.experiment(context)
        yield b"response"

    async def notes(self, request: bytes, context: Any) -> bytes:
        """What was noted in an experiment, and what its context tells now that the call is over."""
        over, notes = self.experiments.pop(request.decode())
        while not over.done():
            await asyncio.sleep(0)
        return json.dumps([notes, await told(over)]).encode()
