"""The scripts of the differential tests that are about client interceptors: see `scripts`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from scripts import (
    KINDS,
    LONG_SECONDS,
    SHORT_SECONDS,
    Client,
    plain,
    plain_details,
    script,
    script_for_each_kind,
    stream,
)
from service import SERVICE

FUNCTIONS = {kind: f"intercept_{'unary' if kind.startswith('Unary') else 'stream'}_" for kind in KINDS}
FUNCTIONS = {kind: name + ("unary" if kind.endswith("Unary") else "stream") for kind, name in FUNCTIONS.items()}

Intercept = Callable[[Any, Any, Any], Awaitable[Any]]


def interceptor(client: Client, kind: str, function: Intercept) -> Any:
    """An interceptor of a kind that does what the function does."""

    async def intercept(self: Any, continuation: Any, details: Any, request: Any) -> Any:
        return await function(continuation, details, request)

    base = getattr(client.grpc.aio, f"{kind}ClientInterceptor")
    return type("Interceptor", (base,), {FUNCTIONS[kind]: intercept})()


def intercepted(client: Client, kind: str, *functions: Intercept) -> Client:
    """A client whose calls of a kind go through these functions."""
    other = Client(client.grpc, client.target, client.name)
    interceptors = [interceptor(client, kind, function) for function in functions]
    other.channel = client.open(client.options, interceptors)
    return other


async def untouched(continuation: Any, details: Any, request: Any) -> Any:
    return await continuation(details, request)


async def settled(kind: str, call: Any) -> Any:
    """What a call says once it is over, and what awaiting or iterating it comes to."""
    raised = "nothing"
    responses = []
    try:
        if kind.endswith("Unary"):
            responses.append(repr(await asyncio.wait_for(wait(call), LONG_SECONDS)))
        else:
            responses = [repr(response) async for response in call]
    except BaseException as error:
        raised = type(error).__name__
    answers = []
    for question in ("code", "details", "initial_metadata", "trailing_metadata"):
        try:
            answer = await getattr(call, question)()
        except BaseException as error:
            answers.append(type(error).__name__)
            continue
        if question == "code":
            answer = answer.name
        elif question == "details":
            answer = plain_details(answer)
        elif answer is not None:
            answer = plain(answer)
        answers.append(answer)
    return [responses, raised, answers, call.done(), call.cancelled(), call.cancel()]


async def wait(call: Any) -> Any:
    return await call


@script_for_each_kind
async def interceptors_in_their_order(client: Client, kind: str) -> Any:
    seen: list[Any] = []

    def named(name: str) -> Intercept:
        async def function(continuation: Any, details: Any, request: Any) -> Any:
            seen.append([name, "before", details.method.decode(), type(details.metadata).__name__, details.timeout])
            call = await continuation(details._replace(timeout=(details.timeout or 100) + 1), request)
            seen.append([name, "after", call.done()])
            return call

        return function

    other = intercepted(client, kind, named("first"), named("second"), named("third"))
    async with other.channel:
        call = other.start(kind, [b"x"], metadata=(("x-trailing", "t"),), timeout=LONG_SECONDS)
        said = [call.done(), call.cancelled()]
        return [said, await other.outcome(kind, call), seen]


@script_for_each_kind
async def an_interceptor_that_changes_the_call(client: Client, kind: str) -> Any:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        details.metadata.add("x-trailing", "added")
        changed = details._replace(metadata=details.metadata + client.grpc.aio.Metadata(("x-initial", "added, too")))
        return await continuation(changed, request)

    other = intercepted(client, kind, function)
    async with other.channel:
        return [
            await other.outcome(kind, other.start(kind, [b"x"])),
            await other.outcome(kind, other.start(kind, [b"x"], metadata=(("x-trailing", "given"),))),
        ]


@script
async def an_interceptor_that_sends_the_call_elsewhere(client: Client) -> Any:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(method=f"/{SERVICE}/Told".encode()), request)

    other = intercepted(client, "UnaryUnary", function)
    async with other.channel:
        return (await other.method("UnaryUnary")(b"", metadata=(("x-text", "a value"),))).decode()


@script_for_each_kind
async def an_interceptor_that_shortens_the_timeout(client: Client, kind: str) -> Any:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        # A machine that is busy is to get its first response through before.
        return await continuation(details._replace(timeout=3 * SHORT_SECONDS), request)

    other = intercepted(client, kind, function)
    async with other.channel:
        call = other.start(kind, [b"d"], metadata=(("x-wait", client.name),), timeout=LONG_SECONDS)
        return [await other.outcome(kind, call), await client.server(), await client.server()]


@script_for_each_kind
async def cancelled_before_its_interceptor(client: Client, kind: str) -> Any:
    other = intercepted(client, kind, untouched)
    async with other.channel:
        call = other.start(kind, [b"x"])
        return [call.cancel(), await settled(kind, call)]


@script_for_each_kind
async def cancelled_in_its_interceptor(client: Client, kind: str) -> Any:
    observed = []
    for begins in (False, True):
        reached = asyncio.Event()

        async def function(
            continuation: Any, details: Any, request: Any, begins: bool = begins, reached: asyncio.Event = reached
        ) -> Any:
            if begins:
                await continuation(details, request)
            reached.set()
            await asyncio.Event().wait()

        other = intercepted(client, kind, untouched, function)
        async with other.channel:
            call = other.start(kind, [b"x"])
            await reached.wait()
            observed.append([call.done(), call.cancelled(), call.cancel(), await settled(kind, call)])
    return observed


@script_for_each_kind
async def cancelled_behind_its_interceptor(client: Client, kind: str) -> Any:
    returned = asyncio.Event()

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        asyncio.get_running_loop().call_soon(returned.set)
        return call

    other = intercepted(client, kind, function)
    async with other.channel:
        call = other.start(kind, [b"x"], metadata=(("x-wait", client.name),))
        await returned.wait()
        begun = await client.server()
        return [begun, call.cancel(), call.cancel(), await settled(kind, call), await client.server()]


@script_for_each_kind
async def an_interceptor_that_cancels(client: Client, kind: str) -> Any:
    async def function(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        call.cancel()
        return call

    other = intercepted(client, kind, function)
    async with other.channel:
        return await settled(kind, other.start(kind, [b"x"]))


@script_for_each_kind
async def an_interceptor_that_raises(client: Client, kind: str) -> Any:
    aio = client.grpc.aio
    error = aio.AioRpcError(
        client.grpc.StatusCode.ABORTED, aio.Metadata(("x-i", "1")), aio.Metadata(("x-t", "2")), "made up", "debug"
    )
    observed = []
    for raised in (ValueError("mine"), error):

        async def function(continuation: Any, details: Any, request: Any, raised: Exception = raised) -> Any:
            raise raised

        other = intercepted(client, kind, untouched, function)
        async with other.channel:
            observed.append(await settled(kind, other.start(kind, [b"x"])))
    return observed


@script_for_each_kind
async def an_interceptor_that_tries_again(client: Client, kind: str) -> Any:
    codes = []

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        if kind.startswith("Stream"):
            request = [message async for message in request]
        for attempt in range(3):
            status = (("x-status", "UNAVAILABLE"), ("x-how", "abort")) if attempt < 2 else ()
            call = await continuation(
                details._replace(metadata=client.grpc.aio.Metadata(*status)),
                stream(request) if kind.startswith("Stream") else request,
            )
            if not kind.endswith("Unary") and attempt < 2:
                try:
                    async for _ in call:
                        pass
                except client.grpc.aio.AioRpcError:
                    pass
            if attempt < 2 or kind.endswith("Unary"):
                codes.append((await call.code()).name)
        return call

    other = intercepted(client, kind, function)
    async with other.channel:
        return [await other.outcome(kind, other.start(kind, [b"again"])), codes]


@script
async def responses_of_an_interceptors_own(client: Client) -> Any:
    async def unary(continuation: Any, details: Any, request: Any) -> Any:
        return b"mine"

    def shouting(function: Any) -> Any:
        async def intercept(continuation: Any, details: Any, request: Any) -> Any:
            return function(await continuation(details, request))

        return intercept

    async def shout(call: Any) -> AsyncIterator[bytes]:
        async for response in call:
            yield response.upper()

    observed = []
    for kind, functions in {
        "UnaryUnary": [untouched, unary],
        "UnaryStream": [untouched, shouting(shout), untouched],
        "StreamStream": [shouting(shout), shouting(shout)],
    }.items():
        other = intercepted(client, kind, *functions)
        async with other.channel:
            call = other.start(kind, [b"text"], metadata=(("x-trailing", "t"),))
            observed.append(await settled(kind, call))
            if kind != "UnaryUnary":
                call = other.start(kind, [b"read"])
                observed.append([(await call.read()).decode(), await call.read() is client.grpc.aio.EOF])
    return observed


@script
async def reading_and_writing_by_hand_through_interceptors(client: Client) -> Any:
    async def doubled(requests: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request * 2

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, doubled(request))

    observed: list[Any] = []
    other = intercepted(client, "StreamStream", function, untouched)
    async with other.channel:
        call = other.method("StreamStream")()
        for number in range(20):
            await call.write(b"%d" % number)
            observed.append((await call.read()).decode())
        await call.done_writing()
        observed.append(await call.read() is client.grpc.aio.EOF)
        observed.append((await call.code()).name)
    other = intercepted(client, "StreamUnary", function, untouched)
    async with other.channel:
        call = other.method("StreamUnary")()
        for number in range(20):
            await call.write(b"%d" % number)
        await call.done_writing()
        await call.done_writing()
        observed.append((await call).decode())
        for write in (lambda: call.write(b"late"),):
            try:
                await write()
            except Exception as error:
                observed.append(type(error).__name__)
        call = other.start("StreamUnary", [b"x"])
        for use in (lambda: call.write(b""), lambda: call.done_writing()):
            try:
                await use()
            except Exception as error:
                observed.append(type(error).__name__)
        observed.append((await call).decode())
        call = other.method("StreamUnary")(metadata=(("x-status", "ABORTED"), ("x-how", "abort")))
        await call.done_writing()
        observed.append(await settled("StreamUnary", call))
    return observed


@script_for_each_kind
async def done_callbacks_through_interceptors(client: Client, kind: str) -> Any:
    observed: list[Any] = []
    for moment in ("before", "at the end", "cancelled"):
        other = intercepted(client, kind, untouched)
        async with other.channel:
            call = other.start(kind, [b"x"])
            given: list[Any] = []
            if moment != "at the end":
                call.add_done_callback(given.append)
            if moment == "cancelled":
                call.cancel()
            observed.append(await settled(kind, call))
            if moment == "at the end":
                call.add_done_callback(given.append)
            await asyncio.sleep(0)
            observed.append([len(given), [one is call for one in given]])
    return observed


@script_for_each_kind
async def the_channel_is_closed_under_an_interceptor(client: Client, kind: str) -> Any:
    reached = asyncio.Event()

    async def function(continuation: Any, details: Any, request: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    other = intercepted(client, kind, function)
    call = other.start(kind, [b"x"])
    await reached.wait()
    await other.channel.close()
    return await settled(kind, call)


def behind_interceptors(client: Client) -> Client:
    """A client of the server that has interceptors."""
    return Client(client.grpc, client.intercepted_target, client.name)


@script_for_each_kind
async def a_server_with_interceptors(client: Client, kind: str) -> Any:
    other = behind_interceptors(client)
    async with other.channel:
        observed = []
        # Not with a stream of requests: a genuine client whose write meets the end of the call forgets the status.
        ends: tuple[str, ...] = ("none", "raise") if kind.startswith("Unary") else ()
        for how in (None, *ends, "again", "replace", "slowly"):
            told = (("x-intercept", how),) if how else ()
            observed.append([how, await other.outcome(kind, other.start(kind, [b"text"], metadata=told))])
        return observed


@script
async def a_server_with_interceptors_that_answer(client: Client) -> Any:
    other = behind_interceptors(client)
    async with other.channel:
        observed: list[Any] = []
        for method, how in {
            "UnaryUnary": ("abort", "elsewhere"),
            "Intercepted": ("again", "elsewhere", "slowly"),
            "Plain": ("again", "replace"),
            "Nothing": ("again", "elsewhere", "abort"),
        }.items():
            for one in how:
                call = other.method("UnaryUnary", method)(b"text", metadata=(("x-intercept", one),))
                observed.append([method, one, await other.outcome("UnaryUnary", call)])
        observed.append((await other.method("UnaryUnary", "Intercepted")(b"")).decode())
        return observed


@script_for_each_kind
async def given_up_while_interceptors_run(client: Client, kind: str) -> Any:
    other = behind_interceptors(client)
    async with other.channel:
        observed = []
        sent = (("x-intercept", "wait"), ("x-wait", client.name))
        call = other.start(kind, [b"x"], metadata=sent)
        begun = await client.server()
        call.cancel()
        observed.append([begun, await client.server()])
        call = other.start(kind, [b"x"], metadata=sent, timeout=SHORT_SECONDS)
        observed.append([await other.outcome(kind, call), await client.server(), await client.server()])
        return observed
